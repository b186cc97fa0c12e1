package nat

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// ledger is a Kernel that keeps books: it refuses what the real one could not
// do, and knows what would be installed.
type ledger struct {
	now      func() time.Time
	entries  map[netip.AddrPort]*entry // by public endpoint
	inside   map[netip.AddrPort]*entry
	packets  map[netip.AddrPort]uint64
	faults   []string
	opened   []Change // since the last message
	config   Config
	exempted bool // leases may run out, as in a machine that was paused

	translated, forwarded bool // it has a flow for every inside endpoint, let in by the administrator's DNAT
}

// entry is what the kernel has for one mapping.
type entry struct {
	inside, public netip.AddrPort
	stream, open   bool
	forwarded      bool // a binding of the administrator's DNAT
	hosts          map[netip.Addr]bool
	end            time.Time
}

func newLedger(config Config, now func() time.Time) *ledger {
	return &ledger{
		now: now, config: config.withDefaults(),
		entries: map[netip.AddrPort]*entry{}, inside: map[netip.AddrPort]*entry{}, packets: map[netip.AddrPort]uint64{},
	}
}

func (l *ledger) fault(c Change, what string) {
	l.faults = append(l.faults, fmt.Sprintf("%v: %s", c, what))
}

func (l *ledger) Translation(inside, _ netip.AddrPort) (netip.AddrPort, bool, bool) {
	return netip.AddrPortFrom(netip.MustParseAddr(publicAddr), inside.Port()^1), l.forwarded, l.translated
}

func (l *ledger) Owner(netip.AddrPort) (netip.AddrPort, bool) { return netip.AddrPort{}, false }

func (l *ledger) Traffic(public netip.AddrPort) (in, out uint64) { return l.packets[public], 0 }

func (l *ledger) Apply(changes []Change) error {
	for _, c := range changes {
		l.apply(c)
	}
	return nil
}

func (l *ledger) apply(c Change) {
	e := l.entries[c.Public]
	switch c.Verb {
	case OpenBinding, OpenForwarded, OpenStream:
		l.open(c)
		return
	}
	if e == nil || e.inside != c.Inside {
		l.fault(c, "there is no such mapping")
		return
	}
	if bindingVerb := c.Verb <= RevokePeer; bindingVerb == e.stream {
		l.fault(c, "the mapping is of the other kind")
	}
	switch c.Verb {
	case RenewBinding, RenewStream:
		if c.Lease <= 0 {
			l.fault(c, "no lease")
		}
		e.end = l.now().Add(c.Lease)
	case CloseBinding, CloseStream:
		delete(l.entries, e.public)
		delete(l.inside, e.inside)
	case OpenGuard, CloseGuard:
		if e.open == (c.Verb == OpenGuard) {
			l.fault(c, "the guard is so already")
		}
		e.open = c.Verb == OpenGuard
	case AllowPeer:
		e.hosts[c.Far.Addr()] = true
	case AllowSource:
		if e.hosts[c.Far.Addr()] {
			l.fault(c, "the source is allowed already")
		}
		e.hosts[c.Far.Addr()] = true
	case RevokePeer, RevokeSource:
		if !e.hosts[c.Far.Addr()] {
			l.fault(c, "the host was not allowed")
		}
		delete(e.hosts, c.Far.Addr())
	case AllowEgress:
		if !c.Far.IsValid() || c.Far.Port() == 0 {
			l.fault(c, "no far endpoint")
		}
	}
}

func (l *ledger) open(c Change) {
	l.opened = append(l.opened, c)
	stream := c.Verb == OpenStream
	switch {
	case l.entries[c.Public] != nil:
		l.fault(c, "the public endpoint is taken")
	case l.inside[c.Inside] != nil:
		l.fault(c, "the inside endpoint has a mapping")
	case c.Lease <= 0:
		l.fault(c, "no lease")
	case stream && (c.Inside.Port() < 1024 || slices.Contains(l.config.SIPPorts, c.Inside.Port())):
		l.fault(c, "a stream to a port of another service")
	case stream && (c.Public.Port() < l.config.PortLow || c.Public.Port() > l.config.PortHigh):
		l.fault(c, "a public port out of the range")
	}
	e := &entry{inside: c.Inside, public: c.Public, stream: stream, forwarded: c.Verb == OpenForwarded, hosts: map[netip.Addr]bool{}, end: l.now().Add(c.Lease)}
	l.entries[c.Public], l.inside[c.Inside] = e, e
}

// changes are those that make what the kernel has, for the next daemon.
func (l *ledger) changes() (all []Change) {
	for _, public := range slices.SortedFunc(maps.Keys(l.entries), netip.AddrPort.Compare) {
		e := l.entries[public]
		c := Change{Verb: OpenBinding, Inside: e.inside, Public: public, Lease: e.end.Sub(l.now())}
		switch {
		case e.stream:
			c.Verb = OpenStream
		case e.forwarded:
			c.Verb = OpenForwarded
		}
		all = append(all, c)
		for _, host := range slices.SortedFunc(maps.Keys(e.hosts), netip.Addr.Compare) {
			c.Verb, c.Far = AllowPeer, netip.AddrPortFrom(host, 0)
			if e.stream {
				c.Verb = AllowSource
			}
			all = append(all, c)
		}
		if e.open {
			c.Verb, c.Far = OpenGuard, netip.AddrPort{}
			all = append(all, c)
		}
	}
	return all
}

