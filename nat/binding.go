package nat

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// bindingIdle is how long a binding without a registration outlives the
	// last message from inside.
	bindingIdle = 5 * time.Minute

	// bindingGrace is how long a binding stays after its registration has
	// ended, for the transactions that are still under way: 64*T1 (RFC 3261
	// section 17.1.1.2).
	bindingGrace = 32 * time.Second

	// leaseSlack is by how much the kernel's lease outlasts the binding, so
	// that steady traffic does not renew it with every message.
	leaseSlack = 2 * time.Minute

	// defaultExpires is what a registrar grants that does not say
	// (RFC 3261 section 10.2.1.1 leaves it open; an hour is usual).
	defaultExpires = 3600
)

// binding joins an inside signalling endpoint to its public one.
type binding struct {
	inside, public netip.AddrPort
	forwarded      bool // inbound packets come by the administrator's own DNAT
	stream         bool // a TCP connection: connection.go
	bare           bool // the phone writes its port 5060 by leaving it out

	port uint16 // that the phone calls itself by

	former netip.AddrPort // the public endpoint before the firewall's address changed, invalid: none

	lastSent      time.Time // the last packet from inside
	registrations []registration
	calls         int                // that signal over this binding
	peers         []netip.Addr       // the latest first
	guests        map[netip.Addr]int // hosts that only calls admit, and how many calls
	until         time.Time          // not before this
	leaseEnd      time.Time          // when the kernel forgets it
	tm            timer
	saved         saved
}

// registration is an address-of-record that a registrar has bound to the
// binding's contact.
type registration struct {
	registrar netip.Addr
	record    uint64 // hash of the To URI
	until     time.Time
}

func (b *binding) timer() *timer { return &b.tm }

// ends reports when the binding is no longer needed.
func (b *binding) ends() time.Time {
	end := b.lastSent.Add(bindingIdle)
	for i := range b.registrations {
		if r := b.registrations[i].until.Add(bindingGrace); r.After(end) {
			end = r
		}
	}
	if b.until.After(end) {
		end = b.until
	}
	return end
}

// bind returns the binding of the packet's inside endpoint, creating it on the
// first message. It is nil when a limit or a lack of ports forbids one.
func (e *Engine) bind(p *Packet, now time.Time) *binding {
	b := e.bindings[p.Src]
	if b == nil {
		b = e.newBinding(p.Src, p.Dst, p.Public, now)
		if b == nil {
			return nil
		}
	}
	b.lastSent = now
	e.extend(b, now)
	return b
}

// newBinding chooses the public endpoint for an inside one: the one under which
// the kernel already translates its flow, else the same port, else any free one.
func (e *Engine) newBinding(inside, far netip.AddrPort, public netip.Addr, now time.Time) *binding {
	if !e.mayBind(inside, false) {
		return nil
	}
	ep, forwarded, ok := e.translation(inside, far)
	if !ok {
		ep, forwarded = e.freeEndpoint(inside, public)
	}
	if !ep.IsValid() {
		e.dropHost(inside.Addr())
		return nil
	}
	return e.openBinding(inside, ep, forwarded, now)
}

// adoptBinding makes a binding of the translation that the kernel's flow between
// an inside and a far endpoint has: the flow is older than the daemon, or the
// administrator's own DNAT let it in. It is nil where there is no such flow.
func (e *Engine) adoptBinding(inside, far netip.AddrPort, now time.Time) *binding {
	ep, forwarded, ok := e.translation(inside, far)
	if !ok || !e.mayBind(inside, false) {
		return nil
	}
	return e.openBinding(inside, ep, forwarded, now)
}

// translation returns the public endpoint of the flow that the kernel has
// between an inside and a far endpoint, if nobody else has it.
func (e *Engine) translation(inside, far netip.AddrPort) (public netip.AddrPort, forwarded, ok bool) {
	if !far.IsValid() {
		return netip.AddrPort{}, false, false
	}
	public, forwarded, ok = e.kernel.Translation(inside, far)
	if !ok || e.publics[public] != nil || e.media[public] != nil ||
		e.withdrawn[public.Addr()] && !e.cfg.Networks.Own(public.Addr()) {
		return netip.AddrPort{}, false, false
	}
	return public, forwarded, true
}

