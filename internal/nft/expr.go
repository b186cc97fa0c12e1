package nft

import (
	"encoding/binary"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// rule is a rule, or a part of one, as the kernel's expressions.
type rule []expr.Any

// join makes one rule of its parts, which run from left to right. A part that
// does not match ends the rule.
func join(parts ...rule) rule {
	var all rule
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// Registers. Keys are built from the first on, each part in 4 bytes of its own
// (a port is padded by zeros), as concatenations in sets are. The data that a map
// look-up loads is laid out the same way: an address, then a port.
const (
	reg0 = unix.NFT_REG_1 // the same bytes as NFT_REG32_00
	reg1 = unix.NFT_REG32_01
	reg2 = unix.NFT_REG32_02
)

// Offsets in the IPv4 and the UDP header.
const (
	offSaddr = 12
	offDaddr = 16
	offSport = 0
	offDport = 2
)

func meta(key expr.MetaKey) rule {
	return rule{&expr.Meta{Key: key, Register: reg0}}
}

func in(s set) rule {
	return rule{&expr.Lookup{SourceRegister: reg0, SetName: s.String()}}
}

func notIn(s set) rule {
	return rule{&expr.Lookup{SourceRegister: reg0, SetName: s.String(), Invert: true}}
}

func iifname(s set) rule { return join(meta(expr.MetaKeyIIFNAME), in(s)) }
func oifname(s set) rule { return join(meta(expr.MetaKeyOIFNAME), in(s)) }

// udp must come before the first part that loads a port: the transport header of
// anything else means something else.
func udp() rule {
	return join(meta(expr.MetaKeyL4PROTO),
		rule{&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.IPPROTO_UDP}}})
}

func tcp() rule {
	return join(meta(expr.MetaKeyL4PROTO),
		rule{&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.IPPROTO_TCP}}})
}

func isICMP() rule {
	return join(meta(expr.MetaKeyL4PROTO),
		rule{&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.IPPROTO_ICMP}}})
}

func notUDP() rule {
	return join(meta(expr.MetaKeyL4PROTO),
		rule{&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: []byte{unix.IPPROTO_UDP}}})
}

func loadAddr(reg, offset uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

func loadPort(reg, offset uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
}

func saddr() rule { return rule{loadAddr(reg0, offSaddr)} }
func sport() rule { return rule{loadPort(reg0, offSport)} }
func dport() rule { return rule{loadPort(reg0, offDport)} }

// portIs compares the port that was loaded last.
func portIs(port uint16) rule {
	return rule{&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binaryutil.BigEndian.PutUint16(port)}}
}

// transportIs compares bytes from offset on in the header above IP.
func transportIs(offset uint32, data []byte) rule {
	return rule{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: uint32(len(data))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: data},
	}
}

func saddrSport() rule { return rule{loadAddr(reg0, offSaddr), loadPort(reg1, offSport)} }
func daddrDport() rule { return rule{loadAddr(reg0, offDaddr), loadPort(reg1, offDport)} }

func saddrDaddrDport() rule {
	return rule{loadAddr(reg0, offSaddr), loadAddr(reg1, offDaddr), loadPort(reg2, offDport)}
}

// Flow keys stand where nft puts them, since the hash goes into reg0.
const (
	flow0 = unix.NFT_REG_2 // the same bytes as NFT_REG32_04
	flow1 = unix.NFT_REG32_05
	flow2 = unix.NFT_REG32_06
	flow3 = unix.NFT_REG32_07
)

func saddrSportDaddrDport() rule {
	return rule{loadAddr(flow0, offSaddr), loadPort(flow1, offSport), loadAddr(flow2, offDaddr), loadPort(flow3, offDport)}
}

func daddrDportSaddrSport() rule {
	return rule{loadAddr(flow0, offDaddr), loadPort(flow1, offDport), loadAddr(flow2, offSaddr), loadPort(flow3, offSport)}
}

// hashSeed is fixed: left to the kernel it would differ from rule to rule.
const hashSeed = 5060

// hashIs matches when the flow key's 16 bytes hash to value, modulo mod.
func hashIs(mod, value uint32) rule {
	return rule{
		&expr.Hash{SourceRegister: flow0, DestRegister: reg0, Length: 16, Modulus: mod, Seed: hashSeed, Type: expr.HashTypeJenkins},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(value)},
	}
}

func dnat(m set) rule { return nat(expr.NATTypeDestNAT, m) }
func snat(m set) rule { return nat(expr.NATTypeSourceNAT, m) }

// nat translates to the endpoint that the map has for the key; without one the
// rule does not match.
func nat(kind expr.NATType, m set) rule {
	return rule{
		&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: m.String()},
		&expr.NAT{Type: kind, Family: unix.NFPROTO_IPV4, RegAddrMin: reg0, RegProtoMin: reg1},
	}
}

