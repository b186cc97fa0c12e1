package proxy

import (
	"net/netip"

	"sipnatd/internal/transport"
	"sipnatd/nat"
	"sipnatd/sipmsg"
)

// Parts are what the proxy is made of besides its transactions. They are
// called with the proxy's lock held, by one goroutine at a time: they must not block,
// nor call the proxy.
type Parts struct {
	Sender    Sender
	Registrar Registrar
	Access    Access
	Locator   Locator
	Dialplan  Dialplan
	Media     Media
	Networks  Networks
}

// Sender sends a message to a hop without waiting for it: [transport.Transport].
type Sender interface {
	Send(to transport.Hop, message []byte) error
}

// Contact is where a phone is.
type Contact struct {
	URI []byte        // as the phone wrote it, byte for byte, without angle brackets
	Hop transport.Hop // whence it registered; zero Remote: the URI says where it is
	Q   int           // preference, 0 to 1000 (RFC 3261 section 20.10)
}

// Answer is a response that somebody else has made up. Status 0 stands for none.
type Answer struct {
	Status  int
	Reason  string // empty: the usual one
	Headers []byte // whole header lines, each ended by CRLF

	// Challenge says that nothing is wrong but that credentials are asked for, or
	// others because the nonce is too old.
	Challenge bool
}

// Registrar keeps where phones are, and who they are.
type Registrar interface {
	// Register carries out a REGISTER for a domain of the firewall's own, and returns
	// its answer (RFC 3261 section 10.3).
	Register(request *sipmsg.Message, from transport.Hop) Answer

	// Authenticate judges a REGISTER that is about to go on to another registrar: it
	// returns no answer if that may be, else a challenge (407) or a refusal.
	Authenticate(request *sipmsg.Message, from transport.Hop) Answer

	// Contacts returns where the phones of an address-of-record of a domain of the
	// firewall's own are. known is false if nobody has registered as it and no user
	// of that name is configured. aor is a SIP URI, whose parameters do not matter.
	Contacts(aor []byte) (list []Contact, known bool)

	// Line returns the token that stands for a phone's contact towards the outside,
	// always the same for the same URI and hop address. ok is false where there is no
	// room for another one.
	Line(uri []byte, phone transport.Hop) (token string, ok bool)

	// Phone returns whose the token is.
	Phone(token []byte) (c Contact, ok bool)

	// Registered notes that an outside registrar has bound a phone's contacts: response
	// is its 2xx as it came, with our tokens, and request what the phone has sent.
	Registered(request, response *sipmsg.Message, phone transport.Hop, registrar netip.Addr)

	// Lines returns the phones that are registered outside and whose contact or
	// address-of-record has this user part, for requests of providers that lose the
	// parameters of a Contact: those that are registered at the host that asks, or all
	// where it is none of their registrars.
	Lines(user []byte, from netip.Addr) []Contact
}

// Access knows who may use the proxy: hosts_allow_reg, hosts_allow_sip,
// hosts_deny_sip, and the hosts that are blocked for their failures.
type Access interface {
	SIP(host netip.Addr) bool
	Register(host netip.Addr) bool

	// Refused counts a request that was refused with a status of 400 to 699, for a
	// host that tries too often.
	Refused(host netip.Addr, status int)
}

// Server is who a URI's host and port are to be looked up for (RFC 3263 section 4).
type Server struct {
	Host      string // name or literal address
	Port      int    // 0: none is given
	Transport string // of the URI's parameter, in lower case; "" for none
	Sips      bool
}

// Target is one address of a server.
type Target struct {
	Kind transport.Kind
	Addr netip.AddrPort
}

// Locator finds servers by RFC 3263.
type Locator interface {
	// Locate returns the addresses of a server, best first, if they are known, as
	// those of a literal are. Otherwise ok is false, and answer is called exactly
	// once, later and from another goroutine, with an empty list where there is none.
	Locate(s Server, answer func([]Target)) (list []Target, ok bool)

	// Failed tells that a target did not answer, so that it comes last for a while.
	Failed(t Target)
}

// Dialplan is what the administrator wants to happen to calls.
type Dialplan interface {
	// Target returns the Request-URI that a request from inside shall have in place of
	// its own, nil for none: short dialling, prefixes, expressions.
	Target(request *sipmsg.Message) []byte

	// Default returns the target of a request from outside to a user of the firewall's
	// domain whom nobody knows, nil for none.
	Default(request *sipmsg.Message) []byte

	// Edit changes a message that is sent on: headers that are stripped, codecs that
	// are filtered. It must leave alone what the proxy edits: Via, Route,
	// Record-Route, Max-Forwards, Contact, the parties, User-Agent.
	Edit(m *sipmsg.Message, e *sipmsg.Edits, outbound bool)

	// Log notes a request that is sent on (status 0), and the final response that its
	// sender gets. to is not valid where it was sent nowhere.
	Log(m *sipmsg.Message, from, to netip.AddrPort, status int)
}

// Media opens and closes the ways of media for what crosses the border: a
// [nat.Worker].
type Media interface {
	// Handle returns the message with the session description that the other side may
	// see, nil where it stays as it is.
	Handle(p *nat.Packet) []byte
	// NoMedia returns why the request that was handled last can have no media, though
	// it asks for some; empty where it can.
	NoMedia() string
}

// Side is a side of the border.
type Side uint8

// The sides.
const (
	Inside Side = iota
	Outside
)

// Face is how the firewall shows itself to a host.
type Face struct {
	Side  Side
	Local netip.AddrPort // the listening socket that faces it
	Named netip.AddrPort // what messages name in its place: on the inside the same
}

// Networks knows the firewall's surroundings.
type Networks interface {
	// Arrived returns the face that a message came to.
	Arrived(from transport.Hop) (f Face, ok bool)

	// Towards returns the face from which a host is reached.
	Towards(host netip.Addr) (f Face, ok bool)

	// Inside reports whether an address is reached through an inside interface.
	Inside(netip.Addr) bool

	// Own reports whether a host and port (0: none is given) are the firewall's:
	// an address of its own or an announced one with the listening port, or one of
	// its domains. host is in lower case.
	Own(host string, port int) bool

	// Adopt makes a domain, in lower case, one of the firewall's for as long as the
	// address of its server is.
	Adopt(domain string, server netip.Addr)
}
