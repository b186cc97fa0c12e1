package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"sipnatd/internal/transaction"
	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// relay is a request and the places it is sent to: the response context of RFC 3261
// section 16. An ACK of a 2xx has no server transaction and awaits nothing.
type relay struct {
	proxy  *Proxy
	server *transaction.Server // nil for an ACK
	from   transport.Hop
	face   Face           // that it came to
	msg    sipmsg.Message // the request as it came, with received and rport

	uri    []byte // Request-URI after preprocessing (section 16.4)
	strict bool   // it was in the last Route
	routes int    // Route values at the top that are ours
	line   []byte // the token in one of them
	hash   uint64 // of what decides where it goes (section 16.6, item 8)

	groups    [][]target // that are tried after each other, by preference
	branches  []*branch
	uniques   []uint64 // of their branch parameters
	pending   int      // branches that may still bring a final response
	home      bool     // one of them has led to the firewall itself
	cancelled bool
	reasons   []byte // of the CANCEL

	best       int // status of the best final response yet, 0: none
	response   []byte
	to         netip.AddrPort // the first place that it was sent to
	challenges []byte         // header lines of all 401 and 407
	done       bool           // a final response was sent

	key   uint64    // of its record in the journal; 0: it has none
	began time.Time // when the INVITE came
	spent []uint64  // the uniques of branches that have ended without success
}

// target is one place that a request shall go to.
type target struct {
	uri    []byte // Request-URI
	server Server // to be located, where there are no hops
	hops   []transport.Hop

	// local says that it may be another service of the firewall itself: a PBX there,
	// which the configuration names or which has registered.
	local bool
}

// Request implements [transaction.User].
func (p *Proxy) Request(s *transaction.Server) {
	r := &relay{proxy: p, server: s, from: s.From()}
	if err := r.msg.Index(s.Raw()); err != nil {
		s.GiveUp() // cannot be: it was a message before received was added
		return
	}
	face, ok := p.parts.Networks.Arrived(r.from)
	if !ok {
		s.GiveUp() // the address has gone
		return
	}
	r.face = face
	s.Context = r
	if left := p.resuming; left != nil {
		r.began, r.spent = left.began, left.spent
	}
	r.handle()
	if left := p.resuming; left != nil && left.cancelled && s.Open() {
		r.cancel(left.reasons)
	}
	if r.msg.Method == sipmsg.MethodInvite && s.Open() {
		// The answer may take longer than 200 ms (section 17.2.1).
		s.Respond(100, sipmsg.AppendResponse(nil, &r.msg, 100, "", sipmsg.ResponseOptions{}))
	}
}

// Ack implements [transaction.User]: the ACK of a 2xx goes its own way and has no
// answer (section 16.11).
func (p *Proxy) Ack(m *sipmsg.Message, from transport.Hop) {
	r := &relay{proxy: p, from: from}
	if err := r.msg.Index(bytes.Clone(m.Raw)); err != nil {
		return
	}
	face, ok := p.parts.Networks.Arrived(from)
	if !ok {
		return
	}
	r.face = face
	r.handle()
}

// handle validates the request, finds out where it goes, and sends it there.
func (r *relay) handle() {
	if !r.validate() || !r.preprocess() {
		return
	}
	r.route()
}

// respond sends a response that the proxy itself gives.
func (r *relay) respond(a Answer) {
	if r.server == nil || r.done {
		return
	}
	if a.Status >= 200 {
		r.log(r.to, a.Status)
	}
	r.done = a.Status >= 200
	if a.Status >= 400 {
		r.proxy.stats.Refused[a.Status]++
		if !a.Challenge {
			r.proxy.parts.Access.Refused(r.from.Remote.Addr(), a.Status)
		}
	}
	if r.proxy.log.Enabled(context.Background(), slog.LevelDebug) {
		r.proxy.log.Debug("answered", "status", a.Status, "reason", a.Reason,
			"request", printable(r.msg.Bytes(r.msg.MethodName)), "uri", printable(r.msg.Bytes(r.msg.RequestURI.All)), "from", r.from)
	}
	response := sipmsg.AppendResponse(nil, &r.msg, a.Status, a.Reason,
		sipmsg.ResponseOptions{ToTag: r.tag(), Headers: a.Headers})
	if r.done && r.face.Side == Outside && len(r.branches) == 0 {
		r.server.Refuse(response) // it has done nothing that it would have to be remembered for
		return
	}
	r.server.Respond(a.Status, response)
	if r.done {
		r.settled()
	}
}

func (r *relay) refuse(status int, reason string) { r.respond(Answer{Status: status, Reason: reason}) }

// printable is text for the log, without what could disturb it.
func printable(b []byte) string {
	s := fmt.Sprintf("%q", b)
	return s[1 : len(s)-1]
}

// send forwards the request to targets that are equally good, and to the others of
// the list if those do not bring a good answer.
func (r *relay) send(groups ...[]target) {
	r.groups = append(r.groups, groups...)
	r.next()
}

