package proxy

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// FuzzSequence plays what phones, a provider and a stranger may do, in any order: each
// byte is a choice. Nothing panics, no inside address leaves, nobody outside is sent what
// another one outside has begun, and all ends.
func FuzzSequence(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x10\x01\x02\x03\x04\x05"))
	f.Add(bytes.Repeat([]byte{0, 3, 1, 0, 1, 5, 0, 2}, 12))
	f.Add([]byte("registering, calling, answering, cancelling, and hanging up"))
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			s := sequence{world: newWorld(t, Config{ObscureLoops: len(choices)%2 == 0, Realm: "foo"}), choices: choices}
			s.users = []string{"johndoe"}
			s.dns["example.com"] = []Target{{transport.UDP, netip.MustParseAddrPort("203.0.113.10:5060")}, {transport.TCP, netip.MustParseAddrPort("203.0.113.11:5060")}}
			for len(s.choices) > 0 {
				s.step()
				synctest.Wait()
				s.look()
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			s.look()
			if s := s.proxy.Stats(); s.Servers != 0 || s.Clients != 0 || s.Panics != 0 {
				t.Errorf("after an hour: %+v", s)
			}
			if s.proxy.layer.Bytes() != 0 {
				t.Errorf("%d bytes are held by nobody", s.proxy.layer.Bytes())
			}
		})
	})
}

// sequence is a world with a list of choices.
type sequence struct {
	*world
	choices []byte
	seen    [][]byte // what has been sent, for answers
	serial  int
}

// pick takes the next choice, of n.
func (s *sequence) pick(n int) int {
	if len(s.choices) == 0 {
		return 0
	}
	c := int(s.choices[0]) % n
	s.choices = s.choices[1:]
	return c
}

func (s *sequence) among(list ...string) string { return list[s.pick(len(list))] }

var (
	insiders  = []string{"10.0.0.10:5060", "10.0.0.11:5062"}
	outsiders = []string{"203.0.113.10:5060", "198.51.100.66:5060"}
)

// hop is where a message comes from.
func (s *sequence) hop() transport.Hop {
	h := transport.Hop{Kind: transport.Kind(s.pick(2)), Local: netip.MustParseAddrPort("10.0.0.1:5060")}
	if from := append(append([]string{}, insiders...), outsiders...)[s.pick(4)]; true {
		h.Remote = netip.MustParseAddrPort(from)
	}
	if !(networks{}).Inside(h.Remote.Addr()) {
		h.Local = netip.MustParseAddrPort("203.0.113.1:5060")
	}
	if h.Kind == transport.TCP {
		h.Conn = uint64(1 + s.pick(2))
	}
	return h
}

func (s *sequence) step() {
	switch s.pick(8) {
	case 0, 1, 2:
		s.asks()
	case 3, 4, 5:
		s.answers()
	case 6:
		s.proxy.Failed(transport.Hop{Kind: transport.Kind(s.pick(2)), Remote: netip.MustParseAddrPort(s.among(append(insiders, outsiders...)...))}, syscall.ECONNREFUSED)
	case 7:
		time.Sleep([]time.Duration{time.Millisecond, time.Second, 40 * time.Second, 4 * time.Minute}[s.pick(4)])
	}
}

