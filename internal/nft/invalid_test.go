package nft

import (
	"encoding/binary"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// rawICMP opens a socket for ICMP in a namespace.
func (w *world) rawICMP(ns netns.NsHandle) (fd int) {
	w.t.Helper()
	w.in(ns, func() {
		var err error
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		must(w.t, err)
	})
	w.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// unreachable is the ICMP error "port unreachable" about a UDP packet (RFC 792).
func unreachable(from, to [4]byte, fromPort, toPort uint16) []byte {
	b := make([]byte, 8+20+8)
	b[0], b[1] = 3, 3
	ip := b[8:]
	ip[0], ip[3], ip[8], ip[9] = 0x45, 28, 64, unix.IPPROTO_UDP
	copy(ip[12:], from[:])
	copy(ip[16:], to[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:20]))
	binary.BigEndian.PutUint16(ip[20:], fromPort)
	binary.BigEndian.PutUint16(ip[22:], toPort)
	binary.BigEndian.PutUint16(ip[24:], 8)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// An ICMP error about a flow that is gone does not leave: nothing would translate
// it. One about a flow that conntrack knows leaves, translated.
func TestInvalidICMP(t *testing.T) {
	w := newWorld(t)
	open(t, w.config())
	sender, receiver := w.rawICMP(w.phone), w.rawICMP(w.provider)
	a, b := w.host(w.phone, phone+":4000"), w.host(w.provider, provider+":6000")
	a.send(provider+":6000", "hello")
	b.receive(public+":4000", "hello")
	b.send(public+":4000", "media")
	a.receive(provider+":6000", "media")

	from, to := [4]byte{198, 51, 100, 2}, [4]byte{10, 1, 0, 2}
	send := func(port uint16) {
		must(t, unix.Sendto(sender, unreachable(from, to, 6000, port), 0, &unix.SockaddrInet4{Addr: from}))
	}
	send(4999) // no such flow
	send(4000)
	buf := make([]byte, 256)
	must(t, unix.SetsockoptTimeval(receiver, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	n, src, err := unix.Recvfrom(receiver, buf, 0)
	must(t, err)
	if got := src.(*unix.SockaddrInet4).Addr; got != [4]byte{198, 51, 100, 1} {
		t.Errorf("an ICMP error from %v left: % x", got, buf[:n])
	}
	// Packets do not overtake each other: the other one would have come first.
	if n, _, err := unix.Recvfrom(receiver, buf, unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Errorf("%d more bytes of ICMP left, %v", n, err)
	}
}
