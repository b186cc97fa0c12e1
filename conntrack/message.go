package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Message and attribute numbers (linux/netfilter/nfnetlink_conntrack.h) that
// the library keeps to itself.
const (
	typeCtNew = unix.NFNL_SUBSYS_CTNETLINK<<8 + iota
	typeCtGet
	typeCtDelete
)

const (
	typeExpNew = unix.NFNL_SUBSYS_CTNETLINK_EXP<<8 + iota
	_
	typeExpDelete
)

const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaHelp       = 5
	ctaTimeout    = 7
	ctaFilter     = 25

	ctaTupleMaster = 14

	ctaHelpName = 1

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum     = 1
	ctaProtoSrcPort = 2
	ctaProtoDstPort = 3

	ctaExpectMaster  = 1
	ctaExpectTuple   = 2
	ctaExpectMask    = 3
	ctaExpectTimeout = 4
	ctaExpectFlags   = 8
	ctaExpectClass   = 9

	expectPermanent = 0x1 // NF_CT_EXPECT_PERMANENT

	nfgenmsgLen = 4
	headerLen   = unix.SizeofNlMsghdr + nfgenmsgLen
)

// An encoder appends netlink messages to a buffer that is used again and
// again. The library cannot marshal several messages for one sendmsg, nor an
// expectation that may exist already.
type encoder struct {
	buf   []byte
	start int // of the current message
}

// reset forgets all messages.
func (e *encoder) reset() { e.buf = e.buf[:0] }

// begin starts a message.
func (e *encoder) begin(typ, flags uint16, family uint8, seq uint32) {
	e.start = len(e.buf)
	e.buf = append(e.buf, 0, 0, 0, 0)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, typ)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, unix.NLM_F_REQUEST|flags)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, seq)
	e.buf = append(e.buf, 0, 0, 0, 0, family, unix.NFNETLINK_V0, 0, 0)
}

// end completes the message.
func (e *encoder) end() {
	binary.NativeEndian.PutUint32(e.buf[e.start:], uint32(len(e.buf)-e.start))
}

// acknowledge asks for an answer to the message that was begun last, even if
// it succeeds.
func (e *encoder) acknowledge() {
	flags := e.buf[e.start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

// attr appends the header of an attribute whose value has n bytes.
func (e *encoder) attr(typ uint16, n int) {
	e.buf = binary.NativeEndian.AppendUint16(e.buf, uint16(unix.SizeofNlAttr+n))
	e.buf = binary.NativeEndian.AppendUint16(e.buf, typ)
}

// pad aligns the buffer to the next attribute.
func (e *encoder) pad() {
	for len(e.buf)%unix.NLA_ALIGNTO != 0 {
		e.buf = append(e.buf, 0)
	}
}

func (e *encoder) uint8(typ uint16, v uint8) {
	e.attr(typ, 1)
	e.buf = append(e.buf, v, 0, 0, 0)
}

func (e *encoder) uint16(typ uint16, v uint16) {
	e.attr(typ, 2)
	e.buf = append(binary.BigEndian.AppendUint16(e.buf, v), 0, 0)
}

func (e *encoder) uint32(typ uint16, v uint32) {
	e.attr(typ, 4)
	e.buf = binary.BigEndian.AppendUint32(e.buf, v)
}

func (e *encoder) string(typ uint16, s string) {
	e.attr(typ, len(s)+1)
	e.buf = append(e.buf, s...)
	e.buf = append(e.buf, 0)
	e.pad()
}

// addr appends an address of either family.
func (e *encoder) addr(v4, v6 uint16, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		e.attr(v4, len(b))
		e.buf = append(e.buf, b[:]...)
		return
	}
	b := a.As16()
	e.attr(v6, len(b))
	e.buf = append(e.buf, b[:]...)
}

// nest begins a nested attribute, which lasts until endNest of what it returns.
func (e *encoder) nest(typ uint16) int {
	at := len(e.buf)
	e.attr(typ|unix.NLA_F_NESTED, 0)
	return at
}

func (e *encoder) endNest(at int) {
	binary.NativeEndian.PutUint16(e.buf[at:], uint16(len(e.buf)-at))
}

// tuple appends a UDP tuple.
func (e *encoder) tuple(typ uint16, t Tuple) {
	all := e.nest(typ)
	ip := e.nest(ctaTupleIP)
	e.addr(ctaIPv4Src, ctaIPv6Src, t.Src.Addr())
	e.addr(ctaIPv4Dst, ctaIPv6Dst, t.Dst.Addr())
	e.endNest(ip)
	proto := e.nest(ctaTupleProto)
	e.uint8(ctaProtoNum, unix.IPPROTO_UDP)
	e.uint16(ctaProtoSrcPort, t.Src.Port())
	e.uint16(ctaProtoDstPort, t.Dst.Port())
	e.endNest(proto)
	e.endNest(all)
}

// newAnchor appends the message that creates the anchor of public, or renews
// the one that exists, for the given number of seconds. It is assured, so that
// a full table does not drop it early.
func (e *encoder) newAnchor(seq uint32, public netip.AddrPort, helper string, seconds uint32) {
	t := anchorTuple(public)
	e.begin(typeCtNew, unix.NLM_F_CREATE, unix.AF_INET, seq)
	e.tuple(ctaTupleOrig, t)
	e.tuple(ctaTupleReply, t.Reverse())
	help := e.nest(ctaHelp)
	e.string(ctaHelpName, helper)
	e.endNest(help)
	e.uint32(ctaStatus, StatusSeenReply|StatusAssured|StatusConfirmed)
	e.uint32(ctaTimeout, seconds)
	e.end()
}

// flow appends the message that reads (typeCtGet) or deletes (typeCtDelete) the
// flow of t.
func (e *encoder) flow(typ uint16, seq uint32, t Tuple) {
	e.begin(typ, 0, t.family(), seq)
	e.tuple(ctaTupleOrig, t)
	e.end()
}

var (
	anySource     = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	expectAnyMask = Tuple{Src: anySource, Dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 65535)}
)

// newExpectation appends the message that creates the expectation of any flow
// to dst below the anchor of public, or renews the one that exists below
// whichever anchor. Without NLM_F_EXCL the kernel does either. The number of
// seconds counts in the latter case only.
func (e *encoder) newExpectation(seq uint32, public, dst netip.AddrPort, class, seconds uint32) {
	e.begin(typeExpNew, unix.NLM_F_CREATE, unix.AF_INET, seq)
	e.tuple(ctaExpectMaster, anchorTuple(public))
	e.tuple(ctaExpectTuple, Tuple{Src: anySource, Dst: dst})
	e.tuple(ctaExpectMask, expectAnyMask)
	e.uint32(ctaExpectFlags, expectPermanent)
	e.uint32(ctaExpectClass, class)
	e.uint32(ctaExpectTimeout, seconds)
	e.end()
}

// deleteExpectation appends the message that deletes the expectation of any
// flow to dst.
func (e *encoder) deleteExpectation(seq uint32, dst netip.AddrPort) {
	e.begin(typeExpDelete, 0, unix.AF_INET, seq)
	e.tuple(ctaExpectTuple, Tuple{Src: anySource, Dst: dst})
	e.end()
}
