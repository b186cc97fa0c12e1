package nat

import (
	"net/netip"
	"slices"

	"sipnatd/sipmsg"
)

// farMedia is what the SDP of a far party says.
type farMedia struct {
	sources []netip.Addr
	unknown bool // it names a host that only a resolver could tell
	held    bool
	nowhere bool // it names 0.0.0.0, where the far party wants no media for a while
	lines   []farLine
}

// farLine is where the far party receives one m-line's media. Both endpoints
// are invalid where the line has port 0.
type farLine struct {
	rtp, rtcp netip.AddrPort
	pairs     int // of ports in a row, of which these are the first
	rejected  bool
}

// at returns where the far party receives what one of our mappings carries: an
// invalid endpoint if that is not known. ok is false if it refuses the m-line.
func (f *farMedia) at(h hold) (far netip.AddrPort, ok bool) {
	if h.line >= len(f.lines) {
		return netip.AddrPort{}, true
	}
	l := &f.lines[h.line]
	switch {
	case l.rejected:
		return netip.AddrPort{}, false
	case h.pair >= l.pairs:
		return netip.AddrPort{}, true
	case h.rtcp:
		return addPort(l.rtcp, 2*h.pair), true
	}
	return addPort(l.rtp, 2*h.pair), true
}

func (f *farMedia) reset() {
	*f = farMedia{sources: f.sources[:0], lines: f.lines[:0]}
}

func (f *farMedia) clone() *farMedia {
	c := *f
	c.sources, c.lines = slices.Clone(f.sources), slices.Clone(f.lines)
	return &c
}

// pending returns the INVITE transaction whose offer, made in a response, waits
// for an answer from the inside (far true) or the outside party (RFC 3261
// section 13.2.1; RFC 6337 section 2.2, patterns 2 and 3 of the offer in a
// response). ACK names it by its sequence number; PRACK is in its dialog.
func (c *call) pending(w *Worker, far bool) *transaction {
	for _, t := range c.transactions {
		if t.key.method != sipmsg.MethodInvite || !t.lateOnly || t.agreed {
			continue
		}
		if w.msg.Method == sipmsg.MethodAck && t.cseq != w.msg.CSeq {
			continue
		}
		if far && t.far != nil || !far && t.offer != nil {
			return t
		}
	}
	return nil
}

// inside takes in the SDP that a message from inside carries: w.holds are the
// mappings that it names.
func (e *Engine) inside(c *call, w *Worker, t *transaction, d *dialog) {
	m := &w.msg
	switch {
	case m.Request && (m.Method == sipmsg.MethodAck || m.Method == sipmsg.MethodPrack):
		if p := c.pending(w, true); p != nil && d != nil {
			e.agree(c, d, p, w.offered(), p.far)
			e.agreed(p)
		} else if t != nil {
			e.offerInside(w, t)
		} else if d != nil && d.session == nil {
			e.agree(c, d, nil, w.offered(), &farMedia{unknown: true})
		}
	case m.Request && t != nil:
		e.offerInside(w, t)
	case !m.Request && t != nil && t.offered:
		if t.far != nil && !t.repeated(d) {
			e.agree(c, d, t, w.offered(), t.far)
		}
	case !m.Request && t != nil && t.key.method == sipmsg.MethodInvite && t.call == c:
		if t.agreed {
			return // the 200 once more, or after a reliable 183 that was answered
		}
		t.lateOnly = true
		e.offerInside(w, t)
		t.offered = false
	case !m.Request && d != nil && d.session == nil:
		e.agree(c, d, nil, w.offered(), &farMedia{unknown: true}) // its offer came before the daemon
	}
}

// offered is what the message's SDP, from inside, says. It borrows the worker's
// memory.
func (w *Worker) offered() session {
	return session{holds: w.holds, relays: w.relays, held: w.held}
}

// offerInside makes the message's SDP the transaction's offer.
func (e *Engine) offerInside(w *Worker, t *transaction) {
	t.offered = true
	if t.agreed || t.offer != nil && sameHolds(t.offer.holds, w.holds) || t.final != 0 && !t.lateOnly {
		return // a retransmission
	}
	if t.call == nil {
		return
	}
	s := &session{call: t.call, holds: slices.Clone(w.holds), relays: slices.Clone(w.relays), held: w.held}
	e.attach(s)
	e.release(t.offer)
	t.offer = s
	for _, u := range t.call.transactions {
		if u != t && u.challenged() {
			e.dropOffer(u) // this is the request that it was waited for
		}
	}
}

