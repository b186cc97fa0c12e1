package nat

import (
	"fmt"
	"net/netip"
	"time"
)

// Kernel is what the engine asks of netfilter. The engine calls it with its lock
// held, so an implementation must not call back into the engine.
type Kernel interface {
	// Apply makes the changes, in their order, and returns when the kernel has
	// acknowledged them. An error names what was refused and the remedy; what
	// could be done has been done. Where it is, or joins, a [*StreamError], the
	// streams that were to be opened do not count as open, and are closed. The
	// slice belongs to the engine.
	Apply(changes []Change) error

	// Translation reports the public endpoint under which the kernel already
	// translates the flow between an inside and a far endpoint. forwarded says
	// that the flow began outside and was let in by the administrator's own
	// DNAT. It is false where no confirmed flow exists.
	Translation(inside, far netip.AddrPort) (public netip.AddrPort, forwarded, ok bool)

	// Owner reports who else on the firewall uses a public endpoint: a DNAT of
	// the administrator's (then inside is its target) or a local socket (then
	// inside is the zero value).
	Owner(public netip.AddrPort) (inside netip.AddrPort, taken bool)

	// Traffic returns how many packets the flows of a mapping have carried so
	// far, towards the inside endpoint and from it.
	Traffic(public netip.AddrPort) (in, out uint64)
}

// Verb is what a Change does.
type Verb uint8

// The verbs of a Change, with the fields that each one uses.
const (
	OpenBinding   Verb = iota // Inside, Public, Lease
	OpenForwarded             // Inside, Public, Lease: the administrator's DNAT lets packets in, only the way out is ours
	RenewBinding              // Inside, Public, Lease: of both kinds
	CloseBinding              // Inside, Public
	AllowPeer                 // Inside, Public, Far (address only), Lease: may start signalling to the binding
	RevokePeer                // Inside, Public, Far (address only)
	OpenStream                // Inside, Public, Lease: guarded, nobody allowed yet
	RenewStream               // Inside, Public, Lease: with the sources it has
	CloseStream               // Inside, Public: with its sources and its flows
	OpenGuard                 // Inside, Public: any source may send
	CloseGuard                // Inside, Public: only allowed sources may send
	AllowSource               // Inside, Public, Far (address only)
	RevokeSource              // Inside, Public, Far (address only)
	AllowEgress               // Inside, Public, Far: packets to Far are related
)

var verbNames = [...]string{
	OpenBinding: "open binding", OpenForwarded: "open forwarded", RenewBinding: "renew binding",
	CloseBinding: "close binding", AllowPeer: "allow peer", RevokePeer: "revoke peer", OpenStream: "open stream",
	RenewStream: "renew stream", CloseStream: "close stream", OpenGuard: "open guard",
	CloseGuard: "close guard", AllowSource: "allow source", RevokeSource: "revoke source",
	AllowEgress: "allow egress",
}

func (v Verb) String() string { return verbNames[v] }

// Change is one change of the kernel's state.
type Change struct {
	Verb   Verb
	Inside netip.AddrPort
	Public netip.AddrPort
	Far    netip.AddrPort // port 0 where only the address counts
	Lease  time.Duration  // after which the kernel forgets by itself
}

// String shows a change as one line, such as
// "open stream 10.0.0.10:4000 = 203.0.113.1:7070 for 4m0s".
func (c Change) String() string {
	s := fmt.Sprintf("%v %v = %v", c.Verb, c.Inside, c.Public)
	if c.Far.IsValid() {
		if c.Far.Port() == 0 {
			s += fmt.Sprintf(" far %v", c.Far.Addr())
		} else {
			s += fmt.Sprintf(" far %v", c.Far)
		}
	}
	if c.Lease != 0 {
		s += fmt.Sprintf(" for %v", c.Lease)
	}
	return s
}
