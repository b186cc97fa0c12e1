package nat

import (
	"fmt"
	"net/netip"

	"sipnatd/sipmsg"
)

// Stats counts what the engine has done since it began.
type Stats struct {
	Messages       uint64 // complete SIP messages
	Rewritten      uint64
	KeepAlives     uint64
	Calls          uint64 // begun
	CallsTimedOut  uint64 // closed without a BYE
	StreamsRefused uint64 // m-lines that got port 0
	CallsRefused   uint64 // requests all of whose streams are
	PortsExhausted uint64
	LimitRefusals  uint64
	KernelErrors   uint64

	// NotSIP counts by sipmsg.Reason what passed untouched.
	NotSIP [sipmsg.Reasons]uint64
}

// Counts is what the engine holds now.
type Counts struct {
	Bindings, Calls, Mappings, Transactions int
}

// Stats returns the counters and the present numbers.
func (e *Engine) Stats() (Stats, Counts) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats, Counts{len(e.bindings) + len(e.connections), len(e.calls), len(e.mappings), len(e.transactions)}
}

// maxStrays bounds how many hosts are reported for one stream.
const maxStrays = 3

// ReportStray tells the log, in words, of packets that the guard dropped:
// source sent to a stream's inside endpoint, and is no host that the call's SDP
// named.
func (e *Engine) ReportStray(source netip.Addr, inside netip.AddrPort, packets uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.mappings[inside]
	if m == nil {
		return // closed; what comes late is nobody's fault
	}
	if m.strays == maxStrays {
		return // whoever has many addresses must not fill the log
	}
	call := "unknown"
	if len(m.sessions) > 0 {
		call = m.sessions[0].call.id
	}
	told := e.log.warn("stray", source, "media from a host that the far party's SDP does not name is dropped (media_source = any would let it in)",
		"call", call, "to", inside, "announced as", m.public, "named", fmt.Sprint(m.sources), "packets", packets)
	if told {
		m.strays++
	}
}
