package proxy

import (
	"bytes"
	"net/netip"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// mask replaces what the outside must not see of a request from inside, and remembers
// the parties for the requests that the other side will send.
func (b *branch) mask(m *sipmsg.Message, e *sipmsg.Edits) {
	r := b.relay
	v := veil{proxy: r.proxy, m: m, e: e, face: b.face, kind: b.hop.Kind, phone: r.from}
	v.all()
	b.from, b.to = v.from, v.to
	routes := routesOf(m)
	if !v.from && !v.to && len(routes) == 0 || m.Method == sipmsg.MethodRegister {
		return
	}
	d := r.proxy.dialogs.remember(r.source(), m.Bytes(m.CallID), m.Bytes(m.FromTag))
	if d == nil {
		return
	}
	if v.from && m.From.URI.HostPort.Len() <= maxDialogText {
		d.local = string(m.Bytes(m.From.URI.HostPort))
	}
	if v.to && m.To.URI.HostPort.Len() <= maxDialogText {
		d.remote = string(m.Bytes(m.To.URI.HostPort))
	}
	if len(routes) > 0 && len(routes) <= maxDialogText && b.recordRoute >= 0 {
		d.routes = routes
	}
	r.proxy.dialogs.save(r.proxy.dialogs.key(m.Bytes(m.CallID), m.Bytes(m.FromTag)), d)
}

// routesOf returns the Record-Routes of a message, one in a line, as the Routes of the
// requests that come back to the one who sent it.
func routesOf(m *sipmsg.Message) (lines []byte) {
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrRecordRoute {
			lines = append(append(append(lines, "Route: "...), m.Bytes(h.Value)...), "\r\n"...)
		}
	}
	return lines
}

// restoreParties gives a phone back how it writes the parties of its dialog.
func (b *branch) restoreParties(m *sipmsg.Message, e *sipmsg.Edits) {
	if m.ToTag.Empty() {
		return
	}
	d := b.relay.proxy.dialogs.find(m.Bytes(m.CallID), m.Bytes(m.ToTag))
	if d == nil {
		return
	}
	if d.local != "" {
		b.to = true
		e.Replace(m.To.URI.HostPort, []byte(d.local))
	}
	if d.remote != "" {
		b.from = true
		e.Replace(m.From.URI.HostPort, []byte(d.remote))
	}
}

// veil collects the edits that hide the inside in a message of a phone.
type veil struct {
	proxy *Proxy
	m     *sipmsg.Message
	e     *sipmsg.Edits
	face  Face           // that the outside sees
	kind  transport.Kind // that the outside may use to reach it
	phone transport.Hop

	from, to bool // the parties were changed
}

// all hides it in a request.
func (v *veil) all() { v.headers(true) }

// rest hides it in a response, whose parties are those of the request.
func (v *veil) rest() { v.headers(false) }

func (v *veil) headers(parties bool) {
	for _, h := range v.m.Headers {
		if !parties && (h.Kind == sipmsg.HdrFrom || h.Kind == sipmsg.HdrTo) {
			continue
		}
		switch h.Kind {
		case sipmsg.HdrContact, sipmsg.HdrReferTo:
			v.each(h, v.contact)
		case sipmsg.HdrFrom:
			v.each(h, func(a sipmsg.Address) { v.from = v.identity(a) || v.from })
		case sipmsg.HdrTo:
			v.each(h, func(a sipmsg.Address) { v.to = v.identity(a) || v.to })
		case sipmsg.HdrReplyTo, sipmsg.HdrReferredBy, sipmsg.HdrPAssertedIdentity,
			sipmsg.HdrPPreferredIdentity, sipmsg.HdrRemotePartyID, sipmsg.HdrDiversion, sipmsg.HdrHistoryInfo:
			v.each(h, func(a sipmsg.Address) { v.identity(a) })
		case sipmsg.HdrOther:
			if tells(v.m.Bytes(h.Name)) {
				v.literals(h)
			}
		case sipmsg.HdrPath:
			v.e.Remove(h) // of a proxy inside, which nobody outside could use
		case sipmsg.HdrUserAgent:
			if ua := v.proxy.cfg.UserAgent; ua != "" {
				v.e.Replace(h.Value, []byte(ua))
			}
		}
	}
}

func (v *veil) each(h sipmsg.Header, f func(sipmsg.Address)) {
	for it := v.m.Addresses(h); ; {
		a, ok := it.Next()
		if !ok {
			return
		}
		f(a)
	}
}

