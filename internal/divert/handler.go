package divert

import "net/netip"

// Packet is a UDP datagram that waits in the kernel for its verdict. It and
// its Payload belong to the worker and are valid until Handle returns.
type Packet struct {
	InIf, OutIf uint32         // interface indices; 0 where the hook has none
	Src, Dst    netip.AddrPort // as the packet shows them at the rule's hook
	Payload     []byte         // the UDP payload
	Mark        uint32         // the packet mark (skb mark)
}

// Verdict says what happens to a packet.
type Verdict uint8

const (
	Accept  Verdict = iota // pass, unchanged
	Drop                   // discard
	Rewrite                // pass with another payload
)

// String returns the verdict as it appears in logs and counters.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Drop:
		return "drop"
	case Rewrite:
		return "rewrite"
	}
	return "invalid"
}

// Result is a handler's decision.
type Result struct {
	Verdict Verdict
	// Payload is the new UDP payload for Rewrite, at most about 65,480 bytes;
	// it is not looked at for the other verdicts. It belongs to the handler,
	// which must leave it alone until the same worker's next call. It may be a
	// part of the packet's own Payload.
	Payload []byte
}

// Handler decides about packets.
type Handler interface {
	// Handle is called with one packet at a time for each worker, numbered
	// from 0, and concurrently for different workers. The packet is held in
	// the kernel meanwhile, and so are those behind it in the queue.
	Handle(worker int, p *Packet) Result
}

// HandlerFunc makes a function a Handler.
type HandlerFunc func(worker int, p *Packet) Result

// Handle calls f.
func (f HandlerFunc) Handle(worker int, p *Packet) Result { return f(worker, p) }
