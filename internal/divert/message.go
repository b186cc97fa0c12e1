package divert

import (
	"encoding/binary"

	"github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"
)

// The nfnetlink_queue protocol, linux/netfilter/nfnetlink_queue.h, as far as
// it is spoken here. Netlink headers are in host byte order, what attributes
// hold is in network byte order.

// Message types: the subsystem in the upper byte.
const (
	msgPacket  = unix.NFNL_SUBSYS_QUEUE<<8 | iota // NFQNL_MSG_PACKET, from the kernel
	msgVerdict                                    // NFQNL_MSG_VERDICT
	msgConfig                                     // NFQNL_MSG_CONFIG
)

// Attributes of packet and verdict messages.
const (
	attrPacketHeader = 1  // be32 id, be16 protocol, u8 hook
	attrVerdict      = 2  // be32 verdict, be32 id
	attrMark         = 3  // be32
	attrInIf         = 5  // be32
	attrOutIf        = 6  // be32
	attrPayload      = 10 // the packet from its IP header on
	attrSKBInfo      = 14 // be32, infoNotVerified
)

// infoNotVerified is NFQA_SKB_CSUM_NOTVERIFIED: neither the kernel nor the
// network card has looked at the checksum. (A checksum that the sending side
// left to the card has been completed before a packet is queued, since
// NFQA_CFG_F_GSO is not asked for.)
const infoNotVerified = 1 << 2

// Attributes and commands of configuration messages.
const (
	attrConfigCommand = 1 // u8 command, pad, be16 family
	attrConfigParams  = 2 // be32 copy range, u8 copy mode
	attrConfigMaxLen  = 3 // be32 packets

	commandBind   = 1
	commandUnbind = 2
)

const (
	nlHeaderLen  = unix.SizeofNlMsghdr
	nfHeaderLen  = nlHeaderLen + 4 // struct nfgenmsg
	attrLen      = unix.SizeofNlAttr
	attrTypeMask = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER

	// maxPacket is the largest packet that fits into an attribute, whose
	// length has 16 bits: the kernel's NFQNL_MAX_COPY_RANGE.
	maxPacket = 0xffff - attrLen
)

func align4(n int) int { return (n + 3) &^ 3 }

// nextMessage splits the first netlink message off b; ok is false when there is
// none that is whole.
func nextMessage(b []byte) (typ uint16, msg, rest []byte, ok bool) {
	if len(b) < nlHeaderLen {
		return 0, nil, nil, false
	}
	n := int(binary.NativeEndian.Uint32(b))
	if n < nlHeaderLen || n > len(b) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[4:]), b[:n], b[min(align4(n), len(b)):], true
}

// errno returns what an NLMSG_ERROR message reports; 0 is an acknowledgement.
func errno(msg []byte) unix.Errno {
	if len(msg) < nlHeaderLen+4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(msg[nlHeaderLen:])))
}

// queued is what the kernel says of a packet in a queue.
type queued struct {
	id          uint32
	mark        uint32
	inIf, outIf uint32
	info        uint32
	packet      []byte // nil if the kernel copied none
}

// decode reads an NFQNL_MSG_PACKET message. It reports whether the message
// names the packet that it is about; without its id no verdict can be given.
func (q *queued) decode(msg []byte) bool {
	*q = queued{}
	if len(msg) < nfHeaderLen {
		return false
	}
	identified := false
	for b := msg[nfHeaderLen:]; len(b) >= attrLen; {
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrLen || n > len(b) {
			break
		}
		typ, data := binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[attrLen:n]
		if typ == attrPayload {
			q.packet = data
		} else if len(data) >= 4 {
			v := binary.BigEndian.Uint32(data)
			switch typ {
			case attrPacketHeader:
				q.id, identified = v, true
			case attrMark:
				q.mark = v
			case attrInIf:
				q.inIf = v
			case attrOutIf:
				q.outIf = v
			case attrSKBInfo:
				q.info = v
			}
		}
		b = b[min(align4(n), len(b)):]
	}
	return identified
}

// verdictMessage is a buffer for NFQNL_MSG_VERDICT messages of one queue.
type verdictMessage []byte

