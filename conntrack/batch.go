package conntrack

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// A Batch collects operations for one Commit. Its zero value is empty and ready
// for use, and it is meant to be used again and again. It must not be used
// concurrently.
type Batch struct {
	ops []operation
}

type opKind uint8

const (
	opOpen opKind = iota
	opRenew
	opExpect
	opUnexpect
	opClose
)

func (k opKind) String() string {
	return [...]string{"open anchor", "renew", "expect", "unexpect", "close anchor"}[k]
}

type operation struct {
	kind     opKind
	public   netip.AddrPort
	far      netip.AddrPort
	lifetime time.Duration
}

// OpenAnchor creates the anchor of a public endpoint, with the expectation of
// flows from anywhere to it. If it exists, it is renewed. Seconds are the
// kernel's unit of the lifetime, which is rounded up.
func (b *Batch) OpenAnchor(public netip.AddrPort, lifetime time.Duration) {
	b.add(operation{kind: opOpen, public: public, lifetime: lifetime})
}

// Expect adds the expectation of flows from anywhere to far, the address and
// port that a far media endpoint listens at, below the anchor of public: so
// that a firewall that filters what goes out lets the inside one send there.
// It lasts as long as the anchor. Anchors may have destinations in common.
func (b *Batch) Expect(public, far netip.AddrPort) {
	b.add(operation{kind: opExpect, public: public, far: far})
}

// Unexpect withdraws what Expect added.
func (b *Batch) Unexpect(public, far netip.AddrPort) {
	b.add(operation{kind: opUnexpect, public: public, far: far})
}

// Renew gives an anchor and all its expectations a new lifetime. Whatever of
// them the kernel has lost (by `conntrack -F`, say) is created again.
func (b *Batch) Renew(public netip.AddrPort, lifetime time.Duration) {
	b.add(operation{kind: opRenew, public: public, lifetime: lifetime})
}

// CloseAnchor deletes an anchor and its expectations. Flows that began by them
// go on: delete them with [Conn.Delete]. It is no error if there is none.
func (b *Batch) CloseAnchor(public netip.AddrPort) {
	b.add(operation{kind: opClose, public: public})
}

// String lists the operations, one a line, such as
// "open anchor 203.0.113.1:7070 for 4m0s" or "expect 203.0.113.1:7070 far 198.51.100.20:6000".
func (b *Batch) String() string {
	var s strings.Builder
	for _, op := range b.ops {
		fmt.Fprintf(&s, "%v %v", op.kind, op.public)
		if op.far.IsValid() {
			fmt.Fprintf(&s, " far %v", op.far)
		}
		if op.lifetime != 0 {
			fmt.Fprintf(&s, " for %v", op.lifetime)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

// Len returns the number of operations.
func (b *Batch) Len() int { return len(b.ops) }

// Reset forgets all operations. Commit does so too.
func (b *Batch) Reset() { b.ops = b.ops[:0] }

func (b *Batch) add(op operation) {
	op.public = unmap(op.public)
	op.far = unmap(op.far)
	b.ops = append(b.ops, op)
}
