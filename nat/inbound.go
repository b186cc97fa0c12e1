package nat

import (
	"net/netip"
	"strconv"
	"time"

	"sipnatd/sipmsg"
)

// inbound handles a message from outside: public forms become what the inside
// host wrote, so that it sees its network as if there were no NAT. A message to
// an endpoint without a binding belongs to a flow that is older than the daemon,
// whose translation is adopted, or it is the first one that the administrator's
// own rules let in: that one passes, and its binding is adopted with the answer.
func (e *Engine) inbound(w *Worker, p *Packet) {
	m := &w.msg
	if p.Stream {
		w.binding = e.joined(w, p)
	} else if w.binding = e.bindings[w.inside]; w.binding == nil {
		w.binding = e.adoptBinding(w.inside, w.far, w.now)
	}
	if w.binding == nil {
		return
	}
	t := e.transaction(w, false)
	c := e.call(w, t, false)

	e.inboundURI(w, m.RequestURI)
	registration := !m.Request && m.CSeqMethod == sipmsg.MethodRegister
	for _, h := range m.Headers {
		e.inboundHeader(w, h, t, c, registration)
	}
	if !m.Request {
		e.inboundVia(w, t)
	}
	if registration && m.Status >= 200 && m.Status < 300 && t != nil && t.peer == w.far.Addr() {
		e.registered(w)
	}
	e.inboundMedia(w, t, c)
}

// inboundMedia does what a message from outside asks for in its SDP, or by its
// place in the call.
func (e *Engine) inboundMedia(w *Worker, t *transaction, c *call) {
	m := &w.msg
	w.tracked = c != nil && negotiates(m.CSeqMethod) && (m.Request || m.Status < 300)
	for _, body := range w.bodies {
		if err := w.sdp.Index(m.Raw, body); err != nil {
			e.warnSDP(w, err)
			continue
		}
		n := w.edits.Len()
		e.inboundSDP(w)
		w.bodyEdited = w.bodyEdited || w.edits.Len() > n
	}
	if c == nil {
		return
	}
	d := e.dialogOf(c, w, t, false)
	if d != nil || m.Method == sipmsg.MethodInvite && m.ToTag.Empty() {
		e.invites(c, w)
	}
	if len(w.bodies) > 0 && w.tracked {
		e.outside(c, w, t, d)
	}
	e.conclude(c, w, t, d)
}

func (e *Engine) inboundHeader(w *Worker, h sipmsg.Header, t *transaction, c *call, registration bool) {
	switch h.Kind {
	case sipmsg.HdrContact, sipmsg.HdrRecordRoute, sipmsg.HdrRoute, sipmsg.HdrPath, sipmsg.HdrServiceRoute,
		sipmsg.HdrReplyTo, sipmsg.HdrReferTo, sipmsg.HdrReferredBy, sipmsg.HdrPAssertedIdentity,
		sipmsg.HdrPPreferredIdentity, sipmsg.HdrRemotePartyID, sipmsg.HdrDiversion, sipmsg.HdrHistoryInfo:
		for it := w.msg.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				return
			}
			if registration && h.Kind == sipmsg.HdrContact && !e.ownContact(w, a.URI) {
				continue // another host's, which it must not take for its own
			}
			e.inboundURI(w, a.URI)
		}
	case sipmsg.HdrFrom, sipmsg.HdrTo: // of this very header: agreeing duplicates are accepted
		it := w.msg.Addresses(h)
		if a, ok := it.Next(); ok {
			e.inboundParty(w, a.URI, t, c, h.Kind == sipmsg.HdrFrom)
		}
	}
}

// bound returns the binding that a URI names by its public form, or nil.
func (e *Engine) bound(w *Worker, u sipmsg.URI) *binding {
	addr, ok := sipmsg.ParseAddr(w.msg.Bytes(u.Host))
	if !ok {
		return nil
	}
	ep := netip.AddrPortFrom(e.translated(w, addr), uriPort(u))
	if w.transport(u, ep) == overTCP {
		if b := e.connections[ep]; b != nil {
			return b
		}
	}
	return e.publics[ep]
}

// translated returns the kernel's name for an address that messages may call
// by the announced one.
func (e *Engine) translated(w *Worker, a netip.Addr) netip.Addr {
	if e.announces(a) {
		return w.publicAddr()
	}
	return a
}

