package sipmsg

import (
	"fmt"
	"strings"
	"testing"
)

// mustSDP indexes a description behind a few bytes that do not belong to it.
func mustSDP(t testing.TB, text string) *SDP {
	t.Helper()
	const before, after = "before\r\n\r\n", "m=after 1 RTP/AVP 0\r\n"
	raw := []byte(before + text + after)
	s := new(SDP)
	if err := s.Index(raw, Span{int32(len(before)), int32(len(before) + len(text))}); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	checkSDP(t, s)
	return s
}

// head is a session level without c=.
const head = "v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nt=0 0\n"

// describe writes the index of a description, one part a line.
func describe(s *SDP) string {
	var w strings.Builder
	text := func(p Span) string { return string(p.of(s.Raw)) }
	fmt.Fprintf(&w, "o %s %v %v bundle=%v\n", text(s.OriginAddr), s.OriginIP6, s.Direction, s.Bundle)
	for _, c := range s.Conns {
		fmt.Fprintf(&w, "c %d %s %s %v\n", c.Media, text(c.Addr), text(c.TTL), c.IP6)
	}
	for _, m := range s.Media {
		fmt.Fprintf(&w, "m %s %d/%d %s [%s] udp=%v rtp=%v c=%d own=%d %v mux=%v only=%v\n", text(m.Kind), m.PortNum, m.CountNum,
			text(m.Proto), text(m.Fmts), m.UDP, m.RTP, m.Conn, m.ConnCount, m.Direction, m.RTCPMux, m.BundleOnly)
	}
	for _, r := range s.RTCP {
		fmt.Fprintf(&w, "rtcp %d %d %s\n", r.Media, r.PortNum, text(r.Addr))
	}
	for _, c := range s.Candidates {
		fmt.Fprintf(&w, "candidate %d %d udp=%v %s %d %s %s %d\n", c.Media, c.Component, c.UDP, text(c.Addr), c.PortNum,
			text(c.Type), text(c.RAddr), c.RPortNum)
	}
	for _, c := range s.RemoteCandidates {
		fmt.Fprintf(&w, "remote %d %d %s %d\n", c.Media, c.Component, text(c.Addr), c.PortNum)
	}
	for _, p := range s.Paths {
		fmt.Fprintf(&w, "path %d %s %s %d\n", p.Media, text(p.HostPort), text(p.Host), p.PortNum)
	}
	return w.String()
}

