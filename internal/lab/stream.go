package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// streamKey is one direction of a TCP connection, as it passes an interface.
type streamKey struct {
	src, dst netip.AddrPort
	out      bool
}

// stream puts the bytes of a direction together, as its receiver does, and finds
// the SIP messages in them.
type stream struct {
	next  uint32            // sequence number of the byte that comes next
	ahead map[uint32][]byte // what came too early
	bytes []byte            // in order, not taken yet
	other bool              // it is not SIP
}

// TCP flags.
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
)

// decodeTCP completes a segment, and returns the SIP messages that it completes,
// as packets of their own.
func (c *Capture) decodeTCP(p *Packet, body []byte, noChecksum bool) []*Packet {
	if len(body) < 20 || int(body[12]>>4)*4 > len(body) {
		p.Fault, p.Payload = "wrong TCP length", body
		return nil
	}
	p.Src = netip.AddrPortFrom(p.Src.Addr(), binary.BigEndian.Uint16(body))
	p.Dst = netip.AddrPortFrom(p.Dst.Addr(), binary.BigEndian.Uint16(body[2:]))
	p.Payload, p.Flags = body[int(body[12]>>4)*4:], body[13]
	if !noChecksum && transportChecksum(p, body) != 0 {
		p.Fault = fmt.Sprintf("wrong TCP checksum %04x", binary.BigEndian.Uint16(body[16:]))
		return nil
	}
	key, seq := streamKey{p.Src, p.Dst, p.Out}, binary.BigEndian.Uint32(body[4:])
	s := c.streams[key]
	if s == nil || p.Flags&tcpSYN != 0 {
		s = &stream{next: seq, ahead: make(map[uint32][]byte)}
		if p.Flags&tcpSYN != 0 {
			s.next++
		}
		c.streams[key] = s
	}
	s.take(seq, p.Payload)
	var whole []*Packet
	for _, raw := range s.messages() {
		m, err := ParseMessage(raw)
		if err != nil {
			continue
		}
		m.From = p.Src
		q := *p
		q.Payload, q.SIP, q.Fault = raw, m, ""
		whole = append(whole, &q)
	}
	return whole
}

// take adds the bytes of a segment.
func (s *stream) take(seq uint32, data []byte) {
	if len(data) == 0 || s.other {
		return
	}
	s.ahead[seq] = append([]byte(nil), data...)
	for again := true; again; {
		again = false
		for at, data := range s.ahead {
			behind := int32(s.next - at)
			if behind < 0 {
				continue
			}
			delete(s.ahead, at)
			if int(behind) < len(data) { // else a retransmission
				s.bytes = append(s.bytes, data[behind:]...)
				s.next += uint32(len(data)) - uint32(behind)
				again = true
			}
		}
	}
}

// messages takes the complete SIP messages out of the stream.
func (s *stream) messages() (list [][]byte) {
	for {
		s.bytes = bytes.TrimLeft(s.bytes, "\r\n")
		if !looksLikeSIP(s.bytes) {
			s.other = bytes.Contains(s.bytes, []byte("\n"))
			return list
		}
		end := bytes.Index(s.bytes, []byte("\r\n\r\n"))
		if end < 0 {
			return list
		}
		end += 4
		if m, err := ParseMessage(s.bytes[:end]); err == nil {
			n, _ := strconv.Atoi(m.Get("Content-Length"))
			end += n
		}
		if end > len(s.bytes) {
			return list
		}
		list = append(list, s.bytes[:end:end])
		s.bytes = s.bytes[end:]
	}
}

// Over tells whether a packet of SIP went over "UDP" or "TCP".
func (p *Packet) Over() string {
	switch p.Proto {
	case unix.IPPROTO_UDP:
		return "UDP"
	case unix.IPPROTO_TCP:
		return "TCP"
	}
	return strconv.Itoa(int(p.Proto))
}
