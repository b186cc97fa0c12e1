package kernel

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
	"sipnatd/nat"
)

// guardLinger is how long the guard stays in front of an inside endpoint whose
// stream is closed: until the flows that conntrack still knows are deleted.
const guardLinger = 30 * time.Second

// maxFlows bounds how many flows of a mapping are listed. Media has a few, but
// while an offer is open anybody may begin some: those beyond are left to the
// next search.
const maxFlows = 64

// Table is the daemon's nftables table, as package nft has it.
type Table interface {
	Commit(*nft.Batch) error
	Install(nft.Config) error
	Mappings() ([]nft.Mapping, error)
	Leases() (*nft.Leases, error)
	Settle(there *nft.Leases, want *nft.Batch, linger time.Duration) (missing, foreign int, err error)
}

// Tracker is conntrack, as package conntrack has it.
type Tracker interface {
	Commit(*conntrack.Batch) error
	Lookup(conntrack.Tuple) (conntrack.Flow, error)
	Delete(conntrack.Tuple) error
	Select(conntrack.Filter) ([]conntrack.Flow, error)
	Anchors() []netip.AddrPort
	Missing() ([]netip.AddrPort, error)
	MaxExpectations() int
	RenewEvery() time.Duration
	Helper() conntrack.Helper
}

// Kernel implements nat.Kernel. It is safe for concurrent use.
type Kernel struct {
	config nft.Config
	table  Table
	track  Tracker
	log    *slog.Logger

	mu        sync.Mutex
	public    map[netip.AddrPort]*entry
	inside    map[netip.AddrPort]*entry
	strays    map[conntrack.Tuple]*entry // whose flow it is, though it has neither endpoint
	homes     map[netip.Addr]bool        // addresses that a public endpoint has had
	hosts     map[netip.Addr]time.Time   // whom Know has made known, and until when
	hostsRead time.Time                  // when they were last found to be too many
	closing   []*entry                   // in the order in which their guards end
	elements  nft.Batch
	anchors   conntrack.Batch
	forwards  forwards

	losses    uint64 // of events
	searches  uint64 // begun
	lost      bool   // the table, and it could not be restored
	sweepDue  bool
	repairDue bool
	sweepNext time.Time     // not before
	woken     chan struct{} // has Run look at once

	missing       map[netip.AddrPort]bool // public endpoints whose anchors others have deleted
	anchorsUnsure bool                    // there may be others
	anchorsRead   time.Time               // when the kernel was last asked for them all
	mendNext      time.Time               // not before
	tableFight    fight                   // with those who change the table
	anchorFight   fight                   // with those who delete anchors
	renewed       time.Time               // anchors
	served        time.Time               // when SIP was last made to wait for the daemon

	renewalFails bool // and has been reported
}

// entry is a mapping that is in the kernel, and what belongs to it.
type entry struct {
	inside, public netip.AddrPort
	stream         bool
	forwarded      bool // no peers and no expectation: the administrator's DNAT lets packets in
	guardOpen      bool
	hosts          []netip.Addr // allowed peers or sources
	egress         []netip.AddrPort
	end            time.Time // of the lease; of the guard's linger when closed
	closed         bool

	flows  []flow
	unsure bool              // there may be flows that are not listed
	ended  conntrack.Traffic // of flows that are over
}

// flow is a conntrack entry of a mapping.
type flow struct {
	orig conntrack.Tuple
	seen uint64 // in which search, or since
}

// New returns a Kernel over an installed table.
func New(config nft.Config, table Table, track Tracker, log *slog.Logger) *Kernel {
	return &Kernel{
		config: config, table: table, track: track, log: log,
		public: make(map[netip.AddrPort]*entry),
		inside: make(map[netip.AddrPort]*entry),
		strays: make(map[conntrack.Tuple]*entry),
		homes:  make(map[netip.Addr]bool),
		hosts:  make(map[netip.Addr]time.Time),

		woken:   make(chan struct{}, 1),
		missing: make(map[netip.AddrPort]bool),
	}
}

// Apply makes the changes: one exchange with nftables, one with conntrack.
func (k *Kernel) Apply(changes []nat.Change) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.elements.Reset()
	k.anchors.Reset()
	for i := range changes {
		k.change(&changes[i], now)
	}
	return k.commit(now)
}

