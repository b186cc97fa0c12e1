package kernel

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
	"sipnatd/nat"
)

const (
	// sweepPause is how many times as long as a search of the flow table took
	// the next one waits at least, so that a large table costs no more of the
	// processor than a small one, which is searched every second if need be.
	sweepPause = 20

	// sweepChunk is how many flows of a search are looked at while packets wait.
	sweepChunk = 1000

	// renewBatch is how many anchors are renewed in one exchange.
	renewBatch = 64

	// restoreBatch is how many element changes go into one exchange.
	restoreBatch = 500
)

// Adopt takes over what an earlier daemon has left in the kernel, and returns it as
// the changes that once made it.
func (k *Kernel) Adopt(adopt func(m nat.Change)) error {
	mappings, err := k.table.Mappings()
	if err != nil {
		return err
	}
	var changes []nat.Change
	k.mu.Lock()
	now := time.Now()
	for _, m := range mappings {
		e := &entry{inside: m.Inside, public: m.Public, stream: m.Stream, end: now.Add(m.Expires),
			hosts: m.Hosts, guardOpen: m.Open, unsure: true}
		verb := nat.OpenStream
		if !m.Stream {
			verb = nat.OpenBinding
			if to, ok := k.forwarded(m.Public, now); ok && to == m.Inside {
				e.forwarded, verb = true, nat.OpenForwarded
			}
		}
		k.know(e)
		c := nat.Change{Verb: verb, Inside: m.Inside, Public: m.Public, Lease: m.Expires}
		changes = append(changes, c)
		c.Lease = 0
		if m.Open {
			c.Verb = nat.OpenGuard
			changes = append(changes, c)
		}
		c.Verb = nat.AllowPeer
		if m.Stream {
			c.Verb = nat.AllowSource
		}
		for _, a := range m.Hosts {
			c.Far = netip.AddrPortFrom(a, 0)
			changes = append(changes, c)
		}
	}
	k.sweepDue = true
	k.closeOrphans()
	k.mu.Unlock()
	for _, c := range changes {
		adopt(c)
	}
	return nil
}

// closeOrphans closes the anchors whose mappings went while no daemon ran, with
// the firewall's rules or the end of their lease: their expectations would let
// packets in to the firewall itself.
func (k *Kernel) closeOrphans() {
	k.anchors.Reset()
	for _, public := range k.track.Anchors() {
		if e := k.public[public]; e == nil || e.forwarded {
			k.anchors.CloseAnchor(public)
		}
	}
	if k.anchors.Len() == 0 {
		return
	}
	if err := k.track.Commit(&k.anchors); err != nil {
		k.log.Warn("expectations of an earlier daemon are left", "error", err)
	}
}

// Event takes in a flow that began or ended.
func (k *Kernel) Event(ev conntrack.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case ev.Lost:
		for _, e := range k.public {
			e.unsure = true
		}
		k.losses++
		k.sweepDue = true
		k.anchorsUnsure = true
		k.wake()
		return
	case ev.Anchor.IsValid():
		k.unanchored(ev.Anchor)
		return
	}
	e := k.entryOf(ev.Flow)
	if e == nil {
		return
	}
	i := slices.IndexFunc(e.flows, func(f flow) bool { return f.orig == ev.Flow.Orig })
	switch {
	case ev.Destroyed:
		if i >= 0 {
			e.flows = slices.Delete(e.flows, i, i+1)
			delete(k.strays, ev.Flow.Orig)
			e.ended.Add(ev.Flow.Traffic(e.inside))
			k.sweepDue = k.sweepDue || e.unsure // there is room for another one
		}
	case !e.stream && ev.Flow.Orig.Dst == e.public && ev.Flow.Reply.Src == e.public:
		// A host that is no peer has sent to the firewall itself: were its flow
		// deleted at once, each of its packets would begin another one.
		k.sweepDue = true
	case k.ends(e, ev.Flow):
		k.delete(ev.Flow.Orig) // it began while its stream was being closed or opened
	case i < 0 && e.owns(ev.Flow):
		k.add(e, ev.Flow)
	}
}

// report tells the debug log what a stream has carried: a direction without a
// packet is the one without audio.
func (e *entry) report(log *slog.Logger) {
	if !e.stream {
		return
	}
	log.With("class", "rtp").Debug("stream ended", "inside", e.inside, "public", e.public,
		"packets in", e.ended.InPackets, "bytes in", e.ended.InBytes,
		"packets out", e.ended.OutPackets, "bytes out", e.ended.OutBytes)
}

// ends reports whether a flow of an entry must be deleted.
func (k *Kernel) ends(e *entry, f conntrack.Flow) bool {
	return e.closed && e.owns(f) || k.wrong(e, f)
}

// entryOf returns the entry that one of the flow's endpoints belongs to, or nil.
// The inside one counts first: it may leave from a port that has become
// another's.
func (k *Kernel) entryOf(f conntrack.Flow) *entry {
	for _, inside := range []netip.AddrPort{f.Orig.Src, f.Reply.Src} {
		if e := k.inside[inside]; e != nil {
			return e
		}
	}
	for _, public := range []netip.AddrPort{f.Reply.Dst, f.Orig.Dst} {
		if e := k.public[public]; e != nil {
			return e
		}
	}
	if f.Anchor.IsValid() {
		return k.public[f.Anchor]
	}
	return k.strays[f.Orig]
}