// audit returns what is wrong with the engine's state, and with the kernel's
// beside it.
func audit(e *Engine, l *ledger) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	faults = append(faults, l.faults...)
	hosts := map[netip.Addr]*host{}
	count := func(a netip.Addr) *host {
		if hosts[a] == nil {
			hosts[a] = new(host)
		}
		return hosts[a]
	}
	timed := func(what any, tm *timer) {
		if tm.deadline.IsZero() || tm.queued == 0 {
			fault("%v never expires", what)
		}
	}
	installed := 0
	check := func(inside, public netip.AddrPort, stream bool) {
		installed++
		if k := l.entries[public]; k == nil || k.inside != inside || k.stream != stream {
			fault("%v = %v is not in the kernel", inside, public)
		} else if !l.exempted && k.end.Before(e.now()) {
			fault("%v = %v: its lease has run out", inside, public)
		}
	}
	calls := map[*binding]int{}
	for _, c := range e.calls {
		count(c.key.inside).calls++
		timed("call "+c.id, &c.tm)
		for _, b := range c.bindings {
			calls[b]++
			if e.bindings[b.inside] != b {
				fault("call %s: its binding %v is gone", c.id, b.inside)
			}
		}
		for _, t := range c.transactions {
			if t.call != c || e.transactions[t.key] != t {
				fault("call %s: a transaction that is gone", c.id)
			}
		}
	}
	for in, b := range e.bindings {
		count(in.Addr()).bindings++
		timed(in, &b.tm)
		check(in, b.public, false)
		if b.inside != in || e.publics[b.public] != b || e.mappings[in] != nil || e.media[b.public] != nil {
			fault("binding %v is listed wrongly", in)
		}
		if b.calls != calls[b] {
			fault("binding %v: %d calls, has %d", in, b.calls, calls[b])
		}
	}
	listed := 0
	for host, list := range e.connected {
		listed += len(list)
		for _, b := range list {
			if b.inside.Addr() != host || e.connections[b.public] != b || !b.stream || b.calls != 0 {
				fault("connection %v is listed wrongly", b.public)
			}
		}
	}
	for _, b := range e.connections {
		count(b.inside.Addr()).bindings++
	}
	if listed != len(e.connections) {
		fault("%d connections, %d of hosts", len(e.connections), listed)
	}
	sessions := liveSessions(e)
	for in, m := range e.mappings {
		count(in.Addr()).mappings++
		timed(in, &m.tm)
		check(in, m.public, true)
		if m.inside != in || e.media[m.public] != m || m.dirty || !m.opened {
			fault("stream %v is listed wrongly", in)
		}
		if len(m.sessions) == 0 && m.leaseEnd.Before(e.now()) {
			fault("stream %v has neither holder nor lease", in)
		}
		for _, s := range m.sessions {
			if !sessions[s] {
				fault("stream %v is held by a session of no call", in)
			}
		}
	}
	for key, t := range e.transactions {
		count(key.inside).transactions++
		timed(key, &t.tm)
	}
	if len(e.publics) != len(e.bindings) || len(e.media) != len(e.mappings) {
		fault("%d bindings and %d streams, %d and %d public endpoints", len(e.bindings), len(e.mappings), len(e.publics), len(e.media))
	}
	if installed != len(l.entries) {
		fault("%d mappings, %d in the kernel", installed, len(l.entries))
	}
	for a, h := range hosts {
		if e.hosts[a] == nil || *e.hosts[a] != *h {
			fault("host %v: %+v, has %+v", a, e.hosts[a], h)
		}
	}
	if len(e.hosts) != len(hosts) {
		fault("%d hosts are counted, %d have something", len(e.hosts), len(hosts))
	}
	return append(faults, auditPorts(e)...)
}

// liveSessions are those that a call can still release.
func liveSessions(e *Engine) map[*session]bool {
	live := map[*session]bool{}
	for _, c := range e.calls {
		for _, d := range c.dialogs {
			live[d.session] = true
		}
		for _, t := range c.transactions {
			live[t.offer], live[t.previous] = true, true
		}
	}
	return live
}

// auditPorts compares the pools with what is open.
func auditPorts(e *Engine) (faults []string) {
	for a, p := range e.pools {
		free := 0
		for port := p.low; port <= p.high; port++ {
			ep := netip.AddrPortFrom(a, uint16(port))
			taken := e.publics[ep] != nil || e.media[ep] != nil
			if taken != p.taken(port-p.low) {
				faults = append(faults, fmt.Sprintf("port %d: marked as taken %v, is %v", port, !taken, taken))
			}
			if !taken {
				free++
			}
		}
		if free != p.free {
			faults = append(faults, fmt.Sprintf("%d ports are free, %d counted", free, p.free))
		}
	}
	return faults
}