// Where things are in a verdictMessage.
const (
	verdictAt     = nfHeaderLen + attrLen
	verdictEnd    = verdictAt + 8
	verdictPacket = verdictEnd + attrLen
)

func newVerdictMessage(queue uint16) verdictMessage {
	m := make(verdictMessage, verdictPacket, verdictPacket+align4(maxPacket))
	putHeader(m, msgVerdict, unix.NLM_F_REQUEST, queue)
	putAttr(m[nfHeaderLen:], attrVerdict, 8)
	return m
}

// plain returns the message that gives the packet id a verdict
// (nfqueue.NfAccept, NfDrop, NfRepeat). It is valid until the next call.
func (m verdictMessage) plain(id uint32, verdict uint32) []byte {
	return m.finish(verdictEnd, id, verdict)
}

// packet returns the place to append a packet to. The message has room for
// maxPacket bytes.
func (m verdictMessage) packet() []byte { return m[:verdictPacket] }

// rewritten returns the message that accepts the packet id as whole, which
// is packet() with a packet appended. It is valid until the next call.
func (m verdictMessage) rewritten(id uint32, whole []byte) []byte {
	n := len(whole) - verdictPacket
	putAttr(m[verdictEnd:verdictPacket], attrPayload, n)
	clear(m[len(whole) : verdictPacket+align4(n)])
	return m.finish(verdictPacket+align4(n), id, nfqueue.NfAccept)
}

func (m verdictMessage) finish(n int, id, verdict uint32) []byte {
	binary.NativeEndian.PutUint32(m, uint32(n))
	binary.BigEndian.PutUint32(m[verdictAt:], verdict)
	binary.BigEndian.PutUint32(m[verdictAt+4:], id)
	return m[:n]
}

// bindMessage asks for the queue and says what is wanted of it, all at once:
// until the copy mode is set the kernel drops what a rule sends to the queue. No flags are set: neither fail-open nor GSO, without which the kernel
// divides into single datagrams what a socket or a card has put together.
func bindMessage(queue uint16, maxLen uint32) []byte {
	m := make([]byte, nfHeaderLen, 64)
	m = binary.BigEndian.AppendUint16(appendAttr(m, attrConfigCommand, 4), commandBind<<8)
	m = binary.BigEndian.AppendUint16(m, unix.AF_UNSPEC)
	m = binary.BigEndian.AppendUint32(appendAttr(m, attrConfigParams, 5), maxPacket)
	m = append(m, nfqueue.NfQnlCopyPacket, 0, 0, 0)
	m = binary.BigEndian.AppendUint32(appendAttr(m, attrConfigMaxLen, 4), maxLen)
	putHeader(m, msgConfig, unix.NLM_F_REQUEST|unix.NLM_F_ACK, queue)
	return m
}

// unbindMessage gives the queue up; the kernel drops what still waits in it.
func unbindMessage(queue uint16) []byte {
	m := make([]byte, nfHeaderLen, 32)
	m = binary.BigEndian.AppendUint16(appendAttr(m, attrConfigCommand, 4), commandUnbind<<8)
	m = binary.BigEndian.AppendUint16(m, unix.AF_UNSPEC)
	putHeader(m, msgConfig, unix.NLM_F_REQUEST, queue)
	return m
}

// putHeader fills in the netlink and nfnetlink headers of a complete message m.
// Sequence number and port are left to be 0: one request is under way at a time.
func putHeader(m []byte, typ, flags, queue uint16) {
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], typ)
	binary.NativeEndian.PutUint16(m[6:], flags)
	m[nlHeaderLen] = unix.AF_UNSPEC
	m[nlHeaderLen+1] = unix.NFNETLINK_V0
	binary.BigEndian.PutUint16(m[nlHeaderLen+2:], queue)
}

func putAttr(b []byte, typ uint16, n int) {
	binary.NativeEndian.PutUint16(b, uint16(attrLen+n))
	binary.NativeEndian.PutUint16(b[2:], typ)
}

func appendAttr(b []byte, typ uint16, n int) []byte {
	b = append(b, 0, 0, 0, 0)
	putAttr(b[len(b)-attrLen:], typ, n)
	return b
}
