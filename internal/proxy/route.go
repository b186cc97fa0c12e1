package proxy

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// lineParam names the URI parameter that holds a phone's token in the Contacts that
// the outside sees.
const lineParam = "line"

// preprocess makes the Request-URI whole again where a strict router has put our
// Record-Route there, and passes the Routes that lead to ourselves (section 16.4).
func (r *relay) preprocess() bool {
	m := &r.msg
	r.uri = m.Bytes(m.RequestURI.All)
	path := routeValues(m)
	u := m.RequestURI
	if _, lr := m.Param(u.Params, "lr"); lr && u.User.Empty() && len(path) > 0 && r.own(m.Raw, u) {
		last := path[len(path)-1]
		r.uri, r.strict = m.Bytes(last.URI.All), true
		path = path[:len(path)-1]
	}
	for len(path) > r.routes && path[r.routes].URI.Scheme == sipmsg.SchemeSIP && r.own(m.Raw, path[r.routes].URI) {
		if token, ok := m.Param(path[r.routes].URI.Params, lineParam); ok {
			r.line = m.Bytes(token)
		}
		r.routes++
	}
	if r.strict && sipmsg.ParseURI(r.uri).Scheme != sipmsg.SchemeSIP {
		r.refuse(416, "")
		return false
	}
	return true
}

// routeValues returns the values of all Route headers.
func routeValues(m *sipmsg.Message) (list []sipmsg.Address) {
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrRoute {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			list = append(list, a)
		}
	}
	return list
}

// own reports whether a URI in b names the firewall itself or one of its domains, and
// no other place by maddr (section 16.5).
func (r *relay) own(b []byte, u sipmsg.URI) bool {
	return r.proxy.parts.Networks.Own(serverOf(b, u).Host, u.PortNum)
}

// hostOf returns a URI's host in lower case.
func hostOf(b []byte, u sipmsg.URI) string { return strings.ToLower(string(b[u.Host.Lo:u.Host.Hi])) }

// remaining returns the first Route that is left after preprocessing, and whether
// there is one.
func (r *relay) remaining() (a sipmsg.Address, ok bool) {
	path := routeValues(&r.msg)
	if r.strict {
		path = path[:len(path)-1]
	}
	if len(path) <= r.routes {
		return a, false
	}
	return path[r.routes], true
}

// route finds the targets of the request (section 16.5).
func (r *relay) route() {
	p, m := r.proxy, &r.msg
	inside := r.face.Side == Inside
	if m.Method == sipmsg.MethodRegister {
		r.register()
		return
	}
	if inside && m.ToTag.Empty() && m.Method != sipmsg.MethodAck {
		if uri := p.parts.Dialplan.Target(m); uri != nil {
			r.uri = uri
		}
	}
	u := sipmsg.ParseURI(r.uri)
	if u.Scheme != sipmsg.SchemeSIP {
		r.refuse(416, "")
		return
	}
	if hop, ok := r.remaining(); ok {
		// Only phones choose their way: nobody is sent from outside to outside.
		if !inside {
			r.refuse(403, "")
			return
		}
		r.send([]target{{uri: r.uri, server: serverOf(m.Raw, hop.URI)}})
		return
	}
	if !r.own(r.uri, u) {
		r.routeForeign(u)
		return
	}
	r.routeOwn(u)
}

// routeForeign sends a request on to another domain. From outside that is possible
// only in a dialog whose phone our Route tells, and where the domain's provider calls a
// phone by its address-of-record.
func (r *relay) routeForeign(u sipmsg.URI) {
	if c, ok := r.proxy.parts.Registrar.Phone(r.line); ok && r.face.Side == Outside {
		groups := r.phones([]Contact{c})
		groups[0][0].uri = r.uri
		r.send(groups...)
		return
	}
	if r.face.Side == Outside {
		_, maddr := sipmsg.Param(r.uri, u.Params, "maddr")
		if list := r.proxy.parts.Registrar.Lines(part(r.uri, u.User), r.source()); len(list) > 0 && !maddr {
			r.send(r.phones(list)...)
		} else {
			r.refuse(403, "")
		}
		return
	}
	t := target{uri: r.uri, server: serverOf(r.uri, u)}
	if addr, err := netip.ParseAddr(t.server.Host); err != nil || !r.proxy.parts.Networks.Inside(addr) {
		if s := r.outboundProxy(); s.Host != "" {
			t.server, t.local = s, true
		}
	}
	r.send([]target{t})
}

// outboundProxy returns the proxy of the caller's domain, or the one of all.
func (r *relay) outboundProxy() Server {
	cfg := &r.proxy.cfg
	if s, ok := cfg.OutboundDomains[hostOf(r.msg.Raw, r.msg.From.URI)]; ok {
		return s
	}
	return cfg.OutboundProxy
}