// outside takes in the SDP that a message from outside carries: w.farMedia.
func (e *Engine) outside(c *call, w *Worker, t *transaction, d *dialog) {
	m := &w.msg
	switch {
	case m.Request && (m.Method == sipmsg.MethodAck || m.Method == sipmsg.MethodPrack):
		if p := c.pending(w, false); p != nil && d != nil {
			e.agree(c, d, p, *p.offer, &w.farMedia)
			e.agreed(p)
		} else if t != nil {
			t.offered, t.far = true, w.farMedia.clone()
		}
	case m.Request && t != nil:
		t.offered = true
		if t.far == nil && t.final == 0 {
			t.far = w.farMedia.clone()
		}
	case !m.Request && t != nil && t.offered:
		if t.offer == nil || d == nil || t.repeated(d) {
			return
		}
		e.agree(c, d, t, *t.offer, &w.farMedia)
		if !t.offer.answered && !t.agreed {
			t.offer.answered = true // the guard closes; further forks name their sources
			e.attach(t.offer)
		}
	case !m.Request && t != nil && t.key.method == sipmsg.MethodInvite:
		if !t.agreed {
			t.lateOnly = true
			t.far = w.farMedia.clone()
		}
	}
}

// repeated reports whether the dialog has its answer from the transaction
// already, so that one more is a retransmission, or whether a later transaction
// has changed the session since. Another fork has no answer yet.
func (t *transaction) repeated(d *dialog) bool {
	return t.agreed && (d == nil || d.session != nil) || d != nil && t.serial < d.latest
}

// agree makes what the inside and the far party said in the transaction t the
// dialog's session. The old session is released after the new one holds its
// mappings, so that a stream that both have keeps its public port; where a
// re-INVITE can still fail, the old one is kept to come back.
func (e *Engine) agree(c *call, d *dialog, t *transaction, inside session, far *farMedia) {
	if d == nil {
		return
	}
	if t != nil {
		d.latest = t.serial
	}
	inside.held = inside.held || far.held
	old := d.session
	if old != nil && sameAgreement(old, &inside, far) {
		return
	}
	s := &session{
		call: c, sources: slices.Concat(far.sources, inside.relays), unknown: far.unknown,
		answered: true, held: inside.held,
	}
	if far.nowhere && old != nil { // it may still send from where it did, as music on hold
		for _, a := range old.sources {
			if !slices.Contains(s.sources, a) {
				s.sources = append(s.sources, a)
			}
		}
	}
	for _, h := range inside.holds {
		if e.mappings[h.mapping.inside] != h.mapping {
			continue // closed since the first fork's answer did not take it
		}
		var taken bool
		if h.far, taken = far.at(h); taken {
			s.holds = append(s.holds, h)
		}
	}
	e.attach(s)
	d.session = s
	if debugs(e.log.rtp) {
		for _, h := range s.holds {
			e.log.rtp.Debug("answered", "call", c.id, "inside", h.mapping.inside, "public", h.mapping.public,
				"far", h.far, "may send", s.sources, "anybody", s.unknown, "on hold", s.held)
		}
	}
	if old != nil && t != nil && t.key.method == sipmsg.MethodInvite && t.final == 0 && t.dialog == d && t.previous == nil {
		t.previous = old
		return
	}
	e.release(old)
}

// sameAgreement reports whether a session is what the inside and the far party say.
func sameAgreement(s, inside *session, far *farMedia) bool {
	if !s.answered || s.held != inside.held || s.unknown != far.unknown ||
		len(s.sources) != len(far.sources)+len(inside.relays) || !slices.Equal(s.sources[:len(far.sources)], far.sources) ||
		!slices.Equal(s.sources[len(far.sources):], inside.relays) {
		return false
	}
	n := 0
	for _, h := range inside.holds {
		want, taken := far.at(h)
		if !taken {
			continue
		}
		if n >= len(s.holds) || s.holds[n].mapping != h.mapping || s.holds[n].far != want {
			return false
		}
		n++
	}
	return n == len(s.holds)
}

func sameHolds(a, b []hold) bool {
	return slices.EqualFunc(a, b, func(x, y hold) bool { return x.mapping == y.mapping && x.line == y.line })
}
