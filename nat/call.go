package nat

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sipnatd/sipmsg"
)

// callKey names a call: a hairpin or a fork shows one Call-ID several times, at
// several inside hosts. The port says nothing: a phone may send from one port
// and name another one in its Contact.
type callKey struct {
	id     uint64
	inside netip.Addr
}

// call is a Call-ID at an inside host, with its dialogs and its INVITE, UPDATE,
// PRACK and BYE transactions.
type call struct {
	key          callKey
	id           string       // the Call-ID, fit for the log
	bindings     []*binding   // that its messages came over or name as Contact: they stay as long as it
	peers        []netip.Addr // hosts outside that take part in the signalling
	guests       []netip.Addr // those of them that are there for the call alone
	admitted     []admission  // of guests
	dialogs      []*dialog
	transactions []*transaction

	local, remote string // host and port of the parties' URIs, where they were replaced

	packets      uint64 // of media, when last looked
	active       time.Time
	sessionUntil time.Time // end of the session timer (RFC 4028), zero: none
	tm           timer
	saved        saved
}

func (c *call) timer() *timer { return &c.tm }

// dialog is one dialog of a call (RFC 3261 section 12): a fork has several.
type dialog struct {
	local, remote uint64 // hashes of the tags; local is the inside party's
	session       *session
	latest        uint64 // serial number of the transaction that has made the session
	confirmed     bool
	invite        *transaction // that began it
}

const (
	maxCallPeers        = 16
	maxCallBindings     = 4
	maxCallDialogs      = 32
	maxCallTransactions = 64
)

// tags returns the inside and the outside party's tag: From is the tag of the
// one that sent the request.
func (e *Engine) tags(w *Worker, outbound bool) (local, remote uint64) {
	m := &w.msg
	local, remote = e.hash(m.Bytes(m.FromTag)), e.hash(m.Bytes(m.ToTag))
	if outbound != m.Request {
		local, remote = remote, local
	}
	return local, remote
}

// negotiates reports whether messages of a method carry offers and answers
// (RFC 3261 section 13, RFC 3262, RFC 3311).
func negotiates(m sipmsg.Method) bool {
	switch m {
	case sipmsg.MethodInvite, sipmsg.MethodAck, sipmsg.MethodPrack, sipmsg.MethodUpdate:
		return true
	}
	return false
}

// call returns the call of the message, or nil where it has none. An INVITE
// begins one, and so does a message of a call that began before the daemon.
func (e *Engine) call(w *Worker, t *transaction, outbound bool) *call {
	m := &w.msg
	if m.Request && t == nil && negotiates(m.Method) && m.Method != sipmsg.MethodAck {
		w.limited = true // what it offers could not be told from the answer
		return nil
	}
	key := callKey{e.hash(m.Bytes(m.CallID)), w.inside.Addr()}
	c := e.calls[key]
	if c == nil {
		if !e.beginsCall(w, t, outbound) {
			return nil
		}
		if c = e.newCall(w, key, outbound); c == nil {
			return nil
		}
	}
	e.touch(c)
	c.use(w.binding)
	if m.Request && outbound || t != nil && !m.Request && !outbound {
		c.addPeer(w.far.Addr())
	}
	if t != nil && t.call == nil && t.final == 0 && m.Request && (negotiates(m.Method) || m.Method == sipmsg.MethodBye) {
		if len(c.transactions) >= room(maxCallTransactions, outbound) {
			w.limited = true
			return c
		}
		t.call = c
		// A BYE from a host that has no part in the call is the phone's to
		// judge; it closes nothing here.
		if outbound || m.Method != sipmsg.MethodBye || slices.Contains(c.peers, w.far.Addr()) {
			t.dialog = c.dialog(e.tags(w, outbound))
		}
		c.transactions = append(c.transactions, t)
	}
	return c
}

func (e *Engine) beginsCall(w *Worker, t *transaction, outbound bool) bool {
	m := &w.msg
	if t != nil && t.final != 0 {
		return false // a retransmission: the call is over
	}
	if !w.served() || !negotiates(m.CSeqMethod) || !m.Request && m.Status >= 300 {
		return false
	}
	if m.Request && m.Method == sipmsg.MethodInvite {
		return true
	}
	return outbound && len(w.bodies) > 0 || !outbound && m.Request && m.Method == sipmsg.MethodUpdate && t != nil
}