// commit sends both batches. When the table is gone it is installed again, with
// everything that is known.
func (k *Kernel) commit(now time.Time) error {
	var nftErr, trackErr error
	if k.elements.Len() > 0 {
		nftErr = k.table.Commit(&k.elements)
		if errors.Is(nftErr, nft.ErrLost) {
			nftErr = k.restore(now)
		}
	}
	if nftErr != nil {
		k.repairDue = true // the whole batch was refused: what it held is put in with the next tick
		nftErr = &nat.StreamError{Err: nftErr}
	}
	if k.anchors.Len() > 0 {
		// Without an expectation media comes in as soon as some has gone out. Without
		// room for a flow there is none.
		if trackErr = k.track.Commit(&k.anchors); errors.Is(trackErr, conntrack.ErrTableFull) {
			trackErr = &nat.StreamError{Err: trackErr}
		}
	}
	return errors.Join(nftErr, trackErr)
}

func (k *Kernel) change(c *nat.Change, now time.Time) {
	e := k.public[c.Public]
	switch c.Verb {
	case nat.OpenBinding, nat.OpenForwarded, nat.OpenStream:
		k.openEntry(c, now)
		return
	}
	if e == nil || e.inside != c.Inside {
		return // never installed; the refusal has been reported
	}
	lease := max(e.end.Sub(now), time.Second)
	switch c.Verb {
	case nat.RenewBinding, nat.RenewStream:
		e.end = now.Add(c.Lease)
		k.putElements(e, c.Lease)
		if !e.forwarded {
			k.anchors.Renew(e.public, c.Lease)
		}
	case nat.CloseBinding, nat.CloseStream:
		k.closeEntry(e, now)
	case nat.AllowPeer:
		e.allow(c.Far.Addr())
		k.elements.AllowPeer(c.Far.Addr(), e.public, lease)
	case nat.RevokePeer:
		e.hosts = slices.DeleteFunc(e.hosts, func(a netip.Addr) bool { return a == c.Far.Addr() })
		k.elements.RevokePeer(c.Far.Addr(), e.public)
	case nat.AllowSource:
		e.allow(c.Far.Addr())
		k.elements.AllowSource(c.Far.Addr(), e.inside, lease)
	case nat.RevokeSource:
		e.hosts = slices.DeleteFunc(e.hosts, func(a netip.Addr) bool { return a == c.Far.Addr() })
		k.elements.RevokeSource(c.Far.Addr(), e.inside)
	case nat.OpenGuard:
		e.guardOpen = true
		k.elements.OpenSource(e.inside, lease)
	case nat.CloseGuard:
		e.guardOpen = false
		k.elements.CloseSource(e.inside)
	case nat.AllowEgress:
		k.allowEgress(e, c.Far)
	}
}

func (e *entry) allow(a netip.Addr) {
	if !slices.Contains(e.hosts, a) {
		e.hosts = append(e.hosts, a)
	}
}

func (k *Kernel) openEntry(c *nat.Change, now time.Time) {
	for _, old := range []*entry{k.public[c.Public], k.inside[c.Inside]} {
		if old != nil && !old.closed { // a closed one stays known by its other endpoint
			k.forget(old)
		}
	}
	e := &entry{
		inside: c.Inside, public: c.Public, end: now.Add(c.Lease),
		stream: c.Verb == nat.OpenStream, forwarded: c.Verb == nat.OpenForwarded,
	}
	k.know(e)
	k.sweepDue = true // flows that began before it are looked for while no packet waits
	k.putElements(e, c.Lease)
	if !e.forwarded {
		k.anchors.OpenAnchor(e.public, c.Lease)
	}
}

// know lists an entry by its endpoints.
func (k *Kernel) know(e *entry) {
	k.public[e.public], k.inside[e.inside] = e, e
	k.homes[e.public.Addr()] = true
}

// putElements adds, or renews, every element of an entry.
func (k *Kernel) putElements(e *entry, lease time.Duration) {
	if !e.stream {
		k.elements.MapBinding(e.inside, e.public, lease)
		for _, a := range e.hosts {
			k.elements.AllowPeer(a, e.public, lease)
		}
		return
	}
	k.elements.MapStream(e.inside, e.public, lease)
	for _, a := range e.hosts {
		k.elements.AllowSource(a, e.inside, lease)
	}
	if e.guardOpen {
		k.elements.OpenSource(e.inside, lease)
	}
}

// allowEgress lets the inside endpoint send to far through a firewall that
// filters what leaves. A flow between the two that began before the mapping has
// another translation: it goes, and begins again through the mapping.
func (k *Kernel) allowEgress(e *entry, far netip.AddrPort) {
	for _, t := range []conntrack.Tuple{{Src: e.inside, Dst: far}, {Src: far, Dst: e.public}} {
		if f, err := k.track.Lookup(t); err == nil && !e.translates(f) {
			k.delete(f.Orig)
		}
	}
	most := k.track.MaxExpectations() - 1
	if most <= 0 || slices.Contains(e.egress, far) {
		return
	}
	if len(e.egress) >= most {
		k.anchors.Unexpect(e.public, e.egress[0])
		e.egress = slices.Delete(e.egress, 0, 1)
	}
	e.egress = append(e.egress, far)
	k.anchors.Expect(e.public, far)
}

