package lab

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Media is an m-line of a session description, as the far party will use it.
type Media struct {
	Kind      string         // "audio"
	RTP       netip.AddrPort // port 0: refused
	RTCP      netip.AddrPort // a=rtcp, or the next port; equal to RTP with a=rtcp-mux
	Direction string         // sendrecv unless said otherwise
	Lines     []string       // of the section, without the m-line
}

// ParseSDP lists the m-lines of a session description.
func ParseSDP(body string) []Media {
	var ms []Media
	var session, direction = "", "sendrecv"
	conn := []string{}
	for _, line := range strings.Split(strings.ReplaceAll(body, "\r\n", "\n"), "\n") {
		key, value, _ := strings.Cut(line, "=")
		fields := strings.Fields(value)
		switch {
		case key == "m" && len(fields) > 1:
			port, _, _ := strings.Cut(fields[1], "/")
			n, _ := strconv.Atoi(port)
			ms = append(ms, Media{Kind: fields[0], RTP: netip.AddrPortFrom(netip.Addr{}, uint16(n)), Direction: direction})
			conn = append(conn, session)
		case len(ms) == 0:
			switch {
			case key == "c" && len(fields) > 2:
				session = fields[2]
			case value == "sendonly" || value == "recvonly" || value == "inactive":
				direction = value
			}
		default:
			m := &ms[len(ms)-1]
			m.Lines = append(m.Lines, line)
			switch {
			case key == "c" && len(fields) > 2:
				conn[len(ms)-1] = fields[2]
			case value == "sendonly" || value == "recvonly" || value == "inactive" || value == "sendrecv":
				m.Direction = value
			}
		}
	}
	for i := range ms {
		m := &ms[i]
		addr, _ := netip.ParseAddr(conn[i])
		m.RTP = netip.AddrPortFrom(addr, m.RTP.Port())
		m.RTCP = netip.AddrPortFrom(addr, m.RTP.Port()+1)
		for _, line := range m.Lines {
			if line == "a=rtcp-mux" {
				m.RTCP = m.RTP
			}
			if rest, ok := strings.CutPrefix(line, "a=rtcp:"); ok {
				fields := strings.Fields(rest)
				port, _ := strconv.Atoi(fields[0])
				if len(fields) == 4 {
					addr, _ = netip.ParseAddr(fields[3])
				}
				m.RTCP = netip.AddrPortFrom(addr, uint16(port))
			}
		}
	}
	return ms
}

// Media are the m-lines of the message's session description.
func (m *Message) Media() []Media { return ParseSDP(m.Body) }

// Line is an m-line of a session description to be written.
type Line struct {
	Kind  string   // default "audio"
	Port  int      // of RTP
	Proto string   // default "RTP/AVP"
	Fmt   string   // default "0 101" for audio
	Attrs []string // whole lines, e.g. "a=sendonly", "a=rtcp:5011"
}

// SDP writes a session description: one audio line if none is given otherwise.
func SDP(addr netip.Addr, lines ...Line) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	p("v=0")
	p("o=lab 1 1 IN IP4 %v", addr)
	p("s=-")
	p("c=IN IP4 %v", addr)
	p("t=0 0")
	for _, l := range lines {
		if l.Kind == "" {
			l.Kind = "audio"
		}
		if l.Proto == "" {
			l.Proto = "RTP/AVP"
		}
		audio := l.Fmt == "" && l.Kind == "audio"
		if l.Fmt == "" {
			l.Fmt = map[bool]string{true: "0 101", false: "99"}[audio]
		}
		p("m=%s %d %s %s", l.Kind, l.Port, l.Proto, l.Fmt)
		if audio {
			p("a=rtpmap:0 PCMU/8000")
			p("a=rtpmap:101 telephone-event/8000")
		}
		for _, a := range l.Attrs {
			p("%s", a)
		}
	}
	return b.String()
}

// Audio is the session description of a plain call: one audio line.
func Audio(addr netip.Addr, port int, attrs ...string) string {
	return SDP(addr, Line{Port: port, Attrs: attrs})
}