// routedTo matches what would leave through the interface.
func routedTo(name string) rule {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return rule{
		&expr.Fib{Register: reg0, ResultOIFNAME: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: data},
	}
}

// toPort translates the destination to a port of this machine.
func toPort(port uint16) rule {
	return rule{
		&expr.Immediate{Register: reg0, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: reg0, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
}

// anyBit matches when any bit of mask is set in what load puts into reg0, a
// number in the host's byte order.
func anyBit(load expr.Any, mask uint32) rule {
	return rule{
		load,
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)},
	}
}

// stateNewRelated matches until a flow's first reply. An expected flow starts as
// related.
func stateNewRelated() rule {
	return anyBit(&expr.Ct{Key: expr.CtKeySTATE, Register: reg0},
		expr.CtStateBitNEW|expr.CtStateBitRELATED)
}

// stateNew matches what begins a flow that nobody has expected.
func stateNew() rule {
	return anyBit(&expr.Ct{Key: expr.CtKeySTATE, Register: reg0}, expr.CtStateBitNEW)
}

// stateInvalid matches what belongs to no flow and begins none.
func stateInvalid() rule {
	return anyBit(&expr.Ct{Key: expr.CtKeySTATE, Register: reg0}, expr.CtStateBitINVALID)
}

func stateEstablished() rule {
	return anyBit(&expr.Ct{Key: expr.CtKeySTATE, Register: reg0}, expr.CtStateBitESTABLISHED)
}

// Bits of enum ip_conntrack_status in linux/netfilter/nf_conntrack_common.h.
const (
	ipsExpected = 1 << 0
	ipsDstNAT   = 1 << 5
)

func statusDNAT() rule {
	return anyBit(&expr.Ct{Key: expr.CtKeySTATUS, Register: reg0}, ipsDstNAT)
}

// statusExpected matches as long as an expected flow lives, whatever its state.
func statusExpected() rule {
	return anyBit(&expr.Ct{Key: expr.CtKeySTATUS, Register: reg0}, ipsExpected)
}

func (r rate) over() *expr.Limit {
	return &expr.Limit{Type: expr.LimitTypePkts, Rate: r.perSecond, Over: true, Unit: expr.LimitTimeSecond, Burst: r.burst}
}

func limitOver(r rate) rule { return rule{r.over()} }

func counterNamed(name string) rule {
	return rule{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}
}

// setHelper gives the flow a helper, if it is not confirmed and has none.
func setHelper(name string) rule {
	return rule{&expr.Objref{Type: unix.NFT_OBJECT_CT_HELPER, Name: name}}
}

// updateCounted adds the key to s, or counts and renews it. When the set is full
// the rule ends here.
func updateCounted(s set) rule { return onSet(s, &expr.Counter{}) }

// updateLimited adds the key to s, or renews it, and matches when it is over the rate,
// of which each key has its own; not when the set is full.
func updateLimited(s set, r rate) rule { return onSet(s, r.over()) }

func onSet(s set, state expr.Any) rule {
	return rule{&expr.Dynset{SrcRegKey: reg0, SetName: s.String(), Operation: unix.NFT_DYNSET_OP_UPDATE,
		Exprs: []expr.Any{state}}}
}

func accept() rule { return rule{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() rule   { return rule{&expr.Verdict{Kind: expr.VerdictDrop}} }

func jumpTo(chain string) rule {
	return rule{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

func goTo(chain string) rule {
	return rule{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// setDSCP replaces the code point in the IPv4 header: six bits of its second byte,
// whose other two (ECN) stay. It writes two bytes because the checksum, which it
// corrects, is made of such. UDP's covers neither of them.
func setDSCP(codePoint uint8) rule {
	const offVersion, offChecksum = 0, 10
	return rule{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: offVersion, Len: 2},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 2,
			Mask: []byte{0xff, 0x03}, Xor: []byte{0, codePoint << 2}},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: reg0,
			Base: expr.PayloadBaseNetworkHeader, Offset: offVersion, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: offChecksum},
	}
}

// toQueue ends the rule in one of total queues from num on.
func toQueue(num, total uint16, bypass bool, f Features) rule {
	if f.NativeQueue {
		q := &expr.Queue{Num: num, Total: total}
		if bypass {
			q.Flag = expr.QueueFlagBypass
		}
		return rule{q}
	}
	// struct xt_NFQ_info_v3 { __u16 queuenum, queues_total, flags; }, padded to 8.
	const nfqFlagBypass = 1
	info := make(xt.Unknown, 8)
	binary.NativeEndian.PutUint16(info[0:], num)
	binary.NativeEndian.PutUint16(info[2:], total)
	if bypass {
		binary.NativeEndian.PutUint16(info[4:], nfqFlagBypass)
	}
	return rule{&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}}
}
