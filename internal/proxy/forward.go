package proxy

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"

	"sipnatd/nat"
	"sipnatd/sipmsg"
)

// crossing tells which way a message goes over the border.
type crossing uint8

const (
	within   crossing = iota // it stays on its side
	outward                  // from inside to outside
	homeward                 // from outside to inside
)

func cross(from, to Face) crossing {
	switch {
	case from.Side == to.Side:
		return within
	case to.Side == Outside:
		return outward
	}
	return homeward
}

// errNoMedia says that the request could have no media: the NAT engine opens none of
// its streams.
var errNoMedia = errors.New("no media")

// build returns the request as it is sent to the branch's hop (section 16.6). It
// returns one with errNoMedia, too, for the answer that ends it.
func (b *branch) build() ([]byte, error) {
	r := b.relay
	p, m, e := r.proxy, &r.msg, &r.proxy.edits
	way := cross(r.face, b.face)
	if way == homeward {
		if out := p.media(m, false, r.from.Remote, b.hop.Remote, r.face.Local.Addr()); out != nil {
			if err := p.msg.Index(bytes.Clone(out)); err != nil {
				return nil, err
			}
			m = &p.msg
		}
	}
	mute := way == homeward && p.mute(m)
	e.Reset(m.Raw)
	b.from, b.to = false, false
	b.recordRoute = -1
	uri := b.target.uri
	head := b.maxForwards(m, e, nil)
	head = b.recordRoutes(m, e, head, way)
	uri, head = b.routeOn(m, e, head, uri, way)
	if !bytes.Equal(uri, m.Bytes(m.RequestURI.All)) {
		e.Replace(m.RequestURI.All, uri)
	}
	b.vias(m, e, head, way)
	switch way {
	case outward:
		b.keepCredentials(m, e)
		b.mask(m, e)
	case homeward:
		b.restoreParties(m, e)
	}
	b.obscure(m, e, way)
	p.parts.Dialplan.Edit(m, e, way == outward)
	e.FixContentLength(m)
	out, err := e.Splice(make([]byte, 0, len(m.Raw)+512))
	if mute && err == nil {
		err = errNoMedia
	}
	if err != nil || way != outward {
		return out, err
	}
	if err := p.msg.Index(out); err != nil {
		return nil, err
	}
	if changed := p.media(&p.msg, true, r.from.Remote, b.hop.Remote, b.face.Local.Addr()); changed != nil {
		out = bytes.Clone(changed)
	}
	if p.mute(m) {
		return out, errNoMedia
	}
	return out, nil
}

// mute reports whether the NAT engine, which has just been given a request, lets it have
// no media.
func (p *Proxy) mute(m *sipmsg.Message) bool {
	return (m.Method == sipmsg.MethodInvite || m.Method == sipmsg.MethodUpdate) && p.parts.Media.NoMedia() != ""
}

// vias puts our own Via in front (item 8), and the other new header lines behind those
// that there are. From inside they stay here: their sender gets them back with the
// answer.
func (b *branch) vias(m *sipmsg.Message, e *sipmsg.Edits, head []byte, way crossing) {
	first, last := -1, 0
	for i, h := range m.Headers {
		if h.Kind != sipmsg.HdrVia {
			continue
		}
		if last = i; first < 0 {
			first = i
		}
		if way == outward {
			e.Remove(h)
		}
	}
	e.Insert(m.Headers[first], b.appendVia(nil))
	end := m.Headers[last].Line.Hi
	e.Replace(sipmsg.Span{Lo: end, Hi: end}, head)
}

// keepCredentials takes off what a phone has answered to our own challenges: nobody
// else is to try passwords on it.
func (b *branch) keepCredentials(m *sipmsg.Message, e *sipmsg.Edits) {
	realm := b.relay.proxy.cfg.Realm
	if realm == "" {
		return
	}
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrProxyAuthorization && answersTo(m.Bytes(h.Value), realm) {
			e.Remove(h)
		}
	}
}

