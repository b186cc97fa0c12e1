package nat

import (
	"net/netip"
	"slices"
	"time"
)

// maxFormerly bounds how many addresses are remembered that messages once
// announced.
const maxFormerly = 8

// Configure gives the engine another policy. Nothing ends with it: bindings,
// calls and streams stay as they are, and what they hold keeps its public port,
// even one outside of the new range. From now on
//
//   - streams and bindings get ports of the new range, and limits that are not
//     given follow its size;
//   - SIPPorts, MediaHosts, HairpinRouter and RegisterExpiresMax count for the next
//     message;
//   - MediaAny counts for the streams of running calls, too. Those that were
//     adopted keep the guard that they were found with, since who may send to
//     them is known to the kernel alone;
//   - RTPTimeout and HoldTimeout count for running calls;
//   - messages announce the new address. What they announced before is still
//     understood, since far parties go on using it in their dialogs.
//
// It works on the engine's lock, so that a message is handled with one policy or
// the other.
func (e *Engine) Configure(cfg Config) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	old := e.cfg
	e.cfg = cfg.withDefaults()
	if old.PortLow != e.cfg.PortLow || old.PortHigh != e.cfg.PortHigh {
		e.renewPools()
	}
	if old.Announced != e.cfg.Announced {
		e.retire(old.Announced)
		e.touch(e)
	}
	if old.MediaAny != e.cfg.MediaAny {
		for _, m := range e.mappings {
			if len(m.sessions) > 0 {
				e.touchMapping(m)
			}
		}
	}
	if old.RTPTimeout != e.cfg.RTPTimeout || old.HoldTimeout != e.cfg.HoldTimeout {
		e.hasten(now)
	}
	e.commit(now)
}

// renewPools makes pools of the new range. What is held stays taken in them, and
// what was given back lately rests.
func (e *Engine) renewPools() {
	for a, old := range e.pools {
		p := newPorts(e.cfg.PortLow, e.cfg.PortHigh, e.random, e.now)
		p.inherit(old)
		e.pools[a] = p
	}
	for public := range e.publics {
		e.pool(public.Addr()).mark(public.Port())
	}
	for public := range e.media {
		e.pool(public.Addr()).mark(public.Port())
	}
}

// retire remembers an address that messages have announced.
func (e *Engine) retire(a netip.Addr) {
	if !a.IsValid() || slices.Contains(e.formerly, a) {
		return
	}
	if len(e.formerly) == maxFormerly {
		e.formerly = slices.Delete(e.formerly, 0, 1)
	}
	e.formerly = append(e.formerly, a)
	e.touch(e)
}

// announces reports whether messages announce an address, or did.
func (e *Engine) announces(a netip.Addr) bool {
	return a.IsValid() && (a == e.cfg.Announced || slices.Contains(e.formerly, a))
}

// hasten has every call, and every stream that nobody holds, looked at as soon as
// the new timeouts ask for.
func (e *Engine) hasten(now time.Time) {
	next := now.Add(e.cfg.RTPTimeout / 4)
	for _, c := range e.calls {
		if c.tm.deadline.After(next) {
			e.wheel.set(c, next)
		}
	}
	for _, m := range e.mappings {
		if len(m.sessions) > 0 || m.dirty {
			continue
		}
		if end := now.Add(e.cfg.RTPTimeout); m.leaseEnd.After(end) {
			m.leaseEnd = end
		}
		if m.tm.deadline.After(next) {
			e.wheel.set(m, next)
		}
	}
}
