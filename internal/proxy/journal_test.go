package proxy

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// memory is a journal.
type memory map[uint64][]byte

func (m memory) Put(key uint64, record []byte) { m[key] = bytes.Clone(record) }
func (m memory) Delete(key uint64)             { delete(m, key) }
func (m memory) Flush() error                  { return nil }

// A process is killed after it has sent an INVITE to a phone. The caller repeats it to
// the next one, which sends the phone what is a repetition for it (RFC 3261 section
// 8.2.2.2); and it gives the phone back how it writes its dialogs.
func TestRepeatedToTheNextProcess(t *testing.T) {
	j := memory{}
	phone := transport.Hop{Remote: netip.MustParseAddrPort("10.0.0.10:5060"), Local: netip.MustParseAddrPort("10.0.0.1:5060")}
	caller := transport.Hop{Remote: netip.MustParseAddrPort("203.0.113.10:5060"), Local: netip.MustParseAddrPort("203.0.113.1:5060")}
	start := func() *world {
		w := newWorld(t, Config{})
		w.bound["johndoe"] = []Contact{{URI: []byte("sip:johndoe@10.0.0.10"), Hop: phone, Q: 1000}}
		for key, record := range maps.Clone(j) {
			if !w.proxy.Restore(key, record, 0) {
				t.Errorf("%q is not understood", record)
			}
		}
		w.proxy.Keep(j)
		return w
	}
	invite := []byte("INVITE sip:johndoe@foo.bar.org SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKcaller\r\n" +
		"From: <sip:bob@example.com>;tag=b\r\nTo: <sip:johndoe@foo.bar.org>\r\nCall-ID: c@example.com\r\nCSeq: 1 INVITE\r\n" +
		"Max-Forwards: 70\r\nContact: <sip:bob@203.0.113.10>\r\nContent-Length: 0\r\n\r\n")
	branch := func(w *world) string {
		w.proxy.Arrived(transport.Arrival{Hop: caller, Data: bytes.Clone(invite)})
		i := slices.IndexFunc(w.sent, func(s sent) bool { return bytes.HasPrefix(s.data, []byte("INVITE ")) })
		if i < 0 {
			t.Fatalf("no INVITE is sent, but %d messages", len(w.sent))
		}
		var m sipmsg.Message
		if err := m.Index(w.sent[i].data); err != nil {
			t.Fatal(err)
		}
		return string(m.Bytes(m.Via.Branch))
	}
	first := start()
	d := first.proxy.dialogs.remember(phone.Remote.Addr(), []byte("call"), []byte("tag"))
	d.local, d.remote, d.routes, d.callID = "pbx.example", "10.0.0.10", []byte("Route: <sip:10.0.0.2;lr>\r\n"), "other"
	first.proxy.dialogs.save(first.proxy.dialogs.key([]byte("call"), []byte("tag")), d)
	before := branch(first)
	second := start()
	if after := branch(second); after != before {
		t.Errorf("the phone is sent the branch %s, and then %s", before, after)
	}
	x := second.proxy.dialogs.find([]byte("call"), []byte("tag"))
	if x == nil || x.local != d.local || x.remote != d.remote || string(x.routes) != string(d.routes) || x.callID != d.callID || x.host != d.host {
		t.Errorf("the dialog was %+v, and is %+v", d, x)
	} else if left := time.Until(x.until); left < dialogTime-time.Minute || left > dialogTime {
		t.Errorf("it is remembered for %v", left)
	}
	second.proxy.dialogs.forget([]byte("call"), []byte("tag"))
	if third := start(); third.proxy.Stats().Dialogs != 0 {
		t.Error("what was forgotten is back")
	}
}
