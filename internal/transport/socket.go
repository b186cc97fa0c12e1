package transport

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control makes the Control function of net.ListenConfig and net.Dialer of one
// that sets options.
func control(set func(fd int) error) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = set(int(fd)) }); cerr != nil {
			return cerr
		}
		return err
	}
}

// setDSCP marks what a socket sends (RFC 2474 section 3).
func setDSCP(fd int, dscp uint8) error {
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TOS, int(dscp)<<2)
}

// markAll marks what open sockets send, and what listeners accept.
func markAll(dscp uint8, sockets ...syscall.Conn) error {
	for _, s := range sockets {
		c, err := s.SyscallConn()
		if err == nil {
			err = control(func(fd int) error { return setDSCP(fd, dscp) })("", "", c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setBuffer gives a socket a large buffer, beyond net.core.rmem_max and wmem_max where
// the daemon has CAP_NET_ADMIN.
func setBuffer(fd, force, option, size int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, size)
}

// drops returns how many datagrams the kernel has dropped because the buffer of
// the socket was full, or whose checksum was wrong.
func drops(c syscall.RawConn) (n uint64) {
	const skMeminfoDrops = 8 // linux/sock_diag.h
	c.Control(func(fd uintptr) {
		var info [64]byte
		size, err := getsockopt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, info[:])
		if err == nil && size >= 4*(skMeminfoDrops+1) {
			n = uint64(binary.NativeEndian.Uint32(info[4*skMeminfoDrops:]))
		}
	})
	return n
}

// acceptedBy returns the index of the interface that the first packet of a
// connection came in by, or 0. The listener has had IP_PKTINFO.
func acceptedBy(c syscall.RawConn) (ifindex int) {
	c.Control(func(fd uintptr) {
		var messages [128]byte
		if size, err := getsockopt(fd, unix.SOL_IP, unix.IP_PKTOPTIONS, messages[:]); err == nil {
			ifindex = arrivedBy(messages[:size])
		}
	})
	return ifindex
}

// arrivedBy returns the index of the interface in control messages that tell one,
// or 0 (ip(7), IP_PKTINFO).
func arrivedBy(messages []byte) int {
	for len(messages) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(messages)
		if err != nil {
			break
		}
		if header.Level == unix.SOL_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo {
			return int(int32(binary.NativeEndian.Uint32(data))) // ipi_ifindex
		}
		messages = rest
	}
	return 0
}

// getsockopt gets an option of any size, which x/sys/unix has no function for, and
// returns its length.
func getsockopt(fd uintptr, level, name int, value []byte) (int, error) {
	size := uint32(len(value))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(unsafe.SliceData(value))), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return 0, e
	}
	return int(size), nil
}
