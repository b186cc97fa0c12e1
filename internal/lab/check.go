package lab

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// CheckWire judges what was captured, as every lab does at its end:
//
//   - no private address leaves: neither in an IP header nor in any byte of a
//     SIP message, the Call-ID and the CNAME of RTCP aside;
//   - whatever the firewall sends, to either side, has correct checksums;
//   - a response comes back to a phone with the phone's own Via, byte for byte
//     (received and rport aside), and a 2xx to its REGISTER with its own Contact;
//   - the captures are complete.
func (l *Lab) CheckWire() {
	l.T.Helper()
	for _, fault := range l.WireFaults() {
		l.T.Errorf("on the wire: %s", fault)
	}
}

// JudgeFromHere makes CheckWire look only at what is captured from now on, for
// labs in which phones have spoken before the daemon was there.
func (l *Lab) JudgeFromHere() {
	l.judgeInside, l.judgeWire = l.Inside.Mark(), l.Wire.Mark()
}

// JudgeAndForget is CheckWire's finding in what was captured since the last call, and
// forgets that: for labs that run so long that their captures would fill the memory.
// They must be Leaky, or the end judges the rest again.
func (l *Lab) JudgeAndForget() []string { return l.judge(l.Inside.Take(), l.Wire.Take()) }

// WireFaults is CheckWire's finding.
func (l *Lab) WireFaults() []string {
	return l.judge(l.Inside.Since(l.judgeInside), l.Wire.Since(l.judgeWire))
}

func (l *Lab) judge(inside, wire []*Packet) []string {
	faults := Leaks(wire)
	faults = append(faults, damaged("outside", wire)...)
	faults = append(faults, damaged("inside", inside)...)
	faults = append(faults, strangeVias(inside)...)
	for _, c := range []*Capture{l.Inside, l.Wire} {
		if n := c.Lost(); n > 0 {
			faults = append(faults, fmt.Sprintf("the %s capture lost %d packets", c.Name, n))
		}
	}
	return faults
}

var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// IsPrivate reports whether an address is of RFC 1918.
func IsPrivate(a netip.Addr) bool {
	for _, p := range private {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

var dottedQuad = regexp.MustCompile(`(?:\d{1,3}\.){3}\d{1,3}`)

// Leaks lists the private addresses that leave: in IP headers of all packets
// sent, and in SIP messages sent.
func Leaks(packets []*Packet) []string {
	var leaks []string
	for _, p := range packets {
		if !p.Out {
			continue
		}
		if IsPrivate(p.Src.Addr()) || IsPrivate(p.Dst.Addr()) || IsPrivate(p.Inner.Src.Addr()) || IsPrivate(p.Inner.Dst.Addr()) {
			leaks = append(leaks, "private address in an IP header: "+p.String())
		}
		if p.SIP == nil {
			continue
		}
		for _, line := range strings.Split(string(p.Payload), "\n") {
			name, _, _ := strings.Cut(line, ":")
			if same(strings.TrimSpace(name), "Call-ID") {
				continue
			}
			if strings.HasPrefix(line, "a=ssrc:") && strings.Contains(line, " cname:") {
				continue // a name that must be the one in RTCP (RFC 5576 section 6.1)
			}
			for _, s := range dottedQuad.FindAllString(line, -1) {
				if a, err := netip.ParseAddr(s); err == nil && IsPrivate(a) {
					leaks = append(leaks, fmt.Sprintf("private address leaves in %s: %s", p, strings.TrimSpace(line)))
				}
			}
		}
	}
	return leaks
}

// damaged lists what the firewall sent with wrong checksums or lengths.
func damaged(side string, packets []*Packet) []string {
	var faults []string
	for _, p := range packets {
		if p.Out && p.Fault != "" {
			faults = append(faults, side+": "+p.String())
		}
	}
	return faults
}

// strangeVias lists the responses that reach a phone with another Via, and the
// answers to REGISTER with another Contact, than the phone has sent.
func strangeVias(packets []*Packet) []string {
	type sent struct{ via, contact string }
	requests := make(map[string]sent)
	var faults []string
	for _, p := range packets {
		if p.SIP == nil {
			continue
		}
		m := p.SIP
		switch {
		case !p.Out && m.Request():
			requests[m.Branch()+m.Method()] = sent{topVia(m), m.Get("Contact")}
		case p.Out && !m.Request():
			want, ok := requests[m.Branch()+m.Method()]
			if !ok {
				continue
			}
			if got := topVia(m); got != want.via {
				faults = append(faults, fmt.Sprintf("Via of %s: %q, the phone sent %q", p, got, want.via))
			}
			if want.contact != "" && m.Method() == "REGISTER" && m.Status()/100 == 2 && m.Has("Contact") {
				uri, all := URIOf(want.contact), strings.Join(m.All("Contact"), ", ")
				if uri != "*" && !strings.Contains(all, uri) {
					faults = append(faults, fmt.Sprintf("Contact of %s: %q, the phone sent %q", p, all, uri))
				}
			}
		}
	}
	return faults
}

// topVia is the topmost Via without what servers add to it.
func topVia(m *Message) string {
	via, _, _ := strings.Cut(m.Get("Via"), ",")
	var kept []string
	for _, p := range strings.Split(via, ";") {
		k, _, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(k, "received") && !strings.EqualFold(k, "rport") {
			kept = append(kept, strings.TrimSpace(p))
		}
	}
	return strings.Join(kept, ";")
}

// CheckPublic fails the test unless an address in what the outside has seen is
// the firewall's (on the Routed firewall: the phone's own).
func (l *Lab) CheckPublic(what string, got netip.AddrPort, phone *Host) {
	l.T.Helper()
	want := PublicAddr
	if !l.NAT() {
		want = phone.Addr
	}
	if got.Addr() != want {
		l.T.Errorf("%s is %v, not of %v", what, got, want)
	}
}

// CheckSilent sends RTP from an outside socket to an address that is closed, at
// all or for this sender, and fails the test if any of it passes the firewall.
// On the Routed firewall it does nothing.
func (l *Lab) CheckSilent(from *Socket, to netip.AddrPort) {
	l.T.Helper()
	if !l.NAT() {
		return
	}
	const packets = 5
	wire, inside := l.Wire.Mark(), l.Inside.Mark()
	from.SendRTP(to, packets)
	err := l.Wire.Wait(wire, Moment(), func(ps []*Packet) bool { return count(ps, from.Addr) == packets })
	if err != nil {
		l.T.Fatalf("probes to %v do not reach the firewall: %v", to, err)
	}
	// What the firewall lets through follows within microseconds; the second
	// round of probes is the first one's proof of that.
	from.SendRTP(to, packets)
	l.Wire.Wait(wire, Moment(), func(ps []*Packet) bool { return count(ps, from.Addr) == 2*packets })
	if n := count(l.Inside.Since(inside), from.Addr); n > 0 {
		l.T.Errorf("%v is closed, yet %d of %d packets from %v pass the firewall", to, n, 2*packets, from.Addr)
	}
}

func count(ps []*Packet, src netip.AddrPort) int {
	n := 0
	for _, p := range ps {
		if p.Src == src {
			n++
		}
	}
	return n
}
