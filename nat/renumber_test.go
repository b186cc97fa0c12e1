package nat

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// movedNetworks are those of a firewall that has got another public address.
type movedNetworks struct{ fakeNetworks }

func (movedNetworks) Own(a netip.Addr) bool {
	return a == netip.MustParseAddr("203.0.113.5") || a == netip.MustParseAddr("10.0.0.1")
}

// TestWithdraw gives the firewall another public address. What stands on the old
// one ends, and the phone's next message goes out by the new one.
func TestWithdraw(t *testing.T) {
	w, l := newLedgerWorld(t, Config{})
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	left := netip.MustParseAddrPort("10.0.0.77:4000") // by an earlier daemon
	stale := Change{Verb: OpenStream, Inside: left, Public: netip.MustParseAddrPort(publicAddr + ":7998"), Lease: time.Hour}
	l.apply(stale)
	w.engine.Adopt(stale)
	kept := Change{Verb: OpenStream, Inside: netip.MustParseAddrPort("10.0.0.78:4000"), Public: netip.MustParseAddrPort("203.0.113.2:7998"), Lease: time.Hour}
	l.apply(kept)
	w.engine.Adopt(kept)

	old := netip.MustParseAddr(publicAddr)
	w.engine.cfg.Networks = movedNetworks{}
	l.translated = true // the old flow is still there
	w.engine.Withdraw(func(a netip.Addr) bool { return a == old })
	if len(w.engine.calls) != 0 || len(w.engine.bindings) != 0 || len(w.engine.mappings) != 1 || len(l.entries) != 1 {
		t.Errorf("left: %d calls, %d bindings, %d streams, %d in the kernel",
			len(w.engine.calls), len(w.engine.bindings), len(w.engine.mappings), len(l.entries))
	}
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
	p := packet(phoneA, provider, []byte(strings.Replace(string(inviteA), "CSeq: 1", "CSeq: 2", 1)))
	p.Public = netip.MustParseAddr("203.0.113.5")
	out := string(w.worker.Handle(p))
	if !strings.Contains(out, "c=IN IP4 203.0.113.5") || strings.Contains(out, publicAddr+"\r") || strings.Contains(out, publicAddr+":") {
		t.Errorf("the next message leaves as\n%s", out)
	}
	w.wait(10 * time.Minute)
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
}
