package nat

// Stats counts what the engine has done since it began.
type Stats struct {
	Messages       uint64 // complete SIP messages
	Rewritten      uint64
	NotSIP         uint64 // passed untouched
	KeepAlives     uint64
	Calls          uint64 // begun
	CallsTimedOut  uint64 // closed without a BYE
	StreamsRefused uint64 // m-lines that got port 0
	PortsExhausted uint64
	LimitRefusals  uint64
	KernelErrors   uint64
}

// Counts is what the engine holds now.
type Counts struct {
	Bindings, Calls, Mappings, Transactions int
}

// Stats returns the counters and the present numbers.
func (e *Engine) Stats() (Stats, Counts) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats, Counts{len(e.bindings), len(e.calls), len(e.mappings), len(e.transactions)}
}
