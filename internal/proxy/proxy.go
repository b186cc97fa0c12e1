package proxy

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"sipnatd/internal/transaction"
	"sipnatd/internal/transport"
	"sipnatd/nat"
	"sipnatd/sipmsg"
)

// Config is the proxy's policy. [Proxy.Configure] replaces it as a whole.
type Config struct {
	// OutboundProxy is where requests to the outside go, whomever they call; no host
	// for none. OutboundDomains are those of some domains, named in lower case, which
	// go before it.
	OutboundProxy   Server
	OutboundDomains map[string]Server

	// MaskHosts has what stands in the place of hosts in identities towards the
	// outside. They are named in lower case.
	MaskHosts map[string]string

	// UserAgent replaces the User-Agent of phones; empty for none.
	UserAgent string

	// RportInside and RportOutside say whether the Via of requests to that side asks
	// for rport (RFC 3581).
	RportInside, RportOutside bool

	// Realm is that of the registrar's challenges. Answers to them stay here (RFC 3261
	// section 22.3).
	Realm string

	// ObscureLoops changes Call-IDs on the border.
	ObscureLoops bool

	// RegisterExpiresMax is the longest lifetime of its contact that a phone reads in
	// the answer of a registrar outside; the contact is known as long as was granted.
	// In whole seconds; 0: whatever was granted.
	RegisterExpiresMax time.Duration

	Limits transaction.Limits
}

// Stats counts what the proxy has done.
type Stats struct {
	transaction.Stats
	Forwarded uint64         // requests, once for each place they were sent to
	Refused   map[int]uint64 // requests that the proxy itself has refused, by status
	Loops     uint64
	Panics    uint64
	Dialogs   int // whose parties or routes are remembered, now
}

const (
	// loopbackIndex is the index of the loopback interface, in every namespace.
	loopbackIndex = 1

	// maxNeighbours bounds the other services on the firewall that speak SIP.
	maxNeighbours = 64
)

// Proxy is a stateful proxy. Its methods may be called by several goroutines.
type Proxy struct {
	mu    sync.Mutex
	cfg   Config
	parts Parts
	log   *slog.Logger
	layer *transaction.Layer

	dialogs  dialogs
	pending  pending
	resuming *relay             // as an earlier process has left it, while it is handled again
	lookUps  map[netip.Addr]int // on their way, by who has asked for them

	// neighbours are endpoints of the firewall itself that have sent SIP, as a PBX on
	// the same machine does. The kernel takes its own addresses from nobody else.
	neighbours map[netip.AddrPort]bool

	stats Stats

	msg    sipmsg.Message // of a message on its way, after it was changed once
	edits  sipmsg.Edits
	packet nat.Packet
	text   []byte // one replacement at a time
	hashed []byte // what is hashed, one at a time
}

// New returns a proxy that is made of parts.
func New(cfg Config, parts Parts, log *slog.Logger) *Proxy {
	p := &Proxy{cfg: cfg, parts: parts, log: log.With("class", "proxy")}
	p.lookUps = make(map[netip.Addr]int)
	p.neighbours = make(map[netip.AddrPort]bool)
	p.stats.Refused = make(map[int]uint64)
	p.dialogs.began = time.Now()
	p.dialogs.secret = [2]uint64{rand.Uint64(), rand.Uint64()}
	if cfg.Limits.Stranger == nil {
		cfg.Limits.Stranger = func(from transport.Hop) bool {
			face, ok := parts.Networks.Arrived(from)
			return !ok || face.Side == Outside
		}
	}
	p.layer = transaction.New(&p.mu, parts.Sender, p, cfg.Limits)
	return p
}

// Run forgets in time what is over, until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			p.mu.Lock()
			p.dialogs.expire(now)
			p.mu.Unlock()
		}
	}
}

// Configure puts another policy in force, but for its limits. Requests on their way
// go on as they began.
func (p *Proxy) Configure(cfg Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg = cfg
}

// Stats returns the counters.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Stats = p.layer.Stats()
	s.Dialogs = len(p.dialogs.list)
	s.Refused = make(map[int]uint64, len(p.stats.Refused))
	for status, n := range p.stats.Refused {
		s.Refused[status] = n
	}
	return s
}

// Arrived implements [transport.Handler].
func (p *Proxy) Arrived(a transport.Arrival) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.parts.Access.SIP(a.Remote.Addr()) {
		p.stats.Refused[403]++
		return // not even an answer: it may be a scanner
	}
	err := p.layer.Arrived(a)
	if err == nil && (a.Remote.Addr() == a.Local.Addr() || a.Interface == loopbackIndex) && len(p.neighbours) < maxNeighbours {
		p.neighbours[a.Remote] = true
	}
	if err != nil && !errors.Is(err, sipmsg.ErrKeepAlive) {
		p.log.Debug("not a SIP message", "hop", a.Hop, "reason", err)
	}
}

// Failed implements [transport.Handler].
func (p *Proxy) Failed(h transport.Hop, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layer.Failed(h, err)
}

// after has f called with the lock held, after a while.
func (p *Proxy) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.survive()
		f()
	})
}

// survive is deferred where no caller would: a message that makes the proxy panic must
// not take the service of all others down.
func (p *Proxy) survive() {
	if x := recover(); x != nil {
		p.stats.Panics++
		p.log.Error("panic over a message, which was dropped", "panic", x, "stack", string(debug.Stack()))
	}
}

// Cancelled implements [transaction.User]: every branch of the request is cancelled
// (section 16.10).
func (p *Proxy) Cancelled(s *transaction.Server, cancel *sipmsg.Message) {
	if r, ok := s.Context.(*relay); ok {
		r.cancel(reasons(cancel))
	}
}

// reasons returns the Reason headers of a CANCEL (RFC 3326), which tell a phone that
// a call was answered elsewhere.
func reasons(m *sipmsg.Message) []byte {
	var lines []byte
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrOther && sipmsg.EqualFold(m.Bytes(h.Name), "reason") {
			lines = append(lines, "Reason: "...)
			lines = append(append(lines, m.Bytes(h.Value)...), "\r\n"...)
		}
	}
	return lines
}
