package nat

import (
	"net/netip"
	"slices"

	"sipnatd/sipmsg"
)

// The bindings of TCP connections (Packet.Stream). The daemon has joined the
// phone's connection to one of its own, whose public endpoint is the public form
// of all that the phone calls itself over TCP: what is sent there comes back on
// the connection, whether the phone named the port that it connects from or the
// one that it listens on. The kernel knows nothing of such a binding.

// joined returns the binding of the packet's connection, creating it on the first
// message. It is nil when a limit forbids one.
func (e *Engine) joined(w *Worker, p *Packet) *binding {
	public := netip.AddrPortFrom(p.Public, p.PublicPort)
	if b := e.connections[public]; b != nil {
		return b
	}
	if !e.mayBind(w.inside, true) {
		return nil
	}
	b := &binding{inside: w.inside, public: public, stream: true, port: w.inside.Port(), peers: []netip.Addr{w.far.Addr()}}
	host := w.inside.Addr()
	e.connections[public] = b
	e.connected[host] = append(e.connected[host], b)
	e.host(host).bindings++
	e.log.reg.Debug("connection joined", "inside", b.inside, "public", b.public, "far", w.far)
	return b
}

// Disconnected tells that the joined connection with this public endpoint has
// ended, and its binding with it. Calls go on: a phone comes back on another
// connection.
func (e *Engine) Disconnected(public netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.connections[public]
	if b == nil {
		return
	}
	host := b.inside.Addr()
	delete(e.connections, public)
	e.connected[host] = slices.DeleteFunc(e.connected[host], func(c *binding) bool { return c == b })
	if len(e.connected[host]) == 0 {
		delete(e.connected, host)
	}
	e.host(host).bindings--
	e.dropHost(host)
	e.log.reg.Debug("connection ended", "inside", b.inside, "public", b.public)
}

// named returns the binding that a URI names by its inside form ep, or nil.
func (e *Engine) named(w *Worker, u sipmsg.URI, ep netip.AddrPort) *binding {
	switch w.transport(u, ep) {
	case overUDP:
		return e.bindings[ep]
	case overTCP:
		if w.ownConnection(ep.Addr()) {
			return w.binding
		}
		return e.connection(ep, w.far.Addr())
	}
	return nil
}

// ownConnection reports whether what names a host over TCP can only mean the
// connection that the message comes over.
func (w *Worker) ownConnection(host netip.Addr) bool {
	return w.binding != nil && w.binding.stream && host == w.inside.Addr()
}

// connection returns the connection of the host that calls itself by the inside
// endpoint, best the one to the far host at hand. It is nil where there is none.
func (e *Engine) connection(inside netip.AddrPort, far netip.Addr) (found *binding) {
	for _, b := range e.connected[inside.Addr()] {
		if b.port == inside.Port() && (found == nil || b.peers[0] == far) {
			found = b
		}
	}
	return found
}

// callsItself notes by which port the phone is known over TCP. It is given back
// wherever the far party names the connection.
func (b *binding) callsItself(u sipmsg.URI) {
	b.port, b.bare = uriPort(u), u.Port.Empty()
}

// transport is what a URI wants to be reached over.
type transport uint8

const (
	overUDP transport = iota
	overTCP
	overOther
)

// transport returns the transport of a URI with the endpoint ep: what it asks for,
// and UDP where it does not ask (RFC 3263 section 4.1), but for the endpoint that the
// message's own connection comes from.
func (w *Worker) transport(u sipmsg.URI, ep netip.AddrPort) transport {
	if u.Scheme == sipmsg.SchemeSIPS {
		return overOther
	}
	v, ok := w.msg.Param(u.Params, "transport")
	switch b := w.binding; {
	case !ok && b != nil && b.stream && (ep == b.inside || ep == b.public):
		return overTCP
	case !ok || sipmsg.EqualFold(w.msg.Bytes(v), "udp"):
		return overUDP
	case sipmsg.EqualFold(w.msg.Bytes(v), "tcp"):
		return overTCP
	}
	return overOther
}
