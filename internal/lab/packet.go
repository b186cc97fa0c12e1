package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sort"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Packet is a captured IPv4 datagram, whole.
type Packet struct {
	Time      time.Time
	Out       bool           // sent by the firewall; else it arrived there
	Proto     uint8          // of IP
	Src, Dst  netip.AddrPort // ports 0 unless UDP or TCP
	Payload   []byte         // of UDP or TCP; for other protocols that of IP
	SIP       *Message       // the payload, where that is SIP; of TCP a packet more for each message
	Flags     uint8          // of TCP
	Fragments int            // number of fragments it came in; 1 for a whole one
	DF        bool
	TTL, TOS  uint8
	Size      int    // IP total length, reassembled
	Fault     string // a wrong checksum or length, in words
	Inner     Path   // what an ICMP error quotes, else zero
}

// IsMedia reports whether this is UDP other than SIP, its keep-alives and DNS.
func (p *Packet) IsMedia() bool {
	if p.Proto != unix.IPPROTO_UDP || p.SIP != nil {
		return false
	}
	for _, port := range []uint16{p.Src.Port(), p.Dst.Port()} {
		if port == 5060 || port == 53 {
			return false
		}
	}
	for _, b := range p.Payload {
		if b != '\r' && b != '\n' && b != 0 {
			return true
		}
	}
	return false
}

func (p *Packet) String() string {
	arrow := "<-"
	if p.Out {
		arrow = "->"
	}
	what := fmt.Sprintf("proto %d, %d bytes", p.Proto, len(p.Payload))
	switch {
	case p.SIP != nil:
		what = fmt.Sprintf("%s %s (CSeq %s, %d bytes)", p.Over(), p.SIP.Start, p.SIP.Get("CSeq"), len(p.Payload))
	case p.Proto == unix.IPPROTO_UDP:
		what = fmt.Sprintf("UDP, %d bytes", len(p.Payload))
	case p.Proto == unix.IPPROTO_TCP:
		what = fmt.Sprintf("TCP, flags %02x, %d bytes", p.Flags, len(p.Payload))
	case p.Proto == unix.IPPROTO_ICMP:
		what = fmt.Sprintf("ICMP type %d code %d about %v", p.Payload[0], p.Payload[1], p.Inner)
	}
	if p.Fragments > 1 {
		what += fmt.Sprintf(", %d fragments", p.Fragments)
	}
	if p.Fault != "" {
		what += ", " + p.Fault
	}
	return fmt.Sprintf("%s %s %v -> %v %s", p.Time.Format("15:04:05.000000"), arrow, p.Src, p.Dst, what)
}

type fragmentKey struct {
	src, dst netip.Addr
	proto    uint8
	id       uint16
	out      bool
}

type fragments struct {
	pieces []piece
	end    int // length of the whole payload, 0 unknown
}

type piece struct {
	offset int
	data   []byte
}

// decode makes a packet of a frame, and of each SIP message in it that came over
// TCP; none if it is no IPv4 or not yet whole.
func (c *Capture) decode(f frame) []*Packet {
	const ethernet = 14
	if len(f.data) < ethernet+20 || binary.BigEndian.Uint16(f.data[12:]) != unix.ETH_P_IP {
		return nil
	}
	ip := f.data[ethernet:]
	hlen, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if hlen < 20 || total < hlen || total > len(ip) {
		return []*Packet{{Time: f.at, Out: f.out, Fault: "malformed IP header"}}
	}
	p := &Packet{
		Time: f.at, Out: f.out, Proto: ip[9], TTL: ip[8], TOS: ip[1], Size: total, Fragments: 1,
		DF: ip[6]&0x40 != 0,
	}
	if checksum(0, ip[:hlen]) != 0 {
		p.Fault = "wrong IP checksum"
	}
	src, _ := netip.AddrFromSlice(ip[12:16])
	dst, _ := netip.AddrFromSlice(ip[16:20])
	p.Src, p.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	body := ip[hlen:total]
	offset, more := int(binary.BigEndian.Uint16(ip[6:])&0x1fff)*8, ip[6]&0x20 != 0
	if offset != 0 || more {
		key := fragmentKey{src, dst, p.Proto, binary.BigEndian.Uint16(ip[4:]), f.out}
		whole, n := c.reassemble(key, offset, more, body)
		if whole == nil {
			return nil
		}
		body, p.Fragments, p.Size = whole, n, hlen+len(whole)
	}
	switch p.Proto {
	case unix.IPPROTO_UDP:
		decodeUDP(p, body, f.noChecksum)
	case unix.IPPROTO_TCP:
		return append([]*Packet{p}, c.decodeTCP(p, body, f.noChecksum)...)
	case unix.IPPROTO_ICMP:
		p.Payload = body
		if len(body) >= 8+28 && (body[0] == 3 || body[0] == 11) {
			p.Inner = quoted(body[8:])
		}
	default:
		p.Payload = body
	}
	return []*Packet{p}
}

