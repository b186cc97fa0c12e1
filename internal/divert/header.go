package divert

import (
	"encoding/binary"
	"net/netip"
)

// Reason says why a packet passed without being shown to the handler.
type Reason uint8

const (
	readable    Reason = iota
	NotUDP             // another protocol, or UDP that is not within reach (IPsec AH, an unfinished routing header)
	Fragment           // a fragment; conntrack reassembles, so the rule is in the wrong place or conntrack is off
	Truncated          // shorter than its headers say, or larger than the queue can hand over
	BadHeader          // header fields that contradict each other
	BadChecksum        // the UDP checksum is wrong: a rewrite would make the corruption invisible
	reasons
)

// String returns the reason as it appears in logs and counters.
func (r Reason) String() string {
	switch r {
	case readable:
		return "readable"
	case NotUDP:
		return "not_udp"
	case Fragment:
		return "fragment"
	case Truncated:
		return "truncated"
	case BadHeader:
		return "bad_header"
	case BadChecksum:
		return "bad_checksum"
	}
	return "invalid"
}

// Protocol numbers and header sizes (RFC 791, RFC 768, RFC 8200).
const (
	protoHopByHop = 0
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoDestOpts = 60

	ipv4Len = 20
	ipv6Len = 40
	udpLen  = 8

	flagDF     = 0x40 // in byte 6 of the IPv4 header
	offsetMask = 0x3fff
)

// datagram is an IP packet that holds one whole UDP datagram. Its slices alias
// the packet.
type datagram struct {
	packet  []byte // from the IP header to the end that the IP header states
	header  int    // length of the IP header with options or extension headers
	v6      bool
	addrs   []byte // source and destination address, as in the IP header
	udp     []byte // the UDP header and payload, of the length it states
	payload []byte
}

// parse reads the headers of the IP packet b. It does not look at checksums.
func (d *datagram) parse(b []byte) Reason {
	if len(b) < ipv4Len {
		return Truncated
	}
	switch b[0] >> 4 {
	case 4:
		return d.parseIPv4(b)
	case 6:
		return d.parseIPv6(b)
	}
	return BadHeader
}

func (d *datagram) parseIPv4(b []byte) Reason {
	header := int(b[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case header < ipv4Len || total < header:
		return BadHeader
	case b[9] != protoUDP:
		return NotUDP
	case binary.BigEndian.Uint16(b[6:])&offsetMask != 0:
		return Fragment
	case total > len(b):
		return Truncated
	}
	d.v6 = false
	d.addrs = b[12:20]
	return d.parseUDP(b[:total], header)
}

func (d *datagram) parseIPv6(b []byte) Reason {
	if len(b) < ipv6Len {
		return Truncated
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return Truncated
	}
	b = b[:total]
	next, header := b[6], ipv6Len
	for next != protoUDP {
		switch next {
		case protoFragment:
			return Fragment
		case protoHopByHop, protoDestOpts, protoRouting:
		default:
			return NotUDP
		}
		if header+8 > len(b) {
			return Truncated
		}
		if next == protoRouting && b[header+3] != 0 {
			// The pseudo-header is that of the final destination, which is
			// somewhere in the routing header.
			return NotUDP
		}
		next, header = b[header], header+8+int(b[header+1])*8
	}
	d.v6 = true
	d.addrs = b[8:40]
	return d.parseUDP(b, header)
}

// parseUDP reads the UDP header that follows header bytes of IP headers.
func (d *datagram) parseUDP(packet []byte, header int) Reason {
	if header+udpLen > len(packet) {
		return Truncated
	}
	udp := packet[header:]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	switch {
	case length < udpLen:
		return BadHeader
	case length > len(udp):
		return Truncated
	}
	d.packet, d.header = packet, header
	d.udp = udp[:length:length]
	d.payload = d.udp[udpLen:]
	return readable
}

// checksumOK reports whether the UDP checksum is right, or absent, which only
// IPv4 allows (RFC 8200, section 8.1).
func (d *datagram) checksumOK() bool {
	if d.udp[6] == 0 && d.udp[7] == 0 {
		return !d.v6
	}
	return udpChecksum(d.addrs, d.udp) == 0
}

// endpoints returns the source and destination.
func (d *datagram) endpoints() (src, dst netip.AddrPort) {
	sport, dport := binary.BigEndian.Uint16(d.udp), binary.BigEndian.Uint16(d.udp[2:])
	if d.v6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(d.addrs[:16])), sport),
			netip.AddrPortFrom(netip.AddrFrom16([16]byte(d.addrs[16:])), dport)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(d.addrs[:4])), sport),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(d.addrs[4:])), dport)
}
