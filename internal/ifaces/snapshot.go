package ifaces

import (
	"net/netip"
	"slices"
)

// A Side is the side of the firewall on which an interface is.
type Side uint8

// The sides. Traffic is looked at only between Inside and Outside.
const (
	Neither Side = iota
	Inside
	Outside
)

// String returns "inside", "outside" or "neither".
func (s Side) String() string {
	switch s {
	case Inside:
		return "inside"
	case Outside:
		return "outside"
	}
	return "neither"
}

// An Interface is an inside or outside interface at one moment.
type Interface struct {
	Name  string
	Index uint32 // 0: there is no such interface now, though it is configured
	Side  Side
	Up    bool // administratively
	MTU   int  // bytes

	// Addr is the address that masquerade gives to what leaves here towards
	// the default gateway: the first primary global one, or the one in the
	// gateway's network. The zero Addr where the interface has none.
	Addr netip.Addr

	// Addrs are all its IPv4 addresses, each with the length of its network.
	Addrs []netip.Prefix

	// Networks are the destinations of the main table's routes through it,
	// connected ones included, the default route not.
	Networks []netip.Prefix
}

// BehindNAT reports whether an outside interface has an address that the
// Internet cannot reach, so that another NAT must stand in front (double NAT)
// and the address to announce is not the interface's own.
func (i *Interface) BehindNAT() bool {
	return i.Side == Outside && i.Addr.IsValid() && (i.Addr.IsPrivate() || i.Addr.IsLinkLocalUnicast() || sharedAddressSpace.Contains(i.Addr))
}

// sharedAddressSpace is for carrier-grade NAT (RFC 6598).
var sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10")

func (i *Interface) equal(o *Interface) bool {
	return i.Name == o.Name && i.Index == o.Index && i.Side == o.Side && i.Up == o.Up && i.MTU == o.MTU &&
		i.Addr == o.Addr && slices.Equal(i.Addrs, o.Addrs) && slices.Equal(i.Networks, o.Networks)
}

// A Snapshot says which interfaces are inside and outside at one moment. It is
// immutable: what its methods return must not be modified.
type Snapshot struct {
	interfaces []Interface // inside first, each side in the configuration's order or by name
	byIndex    map[uint32]*Interface
	own        []netip.Addr   // of all interfaces of the machine, in order
	elsewhere  []netip.Prefix // destinations of routes through interfaces that are not outside, the default route not
	problems   []Problem
}

// Interfaces returns the inside and the outside interfaces, configured ones
// that do not exist included.
func (s *Snapshot) Interfaces() []Interface { return s.interfaces }

// Names returns the names of the interfaces of one side.
func (s *Snapshot) Names(side Side) []string {
	var names []string
	for i := range s.interfaces {
		if s.interfaces[i].Side == side {
			names = append(names, s.interfaces[i].Name)
		}
	}
	return names
}

// Side returns the side of the interface with the given index, Neither for an
// unknown one. It does not allocate.
func (s *Snapshot) Side(ifindex uint32) Side {
	if i := s.byIndex[ifindex]; i != nil {
		return i.Side
	}
	return Neither
}

// Interface returns the interface with the given index, nil if it is neither
// inside nor outside. It does not allocate.
func (s *Snapshot) Interface(ifindex uint32) *Interface { return s.byIndex[ifindex] }

// Public returns the address that masquerade uses on the outside interface with
// the given index, the zero Addr if there is none. It does not allocate.
func (s *Snapshot) Public(ifindex uint32) netip.Addr {
	if i := s.byIndex[ifindex]; i != nil && i.Side == Outside {
		return i.Addr
	}
	return netip.Addr{}
}

// Own reports whether addr is an address of this machine, on whatever interface.
func (s *Snapshot) Own(addr netip.Addr) bool {
	_, found := slices.BinarySearchFunc(s.own, addr, netip.Addr.Compare)
	return found
}

// InsideNetwork reports whether addr is in a network that is reached through
// an inside interface.
func (s *Snapshot) InsideNetwork(addr netip.Addr) bool { return s.network(Inside, addr) }

// OutsideNetwork reports whether addr is in a network that is reached through
// an outside interface by a route other than the default one.
func (s *Snapshot) OutsideNetwork(addr netip.Addr) bool { return s.network(Outside, addr) }

// Elsewhere reports whether addr is reached through an interface that is not
// outside: inside, or on neither side as a DMZ or a VPN. Of several routes the most
// specific one counts.
func (s *Snapshot) Elsewhere(addr netip.Addr) bool {
	best := 0
	for _, n := range s.elsewhere {
		if n.Contains(addr) {
			best = max(best, n.Bits())
		}
	}
	for i := range s.interfaces {
		for _, n := range s.interfaces[i].Networks {
			if s.interfaces[i].Side == Outside && n.Bits() >= best && n.Contains(addr) {
				return false
			}
		}
	}
	return best > 0
}

func (s *Snapshot) network(side Side, addr netip.Addr) bool {
	for i := range s.interfaces {
		if s.interfaces[i].Side != side {
			continue
		}
		for _, n := range s.interfaces[i].Networks {
			if n.Contains(addr) {
				return true
			}
		}
	}
	return false
}

// Problems returns what keeps the daemon from its work; none if all is well.
func (s *Snapshot) Problems() []Problem { return s.problems }

// Equal reports whether two snapshots say the same.
func (s *Snapshot) Equal(o *Snapshot) bool {
	return slices.Equal(s.problems, o.problems) && slices.Equal(s.own, o.own) && slices.EqualFunc(s.interfaces, o.interfaces,
		func(a, b Interface) bool { return a.equal(&b) })
}
