package nft

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// interval is an element of a set or a map, with both ends of its key included. No
// key at all matches everything.
type interval struct {
	low, high []byte
	data      []byte        // of a map
	verdict   *expr.Verdict // of a verdict map
	chain     string        // where it goes
}

// jump leads the packets of match to another chain.
type jump struct {
	chain string
	match []Redirect
}

// target is where a DNAT leads. The zero value is the firewall itself, or unknown.
type target struct {
	low, high netip.Addr
	first     uint16 // port, 0 leaves it unchanged
	last      uint16
	base      uint16
	flags     uint32 // NF_NAT_RANGE_*
}

// of returns the redirect of what m matches.
func (t target) of(m Redirect) Redirect {
	if !t.low.Is4() || !t.high.Is4() {
		return m
	}
	m.To = netip.AddrPortFrom(t.low, t.first)
	if t.first != 0 {
		m.last = max(t.first, t.last)
		m.shift, m.base = t.flags&unix.NF_NAT_RANGE_PROTO_OFFSET != 0, t.base
	}
	if t.flags&unix.NF_NAT_RANGE_NETMAP != 0 {
		low, high := t.low.As4(), t.high.As4()
		m.network = bits.LeadingZeros32(binary.BigEndian.Uint32(low[:]) ^ binary.BigEndian.Uint32(high[:]))
	}
	return m
}

// alternative is one of the ways in which a packet may come through a rule.
type alternative struct {
	match Redirect
	regs  registers
}

// evaluation goes through one rule, as the kernel does, but for all packets at once.
// The alternatives' registers differ in what was taken from maps only.
type evaluation struct {
	alternatives []alternative
	found        []Redirect
	jumps        []jump

	// elements gives the elements of a set of the rule's table.
	elements func(set string) ([]interval, error)
}

// evaluate finds out what a rule does to the packets of match.
func evaluate(exprs []any, match []Redirect, elements func(string) ([]interval, error)) ([]Redirect, []jump, error) {
	ev := evaluation{elements: elements}
	for _, m := range match {
		ev.alternatives = append(ev.alternatives, alternative{match: m})
	}
	for _, e := range exprs {
		if len(ev.alternatives) == 0 {
			break
		}
		if err := ev.apply(e); err != nil {
			return ev.found, ev.jumps, err
		}
	}
	return ev.found, ev.jumps, nil
}

// apply goes over one expression. There is at least one alternative.
func (ev *evaluation) apply(e any) error {
	each := func(f func(*registers)) {
		for i := range ev.alternatives {
			f(&ev.alternatives[i].regs)
		}
	}
	switch e := e.(type) {
	case *expr.Meta:
		each(func(r *registers) { r.meta(e) })
	case *expr.Payload:
		each(func(r *registers) { r.payload(e) })
	case *expr.Bitwise:
		each(func(r *registers) { r.bitwise(e) })
	case *expr.Immediate:
		each(func(r *registers) { r.put(e.Register, e.Data) })
	case *expr.Cmp:
		ev.compare(e)
	case *expr.Range:
		ev.test(e.Register, []interval{{low: e.FromData, high: e.ToData}}, e.Op == expr.CmpOpNeq)
	case *expr.Lookup:
		return ev.lookup(e)
	case *expr.Verdict:
		ev.follow(e)
	case *expr.NAT:
		ev.nat(e)
	case *expr.Redir:
		ev.find(func(*registers) target { return target{} })
	case xtMatch:
		ev.narrow(e.match())
	case xtTarget:
		if to, ok := e.target(); ok {
			ev.find(func(*registers) target { return to })
		}
	case opaque:
		// It may have written any register.
		each(func(r *registers) { *r = registers{} })
	}
	return nil
}

// opaque is an expression that is not understood and may write registers.
type opaque struct{}

// narrow keeps of each alternative what one of match matches, too.
func (ev *evaluation) narrow(match []Redirect) {
	if len(match) > 1 && len(ev.alternatives)*len(match) > maxAlternatives {
		return
	}
	var kept []alternative
	for i := range ev.alternatives {
		a := &ev.alternatives[i]
		for _, m := range match {
			if both, ok := a.match.and(m); ok {
				kept = append(kept, alternative{match: both, regs: a.regs})
			}
		}
	}
	ev.alternatives = kept
}

// test narrows to the packets for which a register is in one of the intervals, or
// in none.
func (ev *evaluation) test(reg uint32, in []interval, none bool) {
	regs := &ev.alternatives[0].regs
	var match []Redirect
	seen := make(map[Redirect]bool)
	for _, i := range in {
		some, exact := regs.within(reg, i.low, i.high)
		if none && !exact {
			return
		}
		for _, m := range some {
			if !seen[m] {
				seen[m] = true
				match = append(match, m)
			}
		}
	}
	if none {
		match = complement(match)
	}
	ev.narrow(match)
}

