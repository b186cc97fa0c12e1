package ifaces

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// readTables dumps links, addresses and routes.
func readTables() (*tables, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	defer conn.Close()

	t := new(tables)
	err = errors.Join(
		dump(conn, unix.RTM_GETLINK, unix.AF_UNSPEC, unix.SizeofIfInfomsg, t.addLink),
		dump(conn, unix.RTM_GETADDR, unix.AF_INET, unix.SizeofIfAddrmsg, t.addAddress),
		dump(conn, unix.RTM_GETROUTE, unix.AF_INET, unix.SizeofRtMsg, t.addRoute),
	)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// dump asks for every object of a type and hands each one over as its fixed
// header of the given size and its attributes.
func dump(conn *netlink.Conn, kind netlink.HeaderType, family byte, size int, add func(header []byte, attrs *netlink.AttributeDecoder) error) error {
	request := make([]byte, size)
	request[0] = family
	messages, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
		Data:   request,
	})
	if err != nil {
		return fmt.Errorf("rtnetlink: dump %d: %w", kind, err)
	}
	for _, m := range messages {
		if err := object(m.Data, size, add); err != nil {
			return fmt.Errorf("rtnetlink: dump %d: %w", kind, err)
		}
	}
	return nil
}

// object takes a message apart.
func object(data []byte, size int, add func(header []byte, attrs *netlink.AttributeDecoder) error) error {
	if len(data) < size {
		return fmt.Errorf("a message of %d bytes", len(data))
	}
	attrs, err := netlink.NewAttributeDecoder(data[size:])
	if err != nil {
		return err
	}
	return errors.Join(add(data[:size], attrs), attrs.Err())
}

// addLink takes a struct ifinfomsg.
func (t *tables) addLink(header []byte, attrs *netlink.AttributeDecoder) error {
	flags := binary.NativeEndian.Uint32(header[8:])
	l := link{
		index:    binary.NativeEndian.Uint32(header[4:]),
		up:       flags&unix.IFF_UP != 0,
		loopback: flags&unix.IFF_LOOPBACK != 0,
	}
	for attrs.Next() {
		switch attrs.Type() {
		case unix.IFLA_IFNAME:
			l.name = attrs.String()
		case unix.IFLA_MTU:
			l.mtu = int(attrs.Uint32())
		}
	}
	t.links = append(t.links, l)
	return nil
}

// addAddress takes a struct ifaddrmsg.
func (t *tables) addAddress(header []byte, attrs *netlink.AttributeDecoder) error {
	a := address{
		index:     binary.NativeEndian.Uint32(header[4:]),
		secondary: header[2]&unix.IFA_F_SECONDARY != 0,
		global:    header[3] == unix.RT_SCOPE_UNIVERSE,
	}
	bits := int(header[1])
	var far netip.Addr // IFA_ADDRESS: the far end of a point-to-point link, else the same as IFA_LOCAL
	for attrs.Next() {
		switch attrs.Type() {
		case unix.IFA_LOCAL:
			a.local, _ = netip.AddrFromSlice(attrs.Bytes())
		case unix.IFA_ADDRESS:
			far, _ = netip.AddrFromSlice(attrs.Bytes())
		}
	}
	if !a.local.IsValid() {
		a.local = far
	}
	if !far.IsValid() {
		far = a.local
	}
	network, err := prefixOf(far, bits)
	if err != nil {
		return err
	}
	a.network = network
	t.addresses = append(t.addresses, a)
	return nil
}

// addRoute takes a struct rtmsg, and makes one route of each next hop.
func (t *tables) addRoute(header []byte, attrs *netlink.AttributeDecoder) error {
	const dead = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
	table, kind := uint32(header[4]), header[7]
	flags := binary.NativeEndian.Uint32(header[8:])
	var r route
	var hops []route
	dst := netip.IPv4Unspecified()
	for attrs.Next() {
		switch attrs.Type() {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(attrs.Bytes())
		case unix.RTA_OIF:
			r.oif = attrs.Uint32()
		case unix.RTA_GATEWAY:
			r.gateway, _ = netip.AddrFromSlice(attrs.Bytes())
		case unix.RTA_PRIORITY:
			r.metric = attrs.Uint32()
		case unix.RTA_TABLE:
			table = attrs.Uint32()
		case unix.RTA_MULTIPATH:
			var err error
			if hops, err = nextHops(attrs.Bytes()); err != nil {
				return err
			}
		}
	}
	if kind != unix.RTN_UNICAST || table != unix.RT_TABLE_MAIN || flags&(dead|unix.RTM_F_CLONED) != 0 {
		return nil
	}
	network, err := prefixOf(dst, int(header[1]))
	if err != nil {
		return err
	}
	if hops == nil {
		hops = []route{r}
	}
	for _, hop := range hops {
		hop.dst, hop.metric = network, r.metric
		t.routes = append(t.routes, hop)
	}
	return nil
}

// prefixOf refuses the zero Addr, of which [netip.Addr.Prefix] makes a zero Prefix.
func prefixOf(a netip.Addr, bits int) (netip.Prefix, error) {
	if !a.IsValid() {
		return netip.Prefix{}, errors.New("an address of no length")
	}
	return a.Prefix(bits)
}

// nextHops takes a list of struct rtnexthop, each with attributes of its own.
func nextHops(b []byte) ([]route, error) {
	var hops []route
	for len(b) >= unix.SizeofRtNexthop {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			return nil, fmt.Errorf("a next hop of %d bytes in %d", length, len(b))
		}
		hop := route{oif: binary.NativeEndian.Uint32(b[4:])}
		attrs, err := netlink.NewAttributeDecoder(b[unix.SizeofRtNexthop:length])
		if err != nil {
			return nil, err
		}
		for attrs.Next() {
			if attrs.Type() == unix.RTA_GATEWAY {
				hop.gateway, _ = netip.AddrFromSlice(attrs.Bytes())
			}
		}
		if err := attrs.Err(); err != nil {
			return nil, err
		}
		if b[2]&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) == 0 {
			hops = append(hops, hop)
		}
		const align = unix.RTNH_ALIGNTO - 1
		b = b[min((length+align)&^align, len(b)):]
	}
	return hops, nil
}
