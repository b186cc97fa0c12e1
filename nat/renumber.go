package nat

import (
	"net/netip"
	"slices"
	"time"
)

// Withdraw ends everything that stands on public addresses which the firewall
// has no more, as after a dial-up line has got another one: nothing can reach it
// there. A phone's next message gets a new binding, so that it is announced by
// the address that the firewall has then.
func (e *Engine) Withdraw(gone func(public netip.Addr) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.calls {
		if c.standsOn(gone) {
			e.closeCall(c, "the firewall has its public address no more")
		}
	}
	for _, m := range e.mappings {
		if gone(m.public.Addr()) && !m.dirty { // nobody holds it
			m.tm.deadline = time.Time{}
			e.closeMapping(m)
		}
	}
	for _, b := range e.bindings {
		if gone(b.public.Addr()) {
			e.withdrawn[b.public.Addr()] = true // flows that are left say nothing any more
			b.tm.deadline = time.Time{}
			e.closeBinding(b)
		}
	}
	e.commit(e.now())
}

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
