package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestFirewalls: each rule set lets inside hosts out, masqueraded, lets answers
// in and nothing else.
func TestFirewalls(t *testing.T) {
	firewalls := Flavours()
	firewalls["iptables, egress"] = Firewall{Backend: IPTablesNFT, EgressSIPOnly: true}
	for name, fw := range firewalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := New(t, Options{Firewall: fw, Outside: []string{"203.0.113.10", "198.51.100.10"}})
			if l.Firewall.Backend != fw.Backend {
				t.Skipf("SIPNATD_LAB chose %s", l.Firewall.Backend)
			}
			phone := l.Phones[0].Socket(5060)
			for _, h := range l.Outside {
				server, stranger := h.Socket(5060), h.Socket(9999)
				phone.Send(server.Addr, []byte("out"))
				server.Expect(netip.AddrPort{}, 1)
				from := server.Received()[0].From
				l.CheckPublic("the source outside", from, l.Phones[0])
				server.Send(from, []byte("back"))
				phone.Expect(server.Addr, 1)

				stranger.SendRTP(from, 3)
				server.Send(from, []byte("back again"))
				phone.Expect(server.Addr, 2)
				if heard := phone.Heard()[stranger.Addr]; (heard > 0) == l.NAT() {
					t.Errorf("%d packets of a stranger arrive", heard)
				}

				rtp := h.Socket(6000)
				phone.SendRTP(rtp.Addr, 1)
				phone.Send(server.Addr, []byte("out again"))
				server.Expect(from, 2)
				if !fw.EgressSIPOnly {
					rtp.Expect(from, 1)
				}
				if got := len(rtp.Received()); (got == 0) != fw.EgressSIPOnly {
					t.Errorf("%d packets leave for a port that is not SIP, egress filter %v", got, fw.EgressSIPOnly)
				}
			}
			if faults := l.WireFaults(); l.NAT() && len(faults) > 0 {
				t.Error(faults)
			}
		})
	}
}

func TestPortForward(t *testing.T) {
	for _, backend := range []Backend{Nftables, IPTablesLegacy, IPTablesNFT} {
		t.Run(string(backend), func(t *testing.T) {
			t.Parallel()
			pbx := netip.MustParseAddrPort("10.0.0.10:5060")
			l := New(t, Options{Firewall: Firewall{Backend: backend, PortForward: pbx}})
			server, client := l.Phones[0].Socket(5060), l.Outside[0].Socket(0)
			client.Send(netip.AddrPortFrom(PublicAddr, 5060), []byte("in"))
			if l.NAT() {
				server.Expect(client.Addr, 1)
			}
		})
	}
}

// TestLeakIsSeen: without the daemon a phone gives its network away, and the
// kit must notice.
func TestLeakIsSeen(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Leaky: true})
	alice, bob := l.Phones[0].Agent("alice", 5060), l.Outside[0].Agent("bob", 5060)
	alice.Register(bob, 60)
	if !l.NAT() {
		return
	}
	faults := strings.Join(l.WireFaults(), "\n")
	for _, want := range []string{"Via: SIP/2.0/UDP 10.0.0.10:5060", "Contact: <sip:alice@10.0.0.10:5060>"} {
		if !strings.Contains(faults, want) {
			t.Errorf("no finding with %q in:\n%s", want, faults)
		}
	}
}

// TestFragments: datagrams above the MTU cross the firewall and are seen whole.
func TestFragments(t *testing.T) {
	for _, mtu := range []int{1500, 1492} {
		l := New(t, Options{MTU: mtu, Outside: []string{"203.0.113.10", "198.51.100.10"}})
		phone := l.Phones[0].Socket(5060)
		for _, h := range l.Outside {
			server := h.Socket(5060)
			big := []byte(strings.Repeat("abcdefghij", 310))
			phone.Send(server.Addr, big)
			server.Expect(netip.AddrPort{}, 1)
			server.Send(server.Received()[0].From, big)
			phone.Expect(server.Addr, 1)
		}
		for _, c := range []*Capture{l.Inside, l.Wire} {
			whole := 0
			for _, p := range c.Packets() {
				if p.Fault != "" {
					t.Errorf("%s: %v", c.Name, p)
				}
				if len(p.Payload) == 3100 && p.Fragments >= 3 {
					whole++
				}
			}
			if whole != 4 {
				t.Errorf("MTU %d: %d of 4 fragmented datagrams in the %s capture", mtu, whole, c.Name)
			}
		}
	}
}

