package conntrack

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessages is how many messages go in one sendmsg. Were all refused, the
// answers would still fit into a socket buffer of ordinary size.
const maxMessages = 128

type messageKind uint8

const (
	newAnchor messageKind = iota
	deleteAnchor
	newExpectation
	deleteExpectation
)

// A message is one that was sent, with the operation that it is for.
type message struct {
	kind   messageKind
	op     opKind
	public netip.AddrPort
	dst    netip.AddrPort
}

// A commit is one Commit under way.
type commit struct {
	*Conn
	errs []error
	// repair holds the anchors that the kernel turned out not to have, or to
	// have with another helper, and failed those that it refused.
	repair, failed map[netip.AddrPort]opKind
	repairing      bool
	unhelped       bool // the kernel may not have the helper any more
}

// Commit carries out the operations of b in order, in one exchange with the
// kernel (one sendmsg for up to 128 messages, and the last one's
// acknowledgement), and empties b. When it returns, the kernel has done it.
//
// An operation that fails does not stop the others; the error joins one
// [*Error] for each. What failed is remembered all the same, and tried again
// by the next Renew of the anchor, until the anchor is closed: except for
// [ErrAnchorFull], [ErrNoAnchor] and [ErrEndpoint].
//
// With HelperNone, Commit does nothing and succeeds.
func (c *Conn) Commit(b *Batch) error {
	defer b.Reset()
	if c.helper == HelperNone || len(b.ops) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := commit{Conn: c}
	for i := range b.ops {
		k.apply(&b.ops[i])
	}
	k.flush()
	k.mend()
	return errors.Join(k.errs...)
}

// apply changes the state as op says and encodes what that means to the kernel.
func (k *commit) apply(op *operation) {
	if !isEndpoint(op.public) || (op.kind == opExpect || op.kind == opUnexpect) && !isEndpoint(op.far) {
		k.fail(op.kind, op.public, op.far, ErrEndpoint)
		return
	}
	a := k.state.anchors[op.public]
	switch op.kind {
	case opOpen, opRenew:
		if a == nil {
			a = k.state.open(op.public)
		}
		if a.find(op.public) < 0 {
			id, ok := a.room(&k.policy)
			if !ok { // left behind by a process with another helper
				k.fail(op.kind, op.public, op.public, ErrAnchorFull)
				return
			}
			k.state.claim(op.public, a, claim{op.public, id})
		}
		a.seconds = seconds(op.lifetime)
		k.anchor(op.kind, op.public, a)
	case opExpect:
		if a == nil {
			k.fail(op.kind, op.public, op.far, ErrNoAnchor)
			return
		}
		i := a.find(op.far)
		if i < 0 {
			id, ok := a.room(&k.policy)
			if !ok {
				k.fail(op.kind, op.public, op.far, ErrAnchorFull)
				return
			}
			i = len(a.claims)
			k.state.claim(op.public, a, claim{op.far, id})
		}
		k.expect(op.kind, op.public, a.claims[i])
	case opUnexpect:
		if a == nil {
			return
		}
		if i := a.find(op.far); i >= 0 {
			k.ch.enc.deleteExpectation(k.next(deleteExpectation, op.kind, op.public, op.far), op.far)
			k.release(op.kind, op.public, a, i)
		}
	case opClose:
		k.ch.enc.flow(typeCtDelete, k.next(deleteAnchor, op.kind, op.public, netip.AddrPort{}), anchorTuple(op.public))
		if a == nil {
			return
		}
		for i := len(a.claims) - 1; i >= 0; i-- {
			k.release(op.kind, op.public, a, i)
		}
		delete(k.state.anchors, op.public)
	}
}

// anchor encodes an anchor with all its expectations.
func (k *commit) anchor(op opKind, public netip.AddrPort, a *anchor) {
	k.ch.enc.newAnchor(k.next(newAnchor, op, public, netip.AddrPort{}), public, k.policy.name, a.seconds)
	for _, c := range a.claims {
		k.expect(op, public, c)
	}
}

// expect encodes an expectation. The first message that the kernel gets about
// one gives it the helper's timeout, the second the one that it states.
func (k *commit) expect(op opKind, public netip.AddrPort, c claim) {
	k.ch.enc.newExpectation(k.next(newExpectation, op, public, c.dst), public, c.dst, c.class, expectSeconds)
	if k.policy.timeout < expectTimeout {
		k.ch.enc.newExpectation(k.next(newExpectation, op, public, c.dst), public, c.dst, c.class, expectSeconds)
	}
}

