package proxy

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// request is a message of a host, which comes to the address of its side.
func (w *world) request(from, method, uri string, lines ...string) {
	w.t.Helper()
	to, host := outsideAddr, netip.MustParseAddrPort(from)
	if (networks{}).Inside(host.Addr()) {
		to = insideAddr
	}
	text := method + " " + uri + " SIP/2.0\nVia: SIP/2.0/UDP " + from + ";branch=z9hG4bK" + fmt.Sprint(time.Now().UnixNano()) + "\n"
	if len(lines) > 0 {
		text += strings.Join(lines, "\n") + "\n"
	}
	text += "From: <sip:johndoe@" + host.Addr().String() + ">;tag=1\nTo: <" + uri + ">\nCall-ID: 1\nCSeq: 1 " + method
	w.proxy.Arrived(transport.Arrival{
		Hop:  transport.Hop{Remote: host, Local: netip.MustParseAddrPort(to + ":5060")},
		Data: wire(text),
	})
	synctest.Wait()
	time.Sleep(time.Millisecond) // and another branch
}

// to returns what was sent to an address since the last call.
func (w *world) to(addr string) (list []sent) {
	w.proxy.mu.Lock()
	defer w.proxy.mu.Unlock()
	for _, s := range w.sent {
		if s.hop.Remote.Addr().String() == addr {
			list = append(list, s)
		}
	}
	w.sent = nil
	return list
}

// TestReflection: whom the proxy refuses outside gets one datagram for each that came
// under its name, and nothing is remembered.
func TestReflection(t *testing.T) {
	for _, c := range [][2]string{
		{"INVITE", "sip:nobody@203.0.113.1"}, {"INVITE", "sip:victim@198.51.100.20"}, {"INVITE", "tel:1"},
		{"REGISTER", "sip:foo.bar.org"}, {"OPTIONS", "sip:foo.bar.org"}, {"CANCEL", "sip:johndoe@203.0.113.1"},
		{"BYE", "sip:johndoe@203.0.113.1;line=L9"}, {"SUBSCRIBE", "sip:203.0.113.1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.request("198.51.100.66:5060", c[0], c[1], "Max-Forwards: 70")
			if s := w.proxy.Stats(); s.Servers != 0 {
				t.Errorf("%v: %d transactions are left", c, s.Servers)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			answers := w.to("198.51.100.66")
			if len(answers) != 1 {
				t.Errorf("%v: %d datagrams", c, len(answers))
			}
		})
	}
}

// TestOwnServices: nobody has the proxy talk to other services of the firewall, which
// may trust whatever comes from there; but for those that the configuration names.
func TestOwnServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		mine := func(what string) {
			t.Helper()
			w.proxy.mu.Lock()
			defer w.proxy.mu.Unlock()
			for _, s := range w.sent {
				if a := s.hop.Remote.Addr().String(); a == insideAddr || a == outsideAddr {
					t.Errorf("%s: it is sent to %s", what, s.hop)
				}
			}
			w.sent = nil
		}
		phone := "10.0.0.10:5060"
		for _, uri := range []string{"sip:x@10.0.0.1:22;transport=tcp", "sip:x@203.0.113.1:53", "sip:x@evil.example", "sip:x@bob.example;maddr=10.0.0.1"} {
			w.dns["evil.example"] = []Target{{transport.TCP, netip.MustParseAddrPort("10.0.0.1:6379")}}
			for _, method := range []string{"MESSAGE", "INVITE", "ACK", "REGISTER"} {
				w.request(phone, method, uri)
				w.request(phone, method, "sip:bob@203.0.113.10", "Route: <"+uri+";lr>")
			}
			mine(uri)
		}
		w.request(phone, "REGISTER", "sip:foo.bar.org", "Contact: <sip:johndoe@10.0.0.1:22;transport=tcp>")
		w.sent = nil
		w.request("198.51.100.66:5060", "INVITE", "sip:foo@foo.bar.org")
		w.bound["johndoe"] = []Contact{{URI: []byte("sip:johndoe@10.0.0.1:22;transport=tcp"), Hop: transport.Hop{Remote: netip.MustParseAddrPort(phone)}}}
		w.request("198.51.100.66:5060", "INVITE", "sip:johndoe@foo.bar.org")
		mine("a contact")

		w.proxy.Configure(Config{OutboundProxy: Server{Host: "10.0.0.1", Port: 5080}})
		w.request(phone, "MESSAGE", "sip:bob@example.com")
		if len(w.to(insideAddr)) == 0 {
			t.Error("nothing is sent to the PBX on the firewall that the configuration names")
		}
		w.proxy.Configure(Config{})
		for _, heard := range []bool{false, true} {
			w.request(phone, "BYE", "sip:pbx@10.0.0.1:5070")
			if got := len(w.to(insideAddr)) > 0; got != heard {
				t.Errorf("a PBX on the firewall that has sent something, %t: %t", heard, got)
			}
			w.request("10.0.0.1:5070", "OPTIONS", "sip:foo.bar.org")
			w.sent = nil
		}
	})
}

