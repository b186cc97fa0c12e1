package nat

import (
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/dchest/siphash"
)

// Engine holds the bindings, calls and streams of a firewall. It is safe for
// concurrent use; one lock guards all of it, since a message holds it for some
// microseconds, and a message that opens something for one exchange with the
// kernel.
type Engine struct {
	kernel Kernel
	now    func() time.Time
	log    *reporter
	secret [2]uint64 // of the hashes
	random *rand.Rand

	mu           sync.Mutex
	cfg          Config
	wheel        wheel
	hosts        map[netip.Addr]*host
	bindings     map[netip.AddrPort]*binding // of UDP, by inside endpoint
	publics      map[netip.AddrPort]*binding // by public endpoint
	connections  map[netip.AddrPort]*binding // of TCP, by public endpoint
	connected    map[netip.Addr][]*binding   // the same, by inside host
	mappings     map[netip.AddrPort]*mapping // media, by inside endpoint
	media        map[netip.AddrPort]*mapping // media, by public endpoint
	pools        map[netip.Addr]*ports       // by public address
	formerly     []netip.Addr                // announced addresses of earlier policies
	withdrawn    map[netip.Addr]bool         // public addresses that the firewall has lost
	transactions map[transactionKey]*transaction
	calls        map[callKey]*call

	serial   uint64  // of the latest transaction
	journal  Journal // nil: none
	touched  []kept  // whose records may differ from the journal's
	record   []byte  // one at a time
	lastKey  uint64  // in the journal
	flushDue bool
	saved    saved     // the engine's own record
	backlog  []backlog // records of an earlier process

	changes  []Change   // of the message that is being handled
	dirty    []*mapping // whose wanted state may differ from the kernel's
	unopened []*mapping // that the kernel has not taken
	stats    Stats
}

// host counts what one inside host holds.
type host struct {
	bindings, calls, mappings, transactions int
}

// New returns an engine without any state. random must be unpredictable from
// outside, now is read once for every message, and log receives what an
// administrator should know, and debug messages (see the package's documentation).
func New(cfg Config, kernel Kernel, now func() time.Time, random rand.Source, log *slog.Logger) *Engine {
	e := &Engine{
		cfg: cfg.withDefaults(), kernel: kernel, now: steady(now),
		log: newReporter(log), random: rand.New(random),
		hosts:        make(map[netip.Addr]*host),
		bindings:     make(map[netip.AddrPort]*binding),
		publics:      make(map[netip.AddrPort]*binding),
		connections:  make(map[netip.AddrPort]*binding),
		connected:    make(map[netip.Addr][]*binding),
		mappings:     make(map[netip.AddrPort]*mapping),
		media:        make(map[netip.AddrPort]*mapping),
		pools:        make(map[netip.Addr]*ports),
		withdrawn:    make(map[netip.Addr]bool),
		transactions: make(map[transactionKey]*transaction),
		calls:        make(map[callKey]*call),
	}
	e.wheel.at = e.now().Unix()
	e.secret = [2]uint64{new(maphash.Hash).Sum64(), new(maphash.Hash).Sum64()} // of random seeds
	return e
}

// steady returns a clock that goes on evenly where the wall clock is set: a
// router without a battery starts in 1970. Slots of the wheel are wall time.
func steady(now func() time.Time) func() time.Time {
	begin := now()
	return func() time.Time { return begin.Add(now().Sub(begin)) }
}

// Tick lets time pass: leases are renewed, and what has ended is closed. It
// is to be called about once a second.
func (e *Engine) Tick() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	e.wheel.advance(e, now)
	e.commit(now)
}

// Adopt tells the engine of what was in the kernel when the daemon started, as the
// change that once made it: OpenBinding, OpenForwarded or OpenStream with the rest
// of the lease, then AllowPeer, AllowSource and OpenGuard. The public port stays
// taken, and a message that names the inside endpoint gets it back. Media lives on
// while it carries packets.
func (e *Engine) Adopt(c Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	b, m := e.bindings[c.Inside], e.mappings[c.Inside]
	switch c.Verb {
	case OpenStream:
		if m != nil || b != nil || e.media[c.Public] != nil {
			return
		}
		m = e.addMapping(c.Inside, c.Public)
		m.opened = true
		m.leaseEnd = now.Add(c.Lease)
		e.wheel.set(m, now.Add(min(c.Lease, e.cfg.RTPTimeout)/4))
	case OpenBinding, OpenForwarded:
		if m != nil || b != nil || e.publics[c.Public] != nil {
			return
		}
		b = e.addBinding(c.Inside, c.Public, c.Verb == OpenForwarded, now)
		b.until, b.leaseEnd = now.Add(c.Lease), now.Add(c.Lease)
		e.wheel.set(b, b.until)
	case AllowPeer:
		if b != nil && len(b.peers) < e.cfg.Limits.PeersPerBinding {
			b.peers = append(b.peers, c.Far.Addr())
		}
	case AllowSource:
		if m != nil {
			m.sources = append(m.sources, c.Far.Addr())
		}
	case OpenGuard:
		if m != nil {
			m.open = true
		}
	}
}

// commit brings the journal, and then the kernel, to the wanted state.
func (e *Engine) commit(now time.Time) {
	for _, m := range e.dirty {
		e.settle(m, now)
	}
	clear(e.dirty)
	e.dirty = e.dirty[:0]
	if e.journal != nil {
		e.save()
	}
	if len(e.changes) == 0 {
		return
	}
	if debugs(e.log.net) {
		for _, c := range e.changes {
			e.log.net.Debug("kernel", "change", c.String())
		}
	}
	defer func() { // after a panic, too: nothing is asked for twice
		clear(e.changes)
		e.changes = e.changes[:0]
	}()
	if err := e.kernel.Apply(e.changes); err != nil {
		e.stats.KernelErrors++
		e.log.kernel(err)
		e.missed(err)
	}
}

func (e *Engine) change(c Change) { e.changes = append(e.changes, c) }

func (e *Engine) host(a netip.Addr) *host {
	h := e.hosts[a]
	if h == nil {
		h = new(host)
		e.hosts[a] = h
	}
	return h
}

// held returns what a host holds.
func (e *Engine) held(a netip.Addr) (h host) {
	if p := e.hosts[a]; p != nil {
		h = *p
	}
	return h
}

// dropHost forgets a host that holds nothing.
func (e *Engine) dropHost(a netip.Addr) {
	if h := e.hosts[a]; h != nil && *h == (host{}) {
		delete(e.hosts, a)
	}
}

// pool returns the ports of a public address.
func (e *Engine) pool(public netip.Addr) *ports {
	p := e.pools[public]
	if p == nil {
		p = newPorts(e.cfg.PortLow, e.cfg.PortHigh, e.random, e.now)
		e.pools[public] = p
	}
	return p
}

// announced returns what messages call a public address.
func (e *Engine) announced(public netip.Addr) netip.Addr {
	if e.cfg.Announced.IsValid() {
		return e.cfg.Announced
	}
	return public
}

// hash stands for a part of a message, here and in the journal. Who does not know the
// secret cannot find two parts that have the same.
func (e *Engine) hash(b []byte) uint64 {
	if len(b) == 0 {
		return 0
	}
	return siphash.Hash(e.secret[0], e.secret[1], b)
}
