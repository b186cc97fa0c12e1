package divert

import (
	"encoding/binary"
	"math/bits"
)

// The Internet checksum (RFC 1071). Partial sums are kept unfolded in 64 bits
// and in network byte order; the sum of 64-bit words modulo 2^64-1 is
// congruent to the one of 16-bit words modulo 2^16-1.

// sum adds b to a partial sum. Every part but the last must have even length.
func sum(acc uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), carry)
		acc = endAround(acc, carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc = endAround(acc, carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte // an odd byte is padded with zero on the right
		copy(last[:], b)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(last[:]), 0)
		acc = endAround(acc, carry)
	}
	return acc
}

// endAround adds the carry back in; it may itself carry once more.
func endAround(acc, carry uint64) uint64 {
	acc, carry = bits.Add64(acc, 0, carry)
	return acc + carry
}

// fold brings a partial sum to 16 bits and complements it. Over data that holds
// its own right checksum the result is 0.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return ^uint16(acc)
}

// udpChecksum computes the checksum of a UDP datagram whose checksum field is
// zero, or checks one whose field is not: then 0 means right. addrs is the
// source and destination address as they stand in the IP header, 8 or 32
// bytes; the pseudo-header is theirs (RFC 768; RFC 8200, section 8.1: length
// and protocol sum up to the same in both forms).
func udpChecksum(addrs, datagram []byte) uint16 {
	acc := sum(uint64(len(datagram))+protoUDP, addrs)
	return fold(sum(acc, datagram))
}