// compare matches a register with one value.
func (ev *evaluation) compare(e *expr.Cmp) {
	i := interval{low: make([]byte, len(e.Data)), high: bytes.Repeat([]byte{0xff}, len(e.Data))}
	possible := true
	switch e.Op {
	case expr.CmpOpEq, expr.CmpOpNeq:
		ev.test(e.Register, []interval{{low: e.Data, high: e.Data}}, e.Op == expr.CmpOpNeq)
		return
	case expr.CmpOpLt:
		i.high, possible = before(e.Data)
	case expr.CmpOpLte:
		i.high = e.Data
	case expr.CmpOpGt:
		i.low, possible = after(e.Data)
	case expr.CmpOpGte:
		i.low = e.Data
	}
	// Several fields in one register have no order that could be told here.
	if ev.alternatives[0].regs.single(e.Register, len(e.Data)) {
		if !possible {
			ev.alternatives = nil
			return
		}
		ev.test(e.Register, []interval{i}, false)
	}
}

// before returns the number before b, in network byte order, unless b is 0.
func before(b []byte) ([]byte, bool) {
	b = bytes.Clone(b)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			return b, true
		}
	}
	return nil, false
}

// after returns the number after b, unless b is the highest.
func after(b []byte) ([]byte, bool) {
	b = bytes.Clone(b)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			return b, true
		}
	}
	return nil, false
}

// lookup matches the elements of a set, or takes the data of a map.
func (ev *evaluation) lookup(e *expr.Lookup) error {
	isMap := e.IsDestRegSet
	if !isMap && !ev.alternatives[0].regs.anyField(e.SourceRegister, maxKey) {
		return nil // a set of sources, say; it may be large
	}
	elements, err := ev.elements(e.SetName)
	if err != nil {
		return err
	}
	if !isMap {
		ev.test(e.SourceRegister, elements, e.Invert)
		return nil
	}
	var kept []alternative
	for i := range ev.alternatives {
		a := &ev.alternatives[i]
		for _, el := range elements {
			if len(kept) >= maxAlternatives {
				break
			}
			match, _ := a.regs.within(e.SourceRegister, el.low, el.high)
			for _, m := range match {
				both, ok := a.match.and(m)
				if !ok {
					continue
				}
				n := alternative{match: both, regs: a.regs}
				n.regs.put(e.DestRegister, el.data)
				kept = append(kept, n)
				if el.chain != "" {
					ev.jumps = append(ev.jumps, jump{el.chain, []Redirect{both}})
				}
			}
		}
	}
	if e.DestRegister != unix.NFT_REG_VERDICT {
		ev.alternatives = kept
	}
	return nil
}

// maxKey is the most bytes that a key may have (NFT_DATA_VALUE_MAXLEN).
const maxKey = 64

// follow notes a jump.
func (ev *evaluation) follow(e *expr.Verdict) {
	if e.Kind != expr.VerdictJump && e.Kind != expr.VerdictGoto {
		return
	}
	j := jump{chain: e.Chain}
	for i := range ev.alternatives {
		j.match = append(j.match, ev.alternatives[i].match)
	}
	ev.jumps = append(ev.jumps, j)
}

// nat reads the target out of the registers.
func (ev *evaluation) nat(e *expr.NAT) {
	if e.Type != expr.NATTypeDestNAT || e.Family == unix.NFPROTO_IPV6 {
		return
	}
	ev.find(func(r *registers) target {
		var to target
		if e.Prefix {
			to.flags = unix.NF_NAT_RANGE_NETMAP
		}
		low, ok := r.get(e.RegAddrMin, 4)
		if !ok {
			return target{}
		}
		high, ok := r.get(e.RegAddrMax, 4)
		if !ok {
			high = low
		}
		to.low, to.high = netip.AddrFrom4([4]byte(low)), netip.AddrFrom4([4]byte(high))
		if e.RegProtoMin == 0 {
			return to
		}
		first, ok := r.get(e.RegProtoMin, 2)
		if !ok {
			return target{}
		}
		last, ok := r.get(e.RegProtoMax, 2)
		if !ok {
			last = first
		}
		to.first, to.last = binary.BigEndian.Uint16(first), binary.BigEndian.Uint16(last)
		return to
	})
}

// find notes that all packets that came so far are translated.
func (ev *evaluation) find(to func(*registers) target) {
	for i := range ev.alternatives {
		a := &ev.alternatives[i]
		ev.found = append(ev.found, to(&a.regs).of(a.match))
	}
}
