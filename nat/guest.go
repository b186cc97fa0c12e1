package nat

import (
	"net/netip"
	"slices"
	"time"

	"sipnatd/sipmsg"
)

// invites takes in where the far party's requests within the dialog will come
// from: the nearest host that has recorded its route, else the one that Contact
// names (RFC 3261 section 12.1). It need not be the sender of the message, as
// where the provider's proxy passes the INVITE and then leaves. Such a guest of
// the call may signal to the binding while the call lasts.
func (e *Engine) invites(c *call, w *Worker) {
	m := &w.msg
	if m.CSeqMethod != sipmsg.MethodInvite && m.CSeqMethod != sipmsg.MethodUpdate ||
		!m.Request && (m.Status <= 100 || m.Status >= 300) || !slices.Contains(c.peers, w.far.Addr()) {
		return
	}
	var next, contact sipmsg.URI
	routed := false
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrRecordRoute && h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			switch {
			case h.Kind == sipmsg.HdrContact:
				contact = a.URI
			case !routed || !m.Request: // a request has the nearest first, a response last
				next, routed = a.URI, true
			}
		}
	}
	if !routed {
		next = contact
	}
	if addr, ok := sipmsg.ParseAddr(m.Bytes(next.Host)); ok {
		e.addGuest(c, w, addr)
	}
}

// addGuest makes a host a guest of the call.
func (e *Engine) addGuest(c *call, w *Worker, a netip.Addr) {
	if !a.Is4() || slices.Contains(c.peers, a) || len(c.peers) >= maxCallPeers ||
		unroutable(a) && !e.cfg.Networks.Outside(a) || e.cfg.Networks.Inside(a) || e.translated(w, a) == w.publicAddr() {
		return
	}
	c.addPeer(a)
	c.guests = append(c.guests, a)
	e.welcome(c, w.now)
}

// admission is a guest's leave to signal to a binding.
type admission struct {
	binding *binding
	host    netip.Addr
}

// welcome admits the call's guests to its bindings.
func (e *Engine) welcome(c *call, now time.Time) {
	for _, a := range c.guests {
		for _, b := range c.bindings {
			if slices.Contains(c.admitted, admission{b, a}) {
				continue
			}
			c.admitted = append(c.admitted, admission{b, a})
			if b.guests == nil {
				b.guests = make(map[netip.Addr]int)
			}
			if b.guests[a]++; b.guests[a] == 1 && !b.forwarded && !slices.Contains(b.peers, a) {
				e.change(Change{Verb: AllowPeer, Inside: b.inside, Public: b.public,
					Far: netip.AddrPortFrom(a, 0), Lease: b.leaseEnd.Sub(now)})
			}
		}
	}
}

// dismissGuests revokes what the call's guests were allowed, but for hosts that
// the inside party has sent to itself.
func (e *Engine) dismissGuests(c *call) {
	for _, ad := range c.admitted {
		b := ad.binding
		if b.guests[ad.host]--; b.guests[ad.host] > 0 {
			continue
		}
		delete(b.guests, ad.host)
		if !b.forwarded && !slices.Contains(b.peers, ad.host) {
			e.change(Change{Verb: RevokePeer, Inside: b.inside, Public: b.public, Far: netip.AddrPortFrom(ad.host, 0)})
		}
	}
	c.guests, c.admitted = nil, nil
}
