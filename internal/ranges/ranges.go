// Package ranges turns networks into ranges of addresses, as an interval set of
// nftables wants them.
package ranges

import (
	"cmp"
	"net/netip"
	"slices"
)

// Range is a range of IPv4 addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// Merge returns the addresses of the IPv4 networks as ascending ranges that neither
// overlap nor touch. Other networks are left out.
func Merge(networks []netip.Prefix) []Range {
	var all []Range
	for _, p := range networks {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !p.IsValid() || !p.Addr().Is4() {
			continue
		}
		p = p.Masked()
		last := p.Addr().As4()
		for bit := p.Bits(); bit < 32; bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		all = append(all, Range{p.Addr(), netip.AddrFrom4(last)})
	}
	slices.SortFunc(all, func(a, b Range) int {
		return cmp.Or(a.First.Compare(b.First), b.Last.Compare(a.Last))
	})
	var out []Range
	for _, r := range all {
		if n := len(out); n > 0 {
			prev := &out[n-1]
			if next := prev.Last.Next(); !next.IsValid() || r.First.Compare(next) <= 0 {
				if prev.Last.Less(r.Last) {
					prev.Last = r.Last
				}
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// String is how nftables writes the range: as an address where it is one.
func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}
