package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// proxyFirewall lets everybody in to the proxy's port in these tests.
var proxyFirewall = lab.Firewall{Backend: lab.Nftables, Extra: "insert rule inet firewall input udp dport 5060 accept\n"}

// TestBombs: messages of 64 kB, of all that can be repeated or be long, and with numbers
// that are none, from inside and from outside, to a phone with a call and to the proxy.
// Nothing opens, ends or grows, and calls go on. (What a message may cost is measured in
// package nat.)
func TestBombs(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transparent", "both"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, lab.Options{Firewall: proxyFirewall}, "mode = "+mode, "hosts_allow_reg = 10.0.0.0/24", "host_outbound = 203.0.113.1")
			far := v.mallory.Socket(6060)
			targets := []netip.AddrPort{v.bob.Addr}
			if mode == "both" {
				targets = append(targets, netip.AddrPortFrom(lab.InsideAddr, 5060))
			}
			const room = 60000
			fill := func(unit string) string { return strings.Repeat(unit, room/len(unit)) }
			with := func(name, value string) func(*lab.Message) { return func(m *lab.Message) { m.Set(name, value) } }
			sdp := func(lines string) func(*lab.Message) {
				return func(m *lab.Message) {
					m.WithSDP("v=0\r\no=- 1 1 IN IP4 10.0.0.10\r\ns=-\r\nc=IN IP4 10.0.0.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n" + lines)
				}
			}
			nested := "v=0\r\n"
			for i := range 300 {
				nested = fmt.Sprintf("--%d\r\nContent-Type: multipart/mixed;boundary=%d\r\n\r\n%s\r\n--%[1]d--\r\n", i, i-1, nested)
			}
			bombs := map[string]func(*lab.Message){
				"10,000 Vias":       with("Via", strings.TrimSuffix(strings.Repeat("a/b/c d,", 7500), ",")),
				"lines of Vias":     func(m *lab.Message) { m.Headers = append(m.Headers, many("v", "SIP/2.0/UDP h", 3000)...) },
				"10,000 Contacts":   with("Contact", strings.TrimSuffix(strings.Repeat("<sip:>,", 8500), ",")),
				"headers":           func(m *lab.Message) { m.Headers = append(m.Headers, many("x", "y", 10000)...) },
				"a line":            with("Subject", fill("x")),
				"folds":             with("Subject", fill(strings.Repeat("x", 60)+"\r\n ")),
				"a Call-ID":         with("Call-ID", fill("x")),
				"a branch":          with("Via", "SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bK"+fill("x")),
				"a tag":             with("From", "<sip:a@b>;tag="+fill("x")),
				"quotes":            with("From", fill(`"\"`)+`" <sip:a@b>;tag=1`),
				"a URI":             func(m *lab.Message) { m.Start = m.Method() + " sip:" + fill("x") + "@203.0.113.10 SIP/2.0" },
				"nested parts":      func(m *lab.Message) { m.WithBody("multipart/mixed;boundary=299", nested) },
				"5,000 m-lines":     sdp(strings.Repeat("m=a 1 x\r\n", 5000)),
				"candidates":        sdp(fill("a=candidate:1 1 UDP 1 10.0.0.10 4000\r\n")),
				"counts":            sdp(strings.Repeat("m=audio 4000/65535 RTP/AVP 0\r\n", 950)),
				"a long length":     with("Content-Length", "100000"),
				"a length too far":  with("Content-Length", "4294967296"),
				"a length by 64":    with("Content-Length", "18446744073709551616"),
				"a length of -1":    with("Content-Length", "-1"),
				"a length of +1":    with("Content-Length", "+1"),
				"a length of 0x1":   with("Content-Length", "0x1"),
				"two lengths":       func(m *lab.Message) { m.Add("Content-Length", "0").Add("l", "1") },
				"CSeq beyond 2**32": with("CSeq", "4294967296 MESSAGE"),
				"CSeq of -1":        with("CSeq", "-1 MESSAGE"),
				"Expires":           with("Expires", fill("9")),
				"Max-Forwards":      with("Max-Forwards", fill("9")),
				"a port":            with("Via", "SIP/2.0/UDP 10.0.0.10:"+fill("9")+";branch=z9hG4bK1"),
				"Session-Expires":   with("Session-Expires", "99999999999999999999"),
			}
			for name, change := range bombs {
				for _, method := range []string{"MESSAGE", "REGISTER"} {
					m := v.alice.Request(method, "sip:x@203.0.113.10")
					change(m)
					raw := strings.Replace(m.String(), " MESSAGE\r\n", " "+method+"\r\n", 1)
					if len(raw) > 65507 {
						t.Fatalf("%s: %d bytes", name, len(raw))
					}
					for _, to := range targets {
						v.alice.SendRaw(to, []byte(raw))
					}
					v.bob.SendRaw(lab.HostPortOf(v.contact), []byte(raw))
					if mode == "both" {
						far.Send(netip.AddrPortFrom(lab.PublicAddr, 5060), []byte(raw))
					}
				}
				v.settle()
			}
			v.unmoved("bombs")
			v.end()
		})
	}
}

// many are equal header lines.
func many(name, value string, n int) []lab.Field {
	list := make([]lab.Field, n)
	for i := range list {
		list[i] = lab.Field{Name: name, Value: value}
	}
	return list
}

// TestScanners: scanners ask for extensions and passwords from hosts and ports that
// change with each packet, in front of a phone and of the proxy: nothing is remembered
// of them, and whoever is known is served meanwhile.
func TestScanners(t *testing.T) {
	t.Parallel()
	v := newVictim(t, lab.Options{Firewall: proxyFirewall}, "mode = both", "host_outbound = 203.0.113.1", "proxy_auth_realm = lab", "proxy_auth_passwd = secret")
	proxy := netip.AddrPortFrom(lab.PublicAddr, 5060)
	const scans = 900
	scanner := v.mallory.Agent("100", 5070)
	for i := range scans {
		method := []string{"OPTIONS", "REGISTER", "INVITE"}[i%3]
		m := scanner.Request(method, "sip:100@203.0.113.1").Set("User-Agent", "friendly-scanner")
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), uint16(1024+i))
		if method == "REGISTER" { // a guessed answer to a challenge
			m.Set("Authorization", fmt.Sprintf(`Digest username="100", realm="lab", nonce="%d", uri="sip:203.0.113.1", response="%032x"`, i, i))
		}
		for _, to := range []netip.AddrPort{proxy, lab.HostPortOf(v.contact)} {
			v.mallory.SendIP(lab.UDPPacket(from, to, []byte(m.String())))
		}
		if i%(scans/3) == 0 {
			v.talk()
			v.settle()
		}
	}
	again := scanner.Request("REGISTER", "sip:203.0.113.1")
	insist(t, scanner, func() { scanner.Send(proxy, again) }, scanner, lab.CallID(again.CallID())) // strangers' rate is used up
	if answer := scanner.Recv(lab.CallID(again.CallID())); answer.Status() < 400 {
		t.Errorf("a scanner is told %s", answer.Start)
	}
	if got := v.alice.Pending(lab.Request("")); len(got) > 0 {
		t.Errorf("the phone hears of %d scans: %s", len(got), got[0].Start)
	}
	v.unmoved("scans")
	v.end()
}