func TestIndexSDP(t *testing.T) {
	const o = "o 192.0.2.9 false sendrecv bundle=false\n"
	for _, c := range []struct{ name, text, want string }{
		{"an ordinary one", inviteSDP, `o 192.168.1.20 false sendrecv bundle=false
c -1 192.168.1.20  false
c 0 192.168.1.20  false
m audio 4000/1 RTP/AVP [8 0 101] udp=true rtp=true c=1 own=1 sendrecv mux=false only=false
rtcp 0 4001 192.168.1.20
`},
		{"session c= for all media", head + "c=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\nm=video 4002 RTP/AVP 31\nc=IN IP4 192.0.2.2\n", o +
			"c -1 192.0.2.1  false\nc 1 192.0.2.2  false\n" +
			"m audio 4000/1 RTP/AVP [0] udp=true rtp=true c=0 own=0 sendrecv mux=false only=false\n" +
			"m video 4002/1 RTP/AVP [31] udp=true rtp=true c=1 own=1 sendrecv mux=false only=false\n"},
		{"no c= at all", head + "m=audio 4000 RTP/AVP 0\n", o +
			"m audio 4000/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n"},
		{"T.38", head + "m=image 5000 udptl t38\nc=IN IP4 192.0.2.1\na=T38FaxVersion:0\n", o + "c 0 192.0.2.1  false\n" +
			"m image 5000/1 udptl [t38] udp=true rtp=false c=0 own=1 sendrecv mux=false only=false\n"},
		{"T.38 over TCP", head + "m=image 5000 TCP t38\n", o +
			"m image 5000/1 TCP [t38] udp=false rtp=false c=-1 own=0 sendrecv mux=false only=false\n"},
		{"contiguous ports", head + "m=audio 5000/2 RTP/AVP 0\n", o +
			"m audio 5000/2 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n"},
		{"refused stream", head + "m=audio 0 RTP/AVP 0\n", o +
			"m audio 0/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n"},
		{"ports that are none", head + "m=audio 65536 RTP/AVP 0\nm=audio x/0 RTP/AVP 0\n", o +
			"m audio 0/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n" +
			"m audio 0/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n"},
		{"protocols", head + "m=a 1 RTP/SAVPF 0\nm=b 2 UDP/TLS/RTP/SAVP 0\nm=c 3 DTLS/SCTP 5000\nm=d 4 UDP/DTLS/SCTP x\n" +
			"m=e 5 TCP/RTP/AVP 0\nm=f 6 udp/bfcp *\nm=g 7 TCP/TLS/BFCP *\nm=h 8 UDP x\nm=i 9\nm=\n", o +
			"m a 1/1 RTP/SAVPF [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n" +
			"m b 2/1 UDP/TLS/RTP/SAVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n" +
			"m c 3/1 DTLS/SCTP [5000] udp=true rtp=false c=-1 own=0 sendrecv mux=false only=false\n" +
			"m d 4/1 UDP/DTLS/SCTP [x] udp=true rtp=false c=-1 own=0 sendrecv mux=false only=false\n" +
			"m e 5/1 TCP/RTP/AVP [0] udp=false rtp=true c=-1 own=0 sendrecv mux=false only=false\n" +
			"m f 6/1 udp/bfcp [*] udp=true rtp=false c=-1 own=0 sendrecv mux=false only=false\n" +
			"m g 7/1 TCP/TLS/BFCP [*] udp=false rtp=false c=-1 own=0 sendrecv mux=false only=false\n" +
			"m h 8/1 UDP [x] udp=true rtp=false c=-1 own=0 sendrecv mux=false only=false\n" +
			"m i 9/1  [] udp=false rtp=false c=-1 own=0 sendrecv mux=false only=false\n" +
			"m  0/1  [] udp=false rtp=false c=-1 own=0 sendrecv mux=false only=false\n"},
		{"RTCP elsewhere", head + "m=audio 4000 RTP/AVP 0\na=rtcp:53020\nm=audio 4002 RTP/AVP 0\na=RTCP:53022 IN IP6 2001:db8::1\na=rtcp:\n", o +
			"m audio 4000/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n" +
			"m audio 4002/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n" +
			"rtcp 0 53020 \nrtcp 1 53022 2001:db8::1\n"},
		{"candidates", head + "m=audio 4000 RTP/AVP 0\n" +
			"a=candidate:1 1 UDP 2130706431 10.0.1.1 8998 typ host\n" +
			"a=candidate:2 2 udp 1694498815 192.0.2.3 45664 typ srflx raddr 10.0.1.1 rport 8998 generation 0\n" +
			"a=candidate:3 1 TCP 1 10.0.1.1 9 typ host tcptype active\n" +
			"a=candidate:4 1 UDP 1 2001:db8::1 9000 typ host\n" +
			"a=candidate:5 1 UDP 1 phone.local 9000 typ host\n" +
			"a=candidate:6 1 UDP 1 10.0.1.1\n", o +
			"m audio 4000/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n" +
			"candidate 0 1 udp=true 10.0.1.1 8998 host  0\n" +
			"candidate 0 2 udp=true 192.0.2.3 45664 srflx 10.0.1.1 8998\n" +
			"candidate 0 1 udp=false 10.0.1.1 9 host  0\n" +
			"candidate 0 1 udp=true 2001:db8::1 9000 host  0\n" +
			"candidate 0 1 udp=true phone.local 9000 host  0\n"},
		{"remote candidates", head + "m=audio 4000 RTP/AVP 0\na=remote-candidates:1 192.0.2.3 45664 2 192.0.2.3 45665 3 x\n", o +
			"m audio 4000/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n" +
			"remote 0 1 192.0.2.3 45664\nremote 0 2 192.0.2.3 45665\n"},
		{"MSRP", head + "m=message 2855 TCP/MSRP *\na=path:msrp://192.0.2.1:2855/a;tcp MSRPS://u@[2001:db8::1]:9/b;tcp http://192.0.2.9/ msrp:x\n", o +
			"m message 2855/1 TCP/MSRP [*] udp=false rtp=false c=-1 own=0 sendrecv mux=false only=false\n" +
			"path 0 192.0.2.1:2855 192.0.2.1 2855\npath 0 [2001:db8::1]:9 [2001:db8::1] 9\n"},
		{"multicast", head + "m=audio 4000 RTP/AVP 0\nc=IN IP4 224.2.1.1/127/3\nc=IN IP4 224.2.1.9/127\nc=IN IP6 ff15::101/3\n", o +
			"c 0 224.2.1.1 127/3 false\nc 0 224.2.1.9 127 false\nc 0 ff15::101 3 true\n" +
			"m audio 4000/1 RTP/AVP [0] udp=true rtp=true c=0 own=3 sendrecv mux=false only=false\n"},
		{"directions", head + "a=recvonly\nm=audio 1 RTP/AVP 0\nm=audio 2 RTP/AVP 0\na=sendonly\nm=audio 3 RTP/AVP 0\na=inactive \nm=audio 4 RTP/AVP 0\na=SendRecv\n",
			"o 192.0.2.9 false recvonly bundle=false\n" +
				"m audio 1/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 recvonly mux=false only=false\n" +
				"m audio 2/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendonly mux=false only=false\n" +
				"m audio 3/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 inactive mux=false only=false\n" +
				"m audio 4/1 RTP/AVP [0] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=false\n"},
		{"BUNDLE", head + "a=group:BUNDLE 0 1\nm=audio 4000 UDP/TLS/RTP/SAVPF 0\na=rtcp-mux\nm=video 0 UDP/TLS/RTP/SAVPF 96\na=bundle-only\na=rtcp-mux-only\n",
			"o 192.0.2.9 false sendrecv bundle=true\n" +
				"m audio 4000/1 UDP/TLS/RTP/SAVPF [0] udp=true rtp=true c=-1 own=0 sendrecv mux=true only=false\n" +
				"m video 0/1 UDP/TLS/RTP/SAVPF [96] udp=true rtp=true c=-1 own=0 sendrecv mux=false only=true\n"},
		{"another group", head + "a=group:LS 0 1\na=rtcp-mux\na=bundle-only\n", o},
		{"b= after a=, junk, blank lines", "v=0\n\nhello\nm\nx=y\n\na=x\nb=AS:64\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\nm =video 1 RTP/AVP 0\n",
			"o  false sendrecv bundle=false\nc -1 192.0.2.1  false\n" +
				"m audio 4000/1 RTP/AVP [0] udp=true rtp=true c=0 own=0 sendrecv mux=false only=false\n"},
		{"origin with blanks in its name", "v=0\no=John Doe 1 2 IN IP6 2001:db8::1 \n", "o 2001:db8::1 true sendrecv bundle=false\n"},
		{"origin with a name for a host", "v=0\no=- 1 2 IN IP4 phone.local\n", "o phone.local false sendrecv bundle=false\n"},
		{"two origins", "v=0\no=- 1 2 IN IP4 192.0.2.1\no=- 1 2 IN IP4 192.0.2.2\n", "o 192.0.2.1 false sendrecv bundle=false\n"},
		{"no origin address", "v=0\no=- 1 2\no=\n", "o  false sendrecv bundle=false\n"},
		{"connections of other networks", head + "c=ATM NSAP 47.0091\nc=IN IP5 x\nc=IN IP4\nc=IN IP4 /127\nc=\n", o},
		{"blanks", "v=0 \nc=  in  ip4\t192.0.2.1 \nm=  audio  4000  RTP/AVP  0  8 \n", "o  false sendrecv bundle=false\nc -1 192.0.2.1  false\n" +
			"m audio 4000/1 RTP/AVP [0  8] udp=true rtp=true c=0 own=0 sendrecv mux=false only=false\n"},
		{"version only", "v=0", "o  false sendrecv bundle=false\n"},
		{"blank lines first", "\n\nv=0\ns=-\n", "o  false sendrecv bundle=false\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for what, text := range map[string]string{
				"LF":           c.text,
				"CR LF":        wire(c.text),
				"no final end": strings.TrimSuffix(c.text, "\n"),
			} {
				// Without its end the last line would join what follows the
				// body, if the index looked beyond it.
				s := mustSDP(t, text)
				if got := describe(s); got != c.want {
					t.Errorf("%s: got\n%s\nwant\n%s", what, got, c.want)
				}
				if eol := string(s.EOL); strings.Contains(text, "\n") && !strings.HasSuffix(text[:strings.Index(text, "\n")+1], eol) {
					t.Errorf("%s: line end %q", what, eol)
				}
			}
		})
	}
}