// next tries the next group of targets, or sends the best response there is.
func (r *relay) next() {
	for len(r.groups) > 0 && !r.done && !r.cancelled && r.best < 600 {
		group := r.groups[0]
		r.groups = r.groups[1:]
		r.pending++ // none of them may be the last one before all are begun
		for _, t := range group {
			b := &branch{relay: r, target: t, recordRoute: -1}
			r.branches = append(r.branches, b)
			r.pending++
			b.begin()
		}
		if r.pending--; r.pending > 0 {
			return
		}
	}
	r.conclude()
}

// finished takes note that a branch will bring nothing more.
func (r *relay) finished() {
	if r.pending--; r.pending == 0 {
		r.next()
	}
}

// conclude sends the best response (section 16.7, item 6).
func (r *relay) conclude() {
	if r.done || r.server == nil {
		return
	}
	switch {
	case r.best == 0 && r.cancelled:
		r.refuse(487, "")
	case r.best == 0:
		r.refuse(500, "No Server Found")
	case r.best == 408 && r.msg.Method != sipmsg.MethodInvite:
		r.done = true
		r.server.GiveUp() // RFC 4320 section 4.2
		r.settled()
	default:
		r.log(r.to, r.best)
		r.done = true
		r.server.Respond(r.best, r.withChallenges())
		r.settled()
	}
}

// better reports whether a status is a better answer than another one.
func better(status, than int) bool {
	return than == 0 || rank(status) < rank(than)
}

// rank orders final responses: 6xx before all, then by class, and in 4xx those first
// that help the caller to ask again in a better way.
func rank(status int) int {
	switch {
	case status >= 600:
		return 0
	case status == 408:
		return 42 // it says nothing
	case status == 401 || status == 407 || status == 415 || status == 420 || status == 484:
		return 40
	case status/100 == 4:
		return 41
	}
	return 10 * (status / 100)
}

// withChallenges returns the best response, with the challenges of all branches if it
// is one (section 16.7, item 7).
func (r *relay) withChallenges() []byte {
	if r.best != 401 && r.best != 407 || len(r.branches) < 2 {
		return r.response
	}
	p := r.proxy
	if p.msg.Index(r.response) != nil {
		return r.response
	}
	p.edits.Reset(r.response)
	own := challenges(&p.msg)
	more := bytes.Replace(r.challenges, own, nil, 1)
	for _, h := range p.msg.Headers {
		if h.Kind == sipmsg.HdrCallID {
			p.edits.Insert(h, more)
			break
		}
	}
	out, err := p.edits.Splice(nil)
	if err != nil {
		return r.response
	}
	return out
}

// challenges returns the header lines of a response that ask for credentials.
func challenges(m *sipmsg.Message) []byte {
	var lines []byte
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrWWWAuthenticate || h.Kind == sipmsg.HdrProxyAuthenticate {
			lines = append(lines, m.Bytes(h.Line)...)
		}
	}
	return lines
}

// cancel ends what is on its way.
func (r *relay) cancel(reasons []byte) {
	if r.cancelled {
		return
	}
	r.cancelled, r.groups, r.reasons = true, nil, reasons
	r.note()
	r.cancelBranches()
}

func (r *relay) cancelBranches() {
	for _, b := range r.branches {
		b.cancel()
	}
}

// tag is the To tag of what the proxy itself answers.
func (r *relay) tag() string {
	if r.server == nil {
		return ""
	}
	return r.server.Tag()
}

// log tells the dialplan of the request when it is first sent on (status 0), and of its
// final response. An ACK is neither.
func (r *relay) log(to netip.AddrPort, status int) {
	if r.server == nil || status == 0 && r.to.IsValid() {
		return
	}
	if status == 0 {
		r.to = to
	}
	r.proxy.parts.Dialplan.Log(&r.msg, r.from.Remote, to, status)
}

// source is the host that the request came from.
func (r *relay) source() netip.Addr { return r.from.Remote.Addr() }

// maxLookUps bounds the servers that are looked up for one host at the same time, so that
// one who calls names nobody answers for keeps neither the DNS from others nor any number
// of requests here: an ACK has no transaction that would be counted.
const maxLookUps = 128

// locate looks a server up and gives its addresses to found, which is called with the
// lock held, at once or later.
func (r *relay) locate(s Server, found func([]Target)) {
	p, host := r.proxy, r.source()
	if p.lookUps[host] >= maxLookUps {
		found(nil)
		return
	}
	p.lookUps[host]++
	done := func() {
		if p.lookUps[host]--; p.lookUps[host] == 0 {
			delete(p.lookUps, host)
		}
	}
	list, ok := p.parts.Locator.Locate(s, func(list []Target) {
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.survive()
		done()
		found(list)
	})
	if ok {
		done()
		found(list)
	}
}
