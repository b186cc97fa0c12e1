package proxy

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"sipnatd/internal/transaction"
	"sipnatd/internal/transport"
	"sipnatd/nat"
	"sipnatd/sipmsg"
)

// timerC is how long an INVITE may ring without a further provisional response
// (section 16.6, item 11).
const timerC = 185 * time.Second

// lowestPort is the lowest one that a request from outside is sent to.
const lowestPort = 1024

// branch is one place that a request is sent to, and what comes from there.
type branch struct {
	relay  *relay
	target target
	hops   []transport.Hop // that were not tried yet (RFC 3263 section 4.3)

	hop         transport.Hop
	face        Face // that the request leaves from
	client      *transaction.Client
	request     []byte
	from, to    bool   // the parties' hosts were changed in the request
	unique      uint64 // of its branch parameter
	recordRoute int    // Record-Routes below ours in the request, -1 if there is none of ours

	timer     *time.Timer // C
	cancelled bool
	final     bool
}

// begin locates the target and sends the request there.
func (b *branch) begin() {
	if len(b.target.hops) > 0 {
		b.hops = b.target.hops
		b.next(503, "")
		return
	}
	b.relay.locate(b.target.server, b.located)
}

// located takes in the addresses of the target's server.
func (b *branch) located(list []Target) {
	if b.final {
		return
	}
	for _, t := range list {
		b.hops = append(b.hops, transport.Hop{Kind: t.Kind, Remote: t.Addr})
	}
	if len(b.hops) == 0 {
		b.fail(500, "Domain Not Found")
		return
	}
	b.next(503, "")
}

// next sends the request to the next hop. If there is none, the branch has failed with
// a status.
func (b *branch) next(status int, reason string) {
	r := b.relay
	p := r.proxy
	for len(b.hops) > 0 && !b.cancelled && !r.done {
		earlier, tried, left := b.request, b.hop.Remote, b.face
		b.hop = b.hops[0]
		b.hops = b.hops[1:]
		remote := b.hop.Remote
		face, ok := p.parts.Networks.Towards(remote.Addr())
		switch {
		case !ok:
			continue
		case p.parts.Networks.Own(remote.Addr().String(), int(remote.Port())):
			b.comeHome()
			return
		case r.face.Side == Outside && face.Side == Outside:
			status, reason = 403, "" // nobody is sent from outside to outside
			continue
		case p.parts.Networks.Own(remote.Addr().String(), 0) && !b.target.local && !p.neighbours[remote]:
			// Its other services trust what the firewall itself sends.
			status, reason = 403, ""
			continue
		case r.face.Side == Outside && remote.Port() < lowestPort && b.hop.Conn == 0:
			// No phone is there, whatever a host inside says.
			status, reason = 403, ""
			continue
		}
		b.face = face
		if !b.hop.Local.IsValid() {
			b.hop.Local = face.Local
		}
		request, err := b.build()
		b.giveUp(earlier, tried, left)
		if err == errNoMedia && r.server != nil {
			b.request = request
			b.end(488, "", []byte(nat.NoMediaWarning))
			return
		}
		if err != nil {
			b.fail(500, "")
			return
		}
		b.request = request
		if slices.Contains(r.spent, b.unique) {
			b.fail(480, "") // it has answered the process before
			return
		}
		r.await()
		p.stats.Forwarded++
		if r.server == nil {
			err = p.parts.Sender.Send(b.hop, request)
		} else {
			b.client, err = p.layer.Send(b.hop, request, b)
		}
		if err == nil {
			r.log(b.hop.Remote, 0)
			if r.server == nil {
				b.finish()
			} else if r.msg.Method == sipmsg.MethodInvite {
				b.restart()
			}
			return
		}
		p.log.Debug("not sent", "to", b.hop, "error", err)
		b.client = nil
		b.unreachable()
	}
	b.fail(status, reason)
}

// giveUp closes the media of a request to a server that has not taken it, as soon as
// there is another one: the ports stay the same.
func (b *branch) giveUp(request []byte, server netip.AddrPort, face Face) {
	r := b.relay
	var m sipmsg.Message
	if request == nil || cross(r.face, face) != outward || m.Index(request) != nil {
		return
	}
	var answer sipmsg.Message
	response := sipmsg.AppendResponse(nil, &m, 503, "", sipmsg.ResponseOptions{ToTag: r.tag()})
	if answer.Index(response) == nil {
		r.proxy.media(&answer, false, server, r.from.Remote, face.Local.Addr())
	}
}

// comeHome ends a branch that leads to the firewall itself: its domain is one of ours,
// though nobody has said so.
func (b *branch) comeHome() {
	r := b.relay
	b.final = true
	if r.msg.Method == sipmsg.MethodRegister && !r.home {
		r.respond(r.proxy.parts.Registrar.Register(&r.msg, r.from))
	} else if list, _ := r.proxy.parts.Registrar.Contacts(b.target.uri); !r.home && len(list) > 0 {
		r.groups = append(r.groups, r.phones(list)...)
	} else if r.best == 0 {
		r.best = 404
		r.response = sipmsg.AppendResponse(nil, &r.msg, 404, "", sipmsg.ResponseOptions{ToTag: r.tag()})
	}
	r.home = true
	r.finished()
}

