package proxy

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// FuzzProxy sends two messages through, from either side, in a world where a call is on
// its way: nothing panics, what is sent is SIP with its right length, and ends.
func FuzzProxy(f *testing.F) {
	f.Add(call("INVITE", "sip:bob@203.0.113.10", "a"), call("BYE", "sip:johndoe@foo.bar.org", "b"), false, true)
	f.Add([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.1:5060;branch=BRANCH\r\nRecord-Route: <sip:203.0.113.1:5060;lr>\r\n"+
		"From: <sip:a@10.0.0.10>;tag=1\r\nTo: <sip:b@10.0.0.1>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContact: <sip:b@203.0.113.10>\r\n\r\n"),
		call("CANCEL", "sip:bob@203.0.113.10", "start"), true, false)
	f.Add(call("REGISTER", "sip:foo.bar.org", "c"), call("NOTIFY", "sip:johndoe@203.0.113.1;line=L1", "d"), false, true)
	f.Fuzz(func(t *testing.T, first, second []byte, firstOutside, secondOutside bool) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{ObscureLoops: len(first)%2 == 0, UserAgent: "x", Realm: "foo"})
			send := func(data []byte, outside bool) {
				h := transport.Hop{Local: netip.MustParseAddrPort("10.0.0.1:5060"), Remote: netip.MustParseAddrPort("10.0.0.10:5060")}
				if outside {
					h = transport.Hop{Local: netip.MustParseAddrPort("203.0.113.1:5060"), Remote: netip.MustParseAddrPort("203.0.113.10:5060")}
				}
				for _, s := range w.sent { // so that answers find what they answer
					var m sipmsg.Message
					if m.Index(s.data) == nil && m.Request {
						data = bytes.ReplaceAll(data, []byte("BRANCH"), m.Bytes(m.Via.Branch))
						break
					}
				}
				w.proxy.Arrived(transport.Arrival{Hop: h, Data: data})
				synctest.Wait()
			}
			send(call("REGISTER", "sip:foo.bar.org", "reg"), false)
			w.sent = nil
			send(call("INVITE", "sip:bob@203.0.113.10", "start"), false)
			send(first, firstOutside)
			send(second, secondOutside)
			time.Sleep(time.Hour)
			synctest.Wait()
			s := w.proxy.Stats()
			if s.Servers != 0 || s.Clients != 0 || s.Panics != 0 {
				t.Errorf("after an hour: %+v\n%s", s, w.log)
			}
			for _, s := range w.sent {
				var m sipmsg.Message
				if err := m.Index(s.data); err != nil || int(m.Body.Hi) != len(s.data) {
					t.Errorf("what is sent is no SIP: %v\n%s", err, s.data)
				}
			}
		})
	})
}

// call is a request of johndoe, inside.
func call(method, uri, branch string) []byte {
	return []byte(method + " " + uri + " SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bK" + branch + "\r\nMax-Forwards: 70\r\n" +
		"Record-Route: <sip:10.0.0.5;lr>\r\nRoute: <sip:10.0.0.1;lr>\r\n" +
		"From: <sip:johndoe@10.0.0.1>;tag=1\r\nTo: <sip:johndoe@foo.bar.org>\r\nCall-ID: 1\r\nCSeq: 1 " + method + "\r\n" +
		"Contact: <sip:johndoe@10.0.0.10>\r\nContent-Type: application/sdp\r\nContent-Length: 25\r\n\r\nv=0\r\nc=IN IP4 10.0.0.10\r\n")
}
