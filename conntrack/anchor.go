package conntrack

import "net/netip"

// An anchor's tuple tells the public endpoint a.b.c.d:p that it stands for:
//
//	127.a.b.83:p > 127.c.d.78:5060
//
// so that `conntrack -L -s 127.0.0.0/8` shows them in a readable form.
const (
	loopbackNet = 127
	anchorSrc   = 'S'
	anchorDst   = 'N'
	anchorPort  = 5060
)

// anchorTuple returns the original direction of the anchor of a public IPv4
// endpoint.
func anchorTuple(public netip.AddrPort) Tuple {
	a := public.Addr().As4()
	return Tuple{
		Src: netip.AddrPortFrom(netip.AddrFrom4([4]byte{loopbackNet, a[0], a[1], anchorSrc}), public.Port()),
		Dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte{loopbackNet, a[2], a[3], anchorDst}), anchorPort),
	}
}

// anchoredBy returns the public endpoint of which t is the anchor; ok is false
// if t is not one.
func anchoredBy(t Tuple) (public netip.AddrPort, ok bool) {
	if !t.Src.Addr().Is4() || !t.Dst.Addr().Is4() {
		return netip.AddrPort{}, false
	}
	s, d := t.Src.Addr().As4(), t.Dst.Addr().As4()
	ok = s[0] == loopbackNet && d[0] == loopbackNet && s[3] == anchorSrc && d[3] == anchorDst &&
		t.Dst.Port() == anchorPort
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{s[1], s[2], d[1], d[2]}), t.Src.Port()), ok
}