func decodeUDP(p *Packet, body []byte, noChecksum bool) {
	if len(body) < 8 || int(binary.BigEndian.Uint16(body[4:])) != len(body) {
		p.Fault, p.Payload = "wrong UDP length", body
		return
	}
	p.Src = netip.AddrPortFrom(p.Src.Addr(), binary.BigEndian.Uint16(body))
	p.Dst = netip.AddrPortFrom(p.Dst.Addr(), binary.BigEndian.Uint16(body[2:]))
	p.Payload = body[8:]
	if sum := binary.BigEndian.Uint16(body[6:]); sum != 0 && !noChecksum && transportChecksum(p, body) != 0 {
		p.Fault = fmt.Sprintf("wrong UDP checksum %04x", sum)
	}
	if looksLikeSIP(p.Payload) {
		p.SIP, _ = ParseMessage(p.Payload)
		if p.SIP != nil {
			p.SIP.From = p.Src
		}
	}
}

// quoted is the UDP path inside an ICMP error.
func quoted(ip []byte) Path {
	hlen := int(ip[0]&15) * 4
	if len(ip) < hlen+4 || ip[9] != unix.IPPROTO_UDP {
		return Path{}
	}
	src, _ := netip.AddrFromSlice(ip[12:16])
	dst, _ := netip.AddrFromSlice(ip[16:20])
	return Path{
		netip.AddrPortFrom(src, binary.BigEndian.Uint16(ip[hlen:])),
		netip.AddrPortFrom(dst, binary.BigEndian.Uint16(ip[hlen+2:])),
	}
}

// reassemble returns the whole payload once all its fragments are there.
func (c *Capture) reassemble(key fragmentKey, offset int, more bool, data []byte) ([]byte, int) {
	f := c.parts[key]
	if f == nil {
		f = &fragments{}
		c.parts[key] = f
	}
	f.pieces = append(f.pieces, piece{offset, data})
	if !more {
		f.end = offset + len(data)
	}
	if f.end == 0 {
		return nil, 0
	}
	sort.SliceStable(f.pieces, func(i, j int) bool { return f.pieces[i].offset < f.pieces[j].offset })
	var whole []byte
	for _, p := range f.pieces {
		if p.offset != len(whole) {
			return nil, 0
		}
		whole = append(whole, p.data...)
	}
	if len(whole) != f.end {
		return nil, 0
	}
	delete(c.parts, key)
	return whole, len(f.pieces)
}

// transportChecksum is that of UDP or TCP: 0 if it is right.
func transportChecksum(p *Packet, body []byte) uint16 {
	var pseudo [12]byte
	src, dst := p.Src.Addr().As4(), p.Dst.Addr().As4()
	copy(pseudo[:], src[:])
	copy(pseudo[4:], dst[:])
	pseudo[9] = p.Proto
	binary.BigEndian.PutUint16(pseudo[10:], uint16(len(body)))
	return checksum(sum16(0, pseudo[:]), body)
}

func sum16(sum uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func checksum(start uint32, b []byte) uint16 {
	sum := sum16(start, b)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func ifIndex(name string) (int, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}
