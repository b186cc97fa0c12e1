package nft

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A Packet is a UDP packet over IPv4 that comes to the firewall, as far as it is
// known. What is left out may be anything.
type Packet struct {
	TCP               bool   // it is the first one of a TCP connection instead
	In, Out           string // interfaces
	InIndex, OutIndex uint32 // their numbers
	Src, Dst          netip.Addr
	SrcPorts          Ports
	DstPorts          Ports
	State             State
	Status            Status
}

func (p *Packet) protocol() byte {
	if p.TCP {
		return unix.IPPROTO_TCP
	}
	return unix.IPPROTO_UDP
}

// Ports is a range of ports, both ends included. The zero value is any port.
type Ports struct{ Low, High uint16 }

func (p Ports) bounds() (low, high uint16) {
	if p == (Ports{}) {
		return 0, 0xffff
	}
	return p.Low, p.High
}

// State is the state of a packet's flow.
type State uint32

// The states, with the kernel's numbers for them.
const (
	StateEstablished = State(expr.CtStateBitESTABLISHED)
	StateRelated     = State(expr.CtStateBitRELATED)
	StateNew         = State(expr.CtStateBitNEW)
)

// Status is what else is known of a flow, as bits.
type Status uint32

// The bits of Status, as the kernel has them.
const (
	StatusExpected Status = ipsExpected
	StatusDNAT     Status = ipsDstNAT
)

// An octet is a byte of which some bits are known.
type octet struct{ value, known byte }

// octets are the memory of nft's registers.
type octets [64]octet

// put stores bytes that are known in full.
func (c *octets) put(reg uint32, data []byte) {
	for i, at := 0, register(reg); i < len(data) && at+i < len(c); i++ {
		c[at+i] = octet{data[i], 0xff}
	}
}

// blur forgets n bytes.
func (c *octets) blur(reg uint32, n int) {
	for i, at := 0, register(reg); i < n && at+i < len(c); i++ {
		c[at+i] = octet{}
	}
}

// get returns n bytes that are known in full.
func (c *octets) get(reg uint32, n int) (data []byte, ok bool) {
	at := register(reg)
	if at+n > len(c) {
		return nil, false
	}
	for _, b := range c[at : at+n] {
		if b.known != 0xff {
			return nil, false
		}
		data = append(data, b.value)
	}
	return data, true
}

// wide is the size of a register of 16 bytes, the most that is loaded at once.
const wide = 16

// meta loads what is known about the packet.
func (c *octets) meta(e *expr.Meta, p *Packet) {
	if e.SourceRegister {
		return
	}
	name := func(s string) {
		c.blur(e.Register, wide)
		if s != "" {
			c.put(e.Register, append([]byte(s), make([]byte, unix.IFNAMSIZ-min(len(s), unix.IFNAMSIZ))...))
		}
	}
	index := func(n uint32) {
		c.blur(e.Register, 4)
		if n != 0 {
			c.put(e.Register, binary.NativeEndian.AppendUint32(nil, n))
		}
	}
	switch e.Key {
	case expr.MetaKeyNFPROTO:
		c.put(e.Register, []byte{unix.NFPROTO_IPV4, 0, 0, 0})
	case expr.MetaKeyPROTOCOL:
		c.put(e.Register, append(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP), 0, 0))
	case expr.MetaKeyL4PROTO:
		c.put(e.Register, []byte{p.protocol(), 0, 0, 0})
	case expr.MetaKeyIIFNAME:
		name(p.In)
	case expr.MetaKeyOIFNAME:
		name(p.Out)
	case expr.MetaKeyIIF:
		index(p.InIndex)
	case expr.MetaKeyOIF:
		index(p.OutIndex)
	default:
		c.blur(e.Register, wide)
	}
}