// TestLowPorts: no request from outside is sent to a port where no phone listens, even
// if a host inside has said so.
func TestLowPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		for port, want := range map[int]bool{53: false, 1023: false, 5060: true} {
			w.bound["johndoe"] = []Contact{{URI: fmt.Appendf(nil, "sip:x@10.0.0.99:%d", port), Hop: transport.Hop{Remote: netip.MustParseAddrPort("10.0.0.10:5060")}}}
			w.request("198.51.100.66:5060", "MESSAGE", "sip:johndoe@foo.bar.org")
			if got := len(w.to("10.0.0.99")) > 0; got != want {
				t.Errorf("port %d: it is sent: %t", port, got)
			}
		}
	})
}

// TestCredentialsStay: whatever the registrar takes for an answer to its own challenge
// goes no further.
func TestCredentialsStay(t *testing.T) {
	for value, stays := range map[string]bool{
		`Digest username="a", realm="home", response="1"`:   true,
		`Digest realm=home,username=a`:                      true,
		"digest\tusername=\"a\" , REALM = \"home\"":         true,
		`Digest username="a\"", realm="ho\me"`:              true,
		`Digest username="realm=\"home\"", realm="far"`:     false,
		`Digest username="a", realm="far", opaque="home"`:   false,
		`Digest username="a", realm="", nonce="realm=home"`: false,
		`Digest username="a", realm="home`:                  true,
		`Digest`:                                            false,
		`"`:                                                 false,
	} {
		if got := answersTo([]byte(value), "home"); got != stays {
			t.Errorf("%s: %t", value, got)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Realm: "home"})
		w.request("10.0.0.10:5060", "REGISTER", "sip:203.0.113.10", `Proxy-Authorization: Digest username=a, realm = home, response=1`,
			`Proxy-Authorization: Digest username="a", realm="far", response="2"`)
		sent := w.to("203.0.113.10")
		if len(sent) == 0 {
			t.Fatal("nothing is sent")
		}
		if first := sent[0].data; bytes.Contains(first, []byte("home")) || !bytes.Contains(first, []byte("far")) {
			t.Errorf("%s", first)
		}
	})
}