// unreachable tells the locator that a server does not answer.
func (b *branch) unreachable() {
	if len(b.target.hops) == 0 {
		b.relay.proxy.parts.Locator.Failed(Target{Kind: b.hop.Kind, Addr: b.hop.Remote})
	}
}

// restart begins Timer C.
func (b *branch) restart() {
	b.stop()
	b.timer = b.relay.proxy.after(timerC, func() {
		if b.final || b.client == nil {
			return
		}
		b.cancelled = true // no other server is tried
		if b.client.Proceeding() {
			b.client.Cancel(nil)
			return
		}
		b.client.GiveUp()
		b.fail(408, "")
	})
}

func (b *branch) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

// cancel ends the branch: at once where nothing was sent, else by a CANCEL as soon as
// there is a provisional response (section 9.1).
func (b *branch) cancel() {
	if b.final || b.cancelled {
		return
	}
	b.cancelled = true
	if b.client == nil {
		b.final = true
		b.relay.finished()
		return
	}
	b.client.Cancel(b.relay.reasons)
}

// Failed implements [transaction.ClientUser]: the next server is tried, or the branch
// ends as if it had been answered (section 16.8).
func (b *branch) Failed(_ *transaction.Client, err error) {
	if b.final {
		return
	}
	defer b.relay.proxy.survive()
	b.unreachable()
	b.client = nil
	status := 503
	if err == transaction.ErrTimeout {
		status = 408
	}
	b.next(status, "")
}

// fail ends the branch with a response that we make up. It takes the same way as one
// from the far side, so that media is closed by it, too.
func (b *branch) fail(status int, reason string) { b.end(status, reason, nil) }

// end is fail, with more header lines.
func (b *branch) end(status int, reason string, headers []byte) {
	if b.final {
		return
	}
	r := b.relay
	if r.server == nil {
		b.finish()
		return
	}
	var m, answer sipmsg.Message
	if b.request == nil || m.Index(b.request) != nil { // it was not sent, as one that has become too large
		b.give(status, reason)
		return
	}
	response := sipmsg.AppendResponse(nil, &m, status, reason, sipmsg.ResponseOptions{ToTag: r.tag(), Headers: headers})
	if answer.Index(response) != nil {
		b.give(status, reason)
		return
	}
	b.response(&answer, b.hop)
}

// give takes a response that we make up as it is.
func (b *branch) give(status int, reason string) {
	r := b.relay
	b.take(status, sipmsg.AppendResponse(nil, &r.msg, status, reason, sipmsg.ResponseOptions{ToTag: r.tag()}), nil)
}

// Response implements [transaction.ClientUser].
func (b *branch) Response(_ *transaction.Client, m *sipmsg.Message, from transport.Hop) {
	r := b.relay
	if b.timer != nil && m.Status > 100 && m.Status < 200 && !b.cancelled {
		b.restart()
	}
	if m.Status < 200 && b.cancelled {
		b.client.Cancel(r.reasons)
	}
	if m.Status == 503 && len(b.hops) > 0 && !b.final && !b.cancelled {
		b.unreachable()
		b.client = nil
		b.next(503, "")
		return
	}
	if m.Status > 100 {
		b.response(m, from)
	}
}

// response brings a response into the form that the other side may see, and takes it.
func (b *branch) response(m *sipmsg.Message, from transport.Hop) {
	status := m.Status
	if b.final && status >= 300 || b.relay.server == nil {
		return
	}
	asks := bytes.Clone(challenges(m))
	out := b.answer(m, from)
	if out != nil {
		b.take(status, out, asks)
	} else if status >= 200 && !b.final {
		b.give(502, "") // there will be no other one
	}
}

// take makes use of a response (section 16.7).
func (b *branch) take(status int, response, challenges []byte) {
	r := b.relay
	switch {
	case status < 200:
		if !r.done {
			r.server.Respond(status, response)
		}
		return
	case status < 300:
		// Every 2xx to an INVITE goes back, whoever else has answered (item 5).
		if !r.done || r.msg.Method == sipmsg.MethodInvite {
			r.server.Respond(status, response)
		}
		first := !r.done
		if first {
			r.log(b.hop.Remote, status)
		}
		r.done = true
		r.settled()
		b.finish()
		if first {
			r.groups, r.reasons = nil, elsewhere
			r.cancelBranches()
		}
		return
	}
	if status == 503 {
		// It speaks of that server, and the caller must not shun us (item 6).
		response = bytes.Replace(response, []byte("SIP/2.0 503 Service Unavailable"), []byte("SIP/2.0 500 Server Internal Error"), 1)
		status = 500
		if bytes.HasPrefix(response, []byte("SIP/2.0 503")) {
			copy(response[8:], "500")
		}
	}
	r.challenges = append(r.challenges, challenges...)
	if better(status, r.best) {
		r.best, r.response = status, response
	}
	if status >= 600 && !r.done {
		r.groups = nil
		r.cancelBranches()
	}
	b.finish()
}

// elsewhere is why a phone stops ringing when another one has answered (RFC 3326).
var elsewhere = []byte("Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n")

// finish notes that the branch has had its final response.
func (b *branch) finish() {
	if b.final {
		return
	}
	b.final = true
	b.stop()
	if r := b.relay; r.key != 0 && !slices.Contains(r.spent, b.unique) {
		r.spent = append(r.spent, b.unique)
		r.note()
	}
	b.relay.finished()
}
