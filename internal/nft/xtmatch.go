package nft

import "encoding/binary"

// about tells whether a match of xtables applies to a packet.
func (m xtMatch) about(p *Packet) match {
	switch m.name {
	case "comment":
		return always
	case "udp":
		if p.TCP {
			return never
		}
		return m.udpAbout(p)
	case "tcp":
		if !p.TCP {
			return never
		}
		return m.tcpAbout(p)
	case "multiport":
		if len(m.info) == 0 || m.info[0] != xtMultiportDest {
			return perhaps
		}
		return portsAbout(m.multiport(), p.DstPorts)
	case "conntrack":
		return m.conntrackAbout(p)
	case "state":
		// struct xt_state_info { unsigned int statemask; }
		if len(m.info) < 4 {
			return perhaps
		}
		return stateAbout(binary.NativeEndian.Uint32(m.info), p)
	case "icmp", "udplite", "sctp", "dccp", "esp", "ah":
		return never
	}
	return perhaps
}

// udpAbout compares both ports with struct xt_udp.
func (m xtMatch) udpAbout(p *Packet) match {
	if len(m.info) < 9 {
		return perhaps
	}
	const invertSource = 0x01
	port := func(i int) uint16 { return binary.NativeEndian.Uint16(m.info[2*i:]) }
	source := portsAbout([]Redirect{{Low: port(0), High: port(1)}}, p.SrcPorts)
	if m.info[8]&invertSource != 0 {
		source = source.not()
	}
	return min(source, portsAbout(m.match(), p.DstPorts))
}

// tcpAbout compares the ports and flags with struct xt_tcp:
//
//	struct { __u16 spts[2], dpts[2]; __u8 option, flg_mask, flg_cmp, invflags; }
func (m xtMatch) tcpAbout(p *Packet) match {
	if len(m.info) < 12 {
		return perhaps
	}
	const (
		invertSource = 1 << iota
		invertDest
		invertFlags
	)
	const syn = 0x02
	port := func(i int) uint16 { return binary.NativeEndian.Uint16(m.info[2*i:]) }
	invert := func(about match, flag byte) match {
		if m.info[11]&flag != 0 {
			return about.not()
		}
		return about
	}
	about := min(
		invert(portsAbout([]Redirect{{Low: port(0), High: port(1)}}, p.SrcPorts), invertSource),
		invert(portsAbout([]Redirect{{Low: port(2), High: port(3)}}, p.DstPorts), invertDest),
		invert(matchOf(syn&m.info[9] == m.info[10]), invertFlags),
	)
	if m.info[8] != 0 { // an option
		return min(about, perhaps)
	}
	return about
}

// portsAbout tells whether a port is in one of the ranges.
func portsAbout(ranges []Redirect, ports Ports) match {
	low, high := ports.bounds()
	most := never
	for _, r := range ranges {
		switch {
		case r.Low <= low && high <= r.High:
			return always
		case r.Low <= high && low <= r.High:
			most = perhaps
		}
	}
	return most
}

// Offsets in struct xt_conntrack_mtinfo3, whose beginning is that of the second
// version, and flags of linux/netfilter/xt_conntrack.h.
const (
	xtctFlags  = 146 // after eight addresses, two times, a protocol and four ports
	xtctInvert = 148
	xtctState  = 150
	xtctStatus = 152
	xtctSize   = 154

	xtctMatchState      = 1 << 0
	xtctMatchStatus     = 1 << 6
	xtctMatchStateAlias = 1 << 13
)

// conntrackAbout knows states and status. Any other condition may be met or not.
func (m xtMatch) conntrackAbout(p *Packet) match {
	if m.revision < 2 || len(m.info) < xtctSize {
		return perhaps
	}
	at := func(offset int) uint32 { return uint32(binary.NativeEndian.Uint16(m.info[offset:])) }
	flags, invert := at(xtctFlags), at(xtctInvert)
	about := always
	if flags&xtctMatchState != 0 {
		state := stateAbout(at(xtctState), p)
		if invert&xtctMatchState != 0 {
			state = state.not()
		}
		about = min(about, state)
	}
	if flags&xtctMatchStatus != 0 {
		status := perhaps
		if at(xtctStatus)&uint32(p.Status) != 0 {
			status = always
		}
		if invert&xtctMatchStatus != 0 {
			status = status.not()
		}
		about = min(about, status)
	}
	if flags&^(xtctMatchState|xtctMatchStatus|xtctMatchStateAlias) != 0 {
		about = min(about, perhaps)
	}
	return about
}

// Bits of a mask of states beyond those of nft, which are the same.
const (
	xtStateSNAT = 1 << 6
	xtStateDNAT = 1 << 7
)

// stateAbout tells whether a packet is in one of the states of a mask.
func stateAbout(mask uint32, p *Packet) match {
	switch {
	case p.State != 0 && mask&uint32(p.State) != 0, mask&xtStateDNAT != 0 && p.Status&StatusDNAT != 0:
		return always
	case p.State == 0 || mask&(xtStateSNAT|xtStateDNAT) != 0:
		return perhaps
	}
	return never
}
