package divert

import (
	"encoding/binary"
	"net/netip"
)

// testPacket describes an IP packet for tests. Zero fields get ordinary values.
type testPacket struct {
	src, dst   netip.AddrPort
	options    []byte // IPv4 options, or IPv6 extension headers; a multiple of 4 or 8
	next       byte   // first IPv6 next header, if there are extension headers
	proto      byte
	id         uint16
	df         bool
	fragment   uint16 // MF flag and offset
	payload    []byte
	udpLen     int  // if not 0, what the UDP header claims
	noChecksum bool // IPv4: send zero
	trailer    []byte
}

var (
	inside4  = netip.MustParseAddrPort("10.0.0.2:5060")
	outside4 = netip.MustParseAddrPort("192.0.2.2:5060")
	inside6  = netip.MustParseAddrPort("[2001:db8:1::2]:5060")
	outside6 = netip.MustParseAddrPort("[2001:db8:2::2]:5060")
)

// bytes builds the packet. It shares no code with the package.
func (p testPacket) bytes() []byte {
	if !p.src.IsValid() {
		p.src, p.dst = inside4, outside4
	}
	udp := binary.BigEndian.AppendUint16(nil, p.src.Port())
	udp = binary.BigEndian.AppendUint16(udp, p.dst.Port())
	length := udpLen + len(p.payload)
	if p.udpLen != 0 {
		length = p.udpLen
	}
	udp = binary.BigEndian.AppendUint16(udp, uint16(length))
	udp = append(udp, 0, 0)
	udp = append(udp, p.payload...)
	pseudo := append(p.src.Addr().AsSlice(), p.dst.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, protoUDP)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(length))
	if !p.noChecksum {
		check := slowChecksum(append(pseudo, udp...))
		if check == 0 {
			check = 0xffff
		}
		binary.BigEndian.PutUint16(udp[6:], check)
	}
	udp = append(udp, p.trailer...)

	if p.src.Addr().Is6() {
		b := []byte{0x6a, 0xbc, 0xde, 0xf0} // traffic class and flow label
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.options)+len(udp)))
		next := byte(protoUDP)
		if len(p.options) > 0 {
			next = p.next
		}
		b = append(b, next, 63)
		b = append(b, p.src.Addr().AsSlice()...)
		b = append(b, p.dst.Addr().AsSlice()...)
		b = append(b, p.options...)
		return append(b, udp...)
	}
	b := []byte{byte(0x45 + len(p.options)/4), 0xb8}
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4Len+len(p.options)+len(udp)))
	b = binary.BigEndian.AppendUint16(b, p.id)
	flags := p.fragment
	if p.df {
		flags |= 0x4000
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	proto := p.proto
	if proto == 0 {
		proto = protoUDP
	}
	b = append(b, 63, proto, 0, 0)
	b = append(b, p.src.Addr().AsSlice()...)
	b = append(b, p.dst.Addr().AsSlice()...)
	b = append(b, p.options...)
	binary.BigEndian.PutUint16(b[10:], slowChecksum(b))
	return append(b, udp...)
}

// slowChecksum is the Internet checksum as RFC 1071 describes it.
func slowChecksum(b []byte) uint16 {
	var acc uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		acc += word
	}
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}

// pattern is n bytes that differ from their neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}
