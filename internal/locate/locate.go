package locate

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
)

const (
	// maxPending bounds the servers that are looked up at the same time.
	maxPending = 256
	// maxTargets bounds the addresses of one server.
	maxTargets = 32
	// maxFailed bounds the targets that are remembered to have failed.
	maxFailed = 1024
	// shunned is how long a target that has failed comes last.
	shunned = 2 * time.Minute
)

// Config is what a Locator is made with. The zero value is that of a usual host.
type Config struct {
	// Servers are asked in the place of those of the file ResolvConf.
	Servers []netip.AddrPort
	// ResolvConf and Hosts are files in the format of resolv.conf(5) and hosts(5).
	// Empty: /etc/resolv.conf and /etc/hosts.
	ResolvConf, Hosts string
	// Timeout is how long one server is waited for, and Attempts how often each is
	// asked. 0: what ResolvConf says, else 2 s and twice.
	Timeout  time.Duration
	Attempts int
	// CacheSize bounds the answers that are kept. 0: 2048.
	CacheSize int
	// Log gets what goes wrong with the DNS. nil: nothing is told.
	Log *slog.Logger
}

// Stats counts what a Locator has done.
type Stats struct {
	Located  uint64 // servers that were asked for
	Known    uint64 // of them, those answered at once
	Queries  uint64 // sent to DNS servers, repetitions included
	Failures uint64 // questions that no DNS server has answered
	Refused  uint64 // datagrams that were not the answer to the query
	Stale    uint64 // answers that had run out but were used for want of a new one
	Cached   int    // answers that are kept, now
	Pending  int    // servers that are looked up, now
	Overflow uint64 // servers that were not looked up, since too many others were
}

// Locator finds servers. It implements [proxy.Locator]. Its methods may be called by
// several goroutines.
type Locator struct {
	resolver resolver
	log      *slog.Logger
	seed     maphash.Seed
	now      func() time.Time
	ctx      context.Context
	close    context.CancelFunc
	wait     sync.WaitGroup

	mu      sync.Mutex
	pending map[proxy.Server][]func([]proxy.Target)
	failed  map[proxy.Target]time.Time // until when they come last

	located, known, overflow uint64 // see Stats
}

var _ proxy.Locator = (*Locator)(nil)

// New returns a Locator.
func New(cfg Config) *Locator {
	l := &Locator{
		log: cfg.Log, seed: maphash.MakeSeed(), now: time.Now,
		pending: make(map[proxy.Server][]func([]proxy.Target)),
		failed:  make(map[proxy.Target]time.Time),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.ctx, l.close = context.WithCancel(context.Background())
	l.resolver.open(cfg, l.log)
	return l
}

// Close ends all look-ups and waits for their goroutines: whoever waits for an answer
// gets an empty one. Later look-ups are answered from the cache only.
func (l *Locator) Close() {
	l.mu.Lock()
	l.close()
	l.mu.Unlock()
	l.wait.Wait()
}

// Stats returns the counters.
func (l *Locator) Stats() Stats {
	s := l.resolver.counters()
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Located, s.Known, s.Pending, s.Overflow = l.located, l.known, len(l.pending), l.overflow
	return s
}

// Locate implements [proxy.Locator].
func (l *Locator) Locate(s proxy.Server, answer func([]proxy.Target)) (list []proxy.Target, ok bool) {
	list, ok = l.immediately(&s)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.located++
	if l.resolver.files.due() && l.ctx.Err() == nil {
		l.wait.Go(l.resolver.refresh) // a disk may be slow
	}
	if ok {
		l.known++
		return l.failedLast(list), true
	}
	waiting, begun := l.pending[s]
	if !begun && (len(l.pending) >= maxPending || l.ctx.Err() != nil) {
		l.overflow++
		return nil, true
	}
	l.pending[s] = append(waiting, answer)
	if !begun {
		l.wait.Go(func() { l.find(s) })
	}
	return nil, false
}

// immediately answers without asking anybody, and brings the server into the form in
// which it is looked up.
func (l *Locator) immediately(s *proxy.Server) (list []proxy.Target, ok bool) {
	kind, usable := kindOf(s.Transport)
	if !usable || s.Sips {
		return nil, true // we do not speak TLS
	}
	if addr, err := netip.ParseAddr(strings.Trim(s.Host, "[]")); err == nil {
		if addr = addr.Unmap(); !addr.Is4() {
			return nil, true
		}
		return []proxy.Target{{Kind: kind, Addr: netip.AddrPortFrom(addr, portOf(s.Port))}}, true
	}
	s.Host = strings.ToLower(strings.TrimSuffix(s.Host, "."))
	if !validName(s.Host) || s.Port < 0 || s.Port > 65535 {
		return nil, true
	}
	found, ok := l.candidates(*s, l.resolver.known)
	return l.arrange(found), ok
}

// find looks a server up and tells all who wait for it.
func (l *Locator) find(s proxy.Server) {
	found, _ := l.candidates(s, func(q ...question) ([]records, bool) {
		return l.resolver.lookUp(l.ctx, q...), true
	})
	list := l.arrange(found)
	l.mu.Lock()
	waiting := l.pending[s]
	delete(l.pending, s)
	lists := make([][]proxy.Target, len(waiting))
	for i := range waiting {
		lists[i] = append([]proxy.Target(nil), l.failedLast(list)...)
	}
	l.mu.Unlock()
	for i, answer := range waiting {
		answer(lists[i])
	}
}

// Failed implements [proxy.Locator].
func (l *Locator) Failed(t proxy.Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if _, there := l.failed[t]; !there && len(l.failed) >= maxFailed {
		for old, until := range l.failed {
			if !now.Before(until) {
				delete(l.failed, old)
			}
		}
		if len(l.failed) >= maxFailed {
			return
		}
	}
	l.failed[t] = now.Add(shunned)
}

// failedLast puts the targets that have failed lately behind the others (RFC 3263
// section 4.3 lets them be tried once for each request, but every try takes half a
// minute).
func (l *Locator) failedLast(list []proxy.Target) []proxy.Target {
	if len(l.failed) == 0 || len(list) < 2 {
		return list
	}
	now := l.now()
	good := make([]proxy.Target, 0, len(list))
	var bad []proxy.Target
	for _, t := range list {
		until, failed := l.failed[t]
		if failed && !now.Before(until) {
			delete(l.failed, t)
			failed = false
		}
		if failed {
			bad = append(bad, t)
		} else {
			good = append(good, t)
		}
	}
	return append(good, bad...)
}

// kindOf returns the transport that a URI's parameter names, UDP for none (RFC 3263
// section 4.1).
func kindOf(name string) (kind transport.Kind, usable bool) {
	switch name {
	case "", "udp":
		return transport.UDP, true
	case "tcp":
		return transport.TCP, true
	}
	return 0, false
}

// portOf returns a port, or the usual one (RFC 3261 section 19.1.2).
func portOf(n int) uint16 {
	if n == 0 {
		return 5060
	}
	return uint16(n)
}

// validName reports whether a host can be asked for: labels of 1 to 63 bytes, 253 in
// all, letters, digits, hyphens and, as some have them, underscores.
func validName(host string) bool {
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) < 1 || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}
