package conntrack

import (
	"fmt"
	"net"
	"net/netip"

	ct "github.com/florianl/go-conntrack"
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

// family returns the address family of t, or an error if t is not the complete
// tuple of a flow.
func (t Tuple) family() (ct.Family, error) {
	src, dst := t.Src.Addr().Unmap(), t.Dst.Addr().Unmap()
	switch {
	case src.Is4() && dst.Is4():
		return ct.IPv4, nil
	case src.Is6() && dst.Is6():
		return ct.IPv6, nil
	}
	return 0, fmt.Errorf("conntrack: %v is not the tuple of a flow", t)
}

// ipTuple converts t to the library's form.
func (t Tuple) ipTuple() *ct.IPTuple {
	src, dst := net.IP(t.Src.Addr().Unmap().AsSlice()), net.IP(t.Dst.Addr().Unmap().AsSlice())
	proto, sport, dport := uint8(unix.IPPROTO_UDP), t.Src.Port(), t.Dst.Port()
	return &ct.IPTuple{
		Src: &src, Dst: &dst,
		Proto: &ct.ProtoTuple{Number: &proto, SrcPort: &sport, DstPort: &dport},
	}
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