// TestKernelState: what the tools print is understood.
func TestKernelState(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Firewall: Firewall{Backend: Nftables}})
	if !l.NAT() {
		return
	}
	script := `table ip sipnatd {
	set peers {
		type ipv4_addr . ipv4_addr . inet_service
		flags timeout
		elements = { 203.0.113.10 . 203.0.113.1 . 5060 timeout 1h }
	}
	map streams {
		type ipv4_addr . inet_service : ipv4_addr . inet_service
		flags timeout
		elements = { 203.0.113.1 . 7070 timeout 1m : 10.0.0.10 . 4000 }
	}
	map bindings {
		type ipv4_addr . inet_service : ipv4_addr . inet_service
		elements = { 203.0.113.1 . 5060 : 10.0.0.10 . 5060 }
	}
}`
	if _, err := l.FW.Pipe(script, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if got := l.Elements("peers"); len(got) != 1 || got[0].Key != "203.0.113.10 . 203.0.113.1:5060" || got[0].Timeout != 3600 {
		t.Errorf("peers: %+v", got)
	}
	public := netip.MustParseAddrPort("203.0.113.1:7070")
	if got := l.Streams()[public]; got != netip.MustParseAddrPort("10.0.0.10:4000") {
		t.Errorf("streams: %v", l.Table())
	}
	if got := l.Elements("streams"); len(got) == 1 && (got[0].Timeout != 60 || got[0].Expires > 60) {
		t.Errorf("streams: %+v", got)
	}
	if len(l.Bindings()) != 1 {
		t.Errorf("bindings: %v", l.Table())
	}

	phone, server := l.Phones[0].Socket(4000), l.Outside[0].Socket(6000)
	phone.Send(server.Addr, []byte("out"))
	server.Expect(netip.AddrPort{}, 1)
	flows := l.Conntracks()
	want := Path{phone.Addr, server.Addr}
	if len(flows) != 1 || flows[0].Orig != want || !flows[0].Unreplied || flows[0].Reply.Dst.Addr() != PublicAddr {
		t.Errorf("conntracks: %+v", flows)
	}
	if got := l.StillOpen(); len(got) != 2 {
		t.Errorf("a stream and a conntrack are open; said: %q", got)
	}
	// Until sees a change as soon as the kernel tells.
	go func() {
		l.FW.Output("nft", "delete", "element", "ip", "sipnatd", "streams", "{ 203.0.113.1 . 7070 }")
		l.FW.Output("conntrack", "-D", "-p", "udp")
	}()
	if !l.Until(Moment(), func() bool { return len(l.StillOpen()) == 0 }) {
		t.Errorf("still open: %q", l.StillOpen())
	}
	if n := len(l.Expectations()); n != 0 {
		t.Errorf("%d expectations", n)
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	p := l.Phones[0].Start("shell", []string{"sh", "-c", "echo one; read x; echo got $x; ip -4 -o address show eth0; exit 3"})
	p.WaitLine("^one$", Moment())
	p.Mark()
	if err := p.Input("two\n"); err != nil {
		t.Fatal(err)
	}
	if m := p.WaitLine(`^got (\w+)$`, Moment()); m[1] != "two" {
		t.Errorf("%q", m)
	}
	p.WaitLine(`10\.0\.0\.10/24`, Moment())
	if err := p.Wait(Moment()); err == nil || err.Error() != "exit status 3" {
		t.Errorf("end: %v", err)
	}
	if _, err := p.Await("never", Moment()); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("after the end: %v", err)
	}
	q := l.FW.Start("sleeper", []string{"sleep", "1000"})
	if _, err := q.Await("never", 10*time.Millisecond); err == nil {
		t.Error("a silent process has said something")
	}
	if err := q.Stop(); err != nil {
		t.Error(err)
	}
}

