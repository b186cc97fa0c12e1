package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	ct "github.com/florianl/go-conntrack"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Lookup returns the flow to which packets with this tuple belong. It may be
// the original or the reply direction, each as it is on the side that it comes
// in from. The error is ErrNotFound if there is none that is confirmed: a flow
// whose first packet waits in a queue is not.
func (c *Conn) Lookup(t Tuple) (Flow, error) {
	family, err := t.family()
	if err != nil {
		return Flow{}, err
	}
	c.queryMu.Lock()
	defer c.queryMu.Unlock()
	entries, err := c.query.Get(ct.Conntrack, family, ct.Con{Origin: t.ipTuple()})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return Flow{}, fmt.Errorf("conntrack: look up %v: %w", t, err)
	}
	for i := range entries {
		if f, ok := flowOf(&entries[i]); ok {
			return f, nil
		}
	}
	return Flow{}, ErrNotFound
}

// Delete deletes the flow to which packets with this tuple belong; see Lookup.
// It is no error if there is none.
func (c *Conn) Delete(t Tuple) error {
	family, err := t.family() // without a whole tuple the kernel would delete them all
	if err != nil {
		return err
	}
	c.queryMu.Lock()
	defer c.queryMu.Unlock()
	err = c.query.Delete(ct.Conntrack, family, ct.Con{Origin: t.ipTuple()})
	if err != nil && !errors.Is(err, unix.ENOENT) {
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
// IPv4. The kernel walks its whole table for it, so it is not for every call;
// but it hands over only what matches (Linux 5.8 and later; before that, every
// flow is read).
func (c *Conn) Select(f Filter) ([]Flow, error) {
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
		return nil, fmt.Errorf("conntrack: select: %w", err)
	}
	entries, err := c.dump(append([]byte{byte(f.family()), unix.NFNETLINK_V0, 0, 0}, attrs...))
	if err != nil {
		return nil, fmt.Errorf("conntrack: select: %w", err)
	}
	var flows []Flow
	for _, m := range entries {
		entry, err := ct.ParseAttributes(c.quiet, m.Data)
		if err != nil {
			return nil, fmt.Errorf("conntrack: select: %w", err)
		}
		if flow, ok := flowOf(&entry); ok && f.matches(&flow) {
			flows = append(flows, flow)
		}
	}
	return flows, nil
}

func (c *Conn) dump(request []byte) ([]netlink.Message, error) {
	c.queryMu.Lock()
	defer c.queryMu.Unlock()
	return c.query.Con.Execute(netlink.Message{
		Header: netlink.Header{Type: typeCtGet, Flags: netlink.Request | netlink.Dump},
		Data:   request,
	})
}

func (f Filter) family() ct.Family {
	for _, a := range []netip.AddrPort{f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Reply.Dst} {
		if a.Addr().Is6() && !a.Addr().Is4In6() {
			return ct.IPv6
		}
	}
	return ct.IPv4
}

// matches is for kernels that do not know CTA_FILTER and ignore it.
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

// encode appends the parts of t that are given, and returns the flags that name
// them.
func (t Tuple) encode(ae *netlink.AttributeEncoder, typ uint16) (flags uint32) {
	flags = filterProtoNum
	ae.Nested(typ, func(ae *netlink.AttributeEncoder) error {
		ae.Nested(ctaTupleIP, func(ae *netlink.AttributeEncoder) error {
			if a := t.Src.Addr().Unmap(); a.IsValid() {
				flags |= filterIPSrc
				ae.Bytes(familyAttr(a, ctaIPv4Src, ctaIPv6Src), a.AsSlice())
			}
			if a := t.Dst.Addr().Unmap(); a.IsValid() {
				flags |= filterIPDst
				ae.Bytes(familyAttr(a, ctaIPv4Dst, ctaIPv6Dst), a.AsSlice())
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

func familyAttr(a netip.Addr, v4, v6 uint16) uint16 {
	if a.Is4() {
		return v4
	}
	return v6
}