// hidden reports whether a URI's host is one that only the inside knows.
func (v *veil) hidden(u sipmsg.URI) (addr netip.Addr, yes bool) {
	if u.Scheme != sipmsg.SchemeSIP && u.Scheme != sipmsg.SchemeSIPS {
		return addr, false
	}
	addr, ok := sipmsg.ParseAddr(v.m.Bytes(u.Host))
	if !ok {
		return addr, false
	}
	return addr, v.inside(addr)
}

func (v *veil) inside(addr netip.Addr) bool {
	return addr == v.phone.Remote.Addr() || v.proxy.parts.Networks.Inside(addr)
}

// contact puts a URI of the firewall in the place of one that leads to a phone; the
// token in it finds the phone.
func (v *veil) contact(a sipmsg.Address) {
	u := a.URI
	addr, ok := v.hidden(u)
	if !ok {
		return
	}
	if v.proxy.parts.Networks.Own(addr.String(), u.PortNum) {
		v.identity(a)
		return
	}
	m := v.m
	plain := u.All // what the phone is reached by: without the headers of a Refer-To
	if !u.Headers.Empty() {
		plain.Hi = u.Headers.Lo
	}
	text := v.proxy.text[:0]
	if !a.Bracketed {
		text = append(text, '<') // its parameters would become the header's
	}
	text = append(text, "sip:"...)
	if !u.User.Empty() {
		text = append(append(text, m.Bytes(u.User)...), '@')
	}
	text = sipmsg.AppendHostPort(text, v.face.Named.Addr(), int(v.face.Named.Port()))
	if v.kind == transport.TCP {
		text = append(text, ";transport=tcp"...)
	}
	if token, ok := v.proxy.parts.Registrar.Line(m.Bytes(plain), v.phone); ok {
		text = append(append(text, ";"+lineParam+"="...), token...)
	}
	text = append(text, m.Bytes(u.Headers)...)
	if !a.Bracketed {
		text = append(text, '>')
	}
	v.proxy.text = text
	v.e.Replace(u.All, text)
}

// routeToken returns the token of a phone whose Contact is no address of its own, but
// one that its provider has given it, as a GRUU (RFC 5627) is. What belongs to the dialog
// then comes with our Route and with a Request-URI that does not tell whose it is.
func (v *veil) routeToken() (token string) {
	h, ok := v.m.Find(sipmsg.HdrContact)
	if !ok {
		return ""
	}
	it := v.m.Addresses(h)
	a, ok := it.Next()
	if !ok || a.Star || a.URI.Scheme != sipmsg.SchemeSIP {
		return ""
	}
	if _, hidden := v.hidden(a.URI); !hidden {
		token, _ = v.proxy.parts.Registrar.Line(v.m.Bytes(a.URI.All), v.phone)
	}
	return token
}

// identity puts the announced host in the place of an inside one, or the one that the
// configuration says, and reports whether it did.
func (v *veil) identity(a sipmsg.Address) bool {
	u := a.URI
	if u.Scheme == sipmsg.SchemeNone {
		return false
	}
	if masked, ok := v.proxy.cfg.MaskHosts[hostOf(v.m.Raw, u)]; ok {
		v.e.Replace(u.HostPort, []byte(masked))
		return true
	}
	if _, ok := v.hidden(u); !ok {
		return false
	}
	port := int(v.face.Named.Port())
	if port == 5060 {
		port = 0
	}
	v.proxy.text = sipmsg.AppendHostPort(v.proxy.text[:0], v.face.Named.Addr(), port)
	v.e.Replace(u.HostPort, v.proxy.text)
	return true
}

// tells reports whether a header that concerns no routing names hosts nevertheless.
func tells(name []byte) bool {
	for _, lower := range []string{"warning", "error-info", "alert-info", "call-info"} {
		if sipmsg.EqualFold(name, lower) {
			return true
		}
	}
	return false
}

// literals puts the announced host in the place of all inside addresses in a header,
// wherever they stand in it.
func (v *veil) literals(h sipmsg.Header) {
	text := v.m.Bytes(h.Value)
	for i := 0; i < len(text); {
		n := 0
		for i+n < len(text) && (text[i+n] == '.' || text[i+n] >= '0' && text[i+n] <= '9') {
			n++
		}
		word := bytes.TrimRight(text[i:i+n], ".") // which may end a sentence
		if addr, err := netip.ParseAddr(string(word)); err == nil && v.inside(addr) {
			lo := h.Value.Lo + int32(i)
			v.e.Replace(sipmsg.Span{Lo: lo, Hi: lo + int32(len(word))}, v.face.Named.Addr().AppendTo(nil))
		}
		i += n + 1
	}
}
