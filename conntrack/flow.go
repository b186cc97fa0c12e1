package conntrack

import (
	"net/netip"
	"time"

	ct "github.com/florianl/go-conntrack"
	"github.com/mdlayher/netlink"
)

// Bits of Flow.Status (enum ip_conntrack_status).
const (
	StatusExpected  uint32 = 1 << 0 // began by an expectation: its first packet was RELATED
	StatusSeenReply uint32 = 1 << 1 // packets went both ways
	StatusAssured   uint32 = 1 << 2 // not dropped early when the table is full
	StatusConfirmed uint32 = 1 << 3 // its first packet has left
	StatusSrcNAT    uint32 = 1 << 4 // the source of the original direction is translated
	StatusDstNAT    uint32 = 1 << 5 // the destination of the original direction is translated
	StatusDying     uint32 = 1 << 9 // about to go
)

// A Flow is a UDP conntrack entry.
type Flow struct {
	// Orig is the direction of the first packet, before any translation.
	// Reply is what an answer looks like when it comes in, before it is
	// translated back.
	Orig, Reply Tuple

	Status  uint32        // Status bits
	Timeout time.Duration // until it expires without a packet; 0 in events

	// Counts of each direction; they stay 0 unless accounting was on when the
	// flow began. Bytes are those of whole IP packets.
	OrigPackets, OrigBytes   uint64
	ReplyPackets, ReplyBytes uint64

	// Anchor is the public endpoint under whose anchor the flow was expected,
	// so that it was RELATED; not valid if there was none, and in events of
	// flows that have ended. One from an inside endpoint that has no anchor of
	// its own, to where an anchor's egress expectation leads, is known by it.
	Anchor netip.AddrPort

	Helper string // name of the helper that is attached, or ""
	Mark   uint32
	ID     uint32 // differs between two flows that had the same tuples
}

// Translation returns the public endpoint that stands for the inside endpoint
// in this flow, whichever side began it, and true; or false if the flow has no
// such inside endpoint. They are equal if nothing is translated.
func (f Flow) Translation(inside netip.AddrPort) (public netip.AddrPort, ok bool) {
	switch inside {
	case f.Orig.Src:
		return f.Reply.Dst, true
	case f.Reply.Src:
		return f.Orig.Dst, true
	}
	return netip.AddrPort{}, false
}

// Inside returns the inside endpoint for which the public one stands in this
// flow; it is the reverse of Translation.
func (f Flow) Inside(public netip.AddrPort) (inside netip.AddrPort, ok bool) {
	switch public {
	case f.Reply.Dst:
		return f.Orig.Src, true
	case f.Orig.Dst:
		return f.Reply.Src, true
	}
	return netip.AddrPort{}, false
}

// Traffic is what has been carried to and from an inside endpoint. Bytes are
// those of whole IP packets.
type Traffic struct {
	InPackets, InBytes   uint64 // towards the inside endpoint
	OutPackets, OutBytes uint64 // from it
}

// Add adds what other flows have carried.
func (t *Traffic) Add(o Traffic) {
	t.InPackets += o.InPackets
	t.InBytes += o.InBytes
	t.OutPackets += o.OutPackets
	t.OutBytes += o.OutBytes
}

// Traffic returns the counts of a flow of an inside endpoint by direction. A flow
// that does not name the endpoint is one that began inside.
func (f Flow) Traffic(inside netip.AddrPort) Traffic {
	if f.Reply.Src == inside && f.Orig.Src != inside {
		return Traffic{f.OrigPackets, f.OrigBytes, f.ReplyPackets, f.ReplyBytes}
	}
	return Traffic{f.ReplyPackets, f.ReplyBytes, f.OrigPackets, f.OrigBytes}
}

// Related reports whether the flow began by an expectation.
func (f Flow) Related() bool { return f.Status&StatusExpected != 0 }

// flowOf converts an entry of the library. ok is false unless it is one of UDP.
func flowOf(c *ct.Con) (f Flow, ok bool) {
	if f.Orig, ok = tupleOf(c.Origin); !ok {
		return Flow{}, false
	}
	if f.Reply, ok = tupleOf(c.Reply); !ok {
		return Flow{}, false
	}
	f.Status = value(c.Status)
	f.Timeout = time.Duration(value(c.Timeout)) * time.Second
	f.Mark = value(c.Mark)
	f.ID = value(c.ID)
	if c.CounterOrigin != nil {
		f.OrigPackets, f.OrigBytes = value(c.CounterOrigin.Packets), value(c.CounterOrigin.Bytes)
	}
	if c.CounterReply != nil {
		f.ReplyPackets, f.ReplyBytes = value(c.CounterReply.Packets), value(c.CounterReply.Bytes)
	}
	if c.Helper != nil {
		f.Helper = value(c.Helper.Name)
	}
	return f, true
}

// parseFlow reads the body of a message about an entry. ok is false unless it is
// one of UDP.
func (c *Conn) parseFlow(body []byte) (f Flow, ok bool, err error) {
	entry, err := ct.ParseAttributes(c.quiet, body)
	if err != nil {
		return Flow{}, false, err
	}
	f, ok = flowOf(&entry)
	if ok && f.Related() {
		f.Anchor = masterAnchor(body)
	}
	return f, ok, nil
}

// masterAnchor returns the public endpoint of the anchor that a message names as
// its entry's master, in an attribute that the library passes over.
func masterAnchor(body []byte) (public netip.AddrPort) {
	ad, err := netlink.NewAttributeDecoder(body[nfgenmsgLen:])
	if err != nil {
		return netip.AddrPort{}
	}
	for ad.Next() {
		if ad.Type() != ctaTupleMaster {
			continue
		}
		var t Tuple
		ad.Nested(t.decode)
		if p, ok := anchoredBy(t); ok && ad.Err() == nil {
			return p
		}
	}
	return netip.AddrPort{}
}

// value returns what p points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
