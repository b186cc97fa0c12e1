package nat

import (
	"net/netip"
	"slices"
	"strconv"

	"sipnatd/sipmsg"
)

// mediaLine is what has become of one m-line of the message at hand.
type mediaLine struct {
	addr      netip.Addr // in effect by c=; invalid where it is a name or missing
	inside    bool       // addr is an inside address
	rtp, rtcp *mapping
	refused   bool
}

// outboundSDP gives SDP from inside its public form: every inside address, and
// for each UDP stream the ports of its mappings, which are opened where the
// message is part of an offer or an answer (RFC 3264).
func (e *Engine) outboundSDP(w *Worker) {
	s := &w.sdp
	w.lines = w.lines[:0]
	active, moving := false, false
	for i := range s.Media {
		w.lines = append(w.lines, e.outboundLine(w, i))
		if m := &s.Media[i]; m.PortNum != 0 {
			active = true
			moving = moving || m.Direction == sipmsg.SendRecv && !w.lines[i].addr.IsUnspecified()
			w.carries = w.carries || !w.lines[i].refused
		}
	}
	w.held = w.held || active && !moving
	for i := range s.Conns {
		e.outboundAddr(w, s.Conns[i].Addr)
	}
	e.outboundAddr(w, s.OriginAddr)
	for i := range s.RTCP {
		e.outboundRTCP(w, &s.RTCP[i])
	}
	for i := range s.Candidates {
		e.outboundCandidate(w, &s.Candidates[i])
	}
	for i := range s.RemoteCandidates {
		r := &s.RemoteCandidates[i]
		if addr, ok := sipmsg.ParseAddr(w.msg.Bytes(r.Addr)); ok {
			if m := e.mappings[netip.AddrPortFrom(addr, uint16(r.PortNum))]; m != nil {
				w.replace(r.Addr, e.announced(m.public.Addr()), 0)
				w.replacePort(r.Port, m.public.Port())
			} else {
				e.outboundAddr(w, r.Addr)
			}
		}
	}
	for i := range s.Paths {
		e.outboundAddr(w, s.Paths[i].Host) // MSRP (RFC 4975) is TCP: the address only
	}
}

// mediaAddr reports whether an address in SDP is one that must not leave.
func (e *Engine) mediaAddr(w *Worker, a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	return e.insideAddr(w, a) || private(a) && a != w.far.Addr() && !e.cfg.Networks.Outside(a)
}

func (e *Engine) outboundAddr(w *Worker, s sipmsg.Span) {
	if a, ok := sipmsg.ParseAddr(w.msg.Bytes(s)); ok && e.mediaAddr(w, a) {
		w.replace(s, e.announced(w.publicAddr()), 0)
	}
}

// outboundLine handles an m-line: it opens its mappings and writes their ports,
// or refuses it.
func (e *Engine) outboundLine(w *Worker, i int) (l mediaLine) {
	m := &w.sdp.Media[i]
	if m.Conn < 0 {
		return l
	}
	addr, ok := sipmsg.ParseAddr(w.msg.Bytes(w.sdp.Conns[m.Conn].Addr))
	if !ok || !addr.Is4() {
		return l
	}
	l.addr = addr
	if addr.IsUnspecified() { // hold in the style of RFC 2543: the stream stays
		addr = w.inside.Addr()
	} else if !e.mediaAddr(w, addr) {
		return l
	}
	l.inside = true
	if m.PortNum == 0 || !m.UDP {
		return l
	}
	rtp := netip.AddrPortFrom(addr, uint16(m.PortNum))
	rtcp := e.insideRTCP(w, i, rtp)
	if !w.tracked && !w.refusing {
		l.rtp, l.rtcp = e.mappings[rtp], e.mappings[rtcp]
	} else if reason := e.openLine(w, &l, m, rtp, rtcp); reason != "" {
		l.refused = true
		w.refusal = reason
		e.stats.StreamsRefused++
		e.log.warn("refused "+reason, w.inside.Addr(), "a media stream is refused, its m-line gets port 0: "+reason,
			"call", e.log.text(w.msg.Bytes(w.msg.CallID)), "media", e.log.text(w.msg.Bytes(m.Kind)), "endpoint", rtp)
		w.replacePort(m.Port, 0)
		return l
	}
	if l.rtp == nil {
		return l
	}
	w.replacePort(m.Port, l.rtp.public.Port())
	if w.tracked { // then openLine has bounded the number of ports
		for k := range m.CountNum {
			w.hold(e.mappings[addPort(rtp, 2*k)], hold{line: i, pair: k})
			w.hold(e.mappings[addPort(rtcp, 2*k)], hold{line: i, pair: k, rtcp: true})
		}
	}
	if l.rtcp != nil && l.rtcp != l.rtp && l.rtcp.public != addPort(l.rtp.public, 1) && !e.namesRTCP(w, i) {
		w.insertRTCP(m, l.rtcp.public.Port())
	}
	return l
}