// TestTooLarge: what grows too large on its way is refused, and what comes back too
// large is replaced; neither is waited for, for ever.
func TestTooLarge(t *testing.T) {
	ended := func(t *testing.T, w *world) {
		t.Helper()
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := w.proxy.Stats(); s.Servers != 0 || s.Clients != 0 {
			t.Errorf("after an hour: %+v", s)
		}
	}
	for _, from := range []string{"10.0.0.10:5060", "198.51.100.66:5060"} {
		for n := sipmsg.MaxSize - 400; n < sipmsg.MaxSize; n += 40 {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				w.bound["johndoe"] = []Contact{{URI: []byte("sip:x@10.0.0.11"), Hop: transport.Hop{Remote: netip.MustParseAddrPort("10.0.0.11:5060")}}}
				w.request(from, "INVITE", "sip:johndoe@foo.bar.org", "X: "+strings.Repeat("x", n-270))
				ended(t, w)
			})
		}
	}
	for n := sipmsg.MaxSize - 400; n < sipmsg.MaxSize; n += 40 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.bound["johndoe"] = []Contact{{URI: []byte("sip:x@10.0.0.11"), Hop: transport.Hop{Remote: netip.MustParseAddrPort("10.0.0.11:5060")}}}
			w.request("198.51.100.66:5060", "MESSAGE", "sip:johndoe@foo.bar.org", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"+strings.Repeat("x", 500))
			for _, s := range w.to("10.0.0.11") {
				var m sipmsg.Message
				if err := m.Index(s.data); err != nil {
					t.Fatal(err)
				}
				var answer []byte
				for line := range bytes.Lines(sipmsg.AppendResponse(nil, &m, 200, "", sipmsg.ResponseOptions{ToTag: "1"})) {
					if !bytes.Contains(line, []byte("192.0.2.1")) { // a phone may lose it
						answer = append(answer, line...)
					}
				}
				answer = bytes.Replace(answer, []byte("\r\nFrom:"), []byte("\r\nX: "+strings.Repeat("x", n-len(answer)-5)+"\r\nFrom:"), 1)
				w.proxy.Arrived(transport.Arrival{Hop: transport.Hop{Remote: s.hop.Remote, Local: s.hop.Local}, Data: answer})
			}
			ended(t, w)
		})
	}
}

// TestWarning: headers that phones put their address into, for people to read.
func TestWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.request("10.0.0.10:5060", "MESSAGE", "sip:bob@203.0.113.10", `Warning: 399 10.0.0.10:5060 "10.0.0.11. 198.51.100.1 10.0.0.1000"`,
			"Alert-Info: <http://10.0.0.10/ring.wav>", "Call-Info: <http://10.0.0.12/icon>;purpose=icon")
		list := w.to("203.0.113.10")
		if len(list) == 0 {
			t.Fatal("nothing is sent")
		}
		text := string(list[0].data)
		for _, want := range []string{`Warning: 399 203.0.113.1:5060 "203.0.113.1. 198.51.100.1 10.0.0.1000"`, "<http://203.0.113.1/ring.wav>", "<http://203.0.113.1/icon>;purpose=icon"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
	})
}

// TestLookUpsBounded: a phone that asks for names that nobody answers for keeps only so
// many requests waiting, and others get their answer.
func TestLookUpsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.slow = true
		for i := range 500 {
			w.request("10.0.0.10:5060", []string{"ACK", "MESSAGE", "REGISTER"}[i%3], fmt.Sprintf("sip:x@%d.example", i%200))
		}
		waiting := func() (n int) {
			for _, list := range w.pending {
				n += len(list)
			}
			return n
		}
		if n := waiting(); n != maxLookUps {
			t.Errorf("%d requests wait", n)
		}
		w.request("10.0.0.11:5060", "MESSAGE", "sip:x@other.example")
		if len(w.pending["other.example"]) != 1 {
			t.Error("nothing is looked up for another phone")
		}
		for waiting() > 0 { // a REGISTER is looked up twice
			pending := w.pending
			w.pending = map[string][]func([]Target){}
			for _, list := range pending {
				for _, answer := range list {
					answer(nil)
				}
			}
		}
		if len(w.proxy.lookUps) != 0 {
			t.Errorf("look-ups that are over count: %v", w.proxy.lookUps)
		}
	})
}

// TestDialogsBounded: what is remembered of dialogs is bounded, for each phone and in
// its text.
func TestDialogsBounded(t *testing.T) {
	d := dialogs{}
	greedy, other := netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("10.0.0.11")
	for i := range maxDialogs {
		d.remember(greedy, fmt.Append(nil, i), []byte("1"))
	}
	if len(d.list) != maxDialogsOfHost {
		t.Errorf("%d dialogs of one phone", len(d.list))
	}
	if d.remember(other, []byte("x"), []byte("1")) == nil {
		t.Error("another one has no room")
	}
	if d.remember(other, bytes.Repeat([]byte("x"), 60000), []byte("1")) != nil {
		t.Error("a Call-ID of 60000 bytes is kept")
	}
	d.forget([]byte("x"), []byte("1"))
	d.expire(time.Now().Add(2 * dialogTime))
	if len(d.list)+len(d.of) != 0 {
		t.Errorf("%d dialogs, %d phones are left", len(d.list), len(d.of))
	}
}
