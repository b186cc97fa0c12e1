package nat

import (
	"net/netip"
	"slices"
	"time"
)

// Config is the engine's policy. [Engine.Configure] replaces it as a whole.
type Config struct {
	// SIPPorts are the ports that are taken for signalling: a stream is never
	// opened to one of them. Default 5060.
	SIPPorts []uint16

	// PortLow and PortHigh bound the public ports of streams, and of bindings
	// whose own port is taken. Default 7070 to 7999.
	PortLow, PortHigh uint16

	// RTPTimeout is how long an answered call may be without a packet of media
	// in either direction before it is closed. Default 300 s.
	RTPTimeout time.Duration

	// HoldTimeout takes the place of RTPTimeout while a call is on hold.
	// Default 2 h.
	HoldTimeout time.Duration

	// MediaAny lets every source send to an open stream (media_source = any).
	MediaAny bool

	// MediaHosts are inside hosts that other inside hosts may name in their
	// SDP, such as a PBX's media gateways.
	MediaHosts []netip.Prefix

	// HairpinRouter keeps the media of two inside phones on the public
	// addresses; otherwise each is told the other's inside address.
	HairpinRouter bool

	// RegisterExpiresMax is the longest lifetime of its registration that a phone
	// reads in a registrar's answer, so that it registers anew that often. The
	// binding lasts as long as the registrar has granted all the same: that long
	// it goes on sending there. In whole seconds; 0: whatever was granted.
	RegisterExpiresMax time.Duration

	// Announced takes the place of the outside interface's address in
	// messages (host_outbound), as behind a second NAT.
	Announced netip.Addr

	// Networks says which addresses lie inside. It must be safe to call with
	// the engine's lock held.
	Networks Networks

	Limits Limits
}

// Networks knows the firewall's surroundings.
type Networks interface {
	// Inside reports whether an address is reached through an inside interface.
	Inside(netip.Addr) bool
	// Outside reports whether an address is on a network of an outside interface.
	Outside(netip.Addr) bool
	// Elsewhere reports whether an address is reached through an interface that
	// is not outside: an inside one, or one to a DMZ or a VPN.
	Elsewhere(netip.Addr) bool
	// Own reports whether an address is one of the firewall's.
	Own(netip.Addr) bool
}

// Limits bound what hosts can make the engine remember and open. Zero values
// are replaced by the defaults. With all of them reached the engine takes some 50 MiB:
// 3 KiB for a call with its media, 1 KiB at most for a transaction or a binding.
type Limits struct {
	Bindings         int // in all; default 8192
	BindingsPerHost  int // default 256
	Calls            int // in all; default 8192
	CallsPerHost     int // default 2048
	MappingsPerHost  int // media; default seven eighths of the ports, at least those of a call
	MappingsPerCall  int // default 64
	Transactions     int // in all; default 32768, which are 1024 new ones a second
	TransactionsHost int // per inside host; default 8192
	PeersPerBinding  int // default 64
	Peers            int // where it is less for each binding, the limit of that, but 4 at least; default 32768
}

// withDefaults fills in what is 0, for a range of so many ports.
func (l Limits) withDefaults(ports int) Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Bindings, 8192)
	set(&l.BindingsPerHost, 256)
	set(&l.Calls, 8192)
	set(&l.CallsPerHost, 2048)
	set(&l.MappingsPerCall, 64)
	set(&l.MappingsPerHost, max(ports-ports/8, l.MappingsPerCall))
	set(&l.Transactions, 32768)
	set(&l.TransactionsHost, 8192)
	set(&l.PeersPerBinding, 64)
	set(&l.Peers, 32768)
	return l
}

// room returns how much of a limit one side may fill. An eighth is kept for what
// begins inside: no peer can take a phone's last place.
func room(limit int, outbound bool) int {
	if outbound {
		return limit
	}
	return limit - limit/8
}

func (c Config) withDefaults() Config {
	if len(c.SIPPorts) == 0 {
		c.SIPPorts = []uint16{sipPort}
	}
	if c.PortLow == 0 {
		c.PortLow, c.PortHigh = 7070, 7999
	}
	if c.RTPTimeout == 0 {
		c.RTPTimeout = 300 * time.Second
	}
	if c.HoldTimeout == 0 {
		c.HoldTimeout = 2 * time.Hour
	}
	c.Limits = c.Limits.withDefaults(int(c.PortHigh) - int(c.PortLow) + 1)
	return c
}

// sipPort is the port of a SIP URI and of a Via over UDP that name none
// (RFC 3261 sections 18.2.2 and 19.1.2).
const sipPort = 5060

// lowestMediaPort keeps streams away from the services of inside hosts.
const lowestMediaPort = 1024

// mediaPort reports whether a stream may be opened to an inside port.
func (c *Config) mediaPort(port uint16) bool {
	return port >= lowestMediaPort && !slices.Contains(c.SIPPorts, port)
}

// mediaHost reports whether SDP of the inside host sender may name addr.
func (c *Config) mediaHost(sender, addr netip.Addr) bool {
	if addr == sender {
		return true
	}
	for _, p := range c.MediaHosts {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// unroutable reports whether no packet from the Internet can have this source.
func unroutable(a netip.Addr) bool {
	return private(a) || a.IsUnspecified() || a.IsMulticast()
}

// private reports whether an address means nothing outside: RFC 1918, RFC 6598
// (shared address space), RFC 3927, RFC 4193 and loopback addresses.
func private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a)
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")