// mayBind reports whether an inside endpoint, of a TCP connection or of UDP, can
// have a binding.
func (e *Engine) mayBind(inside netip.AddrPort, stream bool) bool {
	held := e.held(inside.Addr()).bindings
	if len(e.bindings)+len(e.connections) >= e.cfg.Limits.Bindings || held >= e.cfg.Limits.BindingsPerHost {
		e.stats.LimitRefusals++
		e.log.warn("limit", inside.Addr(), "no binding for a SIP endpoint: too many are open",
			"endpoint", inside, "of the host", held, "in all", len(e.bindings)+len(e.connections))
		return false
	}
	if !stream && e.mappings[inside] != nil { // the kernel knows one public endpoint for each inside one
		e.log.warn("endpoint", inside.Addr(), "no binding for a SIP endpoint: it is that of a media stream", "endpoint", inside)
		return false
	}
	return true
}

func (e *Engine) openBinding(inside, public netip.AddrPort, forwarded bool, now time.Time) *binding {
	b := e.addBinding(inside, public, forwarded, now)
	b.leaseEnd = now.Add(bindingIdle + leaseSlack)
	verb := OpenBinding
	if forwarded {
		verb = OpenForwarded
	}
	e.change(Change{Verb: verb, Inside: inside, Public: public, Lease: b.leaseEnd.Sub(now)})
	e.wheel.set(b, b.ends())
	e.log.reg.Debug("binding opened", "inside", inside, "public", public, "by the administrator's forward", forwarded)
	return b
}

