package nat

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// offerLease is how long the kernel keeps a stream whose offer nobody
	// has answered: Timer C (RFC 3261 section 16.6) and a minute.
	offerLease = 4 * time.Minute

	// answeredLease is how long the kernel keeps the stream of a running call
	// when the daemon is gone.
	answeredLease = 30 * time.Minute

	// maxEgress bounds the expectations from one inside endpoint, of which an
	// anchor holds few: one for each fork that is likely to ring at once.
	maxEgress = 3
)

// mapping joins an inside media endpoint to its public one. Sessions hold it;
// the fields from opened on are what the kernel has.
type mapping struct {
	inside, public netip.AddrPort
	sessions       []*session
	dirty          bool // listed in Engine.dirty

	opened   bool
	open     bool // any source may send
	sources  []netip.Addr
	egress   []netip.AddrPort
	leaseEnd time.Time

	packets uint64 // carried when last looked, for mappings that nobody holds
	orphan  bool   // nobody holds it, and it has not been looked at
	strays  int    // hosts that were reported
	tm      timer
}

func (m *mapping) timer() *timer { return &m.tm }

// hold is a mapping's place in a session.
type hold struct {
	mapping *mapping
	line    int            // index of the m-line
	rtcp    bool           // the mapping carries RTCP
	pair    int            // which one of several pairs of ports in a row, from 0
	far     netip.AddrPort // where the far party receives it, once known
}

// session is what one offer, or one offer and its answer, keep open.
type session struct {
	call     *call
	holds    []hold
	sources  []netip.Addr // hosts that the far SDP names, and the inside party's relays
	relays   []netip.Addr // hosts of the relay candidates that the inside SDP names (RFC 8656)
	unknown  bool         // the far party cannot be told from its SDP: nobody is refused
	answered bool
	held     bool // media may be silent
}

// attach makes the session hold its mappings.
func (e *Engine) attach(s *session) {
	for _, h := range s.holds {
		if !slices.Contains(h.mapping.sessions, s) {
			h.mapping.sessions = append(h.mapping.sessions, s)
		}
		e.touchMapping(h.mapping)
	}
}

// resume makes a session that was released hold its mappings again, but for
// those that were closed meanwhile.
func (e *Engine) resume(s *session) {
	if s == nil {
		return
	}
	s.holds = slices.DeleteFunc(s.holds, func(h hold) bool { return e.mappings[h.mapping.inside] != h.mapping })
	e.attach(s)
}

// release makes the session let go of its mappings. Releasing nil, or twice, is
// harmless.
func (e *Engine) release(s *session) {
	if s == nil {
		return
	}
	for _, h := range s.holds {
		if i := slices.Index(h.mapping.sessions, s); i >= 0 {
			h.mapping.sessions = slices.Delete(h.mapping.sessions, i, i+1)
			e.touchMapping(h.mapping)
		}
	}
}

// touchMapping has the mapping settled at the end of the message.
func (e *Engine) touchMapping(m *mapping) {
	if !m.dirty {
		m.dirty = true
		e.dirty = append(e.dirty, m)
	}
}

func (e *Engine) addMapping(inside, public netip.AddrPort) *mapping {
	m := &mapping{inside: inside, public: public}
	e.mappings[inside] = m
	e.media[public] = m
	e.pool(public.Addr()).mark(public.Port())
	e.host(inside.Addr()).mappings++
	return m
}

func (e *Engine) closeMapping(m *mapping) {
	e.log.rtp.Debug("stream closed", "inside", m.inside, "public", m.public)
	if m.opened {
		e.change(Change{Verb: CloseStream, Inside: m.inside, Public: m.public})
	}
	delete(e.mappings, m.inside)
	delete(e.media, m.public)
	e.pool(m.public.Addr()).release(m.public.Port())
	e.host(m.inside.Addr()).mappings--
	e.dropHost(m.inside.Addr())
}