// media gives a message that crosses the border to the NAT engine, in the form that it
// has outside. It returns what shall take its place, until the next call, or nil.
func (p *Proxy) media(m *sipmsg.Message, out bool, src, dst netip.AddrPort, public netip.Addr) []byte {
	switch m.CSeqMethod {
	case sipmsg.MethodInvite, sipmsg.MethodAck, sipmsg.MethodBye, sipmsg.MethodPrack, sipmsg.MethodUpdate:
	default:
		if m.Body.Empty() {
			return nil // nothing that media has to do with
		}
	}
	p.packet = nat.Packet{Outbound: out, Src: src, Dst: dst, Public: public, Payload: m.Raw, Proxied: true}
	return p.parts.Media.Handle(&p.packet)
}

// maxForwards counts Max-Forwards down, or appends one to the new header lines (item 3).
func (b *branch) maxForwards(m *sipmsg.Message, e *sipmsg.Edits, head []byte) []byte {
	h, ok := m.Find(sipmsg.HdrMaxForwards)
	if !ok {
		return append(head, "Max-Forwards: 70\r\n"...)
	}
	n, _ := strconv.Atoi(string(m.Bytes(h.Value))) // validate has seen that it is a number
	n = min(n, 256) - 1
	e.Replace(h.Value, strconv.AppendInt(b.relay.proxy.text[:0], int64(n), 10))
	return head
}

// recordRoutes has a dialog that the request may begin come back to us (item 4). Inside
// proxies are taken off for the outside.
func (b *branch) recordRoutes(m *sipmsg.Message, e *sipmsg.Edits, head []byte, way crossing) []byte {
	below, top := 0, -1
	for i, h := range m.Headers {
		if h.Kind != sipmsg.HdrRecordRoute {
			continue
		}
		if way == outward {
			e.Remove(h)
			continue
		}
		if top < 0 {
			top = i
		}
		for it := m.Addresses(h); ; below++ {
			if _, ok := it.Next(); !ok {
				break
			}
		}
	}
	switch m.Method {
	case sipmsg.MethodInvite, sipmsg.MethodSubscribe, sipmsg.MethodNotify, sipmsg.MethodRefer:
	default:
		return head
	}
	b.recordRoute = below
	token := ""
	if way == outward {
		v := veil{proxy: b.relay.proxy, m: m, phone: b.relay.from}
		token = v.routeToken()
	}
	line := append(appendRoute([]byte("Record-Route: "), b.face, b.hop.Kind, token), "\r\n"...)
	if top < 0 {
		return append(head, line...)
	}
	e.Insert(m.Headers[top], line) // above all others, wherever they stand
	return head
}

// routeOn takes our own Routes off. A strict router, one without lr, gets the
// Request-URI as the last Route and its own URI in the place of it (item 6). A dialog's
// inside proxies get their Routes back.
func (b *branch) routeOn(m *sipmsg.Message, e *sipmsg.Edits, head, uri []byte, way crossing) ([]byte, []byte) {
	r := b.relay
	path := routeValues(m)
	own, rest := path, path[:0:0]
	if r.routes < len(path) {
		own, rest = path[:r.routes], path[r.routes:]
	}
	if r.strict && len(rest) > 0 {
		rest = rest[:len(rest)-1]
	}
	strict := false
	if len(rest) > 0 {
		if _, lr := m.Param(rest[0].URI.Params, "lr"); !lr {
			strict = true
		}
	}
	if len(own) > 0 || r.strict || strict {
		for _, h := range m.Headers {
			if h.Kind == sipmsg.HdrRoute {
				e.Remove(h)
			}
		}
		for i, a := range rest {
			if i == 0 && strict {
				continue
			}
			head = append(append(append(head, "Route: "...), m.Bytes(a.All)...), "\r\n"...)
		}
		if strict {
			head = append(append(append(head, "Route: <"...), uri...), ">\r\n"...)
			uri = m.Bytes(rest[0].URI.All)
		}
	}
	if way == homeward {
		if d := r.proxy.dialogs.find(m.Bytes(m.CallID), m.Bytes(m.ToTag)); d != nil {
			head = append(head, d.routes...)
		}
	}
	return uri, head
}