func (e *Engine) newCall(w *Worker, key callKey, outbound bool) *call {
	h := e.host(w.inside.Addr())
	w.limited = len(e.calls) >= room(e.cfg.Limits.Calls, outbound) || h.calls >= room(e.cfg.Limits.CallsPerHost, outbound)
	if w.limited {
		e.stats.LimitRefusals++
		e.log.warn("limit", w.inside.Addr(), "a call gets no media: too many calls are open",
			"call", e.log.text(w.msg.Bytes(w.msg.CallID)), "of the host", h.calls, "in all", len(e.calls))
		e.dropHost(w.inside.Addr())
		return nil
	}
	c := &call{key: key, id: e.log.text(w.msg.Bytes(w.msg.CallID)), active: w.now}
	c.addPeer(w.far.Addr())
	h.calls++
	e.calls[key] = c
	e.stats.Calls++
	e.wheel.set(c, w.now.Add(inviteWait))
	return c
}

// use keeps a binding for the call's requests from outside. A connection is kept
// by its parties.
func (c *call) use(b *binding) {
	if b != nil && !b.stream && !slices.Contains(c.bindings, b) && len(c.bindings) < maxCallBindings {
		c.bindings = append(c.bindings, b)
		b.calls++
	}
}

func (c *call) addPeer(a netip.Addr) {
	if !slices.Contains(c.peers, a) && len(c.peers) < maxCallPeers {
		c.peers = append(c.peers, a)
	}
}

// dialog returns the dialog with these tags, or nil.
func (c *call) dialog(local, remote uint64) *dialog {
	for _, d := range c.dialogs {
		if d.local == local && d.remote == remote {
			return d
		}
	}
	return nil
}

// establish returns the dialog of a message that has both tags, creating it for
// a response to the INVITE that begins it.
func (e *Engine) establish(c *call, w *Worker, t *transaction, outbound bool) *dialog {
	local, remote := e.tags(w, outbound)
	if local == 0 || remote == 0 {
		return nil
	}
	d := c.dialog(local, remote)
	if d == nil && len(c.dialogs) < maxCallDialogs {
		d = &dialog{local: local, remote: remote, invite: t}
		c.dialogs = append(c.dialogs, d)
	}
	return d
}

// conclude draws the consequences of a response for its transaction's dialog.
func (e *Engine) conclude(c *call, w *Worker, t *transaction, d *dialog) {
	m := &w.msg
	if m.Request || t == nil || t.call != c {
		return
	}
	if m.Status < 200 {
		if t.key.method == sipmsg.MethodInvite && m.Status > 100 && t.final == 0 {
			e.wheel.set(t, w.now.Add(inviteWait))
		}
		return
	}
	if t.final != 0 && t.final < 300 && m.Status >= 300 {
		return // a late failure of another branch does not undo a success
	}
	t.final = m.Status
	wait := transactionEnd
	success := m.Status < 300
	switch t.key.method {
	case sipmsg.MethodInvite, sipmsg.MethodUpdate, sipmsg.MethodPrack:
		switch {
		case success:
			e.succeed(c, w, t, d)
		case t.challenged():
			wait = challengeWait
			e.fail(c, t)
		default:
			e.dropOffer(t)
			e.fail(c, t)
			e.closeIfOver(c)
		}
	case sipmsg.MethodBye:
		if !t.challenged() {
			e.bye(c, t)
		}
	}
	e.wheel.set(t, w.now.Add(wait))
}

func (e *Engine) succeed(c *call, w *Worker, t *transaction, d *dialog) {
	if !t.lateOnly {
		e.agreed(t)
	}
	switch t.key.method {
	case sipmsg.MethodInvite:
		if d != nil {
			e.confirm(c, d, w.now)
		}
		e.forget(t)
	case sipmsg.MethodUpdate: // what it settled stays, however a re-INVITE ends
		for _, u := range c.transactions {
			if u.dialog == t.dialog {
				e.forget(u)
			}
		}
	}
	if t.key.method != sipmsg.MethodPrack { // each refresh says anew (RFC 4028 section 7.2)
		c.sessionUntil = time.Time{}
		if s := w.msg.SessionExpires; s > 0 {
			c.sessionUntil = w.now.Add(time.Duration(s)*time.Second + transactionEnd)
		}
	}
	c.active = w.now
}

// confirm notes that the dialog's INVITE has succeeded. The media of the forks
// that it has won against end with that; they come back where such a fork
// succeeds, too (RFC 3261 section 13.2.2.4).
func (e *Engine) confirm(c *call, d *dialog, now time.Time) {
	d.confirmed = true
	if d.invite != nil {
		for _, u := range c.dialogs {
			if u != d && u.invite == d.invite && !u.confirmed {
				e.release(u.session)
			}
		}
		e.resume(d.session)
	}
	e.wheel.set(c, now.Add(e.cfg.RTPTimeout/4))
}