// sweep searches the whole flow table for flows that are not translated as
// their mapping says: they began before it, or while the table was away. The
// table is read without the lock, which packets wait for.
func (k *Kernel) sweep() {
	k.mu.Lock()
	k.searches++
	losses := k.losses
	k.mu.Unlock()
	begin := time.Now()
	flows, err := k.track.Select(conntrack.Filter{})
	if err != nil {
		k.log.Warn("the flow table was not searched", "error", err)
	}
	k.mu.Lock()
	end := time.Now()
	k.sweepNext = end.Add(min(sweepPause*end.Sub(begin), guardLinger/2)) // in time for what was closed
	if err == nil && k.losses == losses {
		for _, e := range k.public {
			e.unsure = false // unless events are lost from now on
		}
	}
	k.mu.Unlock()
	for chunk := range slices.Chunk(flows, sweepChunk) {
		k.mu.Lock()
		for _, f := range chunk {
			k.found(f)
		}
		k.mu.Unlock()
	}
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.public {
		k.prune(e)
	}
}

// found takes in a flow that a search has told of.
func (k *Kernel) found(f conntrack.Flow) {
	e := k.entryOf(f)
	if e == nil {
		return
	}
	i := slices.IndexFunc(e.flows, func(g flow) bool { return g.orig == f.Orig })
	switch {
	case k.ends(e, f):
		k.delete(f.Orig)
	case i >= 0:
		e.flows[i].seen = k.searches
	case e.owns(f):
		k.add(e, f)
	}
}

// prune unlists flows that two searches in turn did not find: the event of their
// end was lost. One alone may have a gap where the table has just grown.
func (k *Kernel) prune(e *entry) {
	e.flows = slices.DeleteFunc(e.flows, func(f flow) bool {
		gone := f.seen+1 < k.searches
		if gone {
			delete(k.strays, f.orig)
		}
		return gone
	})
}

// Run keeps anchors alive and the memory of closed streams short until ctx ends.
func (k *Kernel) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-k.woken:
			// What happens to one anchor, or flow, happens to others, too.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(gather):
			}
		}
		k.mend(time.Now())
		sweep := k.tick(time.Now())
		k.renewAnchors(time.Now())
		if sweep {
			k.sweep()
		}
	}
}

// tick reports whether the flow table is to be searched.
func (k *Kernel) tick(now time.Time) (sweep bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.closing) > 0 && !k.closing[0].end.After(now) {
		k.forget(k.closing[0])
		k.closing[0].report(k.log)
		k.closing[0] = nil
		k.closing = k.closing[1:]
	}
	switch {
	case k.lost:
		k.restore(now) // what is wrong with it has been reported
	case k.repairDue:
		k.repair(now)
	}
	k.serve(now)
	if k.sweepDue && !now.Before(k.sweepNext) {
		sweep, k.sweepDue = true, false
	}
	return sweep
}

// serve has SIP wait for the daemon, or for the next one, where there is something that
// would not: see [nft.Batch.Serve].
func (k *Kernel) serve(now time.Time) {
	if !k.config.Awaited() || now.Sub(k.served) < nft.ServingRenewal {
		return
	}
	k.elements.Reset()
	k.elements.Serve(nft.ServingLease)
	if k.commitElements() == nil {
		k.served = now
	}
}

// renewAnchors keeps the expectations of all mappings alive, when that is due. Packets
// wait for one exchange at a time.
func (k *Kernel) renewAnchors(now time.Time) {
	k.mu.Lock()
	if k.track.Helper() == conntrack.HelperNone || now.Sub(k.renewed) < k.track.RenewEvery() {
		k.mu.Unlock()
		return
	}
	k.renewed = now
	due := slices.Collect(maps.Keys(k.public))
	k.mu.Unlock()
	began, longest := time.Now(), time.Duration(0)
	var failed error
	for batch := range slices.Chunk(due, renewBatch) {
		k.mu.Lock()
		locked := time.Now()
		if _, err := k.renew(slices.Values(batch), now); err != nil && failed == nil {
			failed = err
		}
		longest = max(longest, time.Since(locked))
		k.mu.Unlock()
	}
	k.log.Debug("expectations renewed", "mappings", len(due), "after", time.Since(began), "packets wait for at most", longest)
	if failed != nil && !k.renewalFails {
		k.log.Warn("expectations were not renewed; it is tried again every while", "error", failed)
	}
	k.renewalFails = failed != nil
}

// renew has the kernel keep the anchors of these public endpoints, or create them again,
// and returns how many there are.
func (k *Kernel) renew(publics iter.Seq[netip.AddrPort], now time.Time) (n int, failed error) {
	commit := func() {
		if err := k.track.Commit(&k.anchors); err != nil && failed == nil {
			failed = err
		}
		k.anchors.Reset()
	}
	k.anchors.Reset()
	for public := range publics {
		e := k.public[public]
		if e == nil || e.closed || e.forwarded || !e.end.After(now) {
			continue
		}
		k.anchors.Renew(public, e.end.Sub(now))
		n++
		if k.anchors.Len() == renewBatch {
			commit()
		}
	}
	if k.anchors.Len() > 0 {
		commit()
	}
	return n, failed
}

// Configure installs the table with another configuration; the leased elements
// stay. If the kernel refuses it, the old one is in force, and is what a lost table
// is restored to.
func (k *Kernel) Configure(c nft.Config) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.table.Install(c); err != nil {
		return err
	}
	k.config = c
	return nil
}
