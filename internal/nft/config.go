package nft

import (
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

	// SIPPorts are the UDP ports where SIP is spoken, from 1. With none, no
	// forwarded SIP is looked at.
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

	// Bypass lets SIP pass unchanged while no daemon listens on the queue, once
	// [ServingLease] is over. It is dropped otherwise.
	Bypass bool

	// Helper names a conntrack helper for UDP that the flows of SIP and media are
	// given, because no flowtable takes flows with one off the forward hook. The
	// helper must do nothing to packets. Empty: none.
	Helper string

	// SIPDSCP and RTPDSCP are code points of differentiated services, 1 to 63, that
	// SIP and media are given on their way through, in both directions. 0 leaves a
	// packet's own.
	SIPDSCP, RTPDSCP uint8

	// RedirectPort is the local port to which TCP connections from inside to a SIP
	// port outside are led. 0: none is.
	RedirectPort uint16

	// ListenPort is the local port where the daemon itself is spoken to, over UDP and
	// TCP, and hosts have the same limits as where SIP is forwarded. 0: it is not.
	ListenPort uint16

	// QueueFirst is the number of the first queue, Queues how many there are
	// (0 counts as 1). A flow stays in its queue, in both directions.
	QueueFirst, Queues uint16
}

// maxDSCP is the largest code point: the field has six bits.
const maxDSCP = 63

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
	if slices.Contains(c.SIPPorts, 0) {
		errs = append(errs, errors.New("SIP ports from 1 to 65535 are needed"))
	}
	if c.SIPDSCP > maxDSCP || c.RTPDSCP > maxDSCP {
		errs = append(errs, fmt.Errorf("code points %d of SIP and %d of media: want 0 to %d", c.SIPDSCP, c.RTPDSCP, maxDSCP))
	}
	if last := int(c.QueueFirst) + c.queues() - 1; last > 0xffff {
		errs = append(errs, fmt.Errorf("queue number %d is above 65535", last))
	}
	return errors.Join(errs...)
}

// Awaited reports whether something waits for the next daemon when one has ended, for
// [ServingLease].
func (c Config) Awaited() bool { return c.Bypass || c.ListenPort != 0 }

func (c Config) queues() int { return max(1, int(c.Queues)) }
