package nat

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"time"

	"sipnatd/sipmsg"
)

// orphanWait is how long a stream that no call holds is looked at after the start,
// before it is closed because nobody sends: half of it to see what it has carried,
// half to see whether that becomes more.
const orphanWait = 10 * time.Second

// restoreBatch is how many calls are restored between two exchanges with the kernel.
const restoreBatch = 100

// Restored counts what has been taken over from the journal.
type Restored struct {
	Bindings, Calls, Transactions int

	// Orphans are streams in the kernel that belong to no call.
	Orphans int

	// Unreadable are records that were not understood.
	Unreadable int
}

// Restore takes in a record of the journal that an earlier process has left, after
// Adopt has told what was in the kernel. shift is what has to be added to the times of
// that process. The record is the caller's again when it returns. Nothing happens
// before [Engine.Resume].
func (e *Engine) Restore(record []byte, shift time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.backlog = append(e.backlog, backlog{bytes.Clone(record), shift})
}

// backlog is a record that waits for Resume.
type backlog struct {
	record []byte
	shift  time.Duration
}

// rank orders records: the engine's own first, and bindings before the calls over them,
// which come before their transactions.
func (b *backlog) rank() int {
	if len(b.record) == 0 {
		return -1
	}
	return bytes.IndexByte([]byte{recordEngine, recordBinding, recordCall, recordTransaction}, b.record[0])
}

// Resume goes on where the process ended that has left the records given to Restore:
// calls hold their streams again, and what the kernel has lost of them meanwhile is
// put back. whole says that no record is missing: a stream that no call holds is then
// closed after some seconds, unless it carries packets. Otherwise it lives on while it
// does so, as it would without a journal.
func (e *Engine) Resume(whole bool) (did Restored) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := restorer{Engine: e, now: e.now(), opened: make(map[*binding]bool), begun: make(map[begun]*transaction)}
	all := e.backlog
	e.backlog = nil
	if foreign(all) {
		r.did.Unreadable = len(all)
		all = nil
	}
	slices.SortStableFunc(all, func(a, b backlog) int { return cmp.Compare(a.rank(), b.rank()) })
	for _, b := range all {
		r.reader = reader{rest: b.record, shift: b.shift}
		r.restore()
	}
	e.commit(r.now)
	for _, c := range e.calls {
		slices.SortFunc(c.transactions, func(a, b *transaction) int { return cmp.Compare(a.serial, b.serial) })
	}
	for _, m := range e.mappings {
		if len(m.sessions) > 0 || m.dirty {
			continue
		}
		r.did.Orphans++
		if whole && r.did.Unreadable == 0 {
			m.orphan = true
			if end := r.now.Add(orphanWait); m.leaseEnd.After(end) {
				m.leaseEnd = end
			}
			e.wheel.set(m, r.now.Add(orphanWait/2))
		}
	}
	return r.did
}

// foreign reports whether the records are of another version, in which they may mean
// anything.
func foreign(all []backlog) bool {
	return slices.ContainsFunc(all, func(b backlog) bool {
		r := reader{rest: b.record}
		return r.byte() == recordEngine && r.number() != recordVersion
	})
}

// restorer makes objects of records.
type restorer struct {
	*Engine
	reader
	now    time.Time
	opened map[*binding]bool // that the kernel did not have
	begun  map[begun]*transaction
	did    Restored
}

// begun names an INVITE that has begun dialogs. It may be forgotten already.
type begun struct {
	call   callKey
	serial uint64
}

func (r *restorer) restore() {
	switch r.byte() {
	case recordEngine:
		r.restoreEngine()
	case recordBinding:
		if b := r.readBinding(); !r.bad {
			r.restoreBinding(b)
		}
	case recordCall:
		r.restoreCall()
		if r.did.Calls%restoreBatch == 0 {
			r.commit(r.now)
		}
	case recordTransaction:
		r.restoreTransaction()
	default:
		r.bad = true
	}
	if r.bad {
		r.did.Unreadable++
	}
}

func (r *restorer) restoreEngine() {
	r.number() // the version, which foreign has compared
	secret := [2]uint64{r.fixed(), r.fixed()}
	formerly := r.addrs()
	if r.bad {
		return
	}
	r.secret = secret
	for _, a := range formerly {
		r.retire(a)
	}
}

// restoreBinding gives a binding that is in the kernel its registrations. One that the
// kernel has lost is put back, if its public endpoint is still free.
func (r *restorer) restoreBinding(was *binding) {
	b := r.bindings[was.inside]
	switch {
	case b == nil && r.mappings[was.inside] == nil && r.publicIsFree(was.public):
		owner, taken := r.kernel.Owner(was.public)
		if taken && owner != was.inside {
			return
		}
		b = r.openBinding(was.inside, was.public, taken, r.now)
		r.opened[b] = true
	case b == nil || b.public != was.public:
		return
	}
	r.did.Bindings++
	b.bare, b.port, b.former, b.registrations = was.bare, was.port, was.former, was.registrations
	b.until = time.Time{}
	if r.opened[b] {
		for i := range b.registrations {
			r.allowPeer(b, b.registrations[i].registrar, r.now)
		}
	}
	r.extend(b, r.now)
	r.wheel.set(b, b.ends())
}

// publicIsFree reports whether a public endpoint is the firewall's, and nobody's here.
func (r *restorer) publicIsFree(ep netip.AddrPort) bool {
	return r.publics[ep] == nil && r.media[ep] == nil && r.cfg.Networks.Own(ep.Addr())
}

