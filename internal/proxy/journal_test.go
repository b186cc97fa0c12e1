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

// A process is killed while a call rings. The next one sends the phone what is a
// repetition for it, and brings the caller the answer; or it cancels the call when the
// caller asks for that, or has asked the process before. Of a call that is over it knows
// nothing, nor does it try a place again that has refused.
func TestRingingOutlivesTheProcess(t *testing.T) {
	caller := transport.Hop{Remote: netip.MustParseAddrPort("203.0.113.10:5060"), Local: netip.MustParseAddrPort("203.0.113.1:5060"), Interface: 3}
	phone := func(n byte) transport.Hop {
		return transport.Hop{Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 5060), Local: netip.MustParseAddrPort("10.0.0.1:5060")}
	}
	request := func(method string) []byte {
		return []byte(method + " sip:johndoe@foo.bar.org SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKcaller\r\n" +
			"From: <sip:bob@example.com>;tag=b\r\nTo: <sip:johndoe@foo.bar.org>\r\nCall-ID: c@example.com\r\nCSeq: 1 " + method + "\r\n" +
			"Max-Forwards: 70\r\nContact: <sip:bob@203.0.113.10>\r\nContent-Length: 0\r\n\r\n")
	}
	j := memory{}
	start := func(calls int) *world {
		w := newWorld(t, Config{})
		w.bound["johndoe"] = []Contact{{URI: []byte("sip:johndoe@10.0.0.10"), Hop: phone(10), Q: 1000}, {URI: []byte("sip:johndoe@10.0.0.11"), Hop: phone(11), Q: 500}}
		for key, record := range maps.Clone(j) {
			if !w.proxy.Restore(key, record, 0) {
				t.Errorf("%q is not understood", record)
			}
		}
		w.proxy.Keep(j)
		if n := w.proxy.Resume(); n != calls {
			t.Errorf("%d calls wait for their answer, want %d", n, calls)
		}
		return w
	}
	// first is the first message that was sent of a kind, and forgets all.
	first := func(w *world, begin string) (found []byte) {
		t.Helper()
		for _, s := range w.sent {
			if found == nil && bytes.HasPrefix(s.data, []byte(begin)) {
				found = s.data
			}
		}
		if found == nil {
			t.Fatalf("no %s is sent, but %d messages", begin, len(w.sent))
		}
		w.sent = nil
		return found
	}
	answer := func(w *world, invite []byte, n byte, status int) {
		var m sipmsg.Message
		if err := m.Index(invite); err != nil {
			t.Fatal(err)
		}
		w.proxy.Arrived(transport.Arrival{Hop: phone(n), Data: sipmsg.AppendResponse(nil, &m, status, "", sipmsg.ResponseOptions{ToTag: "phone"})})
	}
	branch := func(message []byte) string {
		var m sipmsg.Message
		if err := m.Index(message); err != nil {
			t.Fatal(err)
		}
		return string(m.Bytes(m.Via.Branch))
	}

	w := start(0)
	w.proxy.Arrived(transport.Arrival{Hop: caller, Data: request("INVITE")})
	invite := first(w, "INVITE sip:johndoe@10.0.0.10")
	answer(w, invite, 10, 180)
	w = start(1)
	again := first(w, "INVITE sip:johndoe@10.0.0.10")
	if branch(again) != branch(invite) {
		t.Errorf("the phone is called once more:\n%s\n%s", invite, again)
	}
	answer(w, again, 10, 486)
	w.sent = nil
	w = start(1)
	second := first(w, "INVITE ")
	if !bytes.HasPrefix(second, []byte("INVITE sip:johndoe@10.0.0.11")) {
		t.Errorf("who has refused is called again:\n%s", second)
	}
	answer(w, second, 11, 200)
	if ok := first(w, "SIP/2.0 200"); branch(ok) != "z9hG4bKcaller" {
		t.Errorf("the caller is answered\n%s", ok)
	}
	start(0)

	w = start(0)
	w.proxy.Arrived(transport.Arrival{Hop: caller, Data: request("INVITE")})
	first(w, "INVITE ")
	w = start(1)
	first(w, "INVITE ")
	w.proxy.Arrived(transport.Arrival{Hop: caller, Data: request("CANCEL")})
	first(w, "SIP/2.0 200")
	w = start(1) // and has told nobody of it
	invite = first(w, "INVITE ")
	answer(w, invite, 10, 180)
	if cancel := first(w, "CANCEL "); branch(cancel) != branch(invite) {
		t.Errorf("what is cancelled is\n%s", cancel)
	}
	answer(w, invite, 10, 487)
	first(w, "SIP/2.0 487")
	if start(0); len(j) != 1 {
		t.Errorf("%d records are left", len(j))
	}
}
