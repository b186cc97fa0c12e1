package nft

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// field is a part of a packet that a rule may look at.
type field uint8

const (
	unknown field = iota
	constant
	nfproto   // network protocol, as in NFPROTO_IPV4
	etherType // network protocol, as in ETH_P_IP
	l4proto
	destAddr
	destPort
	inName  // incoming interface
	inIndex // the same, by number
	numFields
)

// sizes of the fields in bytes.
func (f field) size() int {
	return [numFields]int{nfproto: 1, etherType: 2, l4proto: 1, destAddr: 4, destPort: 2,
		inName: unix.IFNAMSIZ, inIndex: 4}[f]
}

// registers are the kernel's registers, with what is known of each byte.
type registers [64]struct {
	from field
	at   uint8 // which byte of the field
	val  uint8 // of a constant
	mask uint8 // the bits of the field that are there
}

// register returns where a register's bytes start: NFT_REG_1 to 4 have 16 bytes
// each, NFT_REG32_00 to 15 are the same memory in parts of 4.
func register(reg uint32) int {
	switch {
	case reg >= unix.NFT_REG_1 && reg <= unix.NFT_REG_4:
		return int(reg-unix.NFT_REG_1) * 16
	case reg >= unix.NFT_REG32_00 && reg <= unix.NFT_REG32_15:
		return int(reg-unix.NFT_REG32_00) * 4
	}
	return len(registers{})
}

// load puts n bytes of a field into a register.
func (r *registers) load(reg uint32, f field, n int) {
	for i, at := 0, register(reg); i < n && at+i < len(r); i++ {
		b := &r[at+i]
		b.from, b.at, b.mask = f, uint8(i), 0xff
		if i >= f.size() {
			b.from = unknown
		}
	}
}

// put puts bytes into a register.
func (r *registers) put(reg uint32, data []byte) {
	for i, at := 0, register(reg); i < len(data) && at+i < len(r); i++ {
		b := &r[at+i]
		b.from, b.val = constant, data[i]
	}
}

// get returns n bytes that were put into a register, if they were.
func (r *registers) get(reg uint32, n int) ([]byte, bool) {
	at := register(reg)
	if at+n > len(r) {
		return nil, false
	}
	data := make([]byte, n)
	for i := range data {
		if r[at+i].from != constant {
			return nil, false
		}
		data[i] = r[at+i].val
	}
	return data, true
}

// offProtocol is the protocol's offset in the IPv4 header.
const offProtocol = 9

// payload loads a part of the packet, by bytes: nft compares neighbours in one go.
func (r *registers) payload(e *expr.Payload) {
	if e.OperationType == expr.PayloadWrite {
		return
	}
	at := register(e.DestRegister)
	for i := range int(min(e.Len, uint32(len(r)))) {
		if at+i >= len(r) {
			return
		}
		b := &r[at+i]
		b.from, b.mask = unknown, 0xff
		off := e.Offset + uint32(i)
		switch {
		case e.Base == expr.PayloadBaseTransportHeader && off >= offDport && off < offDport+2:
			b.from, b.at = destPort, uint8(off-offDport)
		case e.Base == expr.PayloadBaseNetworkHeader && off >= offDaddr && off < offDaddr+4:
			b.from, b.at = destAddr, uint8(off-offDaddr)
		case e.Base == expr.PayloadBaseNetworkHeader && off == offProtocol:
			b.from, b.at = l4proto, 0
		}
	}
}

func (r *registers) meta(e *expr.Meta) {
	if e.SourceRegister {
		return
	}
	f := unknown
	switch e.Key {
	case expr.MetaKeyNFPROTO:
		f = nfproto
	case expr.MetaKeyPROTOCOL:
		f = etherType
	case expr.MetaKeyL4PROTO:
		f = l4proto
	case expr.MetaKeyIIFNAME:
		f = inName
	case expr.MetaKeyIIF:
		f = inIndex
	}
	// At least a whole register is written.
	r.load(e.Register, f, max(4, f.size()))
}

