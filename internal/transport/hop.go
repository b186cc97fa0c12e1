package transport

import (
	"net/netip"
	"strconv"
)

// Kind is a transport protocol.
type Kind uint8

const (
	UDP Kind = iota
	TCP
)

// String returns the name as a Via has it.
func (k Kind) String() string {
	switch k {
	case UDP:
		return "UDP"
	case TCP:
		return "TCP"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Hop is where a message came from, or goes to. Hops are values: they can be
// kept, compared, and used as keys.
type Hop struct {
	Kind Kind

	// Local is our endpoint. Of an arrival over UDP it is a listen address, over
	// TCP the connection's: the port is a listen port where the other side has
	// connected, and an ephemeral one where we have.
	//
	// To send over UDP, a Local with port 0 is the socket of that address. To
	// send over TCP only the address counts, which a new connection is made from.
	// Without an address the route to Remote decides; see [Transport.Route].
	Local netip.AddrPort

	// Remote is the other side's endpoint.
	Remote netip.AddrPort

	// Conn is the connection's number, which is never used twice. To send, 0
	// means a connection between the address of Local and Remote that exists, or
	// else a new one. Always 0 over UDP.
	Conn uint64

	// Interface is the index of the network interface that the message came in by,
	// or that the other side's connection did. A host has all its addresses on all
	// its interfaces, and anybody can write any source address: this alone tells
	// what came from inside. 0 over a connection that we have made. To send, it has
	// no meaning.
	Interface int
}

// String is for logs.
func (h Hop) String() string {
	s := h.Kind.String() + " " + h.Local.String() + " " + h.Remote.String()
	if h.Conn != 0 {
		s += " #" + strconv.FormatUint(h.Conn, 10)
	}
	return s
}

// Arrival is a message that has come.
type Arrival struct {
	Hop
	// Data is a whole datagram, or a whole message from a stream, which begins at
	// its first byte. It is valid during the call only, and may be changed.
	Data []byte
}

// Handler is told what comes in and what goes wrong. Its methods are called by
// several goroutines at once, never by one that is in a method of the Transport,
// and not after the Transport is closed. What comes from one socket or connection waits
// until the method returns.
type Handler interface {
	Arrived(a Arrival)

	// Failed is told that a send to h.Remote came to nothing after it had
	// returned: an ICMP error, a connection that could not be made, that was
	// reset, or that took nothing more. It names no message. One call stands for
	// all that was on its way over the connection h.Conn, or over UDP from
	// h.Local to h.Remote. The errors are those of the kernel
	// ([syscall.Errno], such as ECONNREFUSED), [os.ErrDeadlineExceeded], or one
	// of this package.
	Failed(h Hop, err error)
}