// fail ends the early dialogs of an INVITE that failed. A dialog that another
// INVITE began gets back the session that it had before (RFC 3261 section 14.1).
func (e *Engine) fail(c *call, t *transaction) {
	if t.previous != nil {
		e.release(t.dialog.session)
		t.dialog.session, t.previous = t.previous, nil
		e.touch(t)
	}
	c.dialogs = slices.DeleteFunc(c.dialogs, func(d *dialog) bool {
		if d.invite != t || d.confirmed {
			return false
		}
		e.release(d.session)
		return true
	})
}

// bye ends the dialog that an answered BYE names.
func (e *Engine) bye(c *call, t *transaction) {
	if t.dialog == nil {
		return
	}
	ended := t.dialog
	e.end(c, ended, "answered BYE")
	for _, u := range c.transactions {
		if u.dialog == ended {
			e.dropOffer(u)
			e.forget(u)
			u.dialog = nil
		}
	}
	c.dialogs = slices.DeleteFunc(c.dialogs, func(d *dialog) bool { return d == ended })
	if inv := ended.invite; inv != nil && inv.final != 0 {
		e.dropOffer(inv)
		e.fail(c, inv) // forks that the caller did not take
	}
	e.closeIfOver(c)
}

// endTransaction ends one transaction of the call for good.
func (c *call) endTransaction(e *Engine, t *transaction) {
	e.dropOffer(t)
	switch {
	case t.key.method == sipmsg.MethodBye && t.final == 0:
		e.bye(c, t) // nobody answers: the caller has given up all the same
	case t.key.method == sipmsg.MethodInvite:
		e.fail(c, t) // forks that were not answered
	}
	c.transactions = slices.DeleteFunc(c.transactions, func(u *transaction) bool { return u == t })
	t.call = nil
	e.touch(c)
	e.closeIfOver(c)
}

// closeIfOver closes a call that has no dialog left and waits for none.
func (e *Engine) closeIfOver(c *call) {
	if len(c.dialogs) > 0 {
		return
	}
	for _, t := range c.transactions {
		if t.offer != nil && !t.agreed || t.key.method == sipmsg.MethodInvite && t.final == 0 {
			return
		}
	}
	e.closeCall(c, "nothing is left of it")
}

// end releases a dialog's session, and tells the log what its media came to: a
// direction without packets is the one that nobody heard.
func (e *Engine) end(c *call, d *dialog, why string) {
	if d.confirmed && d.session != nil && len(d.session.holds) > 0 {
		var in, out uint64
		for _, h := range d.session.holds {
			if !h.rtcp {
				i, o := e.kernel.Traffic(h.mapping.public)
				in, out = in+i, out+o
			}
		}
		e.log.info("call ended: "+why, "call", c.id, "host", c.key.inside, "packets in", in, "packets out", out)
	}
	e.release(d.session)
}

// closeCall releases everything that the call holds.
func (e *Engine) closeCall(c *call, why string) {
	if e.calls[c.key] != c {
		return
	}
	delete(e.calls, c.key)
	e.strike(&c.saved)
	for _, d := range c.dialogs {
		e.end(c, d, why)
	}
	for _, t := range c.transactions {
		e.dropOffer(t)
		e.forget(t)
		t.call, t.dialog = nil, nil
		e.touch(t)
	}
	c.tm.deadline = time.Time{}
	e.dismissGuests(c)
	for _, b := range c.bindings {
		b.calls--
	}
	e.host(c.key.inside).calls--
	e.dropHost(c.key.inside)
}

// expire looks whether the call still has media.
func (c *call) expire(e *Engine, now time.Time) {
	if e.closeIfOver(c); e.calls[c.key] != c {
		return
	}
	if !c.sessionUntil.IsZero() && now.After(c.sessionUntil) {
		e.closeCall(c, "its session timer has run out")
		return
	}
	var carried uint64
	media, held, confirmed := false, false, false
	for _, d := range c.dialogs {
		confirmed = confirmed || d.confirmed
		if d.session == nil {
			continue
		}
		held = held || d.session.held
		for _, h := range d.session.holds {
			in, out := e.kernel.Traffic(h.mapping.public)
			carried += in + out
			media = true
		}
	}
	if media && carried != c.packets {
		c.packets, c.active = carried, now
	}
	idle := e.cfg.RTPTimeout
	if held || !media {
		idle = e.cfg.HoldTimeout
	}
	if !confirmed {
		idle = max(idle, inviteWait) // ringing, which its transaction ends
	}
	if now.Sub(c.active) >= idle {
		e.stats.CallsTimedOut++
		e.closeCall(c, fmt.Sprintf("no media for %v", now.Sub(c.active).Round(time.Second)))
		return
	}
	e.wheel.set(c, now.Add(e.cfg.RTPTimeout/4))
}