// callRecord is a call as its record has it.
type callRecord struct {
	call     *call
	known    map[netip.Addr]bool // guests that the phone has sent to itself
	bindings []netip.AddrPort
	invites  map[*dialog]uint64 // by their serial numbers
	holding  []*session
}

func (r *restorer) restoreCall() {
	rec := r.readCall()
	c := rec.call
	if r.bad || r.calls[c.key] != nil {
		return
	}
	r.calls[c.key] = c
	r.host(c.key.inside).calls++
	r.did.Calls++
	for _, ep := range rec.bindings {
		if b := r.bindings[ep]; b != nil {
			c.use(b)
		}
	}
	r.readmit(c, rec.known)
	r.hold(c, rec.holding)
	wait := inviteWait
	for _, d := range c.dialogs {
		r.findMappings(c, d.session, false)
		r.serial = max(r.serial, d.latest)
		if serial := rec.invites[d]; serial != 0 {
			key := begun{c.key, serial}
			if r.begun[key] == nil {
				r.begun[key] = &transaction{serial: serial, final: 200, saved: saved{gone: true}}
			}
			d.invite = r.begun[key]
		}
		if d.confirmed {
			wait = r.cfg.RTPTimeout / 4
		}
	}
	r.wheel.set(c, r.now.Add(wait))
}

func (r *restorer) readCall() (rec callRecord) {
	c := &call{active: r.now}
	rec.call, rec.known, rec.invites = c, make(map[netip.Addr]bool), make(map[*dialog]uint64)
	c.key = callKey{r.fixed(), r.addr()}
	c.id, c.local, c.remote = r.text(), r.text(), r.text()
	c.sessionUntil = r.time()
	c.peers = r.addrs()
	for range r.length() {
		a, sentTo := r.addr(), false
		r.flags(&sentTo)
		c.guests = append(c.guests, a)
		rec.known[a] = sentTo
	}
	for range r.length() {
		rec.bindings = append(rec.bindings, r.endpoint())
	}
	for range r.length() {
		d := &dialog{local: r.fixed(), remote: r.fixed(), latest: r.number()}
		r.flags(&d.confirmed)
		rec.invites[d] = r.number()
		d.session = r.readSession(&rec.holding)
		c.dialogs = append(c.dialogs, d)
	}
	return rec
}

// hold has sessions of a call hold their mappings again.
func (r *restorer) hold(c *call, sessions []*session) {
	for _, s := range sessions {
		r.findMappings(c, s, true)
		r.attach(s)
	}
}

// findMappings gives the holds of a session, which have a mapping of the record's,
// those that are open. If it says so, one that the kernel has lost is opened again. A
// hold is left out whose endpoints have become another's, or whose public address has
// gone.
func (r *restorer) findMappings(c *call, s *session, reopen bool) {
	if s == nil {
		return
	}
	s.call = c
	found := s.holds[:0]
	for _, h := range s.holds {
		was := h.mapping
		if h.mapping = r.mappings[was.inside]; h.mapping == nil && reopen && r.mayReopen(was) {
			h.mapping = r.addMapping(was.inside, was.public)
		}
		if h.mapping != nil && h.mapping.public == was.public {
			found = append(found, h)
		}
	}
	s.holds = found
}

// mayReopen reports whether a stream that the kernel has lost can be as it was.
func (r *restorer) mayReopen(m *mapping) bool {
	return m.inside.IsValid() && r.cfg.mediaPort(m.inside.Port()) && r.bindings[m.inside] == nil &&
		r.publicIsFree(m.public) && r.pool(m.public.Addr()).contains(m.public.Port())
}

// readmit makes the guests of a call that again: the kernel has them among the
// binding's peers.
func (r *restorer) readmit(c *call, known map[netip.Addr]bool) {
	for _, b := range c.bindings {
		b.peers = slices.DeleteFunc(b.peers, func(a netip.Addr) bool {
			return slices.Contains(c.guests, a) && !known[a] && !b.registeredWith(a)
		})
		for _, a := range c.peers {
			if r.opened[b] && !slices.Contains(c.guests, a) {
				r.allowPeer(b, a, r.now)
			}
		}
	}
	r.welcome(c, r.now)
}

// restoreTransaction comes after the calls. It is left out where its call is.
func (r *restorer) restoreTransaction() {
	rec := r.readTransaction()
	t := rec.transaction
	c := r.calls[callKey{rec.call, t.key.inside}]
	if r.bad || r.transactions[t.key] != nil || rec.called && c == nil {
		return
	}
	if rec.called {
		if invite := r.begun[begun{c.key, t.serial}]; invite != nil {
			*invite = *t // of which the dialogs know
			t = invite
		}
		t.call, t.dialog = c, c.dialog(rec.local, rec.remote)
		c.transactions = append(c.transactions, t)
		if t.dialog == nil { // its end was written down, and then the process was killed
			rec.holding = slices.DeleteFunc(rec.holding, func(s *session) bool { return s == t.previous })
			t.previous = nil
		}
		r.hold(c, rec.holding)
		r.findMappings(c, t.offer, false)
		r.findMappings(c, t.previous, false)
	}
	r.transactions[t.key] = t
	r.host(t.key.inside).transactions++
	r.serial = max(r.serial, t.serial)
	r.did.Transactions++
	wait := transactionEnd
	switch {
	case t.challenged():
		wait = challengeWait
	case t.key.method == sipmsg.MethodInvite && t.final == 0:
		wait = inviteWait
	}
	r.wheel.set(t, r.now.Add(wait))
}
