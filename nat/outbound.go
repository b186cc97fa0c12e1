package nat

import (
	"net/netip"

	"sipnatd/sipmsg"
)

// outbound handles a message from inside: what names inside endpoints gets
// their public form.
func (e *Engine) outbound(w *Worker, p *Packet) {
	m := &w.msg
	if p.Stream {
		w.binding = e.joined(w, p)
	} else {
		w.binding = e.bind(p, w.now)
	}
	t := e.transaction(w, true)
	if b := w.binding; b != nil && !b.stream && m.Request {
		e.allowPeer(b, w.far.Addr(), w.now)
	}
	c := e.call(w, t, true)

	e.outboundURI(w, m.RequestURI, false)
	for _, h := range m.Headers {
		e.outboundHeader(w, h, t, c)
	}
	if m.Request {
		e.outboundVia(w)
	}
	e.outboundMedia(w, t, c)
}

// outboundMedia does what a message from inside asks for in its SDP, or by its
// place in the call.
func (e *Engine) outboundMedia(w *Worker, t *transaction, c *call) {
	m := &w.msg
	negotiating := negotiates(m.CSeqMethod) && (m.Request || m.Status < 300)
	w.tracked, w.refusing = negotiating && c != nil, negotiating && (!w.served() || w.limited)
	for _, body := range w.bodies {
		if err := w.sdp.Index(m.Raw, body); err != nil {
			e.warnSDP(w, err)
			continue
		}
		n := w.edits.Len()
		e.outboundSDP(w)
		w.bodyEdited = w.bodyEdited || w.edits.Len() > n
	}
	if c == nil {
		return
	}
	e.welcome(c, w.now)
	d := e.dialogOf(c, w, t, true)
	if t != nil && t.call == c && t.dialog == nil && m.Request {
		t.dialog = d
	}
	if len(w.bodies) > 0 && w.tracked {
		e.inside(c, w, t, d)
	}
	e.conclude(c, w, t, d)
}

// dialogOf returns the dialog of a message. A response to an INVITE that begins
// one establishes it, and so does SDP in a dialog that began before the daemon.
func (e *Engine) dialogOf(c *call, w *Worker, t *transaction, outbound bool) *dialog {
	m := &w.msg
	local, remote := e.tags(w, outbound)
	if d := c.dialog(local, remote); d != nil {
		return d
	}
	switch {
	case !m.Request && t == nil && !outbound: // nobody has asked for it
	case !m.Request && m.Status > 100 && m.Status < 300 && negotiates(m.CSeqMethod) && (t == nil || t.call == c):
		if t != nil && t.key.method != sipmsg.MethodInvite {
			t = nil
		}
		return e.establish(c, w, t, outbound)
	case m.Request && outbound && negotiates(m.Method) && len(w.bodies) > 0:
		d := e.establish(c, w, nil, outbound)
		if d != nil && (m.Method == sipmsg.MethodInvite || m.Method == sipmsg.MethodAck) {
			e.confirm(c, d, w.now)
		}
		return d
	}
	return nil
}

func (e *Engine) outboundHeader(w *Worker, h sipmsg.Header, t *transaction, c *call) {
	switch h.Kind {
	case sipmsg.HdrContact, sipmsg.HdrRecordRoute, sipmsg.HdrPath:
		for it := w.msg.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				return
			}
			e.outboundContact(w, a.URI, c, h.Kind == sipmsg.HdrContact)
		}
	case sipmsg.HdrRoute, sipmsg.HdrServiceRoute:
		for it := w.msg.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				return
			}
			e.outboundURI(w, a.URI, true)
		}
	case sipmsg.HdrFrom, sipmsg.HdrTo: // of this very header: agreeing duplicates are accepted
		it := w.msg.Addresses(h)
		if a, ok := it.Next(); ok {
			e.outboundParty(w, a.URI, t, c, h.Kind == sipmsg.HdrFrom)
		}
	case sipmsg.HdrReplyTo, sipmsg.HdrReferTo, sipmsg.HdrReferredBy, sipmsg.HdrPAssertedIdentity,
		sipmsg.HdrPPreferredIdentity, sipmsg.HdrRemotePartyID, sipmsg.HdrDiversion, sipmsg.HdrHistoryInfo:
		for it := w.msg.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				return
			}
			e.outboundURI(w, a.URI, true)
		}
	}
}

// outboundVia makes the topmost Via name the public endpoint, so that the
// answers come back to it. In a request it is always the sender's own; the port
// is written where the sender wrote one, or where it is not the default.
func (e *Engine) outboundVia(w *Worker) {
	port := w.inside.Port()
	if w.binding != nil {
		port = w.binding.public.Port()
	}
	if w.msg.Via.Port.Empty() && port == sipPort {
		port = 0
	}
	w.replace(w.msg.Via.SentBy, e.announced(w.publicAddr()), port)
}

// publicAddr is the address of the message's public endpoint.
func (w *Worker) publicAddr() netip.Addr {
	if w.binding != nil {
		return w.binding.public.Addr()
	}
	return w.public
}

// maxContacts bounds the bindings that one message gets by its URIs. A phone names one
// port beside the one that it sends from, a PBX a few.
const maxContacts = 8

