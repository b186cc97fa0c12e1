package conntrack

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotFound says that no flow has the tuple that was asked for.
	ErrNotFound = errors.New("no such flow")

	// ErrTuple says that a tuple is not that of a flow: incomplete, or of two
	// address families.
	ErrTuple = errors.New("not the tuple of a flow")

	// ErrExpectTableFull says that the kernel's table of expectations, which
	// is small and shared by everyone, takes no more.
	ErrExpectTableFull = errors.New("the expectation table is full; raise the sysctl net.netfilter.nf_conntrack_expect_max")

	// ErrTableFull says that the conntrack table takes no more entries.
	ErrTableFull = errors.New("the conntrack table is full; raise the sysctl net.netfilter.nf_conntrack_max")

	// ErrNoHelper says that the kernel has the helper no more, and could not be made to
	// have it again.
	ErrNoHelper = errors.New("the conntrack helper is gone from the kernel; load nf_conntrack_sip or nfnetlink_cthelper again and restart sipnatd")

	// ErrAnchorFull says that an anchor has as many expectations as its helper
	// allows. The kernel would not refuse one more: it would silently evict
	// the oldest.
	ErrAnchorFull = errors.New("no more expectations are possible below this anchor")

	// ErrNoAnchor says that an expectation was asked for below an anchor that
	// was never opened, or could not be.
	ErrNoAnchor = errors.New("the anchor was not opened")

	// ErrEndpoint says that an anchor or expectation is not for an IPv4 address
	// and a port.
	ErrEndpoint = errors.New("not an IPv4 address and port")
)

// An Error is one operation of a Batch that failed. Commit joins them.
type Error struct {
	Op     string         // "open anchor", "expect", "renew", "close anchor", "unexpect"
	Public netip.AddrPort // the anchor's public endpoint
	Far    netip.AddrPort // destination of the expectation, if it is about one
	Err    error          // one of this package's errors, or a unix.Errno
}

func (e *Error) Error() string {
	if e.Far.IsValid() && e.Far != e.Public {
		return fmt.Sprintf("conntrack: %s %v to %v: %v", e.Op, e.Public, e.Far, e.Err)
	}
	return fmt.Sprintf("conntrack: %s %v: %v", e.Op, e.Public, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// refusal translates what the kernel answers to a message of a batch.
func refusal(m messageKind, errno unix.Errno) error {
	switch {
	case m == newExpectation && errno == unix.EMFILE:
		return ErrExpectTableFull
	case m == newAnchor && errno == unix.ENOMEM:
		return ErrTableFull
	case m == newAnchor && errno == unix.EOPNOTSUPP:
		return ErrNoHelper
	}
	return errno
}