func TestNotSDP(t *testing.T) {
	for _, text := range []string{"", "\r\n", "v", "v=", "v=1\n", "o=- 1 1 IN IP4 192.0.2.1\n", "<xml/>", "V=0\n", "x\nv=0\n"} {
		var s SDP
		if err := s.Index([]byte(text), Span{0, int32(len(text))}); err != ErrNotSDP {
			t.Errorf("%q: %v", text, err)
		}
	}
	var s SDP
	for _, body := range []Span{{-1, 3}, {0, 9}, {3, 1}} {
		if err := s.Index([]byte("v=0"), body); err != ErrNotSDP {
			t.Errorf("%v: %v", body, err)
		}
	}
}

func TestSDPLines(t *testing.T) {
	s := mustSDP(t, wire(sdpSeeds[1]))
	text := func(p Span) string { return string(p.of(s.Raw)) }
	if got := text(s.Candidates[2].Line); got != "a=candidate:3 1 TCP 1010827775 192.168.1.20 9 typ host tcptype active\r\n" {
		t.Errorf("candidate line %q", got)
	}
	if got := text(s.RTCP[0].Line); got != "a=rtcp:4001\r\n" {
		t.Errorf("RTCP line %q", got)
	}
	if got := text(s.Media[0].Line); got != "m=audio 4000/2 UDP/TLS/RTP/SAVPF 111\r\n" {
		t.Errorf("m= line %q", got)
	}
	if got := text(s.Media[0].Count); got != "2" {
		t.Errorf("count %q", got)
	}
	if got := text(Span{s.Media[1].Line.Lo, s.Media[1].End}); got != "m=video 0 RTP/AVP 31\r\na=bundle-only\r\na=inactive\r\n" {
		t.Errorf("second section %q", got)
	}
	if s.Media[2].End != s.Body.Hi {
		t.Errorf("last section ends at %d, the body at %d", s.Media[2].End, s.Body.Hi)
	}
	if got := text(s.Conns[0].Line); got != "c=IN IP4 192.168.1.20\r\n" {
		t.Errorf("c= line %q", got)
	}
}

// TestSDPReuse indexes different descriptions with one SDP: nothing of one may
// be left in the next.
func TestSDPReuse(t *testing.T) {
	var s SDP
	first := []byte(sdpSeeds[1])
	if err := s.Index(first, Span{0, int32(len(first))}); err != nil {
		t.Fatal(err)
	}
	if err := s.Index([]byte("v=0\r\n"), Span{0, 5}); err != nil {
		t.Fatal(err)
	}
	if got, want := describe(&s), "o  false sendrecv bundle=false\n"; got != want || string(s.EOL) != "\r\n" {
		t.Errorf("left over:\n%s", got)
	}
}

func TestDirectionString(t *testing.T) {
	for d, want := range map[Direction]string{SendRecv: "sendrecv", SendOnly: "sendonly", RecvOnly: "recvonly", Inactive: "inactive"} {
		if d.String() != want {
			t.Errorf("%d is %v", d, d)
		}
	}
}
