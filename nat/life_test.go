package nat

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// newLedgerWorld is newWorld with a kernel that keeps books.
func newLedgerWorld(t testing.TB, cfg Config) (*world, *ledger) {
	w := &world{t: t, now: time.Unix(1_700_000_000, 0)}
	cfg.Networks = fakeNetworks{}
	l := newLedger(cfg, func() time.Time { return w.now })
	w.engine = New(cfg, l, func() time.Time { return w.now }, rand.NewPCG(1, 2), slog.New(slog.DiscardHandler))
	w.worker = w.engine.NewWorker()
	return w, l
}

// TestLeasesOutlastTheirNeed has a registered phone and a call for a day. At no
// second may the kernel forget what the engine counts on, and renewals must be
// rare.
func TestLeasesOutlastTheirNeed(t *testing.T) {
	w, l := newLedgerWorld(t, Config{})
	register := []byte(crlf(`REGISTER sip:example.org SIP/2.0
Via: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bKr
From: <sip:alice@example.org>;tag=a
To: <sip:alice@example.org>
Call-ID: r
CSeq: 1 REGISTER
Contact: <sip:alice@10.0.0.10:5060>
Content-Length: 0

`))
	registered := []byte(crlf(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKr
From: <sip:alice@example.org>;tag=a
To: <sip:alice@example.org>;tag=r
Call-ID: r
CSeq: 1 REGISTER
Contact: <sip:alice@203.0.113.1:5060>;expires=3600
Content-Length: 0

`))
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	stream := w.engine.mappings[netip.MustParseAddrPort("10.0.0.10:4000")]
	if stream == nil {
		t.Fatal("no stream")
	}
	renewed := 0
	for second := range 24 * 3600 {
		if second%3000 == 0 {
			w.send(phoneA, provider, register)
			w.send(provider, phoneA, registered)
		}
		before := l.entries[stream.public].end
		l.packets[stream.public] += 50
		w.now = w.now.Add(time.Second)
		w.engine.Tick()
		for _, k := range l.entries {
			if k.end.Before(w.now.Add(30 * time.Second)) {
				t.Fatalf("after %d s the lease of %v ends in %v", second, k.inside, k.end.Sub(w.now))
			}
		}
		if l.entries[stream.public].end.After(before) {
			renewed++
		}
	}
	if renewed > 24*3600/int(answeredLease.Seconds()/4) {
		t.Errorf("the stream was renewed %d times in a day", renewed)
	}
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
	if _, n := w.engine.Stats(); n.Calls != 1 || n.Mappings != 2 || n.Bindings != 1 {
		t.Errorf("after a day: %+v", n)
	}
}

// TestCallOutlivesRegistration keeps the binding for the BYE of a call, however
// long it lasts, and not longer.
func TestCallOutlivesRegistration(t *testing.T) {
	w, l := newLedgerWorld(t, Config{})
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	public := w.engine.mappings[netip.MustParseAddrPort("10.0.0.10:4000")].public
	for range 3600 {
		l.packets[public]++
		w.wait(time.Second)
	}
	if _, n := w.engine.Stats(); n.Bindings != 1 || n.Calls != 1 {
		t.Errorf("an hour of call: %+v", n)
	}
	w.wait(20 * time.Minute)
	if _, n := w.engine.Stats(); n != (Counts{}) {
		t.Errorf("twenty minutes after the media: %+v", n)
	}
	if len(l.entries) != 0 {
		t.Errorf("%d mappings are left in the kernel", len(l.entries))
	}
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
}

// TestLeasesEndByThemselves stops the clock of the engine, as a crash does: the
// kernel forgets everything in the time that the leases say.
func TestLeasesEndByThemselves(t *testing.T) {
	w, l := newLedgerWorld(t, Config{})
	w.send(phoneA, provider, inviteA)
	for _, k := range l.entries {
		limit := bindingIdle + leaseSlack
		if k.stream {
			limit = offerLease
		}
		if d := k.end.Sub(w.now); d <= 0 || d > limit {
			t.Errorf("%v: lease of %v", k.inside, d)
		}
	}
}
