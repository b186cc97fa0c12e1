package nft

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Config says what the table's rules depend on.
type Config struct {
	// Inside and Outside name the interfaces of the private networks and those
	// towards the provider. They need not exist yet, and a side may have none
	// for now. None on both sides, and no patterns.
	Inside, Outside []string

	// SIPPorts are the UDP ports where SIP is spoken, from 1. At least one.
	SIPPorts []uint16

	// SIPPeers are networks that reach every binding without having been called
	// before. IPv6 prefixes have no place in this table and are left out.
	SIPPeers []netip.Prefix

	// AcceptAny lets every outside host reach every binding.
	AcceptAny bool

	// MediaAny lets every outside host send to every stream: the guard passes all.
	MediaAny bool

	// HairpinRouter translates inside hosts that send to a public stream, too.
	HairpinRouter bool

	// Bypass lets SIP pass unchanged while no daemon listens on the queue. It is
	// dropped otherwise.
	Bypass bool

	// Helper names a conntrack helper for UDP that the flows of SIP and media are
	// given, because no flowtable takes flows with one off the forward hook. The
	// helper must do nothing to packets. Empty: none.
	Helper string

	// QueueFirst is the number of the first queue, Queues how many there are
	// (0 counts as 1). A flow stays in its queue, in both directions.
	QueueFirst, Queues uint16
}

// check reports what the kernel would refuse or, worse, not refuse.
func (c Config) check() error {
	var errs []error
	for _, name := range slices.Concat(c.Inside, c.Outside) {
		if name == "" || len(name) >= unix.IFNAMSIZ {
			errs = append(errs, fmt.Errorf("interface name %q: want 1 to %d bytes", name, unix.IFNAMSIZ-1))
		}
		if strings.ContainsAny(name, "*+") {
			errs = append(errs, fmt.Errorf("interface name %q: patterns are not known here", name))
		}
	}
	for _, name := range c.Inside {
		if slices.Contains(c.Outside, name) {
			errs = append(errs, fmt.Errorf("interface %s is both inside and outside", name))
		}
	}
	if len(c.SIPPorts) == 0 || slices.Contains(c.SIPPorts, 0) {
		errs = append(errs, errors.New("SIP ports from 1 to 65535 are needed"))
	}
	if last := int(c.QueueFirst) + c.queues() - 1; last > 0xffff {
		errs = append(errs, fmt.Errorf("queue number %d is above 65535", last))
	}
	return errors.Join(errs...)
}

func (c Config) queues() int { return max(1, int(c.Queues)) }

// addrRange is a range of addresses, both ends included.
type addrRange struct{ first, last netip.Addr }

// peerRanges returns the IPv4 peers as ascending ranges that neither overlap nor
// touch, as an interval set wants them.
func (c Config) peerRanges() []addrRange {
	var all []addrRange
	for _, p := range c.SIPPeers {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !p.IsValid() || !p.Addr().Is4() {
			continue
		}
		p = p.Masked()
		last := p.Addr().As4()
		for bit := p.Bits(); bit < 32; bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		all = append(all, addrRange{p.Addr(), netip.AddrFrom4(last)})
	}
	slices.SortFunc(all, func(a, b addrRange) int {
		return cmp.Or(a.first.Compare(b.first), b.last.Compare(a.last))
	})
	var out []addrRange
	for _, r := range all {
		if n := len(out); n > 0 {
			prev := &out[n-1]
			if next := prev.last.Next(); !next.IsValid() || r.first.Compare(next) <= 0 {
				if prev.last.Less(r.last) {
					prev.last = r.last
				}
				continue
			}
		}
		out = append(out, r)
	}
	return out
}
