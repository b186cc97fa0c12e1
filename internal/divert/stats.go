package divert

import "sync/atomic"

// QueueStats counts what happened to the packets of one queue.
type QueueStats struct {
	Queue     uint16
	Packets   uint64 // taken from the queue; the sum of Accepted, Dropped, Rewritten and all of Unread
	Accepted  uint64 // passed unchanged by the handler's decision
	Dropped   uint64 // by the handler's decision or after a failure
	Rewritten uint64
	Unread    Unread // passed unchanged without being shown to the handler
	Panics    uint64 // caught, and answered with Config.OnPanic
	Errors    uint64 // verdicts that the kernel refused, results that could not be sent
	Kernel    KernelStats
}

// Unread counts packets by the reason for which the handler did not see them.
type Unread [reasons]uint64

// Total returns the sum over all reasons.
func (u Unread) Total() uint64 {
	var n uint64
	for _, v := range u {
		n += v
	}
	return n
}

// counters are a worker's own; Stats reads them from elsewhere.
type counters struct {
	packets, accepted, dropped, rewritten atomic.Uint64
	panics, errors                        atomic.Uint64
	unread                                [reasons]atomic.Uint64
}

func (c *counters) snapshot(queue uint16) QueueStats {
	s := QueueStats{
		Queue:     queue,
		Packets:   c.packets.Load(),
		Accepted:  c.accepted.Load(),
		Dropped:   c.dropped.Load(),
		Rewritten: c.rewritten.Load(),
		Panics:    c.panics.Load(),
		Errors:    c.errors.Load(),
	}
	for i := range s.Unread {
		s.Unread[i] = c.unread[i].Load()
	}
	return s
}
