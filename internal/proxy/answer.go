package proxy

import (
	"bytes"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// answer returns a response in the form in which the request's sender gets it: with the
// Vias and parties of the request, byte for byte, and with our Record-Route in the form
// of that side. It is nil where the response can not be used.
func (b *branch) answer(m *sipmsg.Message, from transport.Hop) []byte {
	r := b.relay
	p := r.proxy
	way := cross(b.face, r.face)
	if way == homeward {
		if out := p.media(m, false, from.Remote, r.from.Remote, b.face.Local.Addr()); out != nil {
			if p.msg.Index(bytes.Clone(out)) != nil {
				return nil
			}
			m = &p.msg
		}
	}
	e := &p.edits
	e.Reset(m.Raw)
	b.returnVias(m, e)
	b.returnParties(m, e)
	kept := b.returnRoutes(m, e, way)
	registered := m.CSeqMethod == sipmsg.MethodRegister && m.Status/100 == 2
	switch way {
	case homeward:
		if registered {
			p.parts.Registrar.Registered(&r.msg, m, r.from, from.Remote.Addr())
			b.returnContacts(m, e)
		}
	case outward:
		v := veil{proxy: p, m: m, e: e, face: r.face, kind: r.from.Kind, phone: b.hop}
		v.rest()
		if len(kept) > 0 && len(kept) <= maxDialogText {
			if d := p.dialogs.remember(b.hop.Remote.Addr(), r.msg.Bytes(r.msg.CallID), m.Bytes(m.ToTag)); d != nil {
				d.routes = kept
				p.dialogs.save(p.dialogs.key(r.msg.Bytes(r.msg.CallID), m.Bytes(m.ToTag)), d)
			}
		}
	}
	if m.CSeqMethod == sipmsg.MethodBye && m.Status >= 200 && m.Status != 401 && m.Status != 407 {
		p.dialogs.forget(r.msg.Bytes(r.msg.CallID), r.msg.Bytes(r.msg.FromTag))
		p.dialogs.forget(r.msg.Bytes(r.msg.CallID), r.msg.Bytes(r.msg.ToTag))
	}
	p.parts.Dialplan.Edit(m, e, way == outward)
	e.FixContentLength(m)
	out, err := e.Splice(make([]byte, 0, len(m.Raw)+256))
	if err != nil {
		p.log.Warn("a response is dropped: its parts overlap", "from", from, "error", err)
		return nil
	}
	if way == outward {
		if p.msg.Index(out) != nil {
			return nil
		}
		if changed := p.media(&p.msg, true, b.hop.Remote, r.from.Remote, r.face.Local.Addr()); changed != nil {
			out = bytes.Clone(changed)
		}
	}
	return out
}

// returnVias puts the request's Vias in the place of those that came back.
func (b *branch) returnVias(m *sipmsg.Message, e *sipmsg.Edits) {
	request := &b.relay.msg
	text := b.relay.proxy.text[:0]
	for _, h := range request.Headers {
		if h.Kind == sipmsg.HdrVia {
			text = append(append(text, request.Raw[h.Line.Lo:h.Value.Hi]...), "\r\n"...)
		}
	}
	b.relay.proxy.text = text
	first := true
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrVia {
			continue
		}
		if first {
			e.Insert(h, text)
			first = false
		}
		e.Remove(h)
	}
}

// returnParties gives From, To and Call-ID back as the request has them, where we have
// changed them.
func (b *branch) returnParties(m *sipmsg.Message, e *sipmsg.Edits) {
	request := &b.relay.msg
	for _, h := range m.Headers {
		switch {
		case h.Kind == sipmsg.HdrFrom && b.from:
			f, _ := request.Find(sipmsg.HdrFrom)
			e.Replace(h.Value, request.Bytes(f.Value))
		case h.Kind == sipmsg.HdrTo && b.to:
			it := m.Addresses(h)
			if a, ok := it.Next(); ok {
				e.Replace(a.URI.All, request.Bytes(request.To.URI.All))
			}
		case h.Kind == sipmsg.HdrCallID && !bytes.Equal(m.Bytes(m.CallID), request.Bytes(request.CallID)):
			e.Replace(h.Value, request.Bytes(request.CallID))
		}
	}
}

// returnRoutes gives our Record-Route the form that it has on the side of the request's
// sender. Ours is the one that has as many below it as had the request. Above it are
// proxies nearer to the responder, which must not be seen if they are inside: they are
// returned as Routes. Below it come those that were taken off the request.
func (b *branch) returnRoutes(m *sipmsg.Message, e *sipmsg.Edits, way crossing) (kept []byte) {
	r := b.relay
	var all []sipmsg.Address
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrRecordRoute {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			all = append(all, a)
		}
	}
	ours := len(all) - 1 - b.recordRoute
	if b.recordRoute < 0 || ours < 0 || !r.own(m.Raw, all[ours].URI) {
		ours = -1 // a response that establishes no dialog has none
	}
	var lines []byte
	line := func(value []byte) {
		lines = append(append(append(lines, "Record-Route: "...), value...), "\r\n"...)
	}
	if ours < 0 {
		if way == outward && len(all) > 0 {
			b.dropRoutes(m, e) // whoever they are, they lead inside
		}
		return nil
	}
	for _, a := range all[:ours] {
		if way == outward {
			// The phone's side of the route set is the reverse of what the outside sees.
			kept = append(append(append([]byte("Route: "), m.Bytes(a.All)...), "\r\n"...), kept...)
		} else {
			line(m.Bytes(a.All))
		}
	}
	token := ""
	if way == outward {
		v := veil{proxy: r.proxy, m: m, phone: b.hop}
		token = v.routeToken()
	}
	line(appendRoute(nil, r.face, r.from.Kind, token))
	if way == homeward {
		for _, h := range r.msg.Headers {
			if h.Kind == sipmsg.HdrRecordRoute {
				line(r.msg.Bytes(h.Value))
			}
		}
	}
	for _, a := range all[ours+1:] {
		line(m.Bytes(a.All))
	}
	h, _ := m.Find(sipmsg.HdrRecordRoute)
	e.Insert(h, lines)
	b.dropRoutes(m, e)
	return kept
}

// dropRoutes takes all Record-Routes off.
func (b *branch) dropRoutes(m *sipmsg.Message, e *sipmsg.Edits) {
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrRecordRoute {
			e.Remove(h)
		}
	}
}

// returnContacts gives a phone its own contacts back in the answer of a registrar
// (section 10.3, step 8). Those of others stay: it must not take them for its own.
func (b *branch) returnContacts(m *sipmsg.Message, e *sipmsg.Edits) {
	r := b.relay
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			uri, ok := b.phoneContact(m, a)
			if !ok {
				continue
			}
			if !a.Bracketed {
				uri = append(append([]byte{'<'}, uri...), '>')
			}
			e.Replace(a.URI.All, uri)
		}
	}
	if most := int(r.proxy.cfg.RegisterExpiresMax / time.Second); most > 0 {
		e.LimitExpires(m, most, func(a sipmsg.Address) bool { _, ok := b.phoneContact(m, a); return ok })
	}
}

// phoneContact returns the request sender's own URI that a contact stands for.
func (b *branch) phoneContact(m *sipmsg.Message, a sipmsg.Address) (uri []byte, ok bool) {
	r := b.relay
	token, ok := m.Param(a.URI.Params, lineParam)
	if !ok || !r.own(m.Raw, a.URI) {
		return nil, false
	}
	c, ok := r.proxy.parts.Registrar.Phone(m.Bytes(token))
	if !ok || c.Hop.Remote.Addr() != r.source() {
		return nil, false
	}
	return c.URI, true
}
