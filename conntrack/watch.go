package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	ct "github.com/florianl/go-conntrack"
	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// An Event tells that a UDP flow began or ended, or that an anchor was taken away.
type Event struct {
	Flow Flow

	// Destroyed is set if the flow has ended; its counts are then the final
	// ones. Otherwise it is new: its first packet has left.
	Destroyed bool

	// Anchor is valid in an event without a Flow: the anchor of this public
	// endpoint, or an expectation below it, is gone from the kernel, and was
	// not closed by this Conn. It may have expired, or somebody has run
	// conntrack -F. [Batch.Renew] creates it again.
	Anchor netip.AddrPort

	// Lost is set in an event without a Flow: others may have been missed
	// before it. It is always the first event of a Watch, and comes again
	// when the kernel had more to tell than was read in time, or could not be
	// listened to for a while.
	Lost bool
}

// eventBuffer is the size of the socket's receive buffer: some thousand events.
const eventBuffer = 4 << 20

// reopenPause is how long a Watch waits before it listens anew, after the kernel
// has refused it.
const reopenPause = 200 * time.Millisecond

// Watch calls fn with each UDP flow that begins or ends, and each anchor that
// was taken away, until ctx is done, when it returns nil. When the socket fails it
// opens another one and goes on; only if the kernel refuses it from the start it
// returns an error. fn is called on the calling goroutine and should be quick. A
// Conn can be watched once.
func (c *Conn) Watch(ctx context.Context, fn func(Event)) error {
	if c.watching.Swap(true) {
		return errors.New("conntrack: this connection has been watched before")
	}
	events, err := c.listener()
	if err == nil {
		err = subscribe(events)
	}
	if err != nil {
		return fmt.Errorf("conntrack: watch: %w", err)
	}
	for told := false; ; {
		if err == nil {
			told = false
			err = c.listen(ctx, events, fn)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !told {
			c.log.Warn("the kernel cannot be listened to for a moment: it does not tell of flows; then all are looked at anew", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reopenPause):
		}
		if events, err = c.relisten(); err == nil {
			err = subscribe(events)
		}
	}
}

// listen delivers events until ctx is done or the socket fails.
func (c *Conn) listen(ctx context.Context, events *ct.Nfct, fn func(Event)) error {
	raw, err := events.Con.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = events.Con.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	fn(Event{Lost: true})
	var (
		buf  [16 << 10]byte
		n    int
		rerr error
		lost bool // since everything was read
	)
	read := func(fd uintptr) bool {
		n, rerr = unix.Read(int(fd), buf[:])
		return rerr != unix.EAGAIN || lost
	}
	for {
		// The library's own loop ends for good when events are lost.
		if err := raw.Read(read); err != nil {
			return err
		}
		switch rerr {
		case nil:
			c.deliver(buf[:n], fn)
		case unix.EINTR:
		case unix.ENOBUFS, unix.EAGAIN:
			// Until everything is read, the kernel drops what comes and does not say
			// so again: it is told once more then.
			lost = rerr == unix.ENOBUFS
			fn(Event{Lost: true})
		default:
			return rerr
		}
	}
}

// listener returns the socket for events.
func (c *Conn) listener() (*ct.Nfct, error) {
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	if c.events == nil {
		return nil, net.ErrClosed
	}
	return c.events, nil
}

// relisten opens the socket for events anew.
func (c *Conn) relisten() (*ct.Nfct, error) {
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	if c.events == nil {
		return nil, net.ErrClosed
	}
	events, err := ct.Open(&ct.Config{NetNS: c.netNS})
	if err != nil {
		return nil, err
	}
	_ = c.events.Close() // it has failed
	c.events = events
	return events, nil
}

// subscribe has the kernel send events of UDP flows and expectations.
func subscribe(events *ct.Nfct) error {
	con := events.Con
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
	for _, group := range []uint32{unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_DESTROY, unix.NFNLGRP_CONNTRACK_EXP_DESTROY} {
		if err := con.JoinGroup(group); err != nil {
			return err
		}
	}
	return nil
}

// udpEvents returns the socket filter that lets only events of UDP flows pass,
// so that those of all others cost no wake-up. It finds the attribute
// CTA_TUPLE_ORIG, in it CTA_TUPLE_PROTO, in that CTA_PROTO_NUM. In the events of
// expectations CTA_EXPECT_MASTER has the same number and form.
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
		switch typ {
		case typeCtNew, typeCtDelete:
			c.deliverFlow(body, typ == typeCtDelete, fn)
		case typeExpDelete:
			if public, ok := expectedBelow(body); ok {
				c.deliverLoss(public, fn)
			}
		}
	}
}

func (c *Conn) deliverFlow(body []byte, destroyed bool, fn func(Event)) {
	flow, ok, err := c.parseFlow(body)
	if err != nil {
		c.log.Debug("conntrack event", "err", err)
		return
	}
	if !ok {
		return
	}
	if public, isAnchor := anchoredBy(flow.Orig); isAnchor {
		if destroyed {
			c.deliverLoss(public, fn)
		}
		return
	}
	fn(Event{Flow: flow, Destroyed: destroyed})
}

// deliverLoss tells of an anchor that is not what it should be, unless that is our
// doing: the kernel names nobody as the cause when expectations go with their anchor.
func (c *Conn) deliverLoss(public netip.AddrPort, fn func(Event)) {
	c.mu.Lock()
	wanted := c.state.anchors[public] != nil
	c.mu.Unlock()
	if wanted {
		fn(Event{Anchor: public})
	}
}

// expectedBelow returns the public endpoint of the anchor that a message names as
// an expectation's master.
func expectedBelow(body []byte) (public netip.AddrPort, ok bool) {
	ad, err := netlink.NewAttributeDecoder(body[nfgenmsgLen:])
	if err != nil {
		return netip.AddrPort{}, false
	}
	for ad.Next() {
		if ad.Type() == ctaExpectMaster {
			var t Tuple
			ad.Nested(t.decode)
			public, ok = anchoredBy(t)
		}
	}
	return public, ok && ad.Err() == nil
}
