package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"
)

// flooded has a host send packets to an endpoint, with others in between that must
// arrive, and returns how many of its own arrived there. Portions are such that no queue
// on the way is too short for them.
func flooded(t *testing.T, from *host, to string, flood int, at *host, other func()) (passed int, took time.Duration) {
	t.Helper()
	const portion = 100
	start := time.Now()
	buf := make([]byte, 100)
	for range flood / portion {
		for range portion {
			from.send(to, "flood")
		}
		other()
		for {
			must(t, at.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			n, err := at.conn.Read(buf)
			must(t, err)
			if string(buf[:n]) != "flood" {
				break
			}
			passed++
		}
	}
	return passed, time.Since(start)
}

// drain takes what waits, and returns how much it was.
func (h *host) drain() (n int) {
	buf := make([]byte, 100)
	for {
		must(h.t, h.conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		if _, err := h.conn.Read(buf); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				h.t.Fatal(err)
			}
			return n
		}
		n++
	}
}

// within wants as many packets as a rate lets pass in that time.
func (r rate) within(t *testing.T, what string, passed int, took time.Duration) {
	t.Helper()
	most := int(r.burst) + int(r.perSecond)*int(took/time.Second+1)
	if passed < int(r.burst) || passed > most {
		t.Errorf("%d packets of %s passed in %v, want %d to %d", passed, what, took, r.burst, most)
	}
}

// limitWorld is a firewall with a phone that anybody may call, and whose provider is
// known.
func limitWorld(t *testing.T) (w *world, table *Table, a *host) {
	w = newWorld(t)
	cfg := w.config()
	cfg.AcceptAny, cfg.Bypass = true, true
	table = open(t, cfg)
	idle(t)
	a = w.host(w.phone, phone+":5060")
	lease(t, table, func(b *Batch) {
		b.MapBinding(a.addr, ap(public+":5060"), time.Hour)
		b.AllowPeer(far1, ap(public+":5060"), time.Hour)
	})
	return w, table, a
}

// TestStrangers: hosts that nobody knows come through at a limited rate, each and all of
// them; peers are not held up, and one that was answered does not depend on those that
// were not.
func TestStrangers(t *testing.T) {
	w, table, a := limitWorld(t)
	b, c := w.host(w.provider, provider+":5060"), w.host(w.provider, stranger+":5060")
	const flood = 2000
	passed, took := flooded(t, c, public+":5060", flood, a, func() { b.send(public+":5060", "a peer") })
	strangerRate.within(t, "one stranger", passed, took)
	if n, err := table.StrangerDrops(); int(n) != flood-passed || err != nil {
		t.Errorf("%d counted as dropped, %v, want %d", n, err, flood-passed)
	}

	// The next one finds room, and is answered.
	w.in(w.provider, func() { up(t, "eth0", "198.51.100.4/24") })
	d := w.host(w.provider, "198.51.100.4:5060")
	d.send(public+":5060", "new")
	a.receive("198.51.100.4:5060", "new")
	a.send(d.addr.String(), "answer")
	d.receive(public+":5060", "answer")

	// Then come as many as use up what there is for all that begin.
	const many = 200
	var addrs []string
	for i := range many {
		addrs = append(addrs, fmt.Sprintf("198.51.100.%d/24", 10+i))
	}
	w.in(w.provider, func() { up(t, "eth0", addrs...) })
	start := time.Now()
	for i := range many {
		h := w.host(w.provider, fmt.Sprintf("198.51.100.%d:5060", 10+i))
		for range 5 {
			h.send(public+":5060", "flood")
		}
	}
	d.send(public+":5060", "answered before")
	passed = 0
	for buf := make([]byte, 100); ; passed++ {
		must(t, a.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		n, err := a.conn.Read(buf)
		must(t, err)
		if string(buf[:n]) == "answered before" {
			break
		}
	}
	if most := int(strangersRate.burst) + int(strangersRate.perSecond)*int(time.Since(start)/time.Second+1); passed > most {
		t.Errorf("%d packets of %d strangers passed, want %d at most", passed, many, most)
	}
}

// TestSenders: no host inside gets more than its share of the daemon, others have
// theirs, and it is known who it was.
func TestSenders(t *testing.T) {
	w, table, a := limitWorld(t)
	c := w.host(w.phone2, phone2+":5070")
	b := w.host(w.provider, provider+":5060")
	const flood = 4000
	passed, took := flooded(t, c, provider+":5060", flood, b, func() { a.send(provider+":5060", "of a phone") })
	senderRate.within(t, "a phone gone mad", passed, took)
	if n, err := table.FloodDrops(); int(n) != flood-passed || err != nil {
		t.Errorf("%d counted as dropped, %v, want %d", n, err, flood-passed)
	}
	floods, err := table.Floods()
	if want := (Flood{netip.MustParseAddr(phone2), uint64(flood - passed)}); err != nil || len(floods) != 1 || floods[0] != want {
		t.Errorf("floods %v, %v, want %v", floods, err, want)
	}
	// Its media does not count.
	m, far := w.host(w.phone2, phone2+":4000"), w.host(w.provider, provider+":30000")
	for i := range 100 {
		m.send(far.addr.String(), fmt.Sprint(i))
		far.receive(public+":4000", fmt.Sprint(i))
	}
}

// TestForgedPeer: packets in the name of a known host that begin flows are limited, and
// cost its flows nothing that are there already.
func TestForgedPeer(t *testing.T) {
	w, table, a := limitWorld(t)
	b := w.host(w.provider, provider+":5060")
	a.send(provider+":5060", "REGISTER")
	b.receive(public+":5060", "REGISTER")
	const flood = 3000
	var forged *host
	port := 10000
	next := func() {
		if forged != nil {
			forged.conn.Close()
		}
		forged = w.host(w.provider, fmt.Sprint(provider, ":", port))
		port++
	}
	passed := 0
	start := time.Now()
	for range flood / 100 {
		next()
		n, _ := flooded(t, forged, public+":5060", 100, a, func() { b.send(public+":5060", "the peer itself") })
		passed += n
	}
	newFlowRate.within(t, "forged flows", passed, time.Since(start))
	floods, err := table.Floods()
	if err != nil || len(floods) != 1 || floods[0].Host != far1 || int(floods[0].Packets) != flood-passed {
		t.Errorf("floods %v, %v, want %d of %v", floods, err, flood-passed, far1)
	}
	if n := a.drain(); n != 0 {
		t.Errorf("%d packets more than were counted", n)
	}
}