// asks sends a request.
func (s *sequence) asks() {
	h := s.hop()
	host := h.Remote.Addr().String()
	method := s.among("INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "MESSAGE", "NOTIFY", "OPTIONS", "REFER")
	uri := s.among("sip:johndoe@foo.bar.org", "sip:johndoe@203.0.113.1;line=L1", "sip:x@203.0.113.1;line=L2", "sip:bob@example.com",
		"sip:foo.bar.org", "sip:203.0.113.1;lr", "sip:bob@198.51.100.66:5060", "sip:bob@203.0.113.10;transport=tcp",
		"sip:johndoe@foo.bar.org;maddr=198.51.100.66", "sips:x@foo.bar.org", "tel:1", "sip:x@203.0.113.1:53")
	to := ""
	if s.pick(2) == 1 {
		to = ";tag=b"
	}
	s.serial++
	branch := fmt.Sprint(s.serial)
	if s.pick(3) > 0 {
		branch = s.among("x", "y") // again
	}
	text := method + " " + uri + " SIP/2.0\nVia: SIP/2.0/" + h.Kind.String() + " " + host + ":5060;branch=z9hG4bK" + branch + s.among("", ";rport", ";received=1.2.3.4", ";rport=1") + "\n"
	text += s.among("", "Max-Forwards: 70\n", "Max-Forwards: 0\n", "Max-Forwards: 1\nMax-Forwards: 5\n")
	text += s.among("", "", "Route: <sip:203.0.113.1;lr>\n", "Route: <sip:10.0.0.1;lr>, <sip:198.51.100.66;lr>\n", "Route: <sip:foo.bar.org;lr>\nRoute: <sip:203.0.113.10>\n", "Route: <sip:bob@198.51.100.66>\n")
	text += s.among("", "", "Record-Route: <sip:"+host+";lr>\n", "Record-Route: <sip:"+host+":5070;lr>, <sip:9@"+host+">\n")
	text += s.among("Contact: <sip:johndoe@"+host+">\n", "", "Contact: *\nExpires: 0\n", "Contact: sip:johndoe@"+host+":5064;x\n", "Contact: <sip:a b@"+host+">, <sip:c@"+host+">;q=0.1\n", "Refer-To: <sip:r@"+host+"?Replaces=1>\n", "Warning: 399 "+host+" \"x\"\n")
	text += "From: " + s.among("<sip:johndoe@"+host+">", "sip:johndoe@foo.bar.org", "\"x\" <sip:j@"+host+":5060>") + ";tag=a\nTo: <sip:bob@example.com>" + to + "\n"
	text += "Call-ID: " + s.among("1", "2", "x-in-1", "x-out-1") + "\nCSeq: 1 " + method
	text += s.among("", "", "\nProxy-Require: x", "\nProxy-Authorization: Digest realm=foo", "\nReason: SIP;cause=200")
	text += s.among("", "\nContent-Type: application/sdp\n\nv=0\nc=IN IP4 "+host+"\n")
	s.proxy.Arrived(transport.Arrival{Hop: h, Data: wire(text)})
}

// answers sends a response to something that was sent.
func (s *sequence) answers() {
	var m sipmsg.Message
	if len(s.seen) == 0 || m.Index(s.seen[len(s.seen)-1-s.pick(min(len(s.seen), 16))]) != nil || !m.Request {
		return
	}
	h := s.hop()
	host := h.Remote.Addr().String()
	status := []int{100, 180, 183, 200, 202, 301, 401, 404, 407, 408, 486, 503, 600}[s.pick(13)]
	more := s.among("", "Contact: <sip:johndoe@"+host+">\r\n", "Warning: 399 "+host+" \"x\"\r\n", "Record-Route: <sip:"+host+";lr>\r\n", "Proxy-Authenticate: Digest realm=\"a\"\r\n")
	for _, x := range m.Headers {
		if x.Kind == sipmsg.HdrRecordRoute {
			more += string(m.Bytes(x.Line))
			if !strings.HasSuffix(more, "\n") {
				more += "\r\n"
			}
		}
	}
	s.proxy.Arrived(transport.Arrival{Hop: h, Data: sipmsg.AppendResponse(nil, &m, status, "", sipmsg.ResponseOptions{ToTag: s.among("b", "c"), Headers: []byte(more)})})
}

// look judges what was sent.
func (s *sequence) look() {
	s.proxy.mu.Lock()
	defer s.proxy.mu.Unlock()
	for _, x := range s.sent {
		var m sipmsg.Message
		if err := m.Index(x.data); err != nil || int(m.Body.Hi) != len(x.data) {
			s.t.Errorf("what is sent is no SIP: %v\n%s", err, x.data)
			continue
		}
		s.seen = append(s.seen, x.data)
		addr := x.hop.Remote.Addr()
		if own := addr.String(); own == insideAddr || own == outsideAddr {
			s.t.Errorf("to ourselves: %s\n%s", x.hop, x.data)
		}
		if (networks{}).Inside(addr) {
			continue
		}
		// The body is the engine's.
		if bytes.Contains(x.data[:m.Body.Lo], []byte("10.0.0.")) {
			s.t.Errorf("an inside address leaves to %s:\n%s", x.hop, x.data)
		}
		if m.Request {
			for _, o := range outsiders {
				if f := m.Bytes(m.From.URI.Host); bytes.HasPrefix([]byte(o), append(bytes.Clone(f), ':')) {
					s.t.Errorf("from outside to outside: %s\n%s", x.hop, x.data)
				}
			}
		}
	}
	s.sent = nil
}
