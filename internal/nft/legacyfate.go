package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// More constants of linux/netfilter_ipv4/ip_tables.h and linux/netfilter/x_tables.h.
const (
	iptFragment  = 0x01 // IPT_F_FRAG
	iptInvertOut = 0x02 // IPT_INV_VIA_OUT
	iptInvertSrc = 0x08 // IPT_INV_SRCIP

	xtReturn = -5 // XT_RETURN
)

// legacyFate tells what may become of a packet in a chain of iptables-legacy. Its
// policy is its last rule, to which those come that return from it.
func (f *Firewall) legacyFate(c Chain, p *Packet) Fate {
	table := f.legacy[c.Table]
	j := legacyJudgement{table: table.entries, packet: p}
	fate := j.chain(table.hooks[c.Hook], 0)
	if fate&passed != 0 {
		fate = fate&^passed | j.chain(table.policies[c.Hook], 0)
	}
	return fate
}

// legacyJudgement is the way of a packet through a table of iptables-legacy.
type legacyJudgement struct {
	table  []byte
	packet *Packet
	steps  int
}

// chain returns passed where the packet may return from it.
func (j *legacyJudgement) chain(at uint32, depth int) Fate {
	if depth > maxDepth {
		return undecided
	}
	var all Fate
	for {
		e, ok := decodeEntry(j.table, at)
		if j.steps++; !ok || j.steps > maxSteps {
			return ended(all | undecided)
		}
		fate := passed
		if about := e.about(j.packet); about != never {
			if fate = j.target(e, at, depth); fate == 0 || about == perhaps {
				fate |= passed
			}
		}
		all |= fate &^ passed
		if fate&passed == 0 {
			return ended(all)
		}
		at += uint32(e.next)
	}
}

// target returns what becomes of the packets that a rule is about; none where they
// come to the next one.
func (j *legacyJudgement) target(e legacyEntry, at uint32, depth int) Fate {
	t := e.target()
	if t.name != "" {
		return targetFate(t)
	}
	if len(t.info) < 4 {
		return undecided
	}
	verdict := int32(binary.NativeEndian.Uint32(t.info))
	switch {
	case verdict == xtReturn:
		return returned
	case verdict == -nfAccept-1:
		return Accepted
	case verdict == -nfDrop-1:
		return Dropped
	case verdict < 0:
		return Accepted | Dropped
	case uint32(verdict) == at+uint32(e.next):
		return 0
	}
	fate := j.chain(uint32(verdict), depth+1)
	if e.raw[82]&iptGoto != 0 && fate&passed != 0 {
		fate = fate&^passed | returned
	}
	return fate
}

// about tells whether a rule is about a packet.
func (e legacyEntry) about(p *Packet) match {
	b := e.raw
	invert := func(m match, flag byte) match {
		if b[83]&flag != 0 {
			return m.not()
		}
		return m
	}
	protocol := binary.NativeEndian.Uint16(b[80:])
	about := min(
		invert(addressMatch(b[0:], b[8:], p.Src), iptInvertSrc),
		invert(addressMatch(b[4:], b[12:], p.Dst), iptInvertDest),
		invert(interfaceMatch(b[16:], b[48:], p.In), iptInvertIn),
		invert(interfaceMatch(b[32:], b[64:], p.Out), iptInvertOut),
		invert(matchOf(protocol == 0 || protocol == uint16(p.protocol())), iptInvertProto),
		matchOf(b[82]&iptFragment == 0),
	)
	for b := b[iptEntrySize:e.targetOffset]; len(b) >= iptItemSize && about != never; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < iptItemSize || size > len(b) {
			return min(about, perhaps)
		}
		about = min(about, xtMatch(decodeItem(b[:size])).about(p))
		b = b[size:]
	}
	return about
}

// addressMatch compares the bits of an address that a mask selects.
func addressMatch(want, mask []byte, a netip.Addr) match {
	if !slices.ContainsFunc(mask[:4], func(b byte) bool { return b != 0 }) {
		return always
	}
	if !a.Is4() {
		return perhaps
	}
	for i, b := range a.As4() {
		if (b^want[i])&mask[i] != 0 {
			return never
		}
	}
	return always
}

// interfaceMatch compares the bytes of a name that a mask selects.
func interfaceMatch(want, mask []byte, name string) match {
	if mask[0] == 0 {
		return always
	}
	if name == "" {
		return perhaps
	}
	var have [unix.IFNAMSIZ]byte
	copy(have[:], name)
	for i, b := range have {
		if (b^want[i])&mask[i] != 0 {
			return never
		}
	}
	return always
}
