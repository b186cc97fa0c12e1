package transport

import "sync/atomic"

// Stats is what has happened since Open, and what there is now.
type Stats struct {
	// Messages, whole ones.
	UDPIn, UDPOut, TCPIn, TCPOut uint64
	// KeepAlives are datagrams and pings that are no messages.
	KeepAlives uint64
	// UDPErrors are ICMP errors for what was sent.
	UDPErrors uint64
	// UDPDrops is what the kernel has dropped because nobody had read it, of the
	// sockets that there are now.
	UDPDrops uint64
	// Panics of the handler.
	Panics uint64

	// Connections that were accepted and made, and attempts at one that failed.
	Accepted, Dialled, DialFailed uint64
	// Connections that were closed because of what is not SIP, because of a
	// timeout (half a message, nothing taken), and for newer ones.
	Refused, TimedOut, Evicted uint64
	// Busy are messages that were not sent because a queue was full.
	Busy uint64

	// Connections is how many there are now, those that are being made included;
	// Queued and Buffered what waits in them, in bytes.
	Connections      int
	Queued, Buffered int64
}

type counters struct {
	udpIn, udpOut, tcpIn, tcpOut  atomic.Uint64
	keepAlives, udpErrors, panics atomic.Uint64
	accepted, dialled, dialFailed atomic.Uint64
	refused, timedOut, evicted    atomic.Uint64
	busy                          atomic.Uint64
}

// Stats returns the counters.
func (t *Transport) Stats() Stats {
	c := &t.counters
	s := Stats{
		UDPIn:      c.udpIn.Load(),
		UDPOut:     c.udpOut.Load(),
		TCPIn:      c.tcpIn.Load(),
		TCPOut:     c.tcpOut.Load(),
		KeepAlives: c.keepAlives.Load(),
		UDPErrors:  c.udpErrors.Load(),
		Panics:     c.panics.Load(),
		Accepted:   c.accepted.Load(),
		Dialled:    c.dialled.Load(),
		DialFailed: c.dialFailed.Load(),
		Refused:    c.refused.Load(),
		TimedOut:   c.timedOut.Load(),
		Evicted:    c.evicted.Load(),
		Busy:       c.busy.Load(),
		Queued:     t.queued.Load(),
		Buffered:   t.buffered.Load(),
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	s.Connections = len(t.conns)
	for _, e := range t.endpoints {
		s.UDPDrops += drops(e.udp.raw)
	}
	return s
}
