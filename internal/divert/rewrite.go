package divert

import "encoding/binary"

// appendRewritten appends to dst the packet of d with another payload: headers
// as they were, apart from lengths, checksums and what growing demands (see
// the package documentation). ident supplies the identification of an IPv4
// packet that loses Don't Fragment and has none. It reports false, with dst
// as it was, if the result would be larger than a verdict can carry.
func (d *datagram) appendRewritten(dst, payload []byte, ident func() uint16) ([]byte, bool) {
	total := d.header + udpLen + len(payload)
	if total > maxPacket {
		return dst, false
	}
	at := len(dst)
	dst = append(dst, d.packet[:d.header+udpLen]...)
	dst = append(dst, payload...)

	packet := dst[at:]
	var addrs []byte
	if d.v6 {
		addrs = packet[8:40]
		binary.BigEndian.PutUint16(packet[4:], uint16(total-ipv6Len))
	} else {
		addrs = packet[12:20]
		binary.BigEndian.PutUint16(packet[2:], uint16(total))
		if total > len(d.packet) && packet[6]&flagDF != 0 {
			packet[6] &^= flagDF
			if packet[4] == 0 && packet[5] == 0 {
				binary.BigEndian.PutUint16(packet[4:], ident())
			}
		}
		packet[10], packet[11] = 0, 0
		binary.BigEndian.PutUint16(packet[10:], fold(sum(0, packet[:d.header])))
	}

	udp := packet[d.header:]
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	udp[6], udp[7] = 0, 0
	check := udpChecksum(addrs, udp)
	if check == 0 {
		check = 0xffff // zero would mean "no checksum" (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return dst, true
}