// routeOwn finds who is meant by a URI of the firewall: a phone by its token, a user of
// our domain, or the firewall itself.
func (r *relay) routeOwn(u sipmsg.URI) {
	p, m := r.proxy, &r.msg
	if token, ok := sipmsg.Param(r.uri, u.Params, lineParam); ok {
		if c, ok := p.parts.Registrar.Phone(part(r.uri, token)); ok {
			groups := r.phones([]Contact{c})
			if via := r.insideProxy(); via.Host != "" {
				groups[0][0].hops, groups[0][0].server = nil, via
			}
			r.send(groups...)
			return
		}
		if !m.ToTag.Empty() {
			r.refuse(481, "")
			return
		}
	}
	if u.User.Empty() {
		switch {
		case m.Method == sipmsg.MethodOptions:
			r.options()
		case !m.ToTag.Empty():
			r.refuse(481, "")
		default:
			r.respond(Answer{Status: 405, Headers: []byte(allowed)})
		}
		return
	}
	list, known := p.parts.Registrar.Contacts(r.uri)
	if len(list) == 0 && r.face.Side == Outside {
		list = p.parts.Registrar.Lines(part(r.uri, u.User), r.source())
	}
	if len(list) == 0 && !known && r.face.Side == Outside {
		if uri := p.parts.Dialplan.Default(m); uri != nil {
			list = []Contact{{URI: uri}}
			if d := sipmsg.ParseURI(uri); d.Scheme == sipmsg.SchemeSIP && r.own(uri, d) {
				list, known = p.parts.Registrar.Contacts(uri)
			} else if lines := p.parts.Registrar.Lines(part(uri, d.User), r.source()); len(lines) > 0 {
				list = lines // an account that a phone has registered with its provider
			}
		}
	}
	switch {
	case len(list) > 0:
		r.send(r.phones(list)...)
	case known:
		r.refuse(480, "")
	case r.face.Side == Inside && r.outboundProxy().Host != "":
		r.send([]target{{uri: r.uri, server: r.outboundProxy(), local: true}})
	default:
		r.refuse(404, "")
	}
}

// insideProxy returns the proxy inside that stays in the dialog of a request from
// outside, if there is one.
func (r *relay) insideProxy() (s Server) {
	d := r.proxy.dialogs.find(r.msg.Bytes(r.msg.CallID), r.msg.Bytes(r.msg.ToTag))
	if d == nil || len(d.routes) == 0 || r.face.Side == Inside {
		return s
	}
	h := sipmsg.Header{Kind: sipmsg.HdrRoute, Value: sipmsg.Span{Lo: int32(len("Route: ")), Hi: int32(len(d.routes))}}
	m := sipmsg.Message{Raw: d.routes}
	it := m.Addresses(h)
	if a, ok := it.Next(); ok {
		s = serverOf(d.routes, a.URI)
	}
	return s
}

// phones returns the targets that contacts stand for, those of the same preference in
// one group, best first.
func (r *relay) phones(list []Contact) (groups [][]target) {
	q := -1
	for _, c := range byPreference(list) {
		t := target{uri: bytes.Clone(c.URI)}
		u := sipmsg.ParseURI(c.URI)
		t.server = serverOf(c.URI, u)
		if addr, ok := sipmsg.ParseAddr(part(c.URI, u.Host)); ok && r.proxy.parts.Networks.Inside(addr) {
			t.local = !c.Hop.Remote.IsValid() || c.Hop.Remote.Addr() == addr
			there := transport.Hop{Kind: kindOf(t.server.Transport), Remote: netip.AddrPortFrom(addr, port(u))}
			// Over UDP a phone listens where its Contact says. A connection that it has
			// made may be the only one that there can be.
			if c.Hop.Kind == transport.TCP && c.Hop.Remote.IsValid() && t.server.Transport != "udp" {
				t.hops = append(t.hops, c.Hop)
			}
			t.hops = append(t.hops, there)
		} else if c.Hop.Remote.IsValid() {
			t.hops, t.local = append(t.hops, c.Hop), true
		}
		if c.Q != q || len(groups) == 0 {
			groups = append(groups, nil)
			q = c.Q
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], t)
	}
	return groups
}

// byPreference returns contacts in the order of q, highest first.
func byPreference(list []Contact) []Contact {
	return slices.SortedStableFunc(slices.Values(list), func(a, b Contact) int { return cmp.Compare(b.Q, a.Q) })
}

// register carries out a REGISTER for our domain, or sends it on to its registrar.
func (r *relay) register() {
	p, m := r.proxy, &r.msg
	if !p.parts.Access.Register(r.source()) {
		r.refuse(403, "")
		return
	}
	u := sipmsg.ParseURI(r.uri)
	hop, onward := r.remaining()
	if !onward && r.own(r.uri, u) {
		r.respond(p.parts.Registrar.Register(m, r.from))
		return
	}
	s := serverOf(r.uri, u)
	if onward {
		s = serverOf(m.Raw, hop.URI)
	} else if all := r.outboundProxy(); all.Host != "" {
		s = all
	} else if isName(s.Host) {
		r.registrar(s)
		return
	}
	r.registerAt(s)
}

// registerAt sends a REGISTER on to its registrar, or the next proxy on the way there.
func (r *relay) registerAt(s Server) {
	if a := r.proxy.parts.Registrar.Authenticate(&r.msg, r.from); a.Status != 0 {
		r.respond(a)
		return
	}
	r.send([]target{{uri: r.uri, server: s, local: s == r.outboundProxy()}})
}

// serverOf returns the server that a URI in b names.
func serverOf(b []byte, u sipmsg.URI) Server {
	s := Server{Host: hostOf(b, u), Port: u.PortNum, Sips: u.Scheme == sipmsg.SchemeSIPS}
	if v, ok := sipmsg.Param(b, u.Params, "transport"); ok {
		s.Transport = strings.ToLower(string(part(b, v)))
	}
	if v, ok := sipmsg.Param(b, u.Params, "maddr"); ok && !v.Empty() {
		s.Host = strings.ToLower(string(part(b, v)))
	}
	return s
}

func kindOf(name string) transport.Kind {
	if name == "tcp" {
		return transport.TCP
	}
	return transport.UDP
}

// port is the port that a URI names, or the usual one.
func port(u sipmsg.URI) uint16 {
	if u.PortNum == 0 {
		return 5060
	}
	return uint16(u.PortNum)
}

func part(b []byte, s sipmsg.Span) []byte { return b[s.Lo:s.Hi] }
