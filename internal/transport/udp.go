package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/sipmsg"
)

// receiveBuffer is the size of the kernel's buffer of a UDP socket: what may come
// in while the handler is busy.
const receiveBuffer = 1 << 20

// sendBuffer is the size of what waits to be sent: answers to hosts that are not there
// wait three seconds for their link-layer address, and are not to keep others from theirs.
const sendBuffer = 8 << 20

// socket is a UDP socket.
type socket struct {
	t     *Transport
	local netip.AddrPort
	conn  *net.UDPConn
	raw   syscall.RawConn
}

// listenUDP binds a socket. It has no SO_REUSEADDR, which would let another
// process take the datagrams.
func (t *Transport) listenUDP(a netip.AddrPort) (*socket, error) {
	lc := net.ListenConfig{Control: control(func(fd int) error {
		return errors.Join(
			setDSCP(fd, uint8(t.dscp.Load())),
			unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1),
			// ICMP errors of one destination, with its address.
			unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1),
			// A large message is cut by whoever must, with no need for an ICMP
			// error that a firewall would drop.
			unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT),
			setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer),
			setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer),
		)
	})}
	pc, err := lc.ListenPacket(context.Background(), "udp4", a.String())
	if err != nil {
		return nil, err
	}
	s := &socket{t: t, local: a, conn: pc.(*net.UDPConn)}
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		s.conn.Close()
		return nil, err
	}
	return s, nil
}

// read gives what comes to the handler until the socket is closed.
func (s *socket) read() {
	t := s.t
	buf := make([]byte, sipmsg.MaxSize)
	oob := make([]byte, 128)
	for {
		n, m, _, from, err := s.conn.ReadMsgUDPAddrPort(buf, oob)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// An ICMP error is pending, or a sender has met one and wakes us.
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.conn.SetReadDeadline(time.Time{})
			}
			s.errors()
		case isKeepAlive(buf[:n]):
			t.counters.keepAlives.Add(1)
		default:
			t.counters.udpIn.Add(1)
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			t.arrived(Arrival{Hop{Kind: UDP, Local: s.local, Remote: from, Interface: arrivedBy(oob[:m])}, buf[:n]})
		}
	}
}

// isKeepAlive reports whether a datagram is there only to keep bindings of a NAT:
// empty, or line ends, NULs and blanks (RFC 5626 section 3.5.1 knows better ones,
// phones do not).
func isKeepAlive(b []byte) bool {
	for _, c := range b {
		switch c {
		case '\r', '\n', ' ', '\t', 0:
		default:
			return false
		}
	}
	return true
}

// datagram is a datagram on its way out, reused so that sending allocates nothing.
type datagram struct {
	msg []byte
	to  unix.SockaddrInet4
	err error
	out func(fd uintptr) bool
}

var datagrams = sync.Pool{New: func() any {
	d := new(datagram)
	d.out = func(fd uintptr) bool {
		d.err = unix.Sendto(int(fd), d.msg, unix.MSG_DONTWAIT, &d.to)
		return true // whatever came of it: nobody waits here
	}
	return d
}}

// send sends a datagram.
func (s *socket) send(to netip.AddrPort, msg []byte) error {
	d := datagrams.Get().(*datagram)
	defer datagrams.Put(d)
	d.msg, d.to.Port, d.to.Addr = msg, int(to.Port()), to.Addr().As4()
	defer func() { d.msg = nil }()

	// The kernel reports an ICMP error on the next call for the socket, whatever
	// that is about. Such an error is not that of this datagram: it is given to
	// the reader, and the datagram is sent again.
	const tries = 4
	var err error
	for range tries {
		if err = s.raw.Write(d.out); err != nil { // closed
			return err
		}
		switch err = d.err; err {
		case nil:
			s.t.counters.udpOut.Add(1)
			return nil
		case syscall.EAGAIN:
			s.t.counters.busy.Add(1)
			return ErrBusy
		case syscall.EMSGSIZE, syscall.EPERM, syscall.EINVAL:
			return err
		}
		s.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return err
}

// errors tells the handler of the ICMP errors that have come (ip(7), IP_RECVERR).
func (s *socket) errors() {
	for {
		to, err := s.nextError()
		if err == nil {
			return
		}
		if !to.IsValid() {
			continue
		}
		s.t.counters.udpErrors.Add(1)
		s.t.failed(Hop{Kind: UDP, Local: s.local, Remote: to}, err)
	}
}

// nextError takes an error from the queue of the socket. Without one err is nil;
// an error that is not about a datagram of ours has no destination.
func (s *socket) nextError() (to netip.AddrPort, err error) {
	var data [1]byte // the message, or its first bytes, is of no use
	var oob [512]byte
	if s.raw.Control(func(fd uintptr) {
		_, n, _, from, rerr := unix.Recvmsg(int(fd), data[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if rerr != nil {
			return // EAGAIN: there is none
		}
		err = syscall.EIO
		messages, perr := unix.ParseSocketControlMessage(oob[:n])
		if perr != nil {
			return
		}
		for _, m := range messages {
			// struct sock_extended_err begins with the number, and its origin.
			if m.Header.Level != unix.SOL_IP || m.Header.Type != unix.IP_RECVERR || len(m.Data) < 5 {
				continue
			}
			in4, ok := from.(*unix.SockaddrInet4)
			if ok && m.Data[4] == unix.SO_EE_ORIGIN_ICMP {
				err = syscall.Errno(binary.NativeEndian.Uint32(m.Data))
				to = netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
			}
		}
	}) != nil {
		return to, nil // closed
	}
	return to, err
}
