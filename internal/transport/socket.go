package transport

import (
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
	if dscp == 0 {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TOS, int(dscp)<<2)
}

// setReceiveBuffer gives a socket a large buffer, beyond net.core.rmem_max where
// the daemon has CAP_NET_ADMIN.
func setReceiveBuffer(fd, size int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
}

// drops returns how many datagrams the kernel has dropped because the buffer of
// the socket was full, or whose checksum was wrong.
func drops(c syscall.RawConn) (n uint64) {
	const skMeminfoDrops = 8 // linux/sock_diag.h
	c.Control(func(fd uintptr) {
		var info [16]uint32
		size := uint32(unsafe.Sizeof(info))
		// x/sys/unix has no function for options of arbitrary size.
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if e == 0 && size > 4*skMeminfoDrops {
			n = uint64(info[skMeminfoDrops])
		}
	})
	return n
}
