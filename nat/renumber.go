package nat

import (
	"net/netip"
	"slices"
	"time"

	"sipnatd/sipmsg"
)

const (
	// maxWithdrawn bounds how many lost public addresses are remembered at a time.
	maxWithdrawn = 16

	// movesAtOnce is how many bindings or streams are moved in one exchange with
	// the kernel.
	movesAtOnce = 100
)

// Renumbered says what became of what stood on lost addresses.
type Renumbered struct {
	Bindings, Streams int // moved
	Calls             int // that had one of them
	Ended             int // of these: there were no ports for them
}

// Renumber moves everything that stands on public addresses which the firewall has
// lost to those that succeed them, as after a dial-up line has got another one. The
// public port stays the same where it is free.
//
// A phone's next message leaves from the new endpoint and names it, and is answered
// there. Its registration, its dialogs and its streams stay: what it sends in a call
// goes on and leaves from the new address; what the far party sends reaches the old
// one, and comes back as soon as a re-INVITE or an UPDATE of the phone's has told
// the new one (RFC 3261 section 14.1), or where the far party answers to where it
// hears the phone from.
//
// successor returns the address that takes the place of a lost one, and false for
// one that the firewall still has.
func (e *Engine) Renumber(successor func(public netip.Addr) (netip.Addr, bool)) (r Renumbered) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	lost := func(a netip.Addr) bool { _, ok := successor(a); return ok }
	var calls []*call
	for _, c := range e.calls {
		if c.standsOn(lost) {
			calls = append(calls, c)
		}
	}
	r.Calls = len(calls)
	ended := func(c *call) {
		if e.calls[c.key] == c {
			r.Ended++
			e.closeCall(c, "its public address is gone, and no port is left on the new one")
		}
	}
	moved := 0
	next := func() {
		if moved++; moved%movesAtOnce == 0 {
			e.commit(now)
		}
	}
	var bindings []*binding
	for _, b := range e.bindings {
		if lost(b.public.Addr()) {
			bindings = append(bindings, b)
			e.withdraw(b.public.Addr())
		}
	}
	slices.SortFunc(bindings, func(a, b *binding) int { return a.public.Compare(b.public) })
	for _, b := range bindings {
		to, _ := successor(b.public.Addr())
		if e.moveBinding(b, to, now) {
			r.Bindings++
		} else {
			for _, c := range e.calls {
				if slices.Contains(c.bindings, b) {
					ended(c)
				}
			}
			b.tm.deadline = time.Time{}
			e.closeBinding(b)
		}
		next()
	}
	e.commit(now) // what the ended calls held is gone
	var streams []*mapping
	for _, m := range e.mappings {
		if lost(m.public.Addr()) {
			streams = append(streams, m)
		}
	}
	slices.SortFunc(streams, func(a, b *mapping) int { return a.public.Compare(b.public) })
	for len(streams) > 0 {
		n := row(streams)
		to, _ := successor(streams[0].public.Addr())
		base := e.newRow(streams[:n], to)
		for i, m := range streams[:n] {
			if base.IsValid() {
				e.moveMapping(m, addPort(base, i), now)
				r.Streams++
			} else {
				for _, s := range slices.Clone(m.sessions) {
					ended(s.call)
				}
				if len(m.sessions) == 0 && !m.dirty { // an earlier daemon's
					m.tm.deadline = time.Time{}
					e.closeMapping(m)
				}
			}
			next()
		}
		streams = streams[n:]
	}
	for _, c := range calls {
		e.touchAll(c)
	}
	e.commit(now)
	for a := range e.pools {
		if lost(a) {
			delete(e.pools, a)
		}
	}
	return r
}

// withdraw remembers a lost address: flows that are left on it say nothing any more.
func (e *Engine) withdraw(a netip.Addr) {
	if len(e.withdrawn) >= maxWithdrawn && !e.withdrawn[a] {
		clear(e.withdrawn)
	}
	e.withdrawn[a] = true
}