// insideRTCP returns where the sender of an m-line receives RTCP: on the port
// that a=rtcp names (RFC 3605), else on the one after RTP (RFC 3550 section
// 11). It is invalid for media without RTCP.
func (e *Engine) insideRTCP(w *Worker, line int, rtp netip.AddrPort) netip.AddrPort {
	for i := range w.sdp.RTCP {
		a := &w.sdp.RTCP[i]
		if a.Media != line || a.PortNum == 0 {
			continue
		}
		if a.PortNum < lowestMediaPort {
			return netip.AddrPort{} // port 9 stands for "none yet" (RFC 8839 section 4.1.1.2)
		}
		addr := rtp.Addr()
		if named, ok := sipmsg.ParseAddr(w.msg.Bytes(a.Addr)); ok && !named.IsUnspecified() {
			addr = named
		}
		return netip.AddrPortFrom(addr, uint16(a.PortNum))
	}
	if !w.sdp.Media[line].RTP {
		return netip.AddrPort{}
	}
	return addPort(rtp, 1)
}

func (e *Engine) namesRTCP(w *Worker, line int) bool {
	for i := range w.sdp.RTCP {
		if w.sdp.RTCP[i].Media == line {
			return true
		}
	}
	return false
}

// addPort returns the endpoint n ports further on, or an invalid one.
func addPort(ep netip.AddrPort, n int) netip.AddrPort {
	if !ep.IsValid() || int(ep.Port())+n > 65535 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ep.Addr(), ep.Port()+uint16(n))
}

// openLine finds or opens the mappings of an m-line, or says why not. No stream
// is opened but to the host that sent the message or to one that the
// configuration names, and none to a port where something else may listen.
func (e *Engine) openLine(w *Worker, l *mediaLine, m *sipmsg.Media, rtp, rtcp netip.AddrPort) (reason string) {
	if w.refusing {
		return reasonLimit
	}
	if !e.mediaHost(w, rtp.Addr()) {
		return "it goes to another host than the sender (media_hosts can admit it)"
	}
	n := m.CountNum
	if len(w.holds)+2*n > e.cfg.Limits.MappingsPerCall ||
		e.held(rtp.Addr()).mappings+2*n > e.cfg.Limits.MappingsPerHost {
		e.stats.LimitRefusals++
		return reasonStreams
	}
	for k := range n {
		if !e.mayOpen(w, addPort(rtp, 2*k)) {
			return "its port is below 1024 or a SIP port"
		}
	}
	if !e.mayOpen(w, rtcp) || !e.mediaHost(w, rtcp.Addr()) {
		rtcp = netip.AddrPort{}
	}
	if l.rtp = e.mappings[rtp]; l.rtp == nil {
		if w.unopened {
			return reasonKernel
		}
		if !e.openPorts(w, rtp, rtcp, n, m.RTP) {
			e.stats.PortsExhausted++
			return reasonPorts
		}
		l.rtp = e.mappings[rtp]
	} else {
		for k := 1; k < n; k++ {
			if next := e.mappings[addPort(rtp, 2*k)]; next == nil || next.public != addPort(l.rtp.public, 2*k) {
				return "its ports were not contiguous before"
			}
		}
	}
	if rtcp.IsValid() {
		if l.rtcp = e.mappings[rtcp]; l.rtcp == nil && !w.unopened {
			l.rtcp = e.openPort(w, rtcp, addPort(l.rtp.public, 1))
		}
	}
	return ""
}

// mediaHost reports whether the message's SDP may name an inside host: its sender, or
// one that the configuration admits. A network that it admits for a PBX's gateways is
// often the whole inside one, which the firewall's own services are in as well.
func (e *Engine) mediaHost(w *Worker, a netip.Addr) bool {
	sender := w.inside.Addr()
	return e.cfg.mediaHost(sender, a) && (a == sender || !e.cfg.Networks.Own(a) || e.cfg.Networks.Own(sender))
}

// mayOpen reports whether an inside endpoint may get media from outside.
func (e *Engine) mayOpen(w *Worker, inside netip.AddrPort) bool {
	return e.cfg.mediaPort(inside.Port()) && e.bindings[inside] == nil && (inside != w.inside || !w.proxied)
}

// openPorts maps n RTP ports, and the RTCP port of each, to as many pairs of
// public ports in a row.
func (e *Engine) openPorts(w *Worker, rtp, rtcp netip.AddrPort, n int, pairs bool) bool {
	public := w.publicAddr()
	ports := 2*n - 1
	if pairs || rtcp.IsValid() {
		ports = 2 * n
	}
	low := e.findPorts(w, public, ports)
	if low == 0 {
		return false
	}
	base := netip.AddrPortFrom(public, low)
	for k := range n {
		for j, inside := range [2]netip.AddrPort{addPort(rtp, 2*k), addPort(rtcp, 2*k)} {
			if e.mayOpen(w, inside) && e.mappings[inside] == nil {
				e.touchMapping(e.addMapping(inside, addPort(base, 2*k+j)))
			}
		}
	}
	return true
}

