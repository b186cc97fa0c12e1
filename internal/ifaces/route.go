package ifaces

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Leaves asks the kernel through which interface a packet of this machine to an IPv4
// address leaves, whatever policy decides that. Nothing is sent.
func Leaves(dst netip.Addr) (index uint32, err error) {
	return ask([]netlink.Attribute{{Type: unix.RTA_DST, Data: dst.AsSlice()}})
}

// Arrives asks the kernel whether a packet that comes in through an interface would be
// taken, as far as routing decides that (rp_filter). Nothing is sent.
func Arrives(src, dst netip.Addr, index uint32) error {
	_, err := ask([]netlink.Attribute{
		{Type: unix.RTA_DST, Data: dst.AsSlice()},
		{Type: unix.RTA_SRC, Data: src.AsSlice()},
		{Type: unix.RTA_IIF, Data: binary.NativeEndian.AppendUint32(nil, index)},
	})
	return err
}

// ask looks up one route, and returns the interface that it leads to.
func ask(attributes []netlink.Attribute) (index uint32, err error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return 0, fmt.Errorf("rtnetlink: %w", err)
	}
	defer conn.Close()
	body, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		return 0, err
	}
	const bits = 32
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[1] = unix.AF_INET, bits
	if len(attributes) > 1 {
		header[2] = bits // of the source
	}
	messages, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request},
		Data:   append(header, body...),
	})
	if err != nil {
		return 0, fmt.Errorf("rtnetlink: route: %w", err)
	}
	for _, m := range messages {
		if len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofRtMsg:])
		if err != nil {
			return 0, fmt.Errorf("rtnetlink: route: %w", err)
		}
		for attrs.Next() {
			if attrs.Type() == unix.RTA_OIF {
				return attrs.Uint32(), nil
			}
		}
	}
	return 0, errors.New("rtnetlink: route: an answer without an interface")
}