// release removes a claim of which the expectation is gone, and has it created
// again below another anchor that claims it.
func (k *commit) release(op opKind, public netip.AddrPort, a *anchor, i int) {
	if other, its, ok := k.state.release(public, a, i); ok {
		k.expect(op, other, its)
	}
}

// next notes what the next message is for, and returns its sequence number.
func (k *commit) next(kind messageKind, op opKind, public, dst netip.AddrPort) uint32 {
	if len(k.sent) == maxMessages {
		k.flush()
	}
	k.sent = append(k.sent, message{kind, op, public, dst})
	return k.ch.next()
}

// flush has the exchange with the kernel.
func (k *commit) flush() {
	if err := k.ch.exchange(k.refused, nil); err != nil {
		k.errs = append(k.errs, err)
	}
	k.sent = k.sent[:0]
}

// refused deals with the kernel's refusal of the i-th message.
func (k *commit) refused(i int, errno unix.Errno) {
	m := k.sent[i]
	switch m.kind {
	case deleteAnchor, deleteExpectation:
		if errno == unix.ENOENT {
			return
		}
	case newAnchor:
		// EBUSY: it has another helper, or has lost its own, which can only be chosen at
		// birth. EOPNOTSUPP: it never had one, or the helper itself is gone.
		if !k.repairing && (errno == unix.EBUSY || errno == unix.EOPNOTSUPP) {
			k.unhelped = k.unhelped || errno == unix.EOPNOTSUPP
			note(&k.repair, m)
			return
		}
		note(&k.failed, m)
	case newExpectation:
		if _, ok := k.failed[m.public]; ok {
			return // has been told
		}
		if _, ok := k.repair[m.public]; ok && !k.repairing {
			return // comes again
		}
		// ENOENT, EOPNOTSUPP: there is no such anchor, or it has no helper;
		// ETIME: it is just expiring.
		if !k.repairing && (errno == unix.ENOENT || errno == unix.EOPNOTSUPP || errno == unix.ETIME) {
			note(&k.repair, m)
			return
		}
	}
	k.fail(m.op, m.public, m.dst, refusal(m.kind, errno))
}

// mend creates the anchors anew that the kernel lost.
func (k *commit) mend() {
	k.repairing = true
	if k.unhelped && k.helper == HelperOwn {
		k.registerAgain()
	}
	for public, op := range k.repair {
		a := k.state.anchors[public]
		if a == nil {
			continue // closed by the same batch
		}
		k.ch.enc.flow(typeCtDelete, k.next(deleteAnchor, op, public, netip.AddrPort{}), anchorTuple(public))
		k.anchor(op, public, a)
		k.log.Debug("created an anchor again", "public", public)
	}
	k.flush()
}

// registerAgain registers our own helper if somebody has deleted it, or unloaded the
// module that had it, which takes all expectations away. The kernel's helper is loaded
// by the kernel, when an anchor asks for it. If it fails the anchors will tell.
func (k *commit) registerAgain() {
	if _, err := readHelper(k.ch, k.policy.name); err == nil {
		return
	}
	_, err := registerHelper(k.ch)
	k.log.Warn("the conntrack helper was deleted, as by unloading its module; it is registered again",
		"helper", k.policy.name, "error", err)
}

// fail notes an error, once where both messages of an expectation were refused.
func (k *commit) fail(op opKind, public, far netip.AddrPort, err error) {
	e := Error{Op: op.String(), Public: public, Far: far, Err: err}
	if n := len(k.errs); n > 0 {
		if last, ok := k.errs[n-1].(*Error); ok && *last == e {
			return
		}
	}
	k.errs = append(k.errs, &e)
}

// note adds the anchor of m to a set.
func note(set *map[netip.AddrPort]opKind, m message) {
	if *set == nil {
		*set = make(map[netip.AddrPort]opKind)
	}
	(*set)[m.public] = m.op
}

func isEndpoint(a netip.AddrPort) bool { return a.Addr().Is4() && a.Port() != 0 }

// maxSeconds is the kernel's own limit: INT_MAX of its smallest clock tick.
const maxSeconds = 1<<31/1000 - 1

// seconds converts a lifetime to the kernel's unit.
func seconds(d time.Duration) uint32 {
	return uint32(min(max((d-1)/time.Second+1, 1), maxSeconds))
}
