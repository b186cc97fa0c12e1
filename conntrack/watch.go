package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// An Event tells that a UDP flow began or ended.
type Event struct {
	Flow Flow

	// Destroyed is set if the flow has ended; its counts are then the final
	// ones. Otherwise it is new: its first packet has left.
	Destroyed bool

	// Lost is set in an event without a Flow: others may have been missed
	// before it. It is always the first event of a Watch, and comes again
	// when the kernel had more to tell than was read in time.
	Lost bool
}

// eventBuffer is the size of the socket's receive buffer: some thousand events.
const eventBuffer = 4 << 20

// Watch calls fn with each UDP flow that begins or ends, except for anchors,
// until ctx is done, when it returns nil, or the socket fails. fn is called on
// the calling goroutine and should be quick. A Conn can be watched once.
func (c *Conn) Watch(ctx context.Context, fn func(Event)) error {
	if c.watching.Swap(true) {
		return errors.New("conntrack: this connection has been watched before")
	}
	if err := c.subscribe(); err != nil {
		return fmt.Errorf("conntrack: watch: %w", err)
	}
	raw, err := c.events.Con.SyscallConn()
	if err != nil {
		return fmt.Errorf("conntrack: watch: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.events.Con.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	fn(Event{Lost: true})
	var (
		buf  [16 << 10]byte
		n    int
		rerr error
	)
	read := func(fd uintptr) bool {
		n, rerr = unix.Read(int(fd), buf[:])
		return rerr != unix.EAGAIN
	}
	for {
		// The library's own loop ends for good when events are lost.
		if err := raw.Read(read); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("conntrack: watch: %w", err)
		}
		switch rerr {
		case nil:
			c.deliver(buf[:n], fn)
		case unix.EINTR:
		case unix.ENOBUFS:
			fn(Event{Lost: true})
		default:
			return fmt.Errorf("conntrack: watch: %w", rerr)
		}
	}
}

// subscribe has the kernel send events of UDP flows.
func (c *Conn) subscribe() error {
	con := c.events.Con
	if err := con.SetReadBuffer(eventBuffer); err != nil {
		return err
	}
	filter, err := bpf.Assemble(udpEvents())
	if err != nil {
		return err
	}
	if err := con.SetBPF(filter); err != nil {
		return err
	}
	for _, group := range []uint32{unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_DESTROY} {
		if err := con.JoinGroup(group); err != nil {
			return err
		}
	}
	return nil
}

// udpEvents returns the socket filter that lets only events of UDP flows pass,
// so that those of all others cost no wake-up. It finds the attribute
// CTA_TUPLE_ORIG, in it CTA_TUPLE_PROTO, in that CTA_PROTO_NUM.
func udpEvents() []bpf.Instruction {
	const all = 0xffffffff
	find := func(typ uint32, ext bpf.Extension, skip uint8) []bpf.Instruction {
		return []bpf.Instruction{
			bpf.LoadConstant{Dst: bpf.RegX, Val: typ},
			bpf.LoadExtension{Num: ext},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: skip},
		}
	}
	prog := []bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegA, Val: headerLen}}
	prog = append(prog, find(ctaTupleOrig, bpf.ExtNetlinkAttr, 10)...)
	prog = append(prog, find(ctaTupleProto, bpf.ExtNetlinkAttrNested, 7)...)
	prog = append(prog, find(ctaProtoNum, bpf.ExtNetlinkAttrNested, 4)...)
	return append(prog,
		bpf.TAX{},
		bpf.LoadIndirect{Off: unix.SizeofNlAttr, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 1},
		bpf.RetConstant{Val: all},
		bpf.RetConstant{Val: 0},
	)
}

// deliver calls fn with the events of one datagram.
func (c *Conn) deliver(b []byte, fn func(Event)) {
	for len(b) >= headerLen {
		length := int(binary.NativeEndian.Uint32(b))
		if length < headerLen || length > len(b) {
			return
		}
		typ := binary.NativeEndian.Uint16(b[4:])
		body := b[unix.SizeofNlMsghdr:length]
		b = b[min(len(b), (length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
		if typ != typeCtNew && typ != typeCtDelete {
			continue
		}
		flow, ok, err := c.parseFlow(body)
		if err != nil {
			c.log.Debug("conntrack event", "err", err)
			continue
		}
		if !ok {
			continue
		}
		if _, isAnchor := anchoredBy(flow.Orig); isAnchor {
			continue
		}
		fn(Event{Flow: flow, Destroyed: typ == typeCtDelete})
	}
}
