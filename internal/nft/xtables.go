package nft

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// extension is a match or a target of xtables, with the binary form of its
// arguments: what iptables-nft puts into a rule where nftables has no expression
// for it, and what iptables-legacy always puts there.
type extension struct {
	name     string
	revision uint32
	info     []byte
}

type (
	xtMatch  extension
	xtTarget extension
)

// Constants of linux/netfilter/xt_tcpudp.h and xt_multiport.h.
const (
	xtUDPInvertDest = 0x02

	xtMultiportDest  = 1
	xtMultiportPorts = 15
)

// match returns the UDP packets that may match, by their destination ports. It
// takes anything that it does not know to match.
func (m xtMatch) match() []Redirect {
	all := []Redirect{anything}
	switch m.name {
	case "udp":
		// struct xt_udp { __u16 spts[2], dpts[2]; __u8 invflags; }
		if len(m.info) < 9 {
			return all
		}
		low, high := binary.NativeEndian.Uint16(m.info[4:]), binary.NativeEndian.Uint16(m.info[6:])
		var ports []Redirect
		if low <= high {
			ports = []Redirect{{Low: low, High: high}}
		}
		if m.info[8]&xtUDPInvertDest != 0 {
			return complement(ports)
		}
		return ports
	case "multiport":
		return m.multiport()
	case "tcp", "udplite", "sctp", "dccp", "icmp", "esp", "ah":
		return nil
	}
	return all
}

// multiport decodes, in revision 0,
//
//	struct xt_multiport { __u8 flags, count; __u16 ports[15]; }
//
// and in revision 1
//
//	struct xt_multiport_v1 { __u8 flags, count; __u16 ports[15]; __u8 pflags[15], invert; }
//
// where pflags[i] says that ports[i] and the next are the ends of a range.
func (m xtMatch) multiport() []Redirect {
	const (
		offPorts  = 2
		offRanges = offPorts + 2*xtMultiportPorts
		offInvert = offRanges + xtMultiportPorts
	)
	all := []Redirect{anything}
	if len(m.info) < offRanges || m.info[0] != xtMultiportDest {
		return all // source ports, or either
	}
	ranges := make([]byte, xtMultiportPorts)
	invert := false
	if m.revision > 0 {
		if len(m.info) <= offInvert {
			return all
		}
		ranges, invert = m.info[offRanges:offInvert], m.info[offInvert] != 0
	}
	port := func(i int) uint16 { return binary.NativeEndian.Uint16(m.info[offPorts+2*i:]) }
	var ports []Redirect
	for i, n := 0, min(int(m.info[1]), xtMultiportPorts); i < n; i++ {
		r := Redirect{Low: port(i), High: port(i)}
		if ranges[i] != 0 && i+1 < n {
			i++
			r.High = port(i)
		}
		if r.Low <= r.High {
			ports = append(ports, r)
		}
	}
	if invert {
		return complement(ports)
	}
	return ports
}

// target decodes the targets that change the destination. ok is false for others.
func (t xtTarget) target() (to target, ok bool) {
	switch t.name {
	case "DNAT":
		if t.revision > 0 {
			return t.range46(), true
		}
		return t.range4(), true
	case "NETMAP":
		to = t.range4()
		to.flags |= unix.NF_NAT_RANGE_NETMAP
		return to, true
	case "REDIRECT":
		return target{}, true
	}
	return target{}, false
}

// range4 decodes the first range of
//
//	struct nf_nat_ipv4_range { unsigned int flags; __be32 min_ip, max_ip; __be16 min, max; };
//	struct nf_nat_ipv4_multi_range_compat { unsigned int rangesize; struct nf_nat_ipv4_range range[1]; };
func (t xtTarget) range4() target {
	if len(t.info) < 20 {
		return target{}
	}
	b := t.info[4:]
	return target{
		flags: binary.NativeEndian.Uint32(b),
		low:   netip.AddrFrom4([4]byte(b[4:])),
		high:  netip.AddrFrom4([4]byte(b[8:])),
		first: binary.BigEndian.Uint16(b[12:]),
		last:  binary.BigEndian.Uint16(b[14:]),
	}.meant()
}

// range46 decodes, in revision 1 without base_proto,
//
//	struct nf_nat_range2 {
//		unsigned int flags;
//		union nf_inet_addr min_addr, max_addr;
//		__be16 min_proto, max_proto, base_proto;
//	};
func (t xtTarget) range46() target {
	if len(t.info) < 40 {
		return target{}
	}
	to := target{
		flags: binary.NativeEndian.Uint32(t.info),
		low:   netip.AddrFrom4([4]byte(t.info[4:])),
		high:  netip.AddrFrom4([4]byte(t.info[20:])),
		first: binary.BigEndian.Uint16(t.info[36:]),
		last:  binary.BigEndian.Uint16(t.info[38:]),
	}
	if t.revision >= 2 && len(t.info) >= 42 {
		to.base = binary.BigEndian.Uint16(t.info[40:])
	} else {
		to.flags &^= unix.NF_NAT_RANGE_PROTO_OFFSET
	}
	return to.meant()
}

// meant leaves out the fields whose flags are not set.
func (t target) meant() target {
	if t.flags&unix.NF_NAT_RANGE_MAP_IPS == 0 {
		return target{}
	}
	if t.flags&unix.NF_NAT_RANGE_PROTO_SPECIFIED == 0 {
		t.first, t.last = 0, 0
	}
	return t
}
