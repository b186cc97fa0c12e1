package registrar

import (
	"net/netip"
	"slices"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// aor is an address-of-record with its bindings, of which there is at least one.
type aor struct {
	user     string
	bindings []*binding
}

// binding is a contact of an address-of-record.
type binding struct {
	aor     *aor
	text    []byte // contact URI, header parameters and Call-ID; never changed
	uriLen  uint16
	callLen uint16
	q       int16 // in thousandths; -1: none was given
	index   int   // in Registrar.bindings
	cseq    uint32
	hop     transport.Hop // where the phone is
	expires time.Duration // when it ends: Registrar.now
	key     uint64        // of its record in the journal; 0: it has none
}

// noQ says that a contact has no q parameter.
const noQ = -1

func (b *binding) uri() []byte    { return b.text[:b.uriLen:b.uriLen] }
func (b *binding) params() []byte { return b.text[b.uriLen : len(b.text)-int(b.callLen)] }
func (b *binding) callID() []byte { return b.text[len(b.text)-int(b.callLen):] }

func (b *binding) contact() proxy.Contact {
	c := proxy.Contact{URI: b.uri(), Hop: b.hop, Q: int(b.q)}
	if b.q == noQ {
		c.Q = 1000
	}
	return c
}

// maxContact bounds the text of a binding, in bytes.
const maxContact = 1024

// maxName bounds the user part and the host of an address-of-record, in bytes.
const maxName = 256

// setText keeps what the message says, unless it has said so before.
func (b *binding) setText(uri, params, callID []byte) {
	if string(b.uri()) == string(uri) && string(b.params()) == string(params) && string(b.callID()) == string(callID) {
		return
	}
	text := make([]byte, 0, len(uri)+len(params)+len(callID))
	b.text = append(append(append(text, uri...), params...), callID...)
	b.uriLen, b.callLen = uint16(len(uri)), uint16(len(callID))
}

// user returns the user part of a URI as it is compared: unescaped, and without a
// password (RFC 3261 section 19.1.2). It is empty if there is none, and may lie in raw.
func user(raw []byte, u sipmsg.URI) []byte { return plainUser(raw[u.User.Lo:u.User.Hi]) }

// plainUser is user for the user part as it is written.
func plainUser(text []byte) []byte {
	if i := slices.Index(text, ':'); i >= 0 {
		text = text[:i]
	}
	if !slices.Contains(text, '%') {
		return text
	}
	return appendUnescaped(nil, text)
}

// add binds a contact to an address-of-record.
func (r *Registrar) add(user []byte, b *binding) {
	a := r.aors[string(user)]
	if a == nil {
		a = &aor{user: string(user)}
		r.aors[a.user] = a
	}
	b.aor, b.index = a, len(r.bindings)
	a.bindings = append(a.bindings, b)
	r.bindings = append(r.bindings, b)
	r.hostOf(b.hop.Remote.Addr()).bindings++
}

// remove ends a binding.
func (r *Registrar) remove(b *binding) {
	a := b.aor
	i := slices.Index(a.bindings, b)
	a.bindings = slices.Delete(a.bindings, i, i+1)
	if len(a.bindings) == 0 {
		delete(r.aors, a.user)
	}
	last := len(r.bindings) - 1
	r.bindings[b.index] = r.bindings[last]
	r.bindings[b.index].index = b.index
	r.bindings[last] = nil
	r.bindings = r.bindings[:last]
	b.index = gone
	r.strike(&b.key)
	host := b.hop.Remote.Addr()
	r.hostOf(host).bindings--
	r.tidy(host)
}

// gone is the index of what is no longer kept.
const gone = -1

// move notes that a binding's phone is elsewhere now.
func (r *Registrar) move(b *binding, to transport.Hop) {
	from := b.hop.Remote.Addr()
	b.hop = to
	if to.Remote.Addr() != from {
		r.hostOf(from).bindings--
		r.hostOf(to.Remote.Addr()).bindings++
		r.tidy(from)
	}
}

// expire removes what has expired of an address-of-record.
func (r *Registrar) expire(a *aor, now time.Duration) {
	for i := len(a.bindings) - 1; i >= 0; i-- {
		if b := a.bindings[i]; b.expires <= now {
			r.ended(b)
			r.remove(b)
		}
	}
}

// ended tells of a binding that nobody has renewed.
func (r *Registrar) ended(b *binding) {
	r.log.Debug("registration expired", "user", b.aor.user, "contact", printable(b.uri()), "hop", b.hop)
}

// sweepBindings looks at the next part of the bindings.
func (r *Registrar) sweepBindings(now time.Duration) {
	for n := part(len(r.bindings)); n > 0 && len(r.bindings) > 0; n-- {
		if r.cursor--; r.cursor < 0 || r.cursor >= len(r.bindings) {
			r.cursor = len(r.bindings) - 1
		}
		// From the end to the front: what takes the place of a removed one has been
		// looked at already.
		if b := r.bindings[r.cursor]; b.expires <= now {
			r.ended(b)
			r.remove(b)
		}
	}
}

// part is how many of n are looked at in one step of a sweep.
func part(n int) int {
	const steps = int(sweepRound / sweepEvery)
	return (n + steps - 1) / steps
}

// Contacts implements [proxy.Registrar]. The best come first, and of equal ones those
// that have registered first.
func (r *Registrar) Contacts(of []byte) (list []proxy.Contact, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := user(of, sipmsg.ParseURI(of))
	if len(name) == 0 {
		return nil, false
	}
	now := r.now()
	if a := r.aors[string(name)]; a != nil {
		for _, b := range a.bindings {
			if b.expires > now {
				list = append(list, b.contact())
			}
		}
	}
	slices.SortStableFunc(list, func(a, b proxy.Contact) int { return b.Q - a.Q })
	return list, len(list) > 0 || r.auth.knows(name)
}

// reach returns where a phone is reached that wrote this URI as its contact in a
// message that came from a hop. That is the hop, by which the message has come through
// whatever lies between. But over UDP a phone may send from one port and listen at
// another, which its URI names.
func reach(raw []byte, uri sipmsg.URI, from transport.Hop) transport.Hop {
	if from.Kind != transport.UDP || uri.Scheme != sipmsg.SchemeSIP {
		return from
	}
	host, ok := sipmsg.ParseAddr(raw[uri.Host.Lo:uri.Host.Hi])
	if !ok || host != from.Remote.Addr() {
		return from
	}
	port := uri.PortNum
	switch {
	case port == 0 && !uri.Port.Empty():
		return from // not a port
	case port == 0:
		port = 5060
	}
	from.Remote = netip.AddrPortFrom(host, uint16(port))
	if kind, ok := sipmsg.Param(raw, uri.Params, "transport"); ok && sipmsg.EqualFold(raw[kind.Lo:kind.Hi], "tcp") {
		from.Kind = transport.TCP
		from.Local = netip.AddrPortFrom(from.Local.Addr(), 0)
	}
	return from
}