// ct loads what is known about the flow.
func (c *octets) ct(e *expr.Ct, p *Packet) {
	switch {
	case e.SourceRegister:
	case e.Key == expr.CtKeySTATE && p.State != 0:
		c.put(e.Register, binary.NativeEndian.AppendUint32(nil, uint32(p.State)))
	case e.Key == expr.CtKeySTATUS:
		// Only the bits that are set are known.
		c.blur(e.Register, 4)
		at := register(e.Register)
		for i, b := range binary.NativeEndian.AppendUint32(nil, uint32(p.Status)) {
			if at+i < len(c) {
				c[at+i] = octet{b, b}
			}
		}
	default:
		c.blur(e.Register, wide)
	}
}

// payload loads a part of the packet.
func (c *octets) payload(e *expr.Payload, p *Packet) {
	if e.OperationType == expr.PayloadWrite {
		return
	}
	var header [20]octet
	switch e.Base {
	case expr.PayloadBaseNetworkHeader:
		header[0] = octet{0x40, 0xf0} // the version
		header[offProtocol] = octet{p.protocol(), 0xff}
		address := func(at int, a netip.Addr) {
			if a.Is4() {
				for i, b := range a.As4() {
					header[at+i] = octet{b, 0xff}
				}
			}
		}
		address(offSaddr, p.Src)
		address(offDaddr, p.Dst)
	case expr.PayloadBaseTransportHeader:
		port := func(at int, ports Ports) {
			// The bits that all ports of the range share are known.
			low, high := ports.bounds()
			known := ^(uint16(1)<<bits.Len16(low^high) - 1)
			header[at] = octet{byte((low & known) >> 8), byte(known >> 8)}
			header[at+1] = octet{byte(low & known), byte(known)}
		}
		port(offSport, p.SrcPorts)
		port(offDport, p.DstPorts)
	}
	at := register(e.DestRegister)
	for i := range int(min(e.Len, uint32(len(c)))) {
		if at+i >= len(c) {
			return
		}
		c[at+i] = octet{}
		if off := uint64(e.Offset) + uint64(i); off < uint64(len(header)) {
			c[at+i] = header[off]
		}
	}
	// The rest of the last word is zero.
	for i := int(e.Len); i%4 != 0 && at+i < len(c); i++ {
		c[at+i] = octet{0, 0xff}
	}
}

// bitwise masks bits and flips others. Whatever else a kernel can do has neither.
func (c *octets) bitwise(e *expr.Bitwise) {
	from, to := register(e.SourceRegister), register(e.DestRegister)
	for i := range int(min(e.Len, uint32(len(c)))) {
		if from+i >= len(c) || to+i >= len(c) {
			return
		}
		b := c[from+i]
		if i >= len(e.Mask) || i >= len(e.Xor) {
			b = octet{}
		} else {
			b.value = b.value&e.Mask[i] ^ e.Xor[i]
			b.known |= ^e.Mask[i]
		}
		c[to+i] = b
	}
}

// match says whether a rule is about a packet.
type match uint8

// The answers, so that the least one is that of all conditions together.
const (
	never match = iota
	perhaps
	always
)

func (m match) not() match { return always - m }

// matchOf is always or never.
func matchOf(yes bool) match {
	if yes {
		return always
	}
	return never
}

// within tells whether the number in a register, in network byte order, lies between
// low and high, both ends included.
func (c *octets) within(reg uint32, low, high []byte) match {
	at := register(reg)
	if at+len(low) > len(c) || len(low) != len(high) {
		return perhaps
	}
	least, most := make([]byte, len(low)), make([]byte, len(low))
	same := true // the bounds, so far
	for i := range low {
		b := c[at+i]
		least[i], most[i] = b.value&b.known, b.value|^b.known
		same = same && low[i] == high[i]
		if same && (b.value^low[i])&b.known != 0 {
			return never
		}
	}
	switch {
	case bytes.Compare(most, low) < 0 || bytes.Compare(least, high) > 0:
		return never
	case bytes.Compare(least, low) >= 0 && bytes.Compare(most, high) <= 0:
		return always
	}
	return perhaps
}