// wrong reports whether a flow that belongs to one of the entry's endpoints must
// go: it began before the mapping, or while the table was away. What leaves by
// another interface, as into a VPN, or comes by a forward of the administrator's,
// is not ours to judge, nor is another host's flow that happens to leave from the
// same port.
func (k *Kernel) wrong(e *entry, f conntrack.Flow) bool {
	p, ok := f.Translation(e.inside)
	if !ok {
		return f.Orig.Dst == e.public // to the firewall itself
	}
	if p == e.public || !k.homes[p.Addr()] {
		return false
	}
	to, forwarded := netip.AddrPort{}, false
	if f.Orig.Dst == p {
		to, forwarded = k.forwarded(p, time.Now())
	}
	return !forwarded || to != e.inside
}

// translates reports whether a flow of one of the entry's endpoints is
// translated as the entry says.
func (e *entry) translates(f conntrack.Flow) bool {
	if p, ok := f.Translation(e.inside); ok {
		return p == e.public
	}
	return false
}

// owns reports whether a flow ends with the entry: one of its endpoints, or one
// that left only because of its egress expectations, as from a phone that sends
// from another port than it receives on.
func (e *entry) owns(f conntrack.Flow) bool {
	return e.translates(f) || f.Anchor == e.public
}

// add lists a flow of the entry.
func (k *Kernel) add(e *entry, f conntrack.Flow) {
	if len(e.flows) >= maxFlows {
		e.unsure = true
		return
	}
	e.flows = append(e.flows, flow{f.Orig, k.searches})
	if !e.translates(f) {
		k.strays[f.Orig] = e
	}
}

func (k *Kernel) closeEntry(e *entry, now time.Time) {
	k.elements.Unmap(e.inside, e.public, e.stream)
	for _, a := range e.hosts {
		if e.stream {
			k.elements.RevokeSource(a, e.inside)
		} else {
			k.elements.RevokePeer(a, e.public)
		}
	}
	if e.stream {
		k.elements.CloseSource(e.inside)
		k.elements.KeepGuard(e.inside, guardLinger)
	}
	if !e.forwarded {
		k.anchors.CloseAnchor(e.public)
	}
	for _, f := range e.flows {
		k.delete(f.orig)
		delete(k.strays, f.orig)
	}
	if e.unsure {
		k.sweepDue = true // it deletes what is left; the guard stands meanwhile
	}
	e.closed = true // its flows are counted as the kernel tells of their end
	e.end = now.Add(guardLinger)
	k.closing = append(k.closing, e)
}

func (k *Kernel) delete(t conntrack.Tuple) {
	if err := k.track.Delete(t); err != nil {
		k.log.Warn("a flow could not be deleted", "flow", fmt.Sprintf("%v > %v", t.Src, t.Dst), "error", err)
	}
}

// forget drops an entry whose endpoint has a new one.
func (k *Kernel) forget(e *entry) {
	if k.public[e.public] == e {
		delete(k.public, e.public)
	}
	if k.inside[e.inside] == e {
		delete(k.inside, e.inside)
	}
}

// Translation implements nat.Kernel.
func (k *Kernel) Translation(inside, far netip.AddrPort) (public netip.AddrPort, forwarded, ok bool) {
	f, err := k.track.Lookup(conntrack.Tuple{Src: inside, Dst: far})
	if err != nil {
		return netip.AddrPort{}, false, false
	}
	public, ok = f.Translation(inside)
	if !ok || public == inside {
		return netip.AddrPort{}, false, false
	}
	return public, f.Orig.Src == far && !f.Related(), true
}

// Traffic implements nat.Kernel.
func (k *Kernel) Traffic(public netip.AddrPort) (in, out uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.public[public]
	if e == nil {
		return 0, 0
	}
	sum := k.traffic(e)
	return sum.InPackets, sum.OutPackets
}

// traffic returns what the flows of an entry, those that are over included, have
// carried.
func (k *Kernel) traffic(e *entry) conntrack.Traffic {
	sum := e.ended
	for _, f := range e.flows {
		if now, err := k.track.Lookup(f.orig); err == nil {
			sum.Add(now.Traffic(e.inside))
		}
	}
	return sum
}