// moveBinding gives a binding a public endpoint on another address: the same port,
// else the one that a new binding would get. It reports whether there is one.
func (e *Engine) moveBinding(b *binding, to netip.Addr, now time.Time) bool {
	ep, forwarded := netip.AddrPortFrom(to, b.public.Port()), false
	if owner, taken := e.kernel.Owner(ep); e.publics[ep] != nil || e.media[ep] != nil || taken && owner != b.inside {
		ep, forwarded = e.freeEndpoint(b.inside, to)
	} else {
		forwarded = taken
	}
	if !ep.IsValid() {
		return false
	}
	old := b.public
	e.touch(b)
	e.change(Change{Verb: CloseBinding, Inside: b.inside, Public: old})
	delete(e.publics, old)
	e.pool(old.Addr()).release(old.Port())
	b.public, b.forwarded, b.former = ep, forwarded, old
	e.publics[ep] = b
	e.pool(to).mark(ep.Port())
	lease := max(b.leaseEnd.Sub(now), time.Second)
	if forwarded {
		e.change(Change{Verb: OpenForwarded, Inside: b.inside, Public: ep, Lease: lease})
	} else {
		e.change(Change{Verb: OpenBinding, Inside: b.inside, Public: ep, Lease: lease})
		peers := slices.Clone(b.peers)
		for a := range b.guests {
			if !slices.Contains(b.peers, a) {
				peers = append(peers, a)
			}
		}
		for _, a := range peers {
			e.change(Change{Verb: AllowPeer, Inside: b.inside, Public: ep, Far: netip.AddrPortFrom(a, 0), Lease: lease})
		}
	}
	e.log.reg.Debug("binding moved", "inside", b.inside, "public", ep, "before", old)
	return true
}

// row returns how many streams, the first ones of a list in the order of their public
// endpoints, must stay side by side: a pair of RTP and RTCP, or several of a line with
// contiguous ports.
func row(streams []*mapping) int {
	first := streams[0]
	n := 1
	for n < len(streams) && streams[n].public == addPort(first.public, n) && streams[n].inside == addPort(first.inside, n) {
		n++
	}
	return n
}

// newRow returns the first of as many public endpoints in a row, best those with the
// ports that the streams have. It is invalid where there are none.
func (e *Engine) newRow(streams []*mapping, to netip.Addr) netip.AddrPort {
	same := netip.AddrPortFrom(to, streams[0].public.Port())
	taken := func(m *mapping) bool {
		port := m.public.Port()
		return !e.pool(to).contains(port) || !e.usable(netip.AddrPortFrom(to, port))
	}
	if !slices.ContainsFunc(streams, taken) {
		return same
	}
	port := e.pool(to).find(len(streams), func(port uint16) bool { return e.usable(netip.AddrPortFrom(to, port)) })
	if port == 0 {
		e.stats.PortsExhausted++
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(to, port)
}

// moveMapping gives a stream another public endpoint. Who may send to it stays.
func (e *Engine) moveMapping(m *mapping, ep netip.AddrPort, now time.Time) {
	old := m.public
	delete(e.media, old)
	e.pool(old.Addr()).release(old.Port())
	m.public = ep
	e.media[ep] = m
	e.pool(ep.Addr()).mark(ep.Port())
	if m.opened {
		e.change(Change{Verb: CloseStream, Inside: m.inside, Public: old})
		e.change(Change{Verb: OpenStream, Inside: m.inside, Public: ep, Lease: max(m.leaseEnd.Sub(now), time.Second)})
		for _, a := range m.sources {
			e.change(Change{Verb: AllowSource, Inside: m.inside, Public: ep, Far: netip.AddrPortFrom(a, 0)})
		}
		if m.open {
			e.change(Change{Verb: OpenGuard, Inside: m.inside, Public: ep})
		}
		for _, far := range m.egress {
			e.change(Change{Verb: AllowEgress, Inside: m.inside, Public: ep, Far: far})
		}
	}
	for _, s := range m.sessions {
		e.touchAll(s.call)
	}
	e.log.rtp.Debug("stream moved", "inside", m.inside, "public", ep, "before", old)
}

// formerly returns the message's own binding where a URI names it by the public form
// that it had before the firewall's address changed: the far parties of its dialogs go
// on using that until they are told the new one.
func (w *Worker) formerly(u sipmsg.URI) *binding {
	addr, ok := sipmsg.ParseAddr(w.msg.Bytes(u.Host))
	if b := w.binding; ok && b != nil && b.former == netip.AddrPortFrom(addr, uriPort(u)) {
		return b
	}
	return nil
}

// left reports whether an address is the one that the message's binding stood on
// before the firewall's address changed.
func (w *Worker) left(a netip.Addr) bool { return w.binding != nil && w.binding.former.Addr() == a }

// standsOn reports whether a binding or a stream of the call has one of the
// public addresses.
func (c *call) standsOn(public func(netip.Addr) bool) bool {
	for _, b := range c.bindings {
		if public(b.public.Addr()) {
			return true
		}
	}
	held := func(s *session) bool {
		return s != nil && slices.ContainsFunc(s.holds, func(h hold) bool { return public(h.mapping.public.Addr()) })
	}
	return slices.ContainsFunc(c.dialogs, func(d *dialog) bool { return held(d.session) }) ||
		slices.ContainsFunc(c.transactions, func(t *transaction) bool { return held(t.offer) || held(t.previous) })
}
