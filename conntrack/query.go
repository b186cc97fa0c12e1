package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Lookup returns the flow to which packets with this tuple belong. It may be
// the original or the reply direction, each as it is on the side that it comes
// in from. The error is ErrNotFound if there is none that is confirmed: a flow
// whose first packet waits in a queue is not.
func (c *Conn) Lookup(t Tuple) (Flow, error) {
	t, ok := t.unmapped()
	if !ok {
		return Flow{}, fmt.Errorf("conntrack: look up %v: %w", t, ErrTuple)
	}
	c.queryMu.Lock()
	defer c.queryMu.Unlock()
	c.query.enc.flow(typeCtGet, c.query.next(), t)
	var (
		f   Flow
		bad error
	)
	err := c.query.request(func(body []byte) {
		f, ok, bad = c.parseFlow(body)
	})
	switch err = errors.Join(err, bad); {
	case errors.Is(err, unix.ENOENT):
		return Flow{}, ErrNotFound
	case err != nil:
		return Flow{}, fmt.Errorf("conntrack: look up %v: %w", t, err)
	case !ok:
		return Flow{}, fmt.Errorf("conntrack: look up %v: %w", t, unix.EBADMSG)
	}
	return f, nil
}

// Delete deletes the flow to which packets with this tuple belong; see Lookup.
// It is no error if there is none.
func (c *Conn) Delete(t Tuple) error {
	t, ok := t.unmapped()
	if !ok { // without a whole tuple the kernel would delete all flows
		return fmt.Errorf("conntrack: delete %v: %w", t, ErrTuple)
	}
	c.queryMu.Lock()
	defer c.queryMu.Unlock()
	c.query.enc.flow(typeCtDelete, c.query.next(), t)
	if err := c.query.request(nil); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("conntrack: delete %v: %w", t, err)
	}
	return nil
}

// A Filter selects UDP flows by the tuples of either direction. Addresses that
// are not valid and ports that are 0 match any. All others have to match.
type Filter struct {
	Orig, Reply Tuple
}

// Bits of CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS.
const (
	filterIPSrc    uint32 = 1 << 0
	filterIPDst    uint32 = 1 << 1
	filterProtoNum uint32 = 1 << 3
	filterSrcPort  uint32 = 1 << 4
	filterDstPort  uint32 = 1 << 5

	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
)

// Select returns the flows that match f; without any address in f, those of
// IPv4. The kernel walks its whole table for it, which takes tens of
// milliseconds where that has 100 000 entries: it is for a start or a repair,
// and [Conn.Lookup] for a call. But only what matches is handed over (by Linux
// 5.8 and later; before that, every flow is read).
func (c *Conn) Select(f Filter) ([]Flow, error) {
	entries, err := c.selectRaw(f)
	if err != nil {
		return nil, fmt.Errorf("conntrack: select: %w", err)
	}
	var flows []Flow
	for _, m := range entries {
		flow, ok, err := c.parseFlow(m.Data)
		if err != nil {
			return nil, fmt.Errorf("conntrack: select: %w", err)
		}
		if ok && f.matches(&flow) {
			flows = append(flows, flow)
		}
	}
	return flows, nil
}

// selectRaw returns what the kernel hands over for f.
func (c *Conn) selectRaw(f Filter) ([]netlink.Message, error) {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	orig := f.Orig.encode(ae, ctaTupleOrig)
	reply := f.Reply.encode(ae, ctaTupleReply)
	ae.Nested(ctaFilter, func(ae *netlink.AttributeEncoder) error {
		ae.ByteOrder = binary.NativeEndian
		ae.Uint32(ctaFilterOrigFlags, orig)
		ae.Uint32(ctaFilterReplyFlags, reply)
		return nil
	})
	attrs, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	c.dumpMu.Lock()
	defer c.dumpMu.Unlock()
	return c.dump.nfct.Con.Execute(netlink.Message{
		Header: netlink.Header{Type: typeCtGet, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{f.family(), unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
}

func (f Filter) family() uint8 {
	for _, a := range []netip.AddrPort{f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Reply.Dst} {
		if a.Addr().Is6() && !a.Addr().Is4In6() {
			return unix.AF_INET6
		}
	}
	return unix.AF_INET
}

// matches reports whether flow is to be selected. Kernels that do not know
// CTA_FILTER ignore it.
func (f Filter) matches(flow *Flow) bool {
	return f.Orig.covers(flow.Orig) && f.Reply.covers(flow.Reply)
}

// covers reports whether the parts of t that are given equal those of u.
func (t Tuple) covers(u Tuple) bool {
	covers := func(t, u netip.AddrPort) bool {
		return (!t.Addr().IsValid() || t.Addr().Unmap() == u.Addr()) && (t.Port() == 0 || t.Port() == u.Port())
	}
	return covers(t.Src, u.Src) && covers(t.Dst, u.Dst)
}

// encode appends the parts of t that the kernel is to compare, and returns the
// flags that name them.
func (t Tuple) encode(ae *netlink.AttributeEncoder, typ uint16) (flags uint32) {
	flags = filterProtoNum
	ae.Nested(typ, func(ae *netlink.AttributeEncoder) error {
		ae.Nested(ctaTupleIP, func(ae *netlink.AttributeEncoder) error {
			// The kernel gets the comparison of IPv6 addresses the wrong way
			// round (as of 6.18): those are compared here, see matches.
			if a := t.Src.Addr().Unmap(); a.Is4() {
				flags |= filterIPSrc
				ae.Bytes(ctaIPv4Src, a.AsSlice())
			}
			if a := t.Dst.Addr().Unmap(); a.Is4() {
				flags |= filterIPDst
				ae.Bytes(ctaIPv4Dst, a.AsSlice())
			}
			return nil
		})
		ae.Nested(ctaTupleProto, func(ae *netlink.AttributeEncoder) error {
			ae.Uint8(ctaProtoNum, unix.IPPROTO_UDP)
			if p := t.Src.Port(); p != 0 {
				flags |= filterSrcPort
				ae.Uint16(ctaProtoSrcPort, p)
			}
			if p := t.Dst.Port(); p != 0 {
				flags |= filterDstPort
				ae.Uint16(ctaProtoDstPort, p)
			}
			return nil
		})
		return nil
	})
	return flags
}
