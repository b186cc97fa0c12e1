package dialplan

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"sipnatd/internal/config"
)

// maxHosts bounds the hosts that are counted.
const maxHosts = 8192

// Blacklist blocks hosts whose authentication fails too often. Its methods may be called
// by several goroutines.
//
// Failures count, but one of them is forgiven in each plugin_blacklist_register_window:
// a phone whose nonce is stale fails once and then succeeds, one that guesses passwords
// fails as fast as it can. What is blocked is forgotten with the process.
type Blacklist struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	cfg   config.Plugins
	hosts map[netip.Addr]*suspect
}

type suspect struct {
	failures int
	forgiven time.Time // until when failures have been forgiven
	blocked  bool
	until    time.Time // zero: for ever
}

// NewBlacklist returns a Blacklist, which is off with 0 hits.
func NewBlacklist(settings config.Plugins, log *slog.Logger) *Blacklist {
	return &Blacklist{log: log.With("class", "access"), now: time.Now, cfg: settings, hosts: make(map[netip.Addr]*suspect)}
}

// Configure puts other settings in force. Who is blocked stays so, unless nobody is to be
// any more.
func (b *Blacklist) Configure(settings config.Plugins) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cfg = settings
	if settings.BlacklistHits == 0 {
		clear(b.hosts)
	}
}

// Blocked reports whether a host is blocked.
func (b *Blacklist) Blocked(host netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.hosts[host.Unmap()]
	if s == nil || !s.blocked {
		return false
	}
	if !s.until.IsZero() && !b.now().Before(s.until) {
		delete(b.hosts, host.Unmap())
		b.log.Info("host is not blocked any more", "host", host)
		return false
	}
	return !b.cfg.BlacklistSimulate
}

// Refused counts a refusal, if it is one of authentication.
func (b *Blacklist) Refused(host netip.Addr, status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if status != 401 && status != 403 && status != 407 || b.cfg.BlacklistHits == 0 {
		return
	}
	now, host := b.now(), host.Unmap()
	s := b.hosts[host]
	if s == nil {
		if len(b.hosts) >= maxHosts && !b.makeRoom(now) {
			return
		}
		s = &suspect{forgiven: now}
		b.hosts[host] = s
	}
	s.forgive(now, b.cfg.BlacklistWindow)
	s.failures++
	if s.blocked || s.failures <= b.cfg.BlacklistHits {
		return
	}
	s.blocked = true
	if d := b.cfg.BlacklistDuration; d > 0 {
		s.until = now.Add(d)
	}
	if b.cfg.BlacklistSimulate {
		b.log.Warn("host would be blocked, but for plugin_blacklist_simulate", "host", host, "failures", s.failures)
	} else {
		b.log.Warn("host is blocked", "host", host, "failures", s.failures, "for", b.cfg.BlacklistDuration)
	}
}

// forgive takes back one failure for each window that has passed.
func (s *suspect) forgive(now time.Time, window time.Duration) {
	n := int(now.Sub(s.forgiven) / max(window, time.Second))
	s.forgiven = s.forgiven.Add(time.Duration(n) * max(window, time.Second))
	s.failures = max(0, s.failures-n)
}

// makeRoom forgets whoever has no failures left, or is blocked no longer.
func (b *Blacklist) makeRoom(now time.Time) bool {
	for host, s := range b.hosts {
		s.forgive(now, b.cfg.BlacklistWindow)
		if s.blocked && !s.until.IsZero() && !now.Before(s.until) || !s.blocked && s.failures == 0 {
			delete(b.hosts, host)
		}
	}
	return len(b.hosts) < maxHosts
}
