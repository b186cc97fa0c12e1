package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestForgedSDP: a phone, or who makes it speak, names what is not its own in a session
// description: other hosts, the firewall, low ports, SIP ports, ports that are none. A
// stream is opened to none of them, and what is opened besides has a public port of the
// firewall's choice.
func TestForgedSDP(t *testing.T) {
	t.Parallel()
	for _, config := range []string{"media_hosts =", "media_hosts = 10.0.0.0/24"} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, lab.Options{}, config, "rtp_port_low = 20000", "rtp_port_high = 20999")
			admits := strings.Contains(config, "/24")
			const own = "v=0\r\no=- 1 1 IN IP4 10.0.0.10\r\ns=-\r\nc=IN IP4 10.0.0.10\r\nt=0 0\r\n"
			const audio = "m=audio 4500 RTP/AVP 0\r\n"
			at := func(c string) string { return strings.Replace(own, "c=IN IP4 10.0.0.10", "c=IN IP4 "+c, 1) }
			candidate := func(addr string, port int) string {
				return fmt.Sprintf("a=candidate:1 1 UDP 1 %s %d typ host\r\n", addr, port)
			}
			// What may be opened, as ports of the sender, and of 10.0.0.11 where
			// media_hosts admits it.
			type opens = []int
			for _, c := range []struct {
				name, sdp  string
				own, other opens
			}{
				{"nothing wrong", own + audio, opens{4500, 4501}, nil},
				{"c= of another host", at("10.0.0.11") + audio, nil, opens{4500, 4501}},
				{"c= of another host in the m-line", own + audio + "c=IN IP4 10.0.0.11\r\n", nil, opens{4500, 4501}},
				{"two c= in the m-line", own + audio + "c=IN IP4 10.0.0.11\r\nc=IN IP4 10.0.0.10\r\n", nil, opens{4500, 4501}},
				{"c= of the firewall", at("10.0.0.1") + audio, nil, nil},
				{"c= of the firewall, outside", at("203.0.113.1") + audio, nil, nil},
				{"c= of the provider", at("203.0.113.10") + audio, nil, nil},
				{"c= of a third party", at("198.51.100.9") + audio, nil, nil},
				{"c= broadcast", at("255.255.255.255") + audio, nil, nil},
				{"c= multicast", at("239.1.2.3/127") + audio, nil, nil},
				{"c= loopback", at("127.0.0.1") + audio, nil, nil},
				{"c= link-local", at("169.254.1.1") + audio, nil, nil},
				{"c= another private network", at("192.168.1.2") + audio, nil, nil},
				{"c= is a name", at("localhost") + audio, nil, nil},
				{"c= with leading zeros", at("010.000.000.011") + audio, nil, nil},
				{"c= hexadecimal", at("0x0a00000b") + audio, nil, nil},
				{"c= IPv4 in IPv6", strings.Replace(at("::ffff:10.0.0.11"), "IP4 ::", "IP6 ::", 1) + audio, nil, nil},
				{"no c=", strings.Replace(own, "c=IN IP4 10.0.0.10\r\n", "", 1) + audio, nil, nil},
				{"port 0", own + "m=audio 0 RTP/AVP 0\r\n", nil, nil},
				{"port 22", own + "m=audio 22 RTP/AVP 0\r\n", nil, nil},
				{"port 1023", own + "m=audio 1023 RTP/AVP 0\r\n", nil, nil},
				{"the SIP port", own + "m=audio 5060 RTP/AVP 0\r\n", nil, nil},
				{"the SIP port for RTCP", own + "m=audio 5059 RTP/AVP 0\r\n", opens{5059}, nil},
				{"port 65535", own + "m=audio 65535 RTP/AVP 0\r\n", opens{65535}, nil},
				{"port 65536", own + "m=audio 65536 RTP/AVP 0\r\n", nil, nil},
				{"a port that wraps", own + "m=audio 70036 RTP/AVP 0\r\n", nil, nil}, // 4500
				{"a port beyond 32 bits", own + "m=audio 4294971796 RTP/AVP 0\r\n", nil, nil},
				{"a port beyond 64 bits", own + "m=audio 18446744073709556116 RTP/AVP 0\r\n", nil, nil},
				{"port -1", own + "m=audio -1 RTP/AVP 0\r\n", nil, nil},
				{"port +4500", own + "m=audio +4500 RTP/AVP 0\r\n", nil, nil},
				{"port 0x1194", own + "m=audio 0x1194 RTP/AVP 0\r\n", nil, nil},
				{"leading zeros", own + "m=audio 0004500 RTP/AVP 0\r\n", opens{4500, 4501}, nil},
				{"a count", own + "m=audio 4500/2 RTP/AVP 0\r\n", opens{4500, 4501, 4502, 4503}, nil},
				{"a count that runs into the SIP port", own + "m=audio 5056/3 RTP/AVP 0\r\n", nil, nil},
				{"a count that runs out of ports", own + "m=audio 65530/10000 RTP/AVP 0\r\n", nil, nil},
				{"a count that wraps", own + "m=audio 65530/4 RTP/AVP 0\r\n", nil, nil},
				{"a count of all ports", own + "m=audio 1024/32000 RTP/AVP 0\r\n", nil, nil},
				{"a count beyond 32 bits", own + "m=audio 4500/4294967297 RTP/AVP 0\r\n", opens{4500, 4501}, nil},
				{"a negative count", own + "m=audio 4500/-2 RTP/AVP 0\r\n", opens{4500, 4501}, nil},
				{"a=rtcp of another host", own + audio + "a=rtcp:8080 IN IP4 10.0.0.11\r\n", opens{4500}, opens{8080}},
				{"a=rtcp of the firewall", own + audio + "a=rtcp:8080 IN IP4 10.0.0.1\r\n", opens{4500}, nil},
				{"a=rtcp to a low port", own + audio + "a=rtcp:53\r\n", opens{4500}, nil},
				{"a=rtcp to the SIP port", own + audio + "a=rtcp:5060\r\n", opens{4500}, nil},
				{"a=rtcp that wraps", own + audio + "a=rtcp:73616\r\n", opens{4500, 4501}, nil},
				{"a candidate of another host", own + audio + candidate("10.0.0.11", 8080), opens{4500, 4501}, opens{8080}},
				{"a candidate of the firewall", own + audio + candidate("10.0.0.1", 8080), opens{4500, 4501}, nil},
				{"a candidate with a low port", own + audio + candidate("10.0.0.10", 137), opens{4500, 4501}, nil},
				{"a candidate with the SIP port", own + audio + candidate("10.0.0.10", 5060), opens{4500, 4501}, nil},
				{"a candidate with a port that wraps", own + audio + candidate("10.0.0.10", 65536+8080), opens{4500, 4501}, nil},
				{"a loopback candidate", own + audio + candidate("127.0.0.1", 8080), opens{4500, 4501}, nil},
				{"a TCP candidate", own + audio + "a=candidate:1 1 TCP 1 10.0.0.10 8080 typ host tcptype passive\r\n", opens{4500, 4501}, nil},
				{"a candidate before any m-line", own + candidate("10.0.0.10", 8080) + audio, opens{4500, 4501}, nil},
				{"raddr", own + audio + "a=candidate:1 1 UDP 1 198.51.100.9 8080 typ srflx raddr 10.0.0.11 rport 8080\r\n", opens{4500, 4501}, nil},
				{"remote-candidates", own + audio + "a=remote-candidates:1 10.0.0.11 8080 2 10.0.0.1 53\r\n", opens{4500, 4501}, nil},
				{"media over TCP", own + "m=audio 8080 TCP/RTP/AVP 0\r\nm=message 8081 TCP/MSRP *\r\na=path:msrp://10.0.0.10:8081/x;tcp\r\nm=image 8082 tcp t38\r\n", nil, nil},
			} {
				bodies := map[string]lab.Mod{"": lab.WithSDP(c.sdp)}
				if c.name == "c= of another host" || c.name == "port 22" {
					bodies[" in a part"] = lab.WithBody("multipart/mixed;boundary=b", "--b\r\nContent-Type: application/sdp\r\n\r\n"+c.sdp+"\r\n--b--\r\n")
					bodies[" in the second of two parts"] = lab.WithBody("multipart/mixed;boundary=b", "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b\r\nContent-Type: application/sdp\r\n\r\n"+c.sdp+"\r\n--b--\r\n")
				}
				for form, body := range bodies {
					allowed := make(map[netip.AddrPort]bool)
					for _, port := range c.own {
						allowed[v.alice.Host.At(port)] = true
					}
					for _, port := range c.other {
						allowed[v.browser.At(port)] = admits
					}
					out := v.alice.Invite("sip:bob@203.0.113.10", body)
					in := v.bob.RecvInvite(lab.CallID(out.CallID))
					opened := make(map[netip.AddrPort]bool)
					for public, inside := range v.Streams() {
						if v.before.Has("streams", public, inside) {
							continue
						}
						opened[inside] = true
						if !allowed[inside] {
							t.Errorf("%s%s: %v is opened to %v", c.name, form, public, inside)
						}
						if public.Port() < 20000 || public.Port() > 20999 {
							t.Errorf("%s%s: %v is opened", c.name, form, public)
						}
					}
					for ep, may := range allowed {
						if may && !opened[ep] {
							t.Errorf("%s%s: %v is not opened", c.name, form, ep)
						}
					}
					if strings.Contains(in.Invite.Body, " 10.0.0.") {
						t.Errorf("%s%s: it leaves as\n%s", c.name, form, in.Invite.Body)
					}
					in.Reply(488)
					out.AckFailure(out.Expect(488))
				}
			}
			v.unmoved("forged SDP")
			v.end()
		})
	}
}

