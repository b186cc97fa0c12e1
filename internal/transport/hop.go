package transport

import (
	"fmt"
	"net/netip"
)

// Kind is a transport protocol of SIP (RFC 3261 section 18).
type Kind uint8

// The transports that there are.
const (
	UDP Kind = iota
	TCP
)

// String is the transport as a Via names it.
func (k Kind) String() string {
	if k == TCP {
		return "TCP"
	}
	return "UDP"
}

// Hop is where a message came from or goes to: the two ends of a way, seen from here.
type Hop struct {
	Kind   Kind
	Local  netip.AddrPort // ours; of a message to send it may be zero: the route decides
	Remote netip.AddrPort
	Conn   uint64 // a TCP connection; 0: the one between Local's address and Remote, or a new one
}

// String is for people: "UDP 10.0.0.1:5060-10.0.0.10:5060".
func (h Hop) String() string { return fmt.Sprintf("%s %s-%s", h.Kind, h.Local, h.Remote) }

// Arrival is one message that has arrived.
type Arrival struct {
	Hop
	Data []byte // the whole message, valid during the call only
}

// Handler takes what arrives. Its methods are called by several goroutines.
type Handler interface {
	// Arrived takes one message.
	Arrived(a Arrival)

	// Failed tells that what was sent to a hop does not reach it: an ICMP error, a
	// reset, a connection that was not made in time.
	Failed(h Hop, err error)
}
