package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	ct "github.com/florianl/go-conntrack"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Tuple is one direction of a UDP flow as the kernel tracks it.
type Tuple struct {
	Src, Dst netip.AddrPort
}

// Reverse returns the tuple of a packet that answers one of t, where nothing
// is translated.
func (t Tuple) Reverse() Tuple { return Tuple{Src: t.Dst, Dst: t.Src} }

// String returns the tuple as "source > destination".
func (t Tuple) String() string { return fmt.Sprintf("%v > %v", t.Src, t.Dst) }

// unmapped returns t with IPv4 addresses in their short form, and whether it is
// the complete tuple of a flow.
func (t Tuple) unmapped() (Tuple, bool) {
	t = Tuple{Src: unmap(t.Src), Dst: unmap(t.Dst)}
	return t, t.Src.IsValid() && t.Dst.IsValid() && t.Src.Addr().Is4() == t.Dst.Addr().Is4()
}

// family returns the address family of a complete tuple.
func (t Tuple) family() uint8 {
	if t.Src.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// tupleOf converts a tuple of the library. ok is false unless it is one of UDP.
func tupleOf(i *ct.IPTuple) (t Tuple, ok bool) {
	if i == nil || i.Src == nil || i.Dst == nil || i.Proto == nil || i.Proto.Number == nil ||
		*i.Proto.Number != unix.IPPROTO_UDP || i.Proto.SrcPort == nil || i.Proto.DstPort == nil {
		return Tuple{}, false
	}
	src, ok1 := netip.AddrFromSlice(*i.Src)
	dst, ok2 := netip.AddrFromSlice(*i.Dst)
	return Tuple{
		Src: netip.AddrPortFrom(src, *i.Proto.SrcPort),
		Dst: netip.AddrPortFrom(dst, *i.Proto.DstPort),
	}, ok1 && ok2
}

// decode reads the attributes of an IPv4 tuple.
func (t *Tuple) decode(ad *netlink.AttributeDecoder) error {
	var (
		src, dst         netip.Addr
		srcPort, dstPort uint16
	)
	for ad.Next() {
		part := ad.Type()
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			ad.ByteOrder = binary.BigEndian
			for ad.Next() {
				switch [2]uint16{part, ad.Type()} {
				case [2]uint16{ctaTupleIP, ctaIPv4Src}:
					src, _ = netip.AddrFromSlice(ad.Bytes())
				case [2]uint16{ctaTupleIP, ctaIPv4Dst}:
					dst, _ = netip.AddrFromSlice(ad.Bytes())
				case [2]uint16{ctaTupleProto, ctaProtoSrcPort}:
					srcPort = ad.Uint16()
				case [2]uint16{ctaTupleProto, ctaProtoDstPort}:
					dstPort = ad.Uint16()
				}
			}
			return nil
		})
	}
	t.Src, t.Dst = netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort)
	return nil
}