// outboundContact rewrites a URI by which the sender wants to be reached. One
// that names another port of the sender's host gets a binding of its own.
func (e *Engine) outboundContact(w *Worker, u sipmsg.URI, c *call, contact bool) {
	addr, ok := sipmsg.ParseAddr(w.msg.Bytes(u.Host))
	if !ok {
		return
	}
	ep := netip.AddrPortFrom(addr, uriPort(u))
	switch over := w.transport(u, ep); {
	case addr != w.inside.Addr():
	case over == overTCP && contact && w.ownConnection(addr):
		w.binding.callsItself(u)
	case over == overUDP:
		b := e.bindings[ep]
		if b == nil && ep.Port() >= lowestMediaPort && w.contacts < maxContacts {
			w.contacts++
			b = e.newBinding(ep, netip.AddrPort{}, w.public, w.now)
		}
		if b != nil {
			if b != w.binding {
				b.lastSent = w.now
				e.extend(b, w.now)
				e.allowPeer(b, w.far.Addr(), w.now)
			}
			if contact {
				if bare := u.Port.Empty(); bare != b.bare {
					b.bare = bare
					e.touch(b)
				}
				if c != nil {
					c.use(b)
				}
			}
		}
	}
	if private(addr) && !e.cfg.Networks.Outside(addr) && addr != w.far.Addr() {
		e.toPublic(w, u, ep)
		return
	}
	e.outboundURI(w, u, true)
}

// outboundURI rewrites a URI that names an inside address. Where only a binding
// counts (the Request-URI), hosts without one stay.
func (e *Engine) outboundURI(w *Worker, u sipmsg.URI, hosts bool) {
	if addr, ok := sipmsg.ParseAddr(w.msg.Bytes(u.Host)); ok {
		ep := netip.AddrPortFrom(addr, uriPort(u))
		if e.bindings[ep] != nil || hosts && e.insideAddr(w, addr) || e.named(w, u, ep) != nil {
			e.toPublic(w, u, ep)
		}
	}
}

// toPublic writes the public form of an inside endpoint: that of its binding, or
// the public address with the port as it is.
func (e *Engine) toPublic(w *Worker, u sipmsg.URI, ep netip.AddrPort) {
	if b := e.named(w, u, ep); b != nil {
		port := b.public.Port()
		if u.Port.Empty() && port == sipPort {
			port = 0
		}
		w.replace(u.HostPort, e.announced(b.public.Addr()), port)
		return
	}
	w.replace(u.Host, e.announced(w.publicAddr()), 0)
}

// outboundParty rewrites the URI of From or To and remembers what it replaced,
// or gives back what was replaced on the way in.
func (e *Engine) outboundParty(w *Worker, u sipmsg.URI, t *transaction, c *call, from bool) {
	if !w.msg.Request && t != nil {
		if old := t.party(from); old != "" {
			w.replaceText(u.HostPort, old)
			return
		}
	}
	addr, ok := sipmsg.ParseAddr(w.msg.Bytes(u.Host))
	if !ok || !e.insideAddr(w, addr) {
		return
	}
	if w.msg.Request {
		e.remember(w, u, t, c, from, true)
	}
	if ep := netip.AddrPortFrom(addr, uriPort(u)); u.Port.Empty() || e.bindings[ep] == nil {
		w.replace(u.Host, e.announced(w.publicAddr()), 0)
	} else {
		b := e.bindings[ep]
		w.replace(u.HostPort, e.announced(b.public.Addr()), b.public.Port())
	}
}

// remember keeps the text of a party's host and port for the responses and for
// the dialog's requests from the other side.
func (e *Engine) remember(w *Worker, u sipmsg.URI, t *transaction, c *call, from, outbound bool) {
	text := w.msg.Bytes(u.HostPort)
	if t != nil {
		if from {
			keep(&t.from, text)
		} else {
			keep(&t.to, text)
		}
	}
	if c != nil && outbound {
		if from {
			keep(&c.local, text)
		} else {
			keep(&c.remote, text)
		}
	}
}

// maxKept bounds the texts of messages that are remembered: a host name has 255
// bytes at most.
const maxKept = 300

// keep remembers a text, the first of several, and none that is absurdly long.
func keep(at *string, text []byte) {
	if *at == "" && len(text) <= maxKept {
		*at = string(text)
	}
}

func (t *transaction) party(from bool) string {
	if from {
		return t.from
	}
	return t.to
}

// insideAddr reports whether an address in a message is one of the inside.
func (e *Engine) insideAddr(w *Worker, a netip.Addr) bool {
	return a == w.inside.Addr() || a != w.far.Addr() && e.cfg.Networks.Inside(a)
}

func uriPort(u sipmsg.URI) uint16 {
	if u.PortNum > 0 && u.PortNum <= 65535 {
		return uint16(u.PortNum)
	}
	return sipPort
}

// replace puts an address, and a port other than 0, in the place of a span.
func (w *Worker) replace(s sipmsg.Span, addr netip.Addr, port uint16) {
	w.text = sipmsg.AppendHostPort(w.text[:0], addr, int(port))
	w.replaceBytes(s, w.text)
}

func (w *Worker) replaceText(s sipmsg.Span, text string) {
	w.text = append(w.text[:0], text...)
	w.replaceBytes(s, w.text)
}

// replaceBytes leaves alone what is the same already.
func (w *Worker) replaceBytes(s sipmsg.Span, with []byte) {
	if string(w.msg.Bytes(s)) != string(with) {
		w.edits.Replace(s, with)
	}
}
