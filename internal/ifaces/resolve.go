package ifaces

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Config names the interfaces of each side. An empty list is detected.
type Config struct {
	Inside, Outside []string
}

// Resolve returns the interfaces as they are now in the network namespace of
// the calling thread. An interface that is configured and does not exist, or
// that cannot be detected, is not an error but one of [Snapshot.Problems]: it
// may come later. The error is the kernel's, where it does not answer.
func Resolve(c Config) (*Snapshot, error) {
	t, err := readTables()
	if err != nil {
		return nil, err
	}
	return t.snapshot(c), nil
}

// tables is what the kernel knows of links, IPv4 addresses and IPv4 routes.
type tables struct {
	links     []link
	addresses []address
	routes    []route
}

type link struct {
	name     string
	index    uint32
	mtu      int
	up       bool
	loopback bool
}

type address struct {
	index     uint32
	local     netip.Addr   // the interface's own address
	network   netip.Prefix // what it is connected to: its network, or the far end of a point-to-point link
	secondary bool
	global    bool // scope global (RT_SCOPE_UNIVERSE)
}

// A route is one next hop of a unicast route of the main table.
type route struct {
	dst     netip.Prefix
	oif     uint32
	gateway netip.Addr // the zero Addr for a connected route
	metric  uint32
}

// snapshot decides which interface is on which side.
func (t *tables) snapshot(c Config) *Snapshot {
	s := new(Snapshot)
	outside, inside := c.Outside, c.Inside
	if len(outside) == 0 {
		outside = t.detectOutside(inside)
		if len(outside) == 0 {
			s.problem(NoInterface, Interface{Side: Outside})
		}
	}
	if len(inside) == 0 {
		inside = t.detectInside(outside)
		if len(inside) == 0 {
			s.problem(NoInterface, Interface{Side: Inside})
		}
	}
	for _, name := range inside {
		s.interfaces = append(s.interfaces, t.describe(name, Inside))
	}
	for _, name := range outside {
		s.interfaces = append(s.interfaces, t.describe(name, Outside))
	}
	s.byIndex = make(map[uint32]*Interface, len(s.interfaces))
	for n := range s.interfaces {
		i := &s.interfaces[n]
		switch {
		case i.Index == 0:
			s.problem(Missing, *i)
			continue
		case !i.Up:
			s.problem(Down, *i)
		case i.Side == Outside && !i.Addr.IsValid():
			s.problem(NoAddress, *i)
		}
		s.byIndex[i.Index] = i
	}
	for _, r := range t.routes {
		if r.dst.Bits() > 0 && s.Side(r.oif) != Outside {
			s.elsewhere = append(s.elsewhere, r.dst)
		}
	}
	for _, a := range t.addresses {
		s.own = append(s.own, a.local)
	}
	slices.SortFunc(s.own, netip.Addr.Compare)
	return s
}

func (s *Snapshot) problem(kind ProblemKind, i Interface) {
	s.problems = append(s.problems, Problem{kind, i.Side, i.Name})
}

// detectOutside returns the interfaces of the best default route, all next
// hops of a multipath route, except those that are inside.
func (t *tables) detectOutside(inside []string) []string {
	var names []string
	best := uint32(0)
	for _, r := range t.routes {
		l := t.link(r.oif)
		if r.dst.Bits() != 0 || l == nil || l.loopback || slices.Contains(inside, l.name) {
			continue
		}
		if len(names) == 0 || r.metric < best {
			names, best = names[:0], r.metric
		}
		if r.metric == best && !slices.Contains(names, l.name) {
			names = append(names, l.name)
		}
	}
	slices.Sort(names)
	return names
}

// detectInside returns the interfaces that are up, have a private address and
// are not outside.
func (t *tables) detectInside(outside []string) []string {
	var names []string
	for _, l := range t.links {
		private := slices.ContainsFunc(t.addresses, func(a address) bool { return a.index == l.index && a.local.IsPrivate() })
		if private && l.up && !l.loopback && !slices.Contains(outside, l.name) {
			names = append(names, l.name)
		}
	}
	slices.Sort(names)
	return names
}

func (t *tables) link(index uint32) *link {
	i := slices.IndexFunc(t.links, func(l link) bool { return l.index == index })
	if i < 0 {
		return nil
	}
	return &t.links[i]
}

// describe gathers what is known of an interface.
func (t *tables) describe(name string, side Side) Interface {
	i := Interface{Name: name, Side: side}
	n := slices.IndexFunc(t.links, func(l link) bool { return l.name == name })
	if n < 0 {
		return i
	}
	l := t.links[n]
	i.Index, i.Up, i.MTU = l.index, l.up, l.mtu
	i.Addr = t.masquerade(l.index)
	for _, a := range t.addresses {
		if a.index == l.index {
			i.Addrs = append(i.Addrs, netip.PrefixFrom(a.local, a.network.Bits()))
		}
	}
	for _, r := range t.routes {
		if r.oif == l.index && r.dst.Bits() != 0 && !slices.Contains(i.Networks, r.dst) {
			i.Networks = append(i.Networks, r.dst)
		}
	}
	slices.SortFunc(i.Networks, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return i
}

// masquerade picks the address as the kernel does (inet_select_addr with the
// next hop and RT_SCOPE_UNIVERSE): the first primary global address whose
// network holds the next hop, else the first one.
func (t *tables) masquerade(index uint32) netip.Addr {
	gateway := t.gateway(index)
	var first netip.Addr
	for _, a := range t.addresses {
		if a.index != index || a.secondary || !a.global {
			continue
		}
		if gateway.IsValid() && a.network.Contains(gateway) {
			return a.local
		}
		if !first.IsValid() {
			first = a.local
		}
	}
	return first
}

// gateway returns the next hop of the interface's best default route.
func (t *tables) gateway(index uint32) netip.Addr {
	var best *route
	for i := range t.routes {
		r := &t.routes[i]
		if r.oif == index && r.dst.Bits() == 0 && (best == nil || r.metric < best.metric) {
			best = r
		}
	}
	if best == nil {
		return netip.Addr{}
	}
	return best.gateway
}

// String says in one line which interfaces are on which side, for the log.
func (s *Snapshot) String() string {
	var b strings.Builder
	for _, side := range []Side{Inside, Outside} {
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(side.String())
		for i := range s.interfaces {
			i := &s.interfaces[i]
			if i.Side != side {
				continue
			}
			fmt.Fprintf(&b, " %s", i.Name)
			switch {
			case i.Index == 0:
				b.WriteString(" (missing)")
			case i.Addr.IsValid():
				fmt.Fprintf(&b, " (%s)", i.Addr)
			}
		}
	}
	return b.String()
}
