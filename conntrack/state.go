package conntrack

import (
	"net/netip"
	"slices"
)

// state is what the kernel was asked for and shall have. It is kept because
// the kernel counts and renews expectations one by one, and has only one for
// each destination, whichever anchors need it.
type state struct {
	anchors   map[netip.AddrPort]*anchor          // by public endpoint
	claimants map[netip.AddrPort][]netip.AddrPort // destination: public endpoints of the anchors that claim it
}

// An anchor is one in the kernel, or one that shall be there.
type anchor struct {
	seconds uint32 // lifetime it was last given
	claims  []claim
}

// A claim is an anchor's need of an expectation, which may exist below another
// anchor that claims the same destination.
type claim struct {
	dst   netip.AddrPort
	class uint32
}

func (a *anchor) find(dst netip.AddrPort) int {
	return slices.IndexFunc(a.claims, func(c claim) bool { return c.dst == dst })
}

// room returns a class with room for one more expectation below a.
func (a *anchor) room(p *policy) (id uint32, ok bool) {
	for _, class := range p.classes {
		n := 0
		for _, c := range a.claims {
			if c.class == class.id {
				n++
			}
		}
		if n < class.max {
			return class.id, true
		}
	}
	return 0, false
}

// open returns the anchor of public, which it creates if need be.
func (s *state) open(public netip.AddrPort) *anchor {
	a := s.anchors[public]
	if a == nil {
		if s.anchors == nil {
			s.anchors = make(map[netip.AddrPort]*anchor)
			s.claimants = make(map[netip.AddrPort][]netip.AddrPort)
		}
		a = &anchor{}
		s.anchors[public] = a
	}
	return a
}

// claim adds a claim of public's anchor.
func (s *state) claim(public netip.AddrPort, a *anchor, c claim) {
	a.claims = append(a.claims, c)
	s.claimants[c.dst] = append(s.claimants[c.dst], public)
}

// release removes public's i-th claim. It returns another anchor that claims
// the same destination and its claim, if there is one.
func (s *state) release(public netip.AddrPort, a *anchor, i int) (other netip.AddrPort, its claim, ok bool) {
	dst := a.claims[i].dst
	a.claims = slices.Delete(a.claims, i, i+1)
	rest := s.claimants[dst]
	if j := slices.Index(rest, public); j >= 0 {
		rest = slices.Delete(rest, j, j+1)
	}
	if len(rest) == 0 {
		delete(s.claimants, dst)
		return netip.AddrPort{}, claim{}, false
	}
	s.claimants[dst] = rest
	b := s.anchors[rest[0]]
	return rest[0], b.claims[b.find(dst)], true
}

// adopt takes over an expectation that was found in the kernel. Its anchor may
// have another helper than p's; then a renewal will create both anew, the
// expectation in a class of p's if there is room.
func (s *state) adopt(e expectation, p *policy) {
	if e.public == trial() {
		return
	}
	a := s.open(e.public)
	if a.find(e.dst) >= 0 {
		return
	}
	if !slices.ContainsFunc(p.classes, func(c class) bool { return c.id == e.class }) {
		id, ok := a.room(p)
		if !ok {
			return
		}
		e.class = id
	}
	s.claim(e.public, a, claim{e.dst, e.class})
}

// publics returns the public endpoints of all anchors in order.
func (s *state) publics() []netip.AddrPort {
	all := make([]netip.AddrPort, 0, len(s.anchors))
	for public := range s.anchors {
		all = append(all, public)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return all
}