// settle compares what the sessions want of a mapping with what the kernel has,
// and asks for the difference.
func (e *Engine) settle(m *mapping, now time.Time) {
	m.dirty = false
	if len(m.sessions) == 0 {
		m.tm.deadline = time.Time{}
		e.closeMapping(m)
		return
	}
	lease := offerLease
	if m.answered() {
		lease = answeredLease
	}
	switch {
	case !m.opened:
		m.opened = true
		m.leaseEnd = now.Add(lease)
		e.change(Change{Verb: OpenStream, Inside: m.inside, Public: m.public, Lease: lease})
		e.log.rtp.Debug("stream opened", "inside", m.inside, "public", m.public, "call", m.sessions[0].call.id)
	case m.leaseEnd.Sub(now) < lease*2/3:
		m.leaseEnd = now.Add(lease)
		e.change(Change{Verb: RenewStream, Inside: m.inside, Public: m.public, Lease: lease})
	}
	e.wheel.set(m, now.Add(lease/3))
	e.settleGuard(m)
	e.settleEgress(m)
}

func (m *mapping) answered() bool {
	return slices.ContainsFunc(m.sessions, func(s *session) bool { return s.answered })
}

// settleGuard brings the set of allowed sources to what the sessions name. While
// no answer is known the offer is open, as early media may come from anywhere.
func (e *Engine) settleGuard(m *mapping) {
	open := e.cfg.MediaAny || !m.answered()
	for _, s := range m.sessions {
		open = open || s.unknown
		for _, a := range s.sources {
			if !slices.Contains(m.sources, a) {
				m.sources = append(m.sources, a)
				e.change(Change{Verb: AllowSource, Inside: m.inside, Public: m.public, Far: netip.AddrPortFrom(a, 0)})
			}
		}
	}
	if open != m.open {
		m.open = open
		verb := CloseGuard
		if open {
			verb = OpenGuard
		}
		e.change(Change{Verb: verb, Inside: m.inside, Public: m.public})
	}
	m.sources = slices.DeleteFunc(m.sources, func(a netip.Addr) bool {
		for _, s := range m.sessions {
			if slices.Contains(s.sources, a) {
				return false
			}
		}
		e.change(Change{Verb: RevokeSource, Inside: m.inside, Public: m.public, Far: netip.AddrPortFrom(a, 0)})
		return true
	})
}

// settleEgress lets the inside endpoint send to where the answers said, through
// a firewall that filters what leaves. The expectations end with the mapping.
func (e *Engine) settleEgress(m *mapping) {
	for _, s := range m.sessions {
		if !s.answered {
			continue
		}
		for _, h := range s.holds {
			if h.mapping != m || !e.farEndpoint(h.far) || slices.Contains(m.egress, h.far) {
				continue
			}
			if len(m.egress) == maxEgress {
				m.egress = slices.Delete(m.egress, 0, 1) // the kernel side replaces its oldest, too
			}
			m.egress = append(m.egress, h.far)
			e.change(Change{Verb: AllowEgress, Inside: m.inside, Public: m.public, Far: h.far})
		}
	}
}

// farEndpoint reports whether SDP from outside may have an endpoint expected:
// what a far party names must not open a way to the firewall itself, nor to
// what stands beside or behind it.
func (e *Engine) farEndpoint(ep netip.AddrPort) bool {
	a := ep.Addr()
	return ep.IsValid() && a.IsGlobalUnicast() && !e.announces(a) &&
		!e.cfg.Networks.Own(a) && !e.cfg.Networks.Elsewhere(a) && (!private(a) || e.cfg.Networks.Outside(a))
}

// expire renews the lease of a mapping that is held. One that nobody holds was
// adopted at the start, from a call that this process has not seen begin: it
// stays while it carries packets.
func (m *mapping) expire(e *Engine, now time.Time) {
	if m.dirty {
		return // its last session has ended in the same second: settle closes it
	}
	if len(m.sessions) > 0 {
		lease := offerLease
		if m.answered() {
			lease = answeredLease
		}
		if m.leaseEnd.Sub(now) < lease*3/4 {
			m.leaseEnd = now.Add(lease)
			e.change(Change{Verb: RenewStream, Inside: m.inside, Public: m.public, Lease: lease})
		}
		e.wheel.set(m, now.Add(lease/3))
		return
	}
	in, out := e.kernel.Traffic(m.public)
	if m.orphan {
		m.orphan, m.packets = false, in+out
	} else if in+out != m.packets {
		m.packets = in + out
		m.leaseEnd = now.Add(e.cfg.RTPTimeout)
		e.change(Change{Verb: RenewStream, Inside: m.inside, Public: m.public, Lease: e.cfg.RTPTimeout})
	}
	if m.leaseEnd.After(now) {
		e.wheel.set(m, now.Add(min(e.cfg.RTPTimeout/4, m.leaseEnd.Sub(now))))
		return
	}
	e.closeMapping(m)
}
