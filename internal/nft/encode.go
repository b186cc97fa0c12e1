package nft

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// nftMsgDestroySetElem is NFT_MSG_DESTROYSETELEM of linux/netfilter/nf_tables.h:
// to delete without minding absence (Linux 6.3).
const nftMsgDestroySetElem = 30

// maxGroup bounds the elements in one message, whose list has a 16-bit length.
const maxGroup = 64

// encoder marshals an exchange: the messages of one transaction, one after the
// other, as they go through the socket. It keeps its memory between exchanges.
type encoder struct {
	out   []byte
	seq   uint32 // of the last message
	begin uint32 // of the transaction's begin
	sets  []set  // that the messages after begin are about
	group []op   // scratch: changes of one kind to one set
}

// encode writes a transaction to e.out. Changes to different sets do not concern
// each other and are brought together set by set; those to one set keep their
// order.
func (e *encoder) encode(ops []op, how renewal) {
	e.out, e.sets = e.out[:0], e.sets[:0]
	e.bracket(unix.NFNL_MSG_BATCH_BEGIN)
	e.begin = e.seq
	last := 0
	for s := firstLeased; s <= lastLeased; s++ {
		e.group = e.group[:0]
		for i := range ops {
			o := &ops[i]
			if o.set != s {
				continue
			}
			if n := len(e.group); n > 0 && (n == maxGroup || e.group[0].remove != o.remove || e.grouped(o.key)) {
				last = e.flush(s, how)
			}
			e.group = append(e.group, *o)
		}
		if len(e.group) > 0 {
			last = e.flush(s, how)
		}
	}
	// The last change asks for an acknowledgement.
	flags := e.out[last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	e.bracket(unix.NFNL_MSG_BATCH_END)
}

func (e *encoder) grouped(key cell) bool {
	return slices.ContainsFunc(e.group, func(o op) bool { return o.key == key })
}

// flush writes the group's messages and returns where the last one starts.
func (e *encoder) flush(s set, how renewal) int {
	var last int
	remove := e.group[0].remove
	switch how {
	case renewUpdate:
		if !remove {
			break
		}
		fallthrough
	case renewDestroy:
		last = e.change(s, nftMsgDestroySetElem, false)
	case renewReinsert:
		e.change(s, unix.NFT_MSG_NEWSETELEM, true)
		last = e.change(s, unix.NFT_MSG_DELSETELEM, false)
	}
	if !remove {
		last = e.change(s, unix.NFT_MSG_NEWSETELEM, false)
	}
	e.group = e.group[:0]
	return last
}

// change writes one message with the group's elements and returns where it starts.
func (e *encoder) change(s set, kind uint16, stale bool) int {
	spec := s.spec()
	flags := uint16(unix.NLM_F_REQUEST)
	if kind == unix.NFT_MSG_NEWSETELEM {
		flags |= unix.NLM_F_CREATE
	}
	e.sets = append(e.sets, s)
	start := e.header(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, unix.NFPROTO_IPV4, 0)
	e.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	e.text(unix.NFTA_SET_ELEM_LIST_SET, spec.name)
	list := e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	for i := range e.group {
		o := &e.group[i]
		elem := e.nest(unix.NFTA_LIST_ELEM)
		e.cell(unix.NFTA_SET_ELEM_KEY, &o.key, spec.key)
		if kind == unix.NFT_MSG_NEWSETELEM {
			if stale {
				e.cell(unix.NFTA_SET_ELEM_DATA, &o.stale, spec.data)
			} else {
				e.cell(unix.NFTA_SET_ELEM_DATA, &o.data, spec.data)
			}
			// Both: an update to the timeout that it has anyway would change nothing.
			e.number(unix.NFTA_SET_ELEM_TIMEOUT, o.millis)
			e.number(unix.NFTA_SET_ELEM_EXPIRATION, o.millis)
		}
		e.close(elem)
	}
	e.close(list)
	e.finish(start)
	return start
}

// bracket writes the message that begins or ends a transaction.
func (e *encoder) bracket(kind uint16) {
	e.finish(e.header(kind, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
}

// header writes struct nlmsghdr, its length open, and struct nfgenmsg.
func (e *encoder) header(kind, flags uint16, family uint8, resource uint16) (start int) {
	start = len(e.out)
	e.seq++
	e.out = append(e.out, 0, 0, 0, 0)
	e.out = binary.NativeEndian.AppendUint16(e.out, kind)
	e.out = binary.NativeEndian.AppendUint16(e.out, flags)
	e.out = binary.NativeEndian.AppendUint32(e.out, e.seq)
	e.out = append(e.out, 0, 0, 0, 0)
	e.out = append(e.out, family, unix.NFNETLINK_V0)
	e.out = binary.BigEndian.AppendUint16(e.out, resource)
	return start
}

// finish sets a message's length.
func (e *encoder) finish(start int) {
	binary.NativeEndian.PutUint32(e.out[start:], uint32(len(e.out)-start))
}

// attribute writes struct nlattr for size bytes that follow.
func (e *encoder) attribute(kind uint16, size int) {
	e.out = binary.NativeEndian.AppendUint16(e.out, uint16(unix.SizeofNlAttr+size))
	e.out = binary.NativeEndian.AppendUint16(e.out, kind)
}

// pad aligns to 4 bytes.
func (e *encoder) pad() {
	for len(e.out)%unix.NLA_ALIGNTO != 0 {
		e.out = append(e.out, 0)
	}
}

func (e *encoder) text(kind uint16, s string) {
	e.attribute(kind, len(s)+1)
	e.out = append(e.out, s...)
	e.out = append(e.out, 0)
	e.pad()
}

func (e *encoder) number(kind uint16, n uint64) {
	e.attribute(kind, 8)
	e.out = binary.BigEndian.AppendUint64(e.out, n)
}

// cell writes a key or data of the given shape, if it has one.
func (e *encoder) cell(kind uint16, c *cell, s shape) {
	size := s.size()
	if size == 0 {
		return
	}
	e.attribute(kind|unix.NLA_F_NESTED, unix.SizeofNlAttr+size)
	e.attribute(unix.NFTA_DATA_VALUE, size)
	e.out = append(e.out, c[:size]...)
	e.pad()
}

// nest starts an attribute that holds others; close ends it.
func (e *encoder) nest(kind uint16) (start int) {
	start = len(e.out)
	e.attribute(kind|unix.NLA_F_NESTED, 0)
	return start
}

func (e *encoder) close(start int) {
	binary.NativeEndian.PutUint16(e.out[start:], uint16(len(e.out)-start))
}

// position is where in the last exchange a message stood.
type position uint8

const (
	foreignMessage position = iota // not in it
	someMessage
	lastMessage // that asked for an acknowledgement
)

// find tells which message of the last exchange had the sequence number, and what
// it was about.
func (e *encoder) find(seq uint32) (where position, about string) {
	switch i := seq - e.begin; {
	case i == 0 || i == uint32(len(e.sets))+1:
		return someMessage, "the table"
	case i == uint32(len(e.sets)):
		return lastMessage, e.sets[i-1].String()
	case i < uint32(len(e.sets)):
		return someMessage, e.sets[i-1].String()
	}
	return foreignMessage, ""
}
