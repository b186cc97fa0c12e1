package nft

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// TestSocketLimits: what the daemon's own sockets get is limited for each host as what is
// forwarded, strangers' first; those who are known, and those inside, go on.
func TestSocketLimits(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.ListenPort = 5060
	table := open(t, cfg)
	fw, err := netns.Get()
	must(t, err)
	defer fw.Close()
	own := w.host(fw, public+":5060")
	b, c := w.host(w.provider, provider+":5060"), w.host(w.provider, stranger+":5060")
	lease(t, table, func(batch *Batch) { batch.Know(netip.MustParseAddr(provider), time.Hour) })

	own.send(provider+":5060", "REGISTER")
	b.receive(public+":5060", "REGISTER")

	const flood = 2000
	passed, took := flooded(t, c, public+":5060", flood, own, func() { b.send(public+":5060", "a peer") })
	strangerRate.within(t, "one stranger", passed, took)
	if n, err := table.StrangerDrops(); int(n) != flood-passed || err != nil {
		t.Errorf("%d counted as dropped, %v, want %d", n, err, flood-passed)
	}

	// In the name of one who is known, from a port after the other.
	passed, start := 0, time.Now()
	for i := range 10 {
		forged := w.host(w.provider, fmt.Sprint(provider, ":", 10000+i))
		n, _ := flooded(t, forged, public+":5060", 100, own, func() { b.send(public+":5060", "the peer itself") })
		passed += n
	}
	newFlowRate.within(t, "forged flows", passed, time.Since(start))

	// A phone has as much as the kernel lets any have.
	inside := w.host(fw, "10.1.1.1:5060")
	a, mad := w.host(w.phone, phone+":5060"), w.host(w.phone2, phone2+":5060")
	passed, took = flooded(t, mad, "10.1.1.1:5060", 4000, inside, func() { a.send("10.1.1.1:5060", "another phone") })
	senderRate.within(t, "a phone gone mad", passed, took)
	if n, err := table.FloodDrops(); n == 0 || err != nil {
		t.Errorf("%d counted as dropped, %v", n, err)
	}
}