// bitwise keeps some bits.
func (r *registers) bitwise(e *expr.Bitwise) {
	from, to := register(e.SourceRegister), register(e.DestRegister)
	for i := range int(min(e.Len, uint32(len(r)))) {
		if from+i >= len(r) || to+i >= len(r) {
			return
		}
		b := r[from+i]
		if i >= len(e.Mask) || i >= len(e.Xor) || e.Xor[i] != 0 || b.from == constant {
			b.from = unknown
		} else {
			b.mask &= e.Mask[i]
		}
		r[to+i] = b
	}
}

// within returns the packets for which what a register holds lies between low and
// high, field by field, both ends included. None: no UDP packet over IPv4. exact
// is false if there may be fewer.
func (r *registers) within(reg uint32, low, high []byte) (match []Redirect, exact bool) {
	type bounds struct {
		low, high [unix.IFNAMSIZ]byte
		n         int
	}
	var fields [numFields]bounds
	exact = true
	at := register(reg)
	for i := range min(len(low), len(high)) {
		if at+i >= len(r) {
			break
		}
		b := r[at+i]
		if b.from == constant || b.from == unknown {
			exact = exact && padding(low[i], high[i], i)
			continue
		}
		f := &fields[b.from]
		if f.n == 0 {
			f.high = [unix.IFNAMSIZ]byte(bytes.Repeat([]byte{0xff}, unix.IFNAMSIZ))
		}
		f.n++
		f.low[b.at], f.high[b.at] = low[i]&b.mask, high[i]|^b.mask
		exact = exact && b.mask == 0xff
	}

	one := anything
	for name := range fields {
		f := &fields[name]
		if f.n == 0 {
			continue
		}
		admits := func(want ...byte) bool {
			return bytes.Compare(f.low[:len(want)], want) <= 0 && bytes.Compare(f.high[:len(want)], want) >= 0
		}
		switch field(name) {
		case nfproto:
			if !admits(unix.NFPROTO_IPV4) {
				return nil, exact
			}
		case etherType:
			if !admits(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP)...) {
				return nil, exact
			}
		case l4proto:
			if !admits(unix.IPPROTO_UDP) {
				return nil, exact
			}
		case destPort:
			one.Low, one.High = binary.BigEndian.Uint16(f.low[:]), binary.BigEndian.Uint16(f.high[:])
			if one.Low > one.High {
				return nil, exact
			}
		case inName:
			one.InIf = interfacePattern(f.low, f.high)
		case inIndex:
			if [4]byte(f.low[:]) == [4]byte(f.high[:]) {
				if link, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(f.low[:]))); err == nil {
					one.InIf = link.Name
				}
			}
			exact = exact && one.InIf != ""
		}
	}
	f := &fields[destAddr]
	if f.n == 0 {
		return []Redirect{one}, exact
	}
	for _, p := range prefixes(binary.BigEndian.Uint32(f.low[:]), binary.BigEndian.Uint32(f.high[:])) {
		one.Addr = netip.Prefix{}
		if p.Bits() > 0 {
			one.Addr = p
		}
		match = append(match, one)
	}
	return match, exact
}

// padding tells whether a byte of a key is one that fills up a part of a
// concatenation to 4 bytes.
func padding(low, high byte, at int) bool { return at%4 != 0 && low == 0 && high == 0 }

// interfacePattern is the start that all names from low to high share, with a "*"
// unless that is the whole name.
func interfacePattern(low, high [unix.IFNAMSIZ]byte) string {
	n := 0
	for n < len(low) && low[n] == high[n] && low[n] != 0 {
		n++
	}
	name := string(low[:n])
	if n > 0 && n < len(low) && low[n] != high[n] {
		name += "*"
	}
	return name
}

// anyField tells whether any of the n bytes of a register is of a known field.
func (r *registers) anyField(reg uint32, n int) bool {
	at := register(reg)
	for i := at; i < at+n && i < len(r); i++ {
		if r[i].from > constant {
			return true
		}
	}
	return false
}

// single tells whether the n bytes of a register are one field, in full.
func (r *registers) single(reg uint32, n int) bool {
	at := register(reg)
	if n == 0 || at+n > len(r) || r[at].from.size() != n {
		return false
	}
	for i := range n {
		if b := r[at+i]; b.from != r[at].from || int(b.at) != i || b.mask != 0xff {
			return false
		}
	}
	return true
}
