package registrar

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/nat"
)

// Config is what a Registrar is told. [Registrar.Configure] replaces it as a whole.
type Config struct {
	// DefaultExpires is the lifetime of a registration that names none, MinExpires
	// the shortest that is accepted, MaxExpires the longest that is granted.
	// 0: an hour, 30 seconds, a day.
	DefaultExpires, MinExpires, MaxExpires time.Duration

	// Own reports whether a host, in lower case, and a port (0: none is given) are
	// a domain of the firewall's own. nil: all are.
	Own func(host string, port int) bool

	// File keeps registrations over a restart; empty: nothing does. It is written
	// every Autosave where something has changed, and when Run ends. Autosave 0: then
	// only.
	File     string
	Autosave time.Duration

	// Realm makes phones authenticate where it is not empty: with their own password
	// from the file PasswordFile or, where none is named, all with Password.
	Realm, Password, PasswordFile string

	// Algorithms are those that are offered, the best one first: SHA-256 and MD5, as
	// RFC 8760 names them. nil: both. Phones that give up for one that they do not
	// know are offered MD5 alone, if it is one of them, when they try again.
	Algorithms []string

	Limits Limits
}

// Limits bound what is remembered.
type Limits struct {
	PerAOR  int // contacts of one address-of-record; 0: 16
	PerHost int // contacts, and again tokens, of one host; 0: 2048
	Total   int // contacts, again tokens, and again registrations outside, in all; 0: 8192
}

// MinExpires is the shortest registration that is accepted by default.
const MinExpires = 30 * time.Second

func (c Config) withDefaults() Config {
	c.DefaultExpires = cmp.Or(c.DefaultExpires, time.Hour)
	c.MinExpires = cmp.Or(c.MinExpires, MinExpires)
	c.MaxExpires = max(cmp.Or(c.MaxExpires, 24*time.Hour), c.MinExpires)
	c.DefaultExpires = min(max(c.DefaultExpires, c.MinExpires), c.MaxExpires)
	c.Limits.PerAOR = cmp.Or(c.Limits.PerAOR, 16)
	c.Limits.PerHost = cmp.Or(c.Limits.PerHost, 2048)
	c.Limits.Total = cmp.Or(c.Limits.Total, 8192)
	return c
}

// Stats counts what the registrar has done, and what it holds now.
type Stats struct {
	Addresses int // addresses-of-record with contacts, now
	Contacts  int // of them, now
	Lines     int // tokens, now
	Outside   int // registrations at outside registrars, now

	Registered   uint64 // REGISTER requests that were carried out
	Full         uint64 // contacts and tokens that a limit has refused
	Challenged   uint64 // requests without credentials
	WrongDigests uint64 // unknown users and wrong passwords
	StaleNonces  uint64 // right passwords for nonces that were too old or used already
}

// Registrar is a location service with its registrar. Its methods may be called by
// several goroutines.
type Registrar struct {
	log   *slog.Logger
	start time.Time // what times are counted from: [Registrar.now]

	mu       sync.Mutex
	cfg      Config
	aors     map[string]*aor // by user part
	bindings []*binding
	lines    lines
	hosts    map[netip.Addr]*host
	auth     authenticator
	stats    Stats
	changed  uint64 // grows with what the file should tell
	cursor   int    // where the sweep goes on, in bindings
	changes  []change

	store store

	journal nat.Journal   // nil: there is none
	lastKey uint64        // of it
	record  []byte        // the last one, reused
	backlog []byte        // records for Resume
	shift   time.Duration // of the times in them
}

// host counts what there is of one remote address.
type host struct{ bindings, lines int }

var _ proxy.Registrar = (*Registrar)(nil)

// New returns a registrar that knows what cfg.File tells. What is wrong with the files
// is said in the log and survived: without its password file nobody can register.
func New(cfg Config, log *slog.Logger) *Registrar {
	r := &Registrar{
		log:   log.With("class", "reg"),
		start: time.Now(),
		cfg:   cfg.withDefaults(),
		aors:  make(map[string]*aor),
		hosts: make(map[netip.Addr]*host),
	}
	r.lines.init()
	r.auth.init(log.With("class", "auth"))
	r.auth.set(&r.cfg, r.auth.read(&r.cfg))
	r.store.wake = make(chan struct{}, 1)
	r.load()
	return r
}

// Configure puts another configuration in force, and reads the password file again if it
// has changed. If it can not be read, the passwords stay as they were.
func (r *Registrar) Configure(cfg Config) {
	cfg = cfg.withDefaults()
	// Read before the lock is taken: a disk may be slow.
	users := r.auth.read(&cfg)
	r.mu.Lock()
	r.cfg = cfg
	r.auth.set(&cfg, users)
	r.mu.Unlock()
	select {
	case r.store.wake <- struct{}{}:
	default: // it is about to look
	}
}

// Stats returns the counters.
func (r *Registrar) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Addresses, s.Contacts, s.Lines = len(r.aors), len(r.bindings), len(r.lines.list)
	for _, l := range r.lines.list {
		s.Outside += len(l.accounts)
	}
	return s
}

// now is the time since the start, which changes of the clock do not touch.
func (r *Registrar) now() time.Duration { return time.Since(r.start) }

// Everything is looked at once in sweepRound, a part of it every sweepEvery.
const (
	sweepEvery = 5 * time.Second
	sweepRound = time.Minute
)

// Run takes away what has expired and writes the file, until ctx ends, and then once
// more.
func (r *Registrar) Run(ctx context.Context) error {
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		r.keep(ctx)
	}()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			<-saved
			return nil
		case <-tick.C:
			r.mu.Lock()
			now := r.now()
			r.sweepBindings(now)
			r.sweepLines(now)
			r.mu.Unlock()
		}
	}
}

// hostOf returns the counts of a host.
func (r *Registrar) hostOf(a netip.Addr) *host {
	h := r.hosts[a]
	if h == nil {
		h = new(host)
		r.hosts[a] = h
	}
	return h
}

// tidy forgets a host that nothing is left of.
func (r *Registrar) tidy(a netip.Addr) {
	if h := r.hosts[a]; h != nil && *h == (host{}) {
		delete(r.hosts, a)
	}
}