// TestForgedContacts: a message names ports of its sender by the hundred. It gets
// bindings for few of them, and for none that is low or another host's.
func TestForgedContacts(t *testing.T) {
	t.Parallel()
	v := newVictim(t, lab.Options{})
	var contacts []string
	for i := range 300 {
		contacts = append(contacts, fmt.Sprintf("<sip:a@10.0.0.10:%d>", 30000+i))
	}
	for name, c := range map[string]struct {
		contacts []string
		most     int
	}{
		"a low port":   {[]string{"<sip:a@10.0.0.10:22>", "<sip:a@10.0.0.10:0>", "<sip:a@10.0.0.10:65558>"}, 0}, // 22
		"another host": {[]string{"<sip:a@10.0.0.11:5060>", "<sip:a@10.0.0.1:5060>", "<sip:a@127.0.0.1:5062>"}, 0},
		"hundreds":     {contacts, 8},
	} {
		before := v.Bindings()
		m := v.alice.Request("OPTIONS", "sip:203.0.113.10")
		v.alice.Send(v.bob.Addr, m, lab.With("Contact", strings.Join(c.contacts, ", ")))
		seen := v.bob.Recv(lab.CallID(m.CallID()))
		if got := strings.Join(seen.All("Contact"), ","); strings.Contains(got, "10.0.0.") {
			t.Errorf("%s: it leaves as %.200s", name, got)
		}
		var opened []netip.AddrPort
		for public, inside := range v.Bindings() {
			if !before[public].IsValid() {
				opened = append(opened, inside)
			}
		}
		low := func(a netip.AddrPort) bool { return a.Port() < 1024 || a.Addr() != v.alice.Addr.Addr() }
		if len(opened) > c.most || slices.ContainsFunc(opened, low) {
			t.Errorf("%s: bindings of %v", name, opened)
		}
	}
	v.end()
}