func (e *Engine) ownContact(w *Worker, u sipmsg.URI) bool {
	b := e.bound(w, u)
	return b != nil && b.inside.Addr() == w.inside.Addr()
}

// inboundURI gives a binding's inside form to a URI that names its public one,
// with the port written as the inside host writes it.
func (e *Engine) inboundURI(w *Worker, u sipmsg.URI) {
	b := e.bound(w, u)
	if b == nil {
		if b = w.formerly(u); b == nil {
			return
		}
	}
	port := b.port
	if port == sipPort && (b.bare || u.Port.Empty()) {
		port = 0
	}
	w.replace(u.HostPort, b.inside.Addr(), port)
}

// inboundParty is outboundParty's way back.
func (e *Engine) inboundParty(w *Worker, u sipmsg.URI, t *transaction, c *call, from bool) {
	if !w.msg.Request && t != nil {
		if old := t.party(from); old != "" {
			w.replaceText(u.HostPort, old)
		}
		return // what was not replaced on the way out is not ours
	}
	if w.msg.Request && c != nil && w.msg.ToTag != (sipmsg.Span{}) {
		old := c.local // From is the other side now
		if from {
			old = c.remote
		}
		if old != "" {
			e.remember(w, u, t, c, from, false)
			w.replaceText(u.HostPort, old)
			return
		}
	}
	addr, ok := sipmsg.ParseAddr(w.msg.Bytes(u.Host))
	if !ok || addr != w.publicAddr() && !e.announces(addr) && !w.left(addr) {
		return
	}
	if w.msg.Request {
		e.remember(w, u, t, c, from, false)
	}
	if !u.Port.Empty() {
		e.inboundURI(w, u)
		return
	}
	if !from {
		w.replace(u.Host, w.inside.Addr(), 0)
	} else if e.bound(w, u) != nil {
		e.inboundURI(w, u)
	}
}

// inboundVia restores the topmost Via of a response byte for byte. received and
// rport keep their presence and carry inside values (RFC 3581 section 4).
func (e *Engine) inboundVia(w *Worker, t *transaction) {
	v := w.msg.Via
	switch {
	case t != nil && t.sentBy != "":
		w.replaceText(v.SentBy, t.sentBy)
	default:
		addr, ok := sipmsg.ParseAddr(w.msg.Bytes(v.Host))
		if !ok || e.translated(w, addr) != w.publicAddr() {
			return
		}
		port := w.inside.Port()
		if v.Port.Empty() && port == sipPort {
			port = 0
		}
		w.replace(v.SentBy, w.inside.Addr(), port)
	}
	if !v.Received.Empty() {
		w.replace(v.Received, w.inside.Addr(), 0)
	}
	if !v.RPort.Empty() {
		w.text = strconv.AppendUint(w.text[:0], uint64(w.inside.Port()), 10)
		w.replaceBytes(v.RPort, w.text)
	}
}

// registered takes in a registrar's 2xx: it lists every contact of the record,
// and the sender's own say how long its binding must last (RFC 3261
// section 10.2.1.1).
func (e *Engine) registered(w *Worker) {
	m := &w.msg
	record := e.hash(m.Bytes(m.To.URI.All))
	found := false
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			b := e.bound(w, a.URI)
			if b == nil || b.inside.Addr() != w.inside.Addr() {
				continue
			}
			seconds := granted(m, a)
			if seconds == 0 {
				continue
			}
			until := w.now.Add(time.Duration(seconds) * time.Second)
			e.register(b, w.far.Addr(), record, until, w.now)
			if b != w.binding {
				e.register(w.binding, w.far.Addr(), record, until, w.now)
			}
			found = true
		}
	}
	if !found {
		e.unregister(w.binding, w.far.Addr(), record, w.now)
	}
	if most := int(e.cfg.RegisterExpiresMax / time.Second); most > 0 {
		w.edits.LimitExpires(m, most, func(a sipmsg.Address) bool { return e.ownContact(w, a.URI) })
	}
}

// granted returns how many seconds a registrar binds a contact for.
func granted(m *sipmsg.Message, a sipmsg.Address) int {
	if v, ok := m.Param(a.Params, "expires"); ok {
		n := 0
		for _, c := range m.Bytes(v) {
			if c < '0' || c > '9' || n > 1<<24 {
				return defaultExpires
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	if m.Expires >= 0 {
		return min(m.Expires, 1<<24)
	}
	return defaultExpires
}