// findPorts returns the first of n free public ports in a row, or 0. What was sought
// in vain for one m-line is not sought again for the next: it asks the kernel about
// every port there is, and a message has room for hundreds of m-lines.
func (e *Engine) findPorts(w *Worker, public netip.Addr, n int) uint16 {
	if w.scarce > 0 && n >= w.scarce {
		return 0
	}
	low := e.pool(public).find(n, func(port uint16) bool { return e.usable(netip.AddrPortFrom(public, port)) })
	if low == 0 {
		w.scarce = n
	}
	return low
}

// openPort maps one endpoint, to the wanted public one where that is free.
func (e *Engine) openPort(w *Worker, inside, wanted netip.AddrPort) *mapping {
	public := w.publicAddr()
	if !wanted.IsValid() || !e.usable(wanted) {
		port := e.findPorts(w, public, 1)
		if port == 0 {
			return nil
		}
		wanted = netip.AddrPortFrom(public, port)
	}
	m := e.addMapping(inside, wanted)
	e.touchMapping(m)
	return m
}

// hold notes that the message's SDP names a mapping, and in which place.
func (w *Worker) hold(m *mapping, place hold) {
	if m == nil {
		return
	}
	for _, h := range w.holds {
		if h.mapping == m && h.line == place.line {
			return
		}
	}
	place.mapping = m
	w.holds = append(w.holds, place)
}

// outboundRTCP rewrites a=rtcp (RFC 3605).
func (e *Engine) outboundRTCP(w *Worker, a *sipmsg.RTCPAttr) {
	e.outboundAddr(w, a.Addr)
	if a.Media == sipmsg.Session {
		return
	}
	if l := &w.lines[a.Media]; l.rtcp != nil && !l.refused && a.PortNum >= lowestMediaPort {
		w.replacePort(a.Port, l.rtcp.public.Port())
	}
}

// outboundCandidate rewrites an ICE candidate (RFC 8839 section 5.1). One that
// names a host which cannot be reached from outside is taken out, as is one for
// TCP, which is never opened.
func (e *Engine) outboundCandidate(w *Worker, c *sipmsg.Candidate) {
	addr, ok := sipmsg.ParseAddr(w.msg.Bytes(c.Addr))
	if ok && e.mediaAddr(w, addr) {
		m := e.candidateMapping(w, c, netip.AddrPortFrom(addr, uint16(c.PortNum)))
		if m == nil {
			w.edits.Replace(c.Line, nil)
			return
		}
		w.replace(c.Addr, e.announced(m.public.Addr()), 0)
		w.replacePort(c.Port, m.public.Port())
	} else if ok && addr.Is4() && sipmsg.EqualFold(w.msg.Bytes(c.Type), "relay") {
		// What comes by a relay comes from its host, to the very port that
		// the candidate was gathered on.
		if len(w.relays) < maxSources && !slices.Contains(w.relays, addr) {
			w.relays = append(w.relays, addr)
		}
	}
	raddr, ok := sipmsg.ParseAddr(w.msg.Bytes(c.RAddr))
	if !ok || !e.mediaAddr(w, raddr) {
		return
	}
	if m := e.mappings[netip.AddrPortFrom(raddr, uint16(c.RPortNum))]; m != nil {
		w.replace(c.RAddr, e.announced(m.public.Addr()), 0)
		w.replacePort(c.RPort, m.public.Port())
		return
	}
	w.replace(c.RAddr, netip.IPv4Unspecified(), 0) // what the RFC gives to those who keep it to themselves
	w.replacePort(c.RPort, 9)
}

// candidateMapping returns the mapping of an inside candidate, or nil.
func (e *Engine) candidateMapping(w *Worker, c *sipmsg.Candidate, ep netip.AddrPort) *mapping {
	if !c.UDP || c.Media == sipmsg.Session || w.lines[c.Media].refused ||
		!e.mediaHost(w, ep.Addr()) || !e.mayOpen(w, ep) {
		return nil
	}
	m := e.mappings[ep]
	if m == nil && w.tracked && !w.unopened && len(w.holds) < e.cfg.Limits.MappingsPerCall &&
		e.held(ep.Addr()).mappings < e.cfg.Limits.MappingsPerHost {
		m = e.openPort(w, ep, netip.AddrPort{})
	}
	if w.tracked {
		w.hold(m, hold{line: c.Media, rtcp: c.Component == 2})
	}
	return m
}

func (w *Worker) replacePort(s sipmsg.Span, port uint16) {
	w.text = strconv.AppendUint(w.text[:0], uint64(port), 10)
	w.replaceBytes(s, w.text)
}

// insertRTCP adds a=rtcp to an m-line whose RTCP port is not the one after RTP.
func (w *Worker) insertRTCP(m *sipmsg.Media, port uint16) {
	w.text = w.text[:0]
	if w.msg.Raw[m.End-1] != '\n' {
		w.text = append(w.text, w.sdp.EOL...)
	}
	w.text = append(w.text, "a=rtcp:"...)
	w.text = strconv.AppendUint(w.text, uint64(port), 10)
	w.text = append(w.text, w.sdp.EOL...)
	w.edits.Replace(sipmsg.Span{Lo: m.End, Hi: m.End}, w.text)
}
