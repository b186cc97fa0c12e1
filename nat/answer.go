package nat

import (
	"net/netip"
	"slices"

	"sipnatd/sipmsg"
)

// maxSources bounds how many hosts one far SDP may name as sources of media.
const maxSources = 16

// inboundSDP notes what SDP from outside says of the far party's media. Where it
// names one of our own public endpoints, both parties are inside: the phone is
// told the other's inside address (hairpin).
func (e *Engine) inboundSDP(w *Worker) {
	s := &w.sdp
	w.lines = w.lines[:0]
	active, moving := false, false
	for i := range s.Media {
		l := e.inboundLine(w, i)
		w.lines = append(w.lines, l)
		if m := &s.Media[i]; m.PortNum != 0 {
			active = true
			moving = moving || m.Direction == sipmsg.SendRecv && !l.addr.IsUnspecified()
		}
	}
	w.farMedia.held = w.farMedia.held || active && !moving
	for i := range s.Candidates {
		e.inboundCandidate(w, &s.Candidates[i])
	}
	for i := range s.RTCP {
		e.inboundRTCP(w, &s.RTCP[i])
	}
	for i := range s.RemoteCandidates {
		r := &s.RemoteCandidates[i] // the far party's name for what the phone calls its own
		if a, ok := sipmsg.ParseAddr(w.msg.Bytes(r.Addr)); ok {
			e.toInside(w, r.Addr, r.Port, e.media[netip.AddrPortFrom(e.translated(w, a), uint16(r.PortNum))])
		}
	}
	e.hairpinConns(w)
}

// ownMedia returns the mapping that a public endpoint in SDP belongs to, or nil.
func (e *Engine) ownMedia(w *Worker, addr netip.Addr, port int) *mapping {
	if e.cfg.HairpinRouter {
		return nil
	}
	return e.media[netip.AddrPortFrom(e.translated(w, addr), uint16(port))]
}

func (e *Engine) inboundLine(w *Worker, i int) (l mediaLine) {
	m := &w.sdp.Media[i]
	far := farLine{rejected: m.PortNum == 0 && !m.BundleOnly, pairs: m.CountNum}
	if m.Conn >= 0 {
		addr, ok := sipmsg.ParseAddr(w.msg.Bytes(w.sdp.Conns[m.Conn].Addr))
		switch {
		case m.PortNum == 0:
		case !ok:
			w.farMedia.unknown = true // a name
		default:
			l.addr = addr
			if l.rtp = e.ownMedia(w, addr, m.PortNum); l.rtp != nil {
				w.replacePort(m.Port, l.rtp.inside.Port())
				break
			}
			w.source(addr)
			w.farMedia.nowhere = w.farMedia.nowhere || addr.IsUnspecified()
			if !addr.IsUnspecified() && m.UDP {
				far.rtp = netip.AddrPortFrom(addr, uint16(m.PortNum))
				if far.rtcp = e.insideRTCP(w, i, far.rtp); far.rtcp.IsValid() {
					w.source(far.rtcp.Addr())
				}
			}
		}
	}
	w.farMedia.lines = append(w.farMedia.lines, far)
	return l
}

// source allows a host that the far SDP names, and for one whose packets cannot
// come under that name the host that sent the SDP.
func (w *Worker) source(a netip.Addr) {
	if unroutable(a) {
		w.addSource(w.far.Addr())
	}
	if !a.IsUnspecified() && a.Is4() {
		w.addSource(a)
	}
}

func (w *Worker) addSource(a netip.Addr) {
	if s := w.farMedia.sources; len(s) < maxSources && !slices.Contains(s, a) {
		w.farMedia.sources = append(s, a)
	}
}

// hairpin gives an endpoint in SDP its inside form where it is one of ours.
func (e *Engine) hairpin(w *Worker, addr, port sipmsg.Span, portNum int) bool {
	a, ok := sipmsg.ParseAddr(w.msg.Bytes(addr))
	return ok && e.toInside(w, addr, port, e.ownMedia(w, a, portNum))
}

// toInside writes a mapping's inside endpoint, if there is a mapping.
func (e *Engine) toInside(w *Worker, addr, port sipmsg.Span, m *mapping) bool {
	if m == nil {
		return false
	}
	w.replace(addr, m.inside.Addr(), 0)
	w.replacePort(port, m.inside.Port())
	return true
}

func (e *Engine) inboundCandidate(w *Worker, c *sipmsg.Candidate) {
	e.hairpin(w, c.RAddr, c.RPort, c.RPortNum)
	if e.hairpin(w, c.Addr, c.Port, c.PortNum) {
		return
	}
	if a, ok := sipmsg.ParseAddr(w.msg.Bytes(c.Addr)); ok && c.UDP && a.Is4() && !a.IsUnspecified() {
		w.addSource(a)
	}
}

func (e *Engine) inboundRTCP(w *Worker, a *sipmsg.RTCPAttr) {
	if a.Media == sipmsg.Session || w.lines[a.Media].rtp == nil {
		return
	}
	if !a.Addr.Empty() {
		e.hairpin(w, a.Addr, a.Port, a.PortNum)
	} else if m := e.ownMedia(w, w.lines[a.Media].addr, a.PortNum); m != nil {
		w.replacePort(a.Port, m.inside.Port())
	}
}

// hairpinConns gives the m-lines whose media stays inside the c= line that they
// need. One c= at session level serves all if they agree, else each such m-line
// gets its own.
func (e *Engine) hairpinConns(w *Worker) {
	s := &w.sdp
	var first netip.Addr
	same := true
	for i := range w.lines {
		m := w.lines[i].rtp
		switch {
		case m != nil && !first.IsValid():
			first = m.inside.Addr()
		case m != nil && m.inside.Addr() != first, m == nil && s.Media[i].PortNum != 0:
			same = false
		}
	}
	if !first.IsValid() {
		return
	}
	for i := range w.lines {
		m := w.lines[i].rtp
		if m == nil {
			continue
		}
		c := &s.Conns[s.Media[i].Conn]
		switch {
		case c.Media != sipmsg.Session:
			w.replace(c.Addr, m.inside.Addr(), 0)
		case !same:
			w.insertConn(&s.Media[i], m.inside.Addr())
		}
	}
	if same {
		for i := range s.Conns {
			if c := &s.Conns[i]; c.Media == sipmsg.Session {
				w.replace(c.Addr, first, 0)
			}
		}
	}
	if a, ok := sipmsg.ParseAddr(w.msg.Bytes(s.OriginAddr)); ok && e.translated(w, a) == w.publicAddr() {
		w.replace(s.OriginAddr, first, 0)
	}
}

// insertConn adds a c= line after an m-line (RFC 8866 section 5.7).
func (w *Worker) insertConn(m *sipmsg.Media, addr netip.Addr) {
	w.text = append(w.text[:0], "c=IN IP4 "...)
	w.text = sipmsg.AppendHostPort(w.text, addr, 0)
	w.text = append(w.text, w.sdp.EOL...)
	w.edits.Replace(sipmsg.Span{Lo: m.Line.Hi, Hi: m.Line.Hi}, w.text)
}
