package lab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// UDPPacket is an IPv4 packet with a UDP datagram of any source.
func UDPPacket(src, dst netip.AddrPort, payload []byte) []byte {
	const ip, udp = 20, 8
	b := make([]byte, ip+udp, ip+udp+len(payload))
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	b = append(b, payload...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	s, d := src.Addr().As4(), dst.Addr().As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[ip:], src.Port())
	binary.BigEndian.PutUint16(b[ip+2:], dst.Port())
	binary.BigEndian.PutUint16(b[ip+4:], uint16(udp+len(payload)))
	p := &Packet{Src: src, Dst: dst, Proto: unix.IPPROTO_UDP}
	sum := transportChecksum(p, b[ip:])
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[ip+6:], sum)
	return b
}

// Fragments cuts an IPv4 packet in pieces that begin at these offsets of its payload,
// multiples of 8. id tells its fragments from those of other packets.
func Fragments(packet []byte, id uint16, offsets ...int) [][]byte {
	const ip, more = 20, 0x2000
	var list [][]byte
	payload := packet[ip:]
	for i, lo := range offsets {
		hi, flags := len(payload), 0
		if i+1 < len(offsets) {
			hi, flags = offsets[i+1], more
		}
		f := append(append([]byte(nil), packet[:ip]...), payload[lo:hi]...)
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		binary.BigEndian.PutUint16(f[4:], id)
		binary.BigEndian.PutUint16(f[6:], uint16(flags|lo/8))
		list = append(list, f)
	}
	return list
}

// ICMPError is an ICMP error (RFC 792) about a packet, of which it quotes the headers.
func ICMPError(src, dst netip.Addr, kind, code uint8, mtu uint16, about []byte) []byte {
	const ip, icmp = 20, 8
	b := make([]byte, ip+icmp)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_ICMP
	b = append(b, about[:min(len(about), ip+icmp)]...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	b[ip], b[ip+1] = kind, code
	binary.BigEndian.PutUint16(b[ip+6:], mtu)
	// The quoted header as it went over the wire.
	binary.BigEndian.PutUint16(b[ip+icmp+10:], 0)
	binary.BigEndian.PutUint16(b[ip+icmp+10:], checksum(0, b[ip+icmp:ip+icmp+ip]))
	binary.BigEndian.PutUint16(b[ip+2:], checksum(0, b[ip:]))
	return b
}

// SendIP sends IPv4 packets as they are, whatever source they name. The kernel fills
// in the checksum of the IP header, and the identification where it is 0.
func (h *Host) SendIP(packets ...[]byte) {
	h.lab.T.Helper()
	err := h.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		for _, p := range packets {
			if err := unix.Sendto(s, p, 0, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.lab.T.Errorf("%s: send packets: %v", h.Name, err)
	}
}