func TestMessage(t *testing.T) {
	const text = "INVITE sip:b@203.0.113.1:5061;x=y SIP/2.0\r\n" +
		"v: SIP/2.0/UDP 10.0.0.10:5070;branch=z9hG4bK1;rport\r\n" +
		"f: \"A\" <sip:a@10.0.0.10>;tag=88\r\nTo: sip:b@203.0.113.1\r\ni: 1@x\r\nCSeq: 7 INVITE\r\n" +
		"Subject: folded\r\n  line\r\n\r\nv=0\r\n"
	m, err := ParseMessage([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"method", m.Method(), "INVITE"},
		{"call", m.CallID(), "1@x"},
		{"tag", Tag(m.Get("From")), "88"},
		{"branch", m.Branch(), "z9hG4bK1"},
		{"subject", m.Get("s"), "folded line"},
		{"request URI", HostPortOf(m.RequestURI()).String(), "203.0.113.1:5061"},
		{"sent-by", HostPortOf(m.Get("Via")).String(), "10.0.0.10:5070"},
		{"to", HostPortOf(m.Get("To")).String(), "203.0.113.1:5060"},
		{"body", m.Body, "v=0\r\n"},
		{"via", topVia(m), "SIP/2.0/UDP 10.0.0.10:5070;branch=z9hG4bK1"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	for _, bad := range []string{"", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\x80\x00\x01"} {
		if looksLikeSIP([]byte(bad)) {
			t.Errorf("%q is taken for SIP", bad)
		}
	}
	sdp := SDP(netip.MustParseAddr("10.0.0.10"), Line{Port: 4000, Attrs: []string{"a=rtcp:4005"}},
		Line{Kind: "video", Port: 4002, Attrs: []string{"a=rtcp-mux", "a=sendonly"}})
	ms := ParseSDP(sdp)
	if len(ms) != 2 || ms[0].RTCP.Port() != 4005 || ms[1].RTCP != ms[1].RTP || ms[1].Direction != "sendonly" || ms[1].Kind != "video" {
		t.Errorf("SDP: %+v", ms)
	}
}

// TestChecks: what CheckWire is for is found, and nothing else.
func TestChecks(t *testing.T) {
	phone, server := netip.MustParseAddrPort("10.0.0.10:5060"), netip.MustParseAddrPort("203.0.113.10:5060")
	public := netip.AddrPortFrom(PublicAddr, 5060)
	packet := func(out bool, src, dst netip.AddrPort, text string) *Packet {
		raw := []byte(strings.ReplaceAll(text, "\n", "\r\n"))
		p := &Packet{Out: out, Proto: 17, Src: src, Dst: dst, Payload: raw}
		p.SIP, _ = ParseMessage(raw)
		return p
	}
	const register = "REGISTER sip:203.0.113.10 SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.10;branch=z9hG4bK1;rport\n" +
		"Contact: <sip:a@10.0.0.10>\nCSeq: 1 REGISTER\n\n"
	const answer = "SIP/2.0 200 OK\nVia: %;branch=z9hG4bK1;received=10.0.0.10;rport=5060\nContact: <sip:a@10.0.0.10>;expires=60\nCSeq: 1 REGISTER\n\n"
	via := func(s string) string { return strings.Replace(answer, "%", s, 1) }
	for _, c := range []struct {
		name, answer string
		faults       int
	}{
		{"the phone's own", via("SIP/2.0/UDP 10.0.0.10"), 0},
		{"a port more", via("SIP/2.0/UDP 10.0.0.10:5060"), 1},
		{"the public one", via("SIP/2.0/UDP 203.0.113.1"), 1},
		{"another Contact", strings.Replace(via("SIP/2.0/UDP 10.0.0.10"), "a@10.0.0.10", "a@203.0.113.1", 1), 1},
	} {
		got := strangeVias([]*Packet{packet(false, phone, server, register), packet(true, server, phone, c.answer)})
		if len(got) != c.faults {
			t.Errorf("%s: %d findings, want %d: %q", c.name, len(got), c.faults, got)
		}
	}
	clean := "OPTIONS sip:b SIP/2.0\nCall-ID: 1@10.0.0.10\nCSeq: 1 OPTIONS\n\nc=IN IP4 203.0.113.1\n"
	for _, c := range []struct {
		name   string
		packet *Packet
		leaks  int
	}{
		{"only in the Call-ID", packet(true, public, server, clean), 0},
		{"compact Call-ID", packet(true, public, server, strings.Replace(clean, "Call-ID", "i", 1)), 0},
		{"in the body", packet(true, public, server, strings.Replace(clean, "IP4 203.0.113.1", "IP4 192.168.3.4", 1)), 1},
		{"in the IP header", packet(true, phone, server, clean), 1},
		{"arriving", packet(false, server, public, "OPTIONS sip:10.0.0.10 SIP/2.0\n\n"), 0},
	} {
		if got := Leaks([]*Packet{c.packet}); len(got) != c.leaks {
			t.Errorf("%s: %d leaks, want %d: %q", c.name, len(got), c.leaks, got)
		}
	}
}
