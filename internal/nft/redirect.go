package nft

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// Redirect is a DNAT of the administrator's for UDP: packets to certain ports of
// certain addresses go elsewhere. A rule that names several ranges, addresses or
// interfaces makes several of them. What a rule asks for beyond the fields here
// (the source, marks, the time of day) is not told: it may translate fewer packets
// than it seems to.
type Redirect struct {
	// Low and High bound the matched destination ports, 0 and 65535 if the rule
	// names none.
	Low, High uint16

	// Addr is the matched destination, not valid if the rule names none.
	Addr netip.Prefix

	// InIf is the matched incoming interface, empty if the rule names none. A "*"
	// at its end stands for any rest of the name.
	InIf string

	// To is where packets go. Port 0 leaves the port unchanged. Of several
	// addresses or ports it is the first. It is the zero value for a redirection
	// to the firewall itself, and where the target could not be made out.
	To netip.AddrPort

	// last is the highest target port, if there are several. A packet keeps its
	// port if that is among them. Else it gets the first that is free; on older
	// kernels (6.1) any of them.
	last uint16

	// shift: the ports are moved as a range, base becomes To's port.
	shift bool
	base  uint16

	// network: only so many leading bits of the address are To's, the rest stays.
	// 0 stands for all.
	network int
}

// anything matches every packet.
var anything = Redirect{High: 0xffff}

// Target tells whether the rule would translate a packet to public, on whatever
// interface it comes in, and where to. inside is the zero value if that is the
// firewall itself or unknown.
func (r *Redirect) Target(public netip.AddrPort) (inside netip.AddrPort, ok bool) {
	addr, port := public.Addr().Unmap(), public.Port()
	if port < r.Low || port > r.High || r.Addr.IsValid() && !r.Addr.Contains(addr) {
		return netip.AddrPort{}, false
	}
	if !r.To.IsValid() {
		return netip.AddrPort{}, true
	}
	if to := r.To.Port(); to != 0 {
		switch {
		case r.shift && r.last >= to:
			// Shifted round, as the kernel does.
			port = to + uint16(uint32(port-r.base)%(uint32(r.last-to)+1))
		case port < to || port > r.last:
			port = to
		}
	}
	to := r.To.Addr()
	if r.network > 0 && addr.Is4() && to.Is4() {
		host := ^uint32(0) >> r.network
		a := addr.As4()
		b := to.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])&^host|binary.BigEndian.Uint32(a[:])&host)
		to = netip.AddrFrom4(b)
	}
	return netip.AddrPortFrom(to, port), true
}

// From tells whether the rule is about packets that come in on an interface.
func (r *Redirect) From(name string) bool {
	_, ok := commonInterface(r.InIf, name)
	return ok
}

// and narrows what r matches to what o matches as well. The target is r's. ok is
// false if nothing is left.
func (r Redirect) and(o Redirect) (both Redirect, ok bool) {
	r.Low, r.High = max(r.Low, o.Low), min(r.High, o.High)
	if r.Low > r.High {
		return r, false
	}
	switch {
	case !o.Addr.IsValid():
	case !r.Addr.IsValid():
		r.Addr = o.Addr
	case !r.Addr.Overlaps(o.Addr):
		return r, false
	case r.Addr.Bits() < o.Addr.Bits():
		r.Addr = o.Addr
	}
	r.InIf, ok = commonInterface(r.InIf, o.InIf)
	return r, ok
}

// commonInterface returns the pattern of the names that match both patterns.
func commonInterface(a, b string) (string, bool) {
	if a == "" || a == b {
		return b, true
	}
	if b == "" {
		return a, true
	}
	if start, wild := strings.CutSuffix(a, "*"); wild && strings.HasPrefix(b, start) {
		return b, true
	}
	if start, wild := strings.CutSuffix(b, "*"); wild && strings.HasPrefix(a, start) {
		return a, true
	}
	return "", false
}

// complement returns what none of the alternatives matches. It knows only ports:
// of anything else it says that all may match.
func complement(of []Redirect) []Redirect {
	of = slices.Clone(of)
	slices.SortFunc(of, func(a, b Redirect) int { return cmp.Compare(a.Low, b.Low) })
	var gaps []Redirect
	next := 0
	for _, r := range of {
		if r.Addr.IsValid() || r.InIf != "" {
			return []Redirect{anything}
		}
		if next < int(r.Low) {
			gaps = append(gaps, Redirect{Low: uint16(next), High: r.Low - 1})
		}
		next = max(next, int(r.High)+1)
	}
	if next <= 0xffff {
		gaps = append(gaps, Redirect{Low: uint16(next), High: 0xffff})
	}
	return gaps
}

// prefixes covers a range of IPv4 addresses, both ends included.
func prefixes(low, high uint32) []netip.Prefix {
	var all []netip.Prefix
	for from, end := uint64(low), uint64(high)+1; from < end; {
		// The largest block that starts here and does not go beyond the end.
		size := min(bits.TrailingZeros64(from|1<<32), bits.Len64(end-from)-1)
		all = append(all, netip.PrefixFrom(addr4(uint32(from)), 32-size))
		from += 1 << size
	}
	return all
}

func addr4(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
}
