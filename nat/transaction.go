package nat

import (
	"net/netip"
	"time"

	"sipnatd/sipmsg"
)

const (
	// transactionEnd is how long a transaction is remembered after its last
	// message, or a request that is not an INVITE waits for its answer:
	// 64*T1 (RFC 3261 sections 17.1.2.2 and 17.2.1).
	transactionEnd = 32 * time.Second

	// inviteWait is how long an INVITE may ring without a further provisional
	// response: Timer C (RFC 3261 section 16.6), with some slack.
	inviteWait = offerLease

	// challengeWait is how long the streams of a challenged INVITE stay for
	// the one that follows with credentials.
	challengeWait = 4 * time.Second
)

// transactionKey names a transaction as RFC 3261 section 17.1.3 does: by the
// branch of the topmost Via and the method. outbound is the request's way. The
// Call-ID counts, too, since there are devices with few different branches.
type transactionKey struct {
	id       uint64     // hash of branch and Call-ID
	inside   netip.Addr // the host: unless proxied, it may answer from another port than it is asked on
	method   sipmsg.Method
	outbound bool
}

// transaction is a request and its responses. It remembers what was replaced in
// the request, so that the responses bring back the very same bytes.
type transaction struct {
	key    transactionKey
	peer   netip.Addr // the far host
	cseq   uint32
	serial uint64 // later transactions have higher ones

	sentBy   string // of the topmost Via; "" in requests from outside
	from, to string // host and port of the URIs, where they were replaced

	call     *call
	dialog   *dialog // nil for the INVITE that begins one
	final    int     // status of the final response, 0: none yet
	offered  bool    // the request carried SDP
	offer    *session
	far      *farMedia // SDP of the far party that awaits its answer
	lateOnly bool      // the offer is in a response, its answer comes in ACK or PRACK
	agreed   bool      // offer and answer are known; offer holds nothing any more
	previous *session  // the dialog's, until a re-INVITE with an early answer has succeeded
	tm       timer
	saved    saved
}

func (t *transaction) timer() *timer { return &t.tm }

// key returns the name of the message's transaction.
func (e *Engine) transactionKey(w *Worker, outbound bool) transactionKey {
	m := &w.msg
	k := transactionKey{inside: w.inside.Addr(), method: m.CSeqMethod, outbound: outbound == m.Request}
	k.id = e.hash(m.Bytes(m.CallID))
	if branch := m.Bytes(m.Via.Branch); len(branch) > 0 {
		k.id ^= e.hash(branch) * 3
	} else { // RFC 2543 has none; with these two the Call-ID identifies the request
		k.id ^= e.hash(m.Bytes(m.FromTag))*3 ^ uint64(m.CSeq)
	}
	if m.Request {
		k.method = m.Method
	}
	if w.proxied { // forks to phones of one host
		k.id ^= uint64(w.inside.Port())
	}
	return k
}

// transaction returns the transaction of the message; a request that is not
// an ACK begins one. It is nil where there is none, or no room for it.
func (e *Engine) transaction(w *Worker, outbound bool) *transaction {
	m := &w.msg
	if m.Request && m.Method == sipmsg.MethodAck {
		return nil
	}
	key := e.transactionKey(w, outbound)
	t := e.transactions[key]
	if t != nil {
		e.touch(t)
		return t
	}
	if !m.Request {
		return nil
	}
	h := e.host(w.inside.Addr())
	all, of := room(e.cfg.Limits.Transactions, outbound), room(e.cfg.Limits.TransactionsHost, outbound)
	if !negotiates(m.Method) && m.Method != sipmsg.MethodBye { // a flood of others leaves calls their media
		all, of = all-all/4, of-of/4
	}
	if len(e.transactions) >= all || h.transactions >= of {
		e.stats.LimitRefusals++
		e.log.warn("limit", w.inside.Addr(), "a SIP transaction is not remembered: too many are open",
			"of the host", h.transactions, "in all", len(e.transactions))
		e.dropHost(w.inside.Addr())
		return nil
	}
	e.serial++
	t = &transaction{key: key, peer: w.far.Addr(), cseq: m.CSeq, serial: e.serial}
	if outbound && !w.proxied {
		keep(&t.sentBy, m.Bytes(m.Via.SentBy))
	}
	e.transactions[key] = t
	e.touch(t)
	h.transactions++
	wait := transactionEnd
	if m.Method == sipmsg.MethodInvite {
		wait = inviteWait
	}
	e.wheel.set(t, w.now.Add(wait))
	return t
}

// tryAgain takes up a transaction that has failed at one server for the next one.
func (e *Engine) tryAgain(t *transaction, now time.Time) {
	e.dropOffer(t)
	t.final, t.offered, t.lateOnly = 0, false, false
	if t.key.method == sipmsg.MethodInvite {
		e.wheel.set(t, now.Add(inviteWait))
	} else {
		e.wheel.set(t, now.Add(transactionEnd))
	}
}

// expire ends a transaction that has been answered, or that never will be.
func (t *transaction) expire(e *Engine, now time.Time) {
	if c := t.call; c != nil {
		if t.challenged() && t.offer != nil {
			e.dropOffer(t)
			e.wheel.set(t, now.Add(transactionEnd))
			e.touch(c)
			e.closeIfOver(c)
			return
		}
		c.endTransaction(e, t)
	}
	delete(e.transactions, t.key)
	e.strike(&t.saved)
	e.host(t.key.inside).transactions--
	e.dropHost(t.key.inside)
}

// challenged reports whether the request is expected again with credentials
// (RFC 3261 sections 22.2 and 22.3) or with a longer session timer (RFC 4028).
func (t *transaction) challenged() bool {
	return t.final == 401 || t.final == 407 || t.final == 422 || t.final == 494
}

// agreed notes that the transaction's offer has its answer. What the answer took
// is held by the dialog; the offer is kept for the answers of further forks.
func (e *Engine) agreed(t *transaction) {
	t.agreed = true
	e.touch(t)
	e.release(t.offer)
}

func (e *Engine) dropOffer(t *transaction) {
	e.release(t.offer)
	t.offer, t.far = nil, nil
	e.touch(t)
}

// forget lets go of the session that a failure would have brought back.
func (e *Engine) forget(t *transaction) {
	e.release(t.previous)
	t.previous = nil
	e.touch(t)
}