// freeEndpoint returns a public endpoint for an inside signalling endpoint.
func (e *Engine) freeEndpoint(inside netip.AddrPort, public netip.Addr) (ep netip.AddrPort, forwarded bool) {
	ep = netip.AddrPortFrom(public, inside.Port())
	if e.publics[ep] == nil && e.media[ep] == nil {
		owner, taken := e.kernel.Owner(ep)
		if !taken || owner == inside {
			return ep, taken
		}
	}
	pool := e.pool(public)
	port := pool.find(1, func(port uint16) bool { return e.usable(netip.AddrPortFrom(public, port)) })
	if port == 0 {
		e.stats.PortsExhausted++
		e.log.warn("ports", public, "no public port is left for a SIP endpoint: widen rtp_port_low and rtp_port_high",
			"endpoint", inside)
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(public, port), false
}

// usable reports whether a public endpoint is free for a stream, or for a binding
// whose own port is not.
func (e *Engine) usable(ep netip.AddrPort) bool {
	if e.publics[ep] != nil || e.media[ep] != nil || slices.Contains(e.cfg.SIPPorts, ep.Port()) {
		return false
	}
	_, taken := e.kernel.Owner(ep)
	return !taken
}

func (e *Engine) addBinding(inside, public netip.AddrPort, forwarded bool, now time.Time) *binding {
	b := &binding{inside: inside, public: public, forwarded: forwarded, port: inside.Port(), lastSent: now}
	e.bindings[inside] = b
	e.touch(b)
	e.publics[public] = b
	e.pool(public.Addr()).mark(public.Port())
	e.host(inside.Addr()).bindings++
	return b
}

// extend renews the kernel's lease where it would run out before the binding.
func (e *Engine) extend(b *binding, now time.Time) {
	end := b.ends()
	if b.leaseEnd.Before(end) {
		b.leaseEnd = end.Add(leaseSlack)
		e.change(Change{Verb: RenewBinding, Inside: b.inside, Public: b.public, Lease: b.leaseEnd.Sub(now)})
	}
}

// register notes that a registrar has bound a record to the binding until then.
func (e *Engine) register(b *binding, registrar netip.Addr, record uint64, until, now time.Time) {
	if b.stream {
		return // it ends with its connection
	}
	e.touch(b)
	if b.calls == 0 {
		b.former = netip.AddrPort{} // everybody knows the new one
	}
	i := slices.IndexFunc(b.registrations, func(r registration) bool { return r.registrar == registrar && r.record == record })
	if i < 0 { // the place of one that has run out
		i = slices.IndexFunc(b.registrations, func(r registration) bool { return !r.until.After(now) })
	}
	if i >= 0 {
		b.registrations[i] = registration{registrar, record, until}
	} else if len(b.registrations) < e.cfg.Limits.PeersPerBinding {
		b.registrations = append(b.registrations, registration{registrar, record, until})
	}
	e.extend(b, now)
	e.wheel.set(b, b.ends())
	if debugs(e.log.reg) {
		e.log.reg.Debug("registered", "inside", b.inside, "public", b.public, "registrar", registrar, "for", until.Sub(now).Round(time.Second))
	}
}

// unregister notes that a registrar no longer binds the record to the binding.
// A binding that was there for it alone ends as soon as its last transaction
// can be over.
func (e *Engine) unregister(b *binding, registrar netip.Addr, record uint64, now time.Time) {
	if b.stream {
		return
	}
	e.touch(b)
	before := len(b.registrations)
	b.registrations = slices.DeleteFunc(b.registrations, func(r registration) bool {
		return r.registrar == registrar && r.record == record || !r.until.After(now)
	})
	if len(b.registrations) < before {
		e.log.reg.Debug("registration ended", "inside", b.inside, "registrar", registrar, "left", len(b.registrations))
	}
	if before > 0 && len(b.registrations) == 0 && b.calls == 0 {
		b.lastSent = now.Add(bindingGrace - bindingIdle)
		b.until = time.Time{}
	}
	e.wheel.set(b, b.ends())
}

// mayPeers is how many peers each binding may have: a share of all, since each is an
// element in the kernel.
func (e *Engine) mayPeers() int {
	l := &e.cfg.Limits
	return min(l.PeersPerBinding, max(l.Peers/max(len(e.bindings), 1), 4))
}

// allowPeer lets a far host start signalling to the binding.
func (e *Engine) allowPeer(b *binding, far netip.Addr, now time.Time) {
	for i, a := range b.peers {
		if a == far {
			if i > 0 { // the latest first, so that the idlest is forgotten
				copy(b.peers[1:i+1], b.peers[:i])
				b.peers[0] = far
			}
			return
		}
	}
	if len(b.peers) >= e.mayPeers() {
		i := b.idlest()
		if a := b.peers[i]; !b.forwarded && b.guests[a] == 0 {
			e.change(Change{Verb: RevokePeer, Inside: b.inside, Public: b.public, Far: netip.AddrPortFrom(a, 0)})
		}
		b.peers = slices.Delete(b.peers, i, i+1)
	}
	b.peers = append(b.peers, netip.Addr{})
	copy(b.peers[1:], b.peers)
	b.peers[0] = far
	if !b.forwarded {
		e.change(Change{Verb: AllowPeer, Inside: b.inside, Public: b.public,
			Far: netip.AddrPortFrom(far, 0), Lease: b.leaseEnd.Sub(now)})
	}
}

// registeredWith reports whether a host is a registrar of the inside party.
func (b *binding) registeredWith(a netip.Addr) bool {
	return slices.ContainsFunc(b.registrations, func(r registration) bool { return r.registrar == a })
}

// idlest returns the index of the peer that the inside party has sent to least
// recently; a registrar is given up last.
func (b *binding) idlest() int {
	for i := len(b.peers) - 1; i >= 0; i-- {
		if !b.registeredWith(b.peers[i]) {
			return i
		}
	}
	return len(b.peers) - 1
}

func (b *binding) expire(e *Engine, now time.Time) {
	end := b.ends()
	if b.calls > 0 && !end.After(now) {
		end = now.Add(bindingIdle) // a call needs it for its BYE
	}
	if end.After(now) {
		b.until = end
		e.extend(b, now)
		e.wheel.set(b, end)
		return
	}
	e.closeBinding(b)
}

func (e *Engine) closeBinding(b *binding) {
	e.log.reg.Debug("binding closed", "inside", b.inside, "public", b.public)
	e.change(Change{Verb: CloseBinding, Inside: b.inside, Public: b.public})
	delete(e.bindings, b.inside)
	e.strike(&b.saved)
	delete(e.publics, b.public)
	e.pool(b.public.Addr()).release(b.public.Port())
	e.host(b.inside.Addr()).bindings--
	e.dropHost(b.inside.Addr())
}
