package lab

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkUp sets an interface of the current namespace up.
func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return netlink.LinkSetUp(link)
}

// bridge creates a switch in the namespace.
func (h *Host) bridge(name string, mtu int) error {
	return h.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, mtu
		snooping := false // it would put IGMP on the wire
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
			return fmt.Errorf("bridge %s: %w", name, err)
		}
		return linkUp(name)
	})
}

// plug lays a cable: the host's interface ifname into a port of a bridge of
// the namespace sw. The cable is born in the switch, its far end is pushed
// into the host, so nothing of it ever exists in the root namespace.
func (h *Host) plug(ifname string, sw *Host, bridge string, mtu int, offload bool) error {
	port := "p-" + h.Name
	if len(port) > 15 {
		port = port[:15]
	}
	err := sw.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = port, mtu
		peer := "t-" + port[2:]
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: peer}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("veth %s: %w", port, err)
		}
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(veth, br); err != nil {
			return err
		}
		if !offload {
			if err := checksumsInSoftware(port); err != nil {
				return err
			}
		}
		far, err := netlink.LinkByName(peer)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMTU(far, mtu); err != nil {
			return err
		}
		if err := netlink.LinkSetNsFd(far, h.fd); err != nil {
			return err
		}
		return linkUp(port)
	})
	if err != nil {
		return err
	}
	return h.Do(func() error {
		link, err := netlink.LinkByName("t-" + port[2:])
		if err != nil {
			return err
		}
		if err := netlink.LinkSetName(link, ifname); err != nil {
			return err
		}
		if !offload {
			if err := checksumsInSoftware(ifname); err != nil {
				return err
			}
		}
		return linkUp(ifname)
	})
}

// address gives an interface an address with prefix length.
func (h *Host) address(ifname string, p netip.Prefix) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		a := &netlink.Addr{IPNet: ipNet(p)}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("%s: address %v: %w", ifname, p, err)
		}
		return nil
	})
}

// route sends dst (the zero Prefix: everything) to a gateway.
func (h *Host) route(dst netip.Prefix, gw netip.Addr) error {
	return h.Do(func() error {
		r := &netlink.Route{Gw: gw.AsSlice()}
		if dst.IsValid() {
			r.Dst = ipNet(dst)
		}
		if err := netlink.RouteAdd(r); err != nil {
			return fmt.Errorf("route %v via %v: %w", dst, gw, err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// checksumsInSoftware turns the transmit checksum "offload" of a veth off. As
// it is, no checksum is ever computed between namespaces and none verified;
// off, packets carry real ones, and a wrong one costs the packet as it would
// on a wire.
func checksumsInSoftware(ifname string) error {
	const ethtoolSetTxChecksum = 0x17 // ETHTOOL_STXCSUM
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	value := struct{ cmd, data uint32 }{ethtoolSetTxChecksum, 0}
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifr.name[:unix.IFNAMSIZ-1], ifname)
	ifr.data = unsafe.Pointer(&value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return fmt.Errorf("%s: transmit checksums: %w", ifname, errno)
	}
	return nil
}
