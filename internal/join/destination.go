package join

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// originalDestination asks conntrack where a connection was going before it was
// redirected (SO_ORIGINAL_DST). One that was not has its own local endpoint there,
// or none.
func originalDestination(c *net.TCPConn) (to netip.AddrPort, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return to, err
	}
	err = control(raw, func(fd int) error {
		// A struct sockaddr_in has the size of this one, and there is a call for it:
		// family, port and address come first in both.
		a, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, unix.SO_ORIGINAL_DST)
		if err != nil {
			return err
		}
		b := a.Multiaddr
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4]))
		return nil
	})
	return to, err
}
