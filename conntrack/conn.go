package conntrack

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ct "github.com/florianl/go-conntrack"
	"golang.org/x/sys/unix"
)

// Options are those of Open. The zero value is ready for use.
type Options struct {
	// Logger gets what is worth telling and no error; nil discards it.
	Logger *slog.Logger

	// NetNS is a file descriptor of the network namespace to work in, which
	// may be closed when Open returns; 0 is that of the calling thread.
	NetNS int

	// Helpers are tried in this order. nil is HelperOwn, then HelperSIP; to go
	// without expectations, name HelperNone.
	Helpers []Helper
}

// A Conn is a connection to the kernel's connection tracking. It is safe for
// concurrent use. Commits wait for one another, look-ups and deletions for one
// another, and none of them for a Select.
type Conn struct {
	log    *slog.Logger
	quiet  *log.Logger // for the library, which tells of every attribute it does not know
	helper Helper
	reason string
	policy policy

	mu    sync.Mutex // guards what Commit uses
	ch    *channel
	state state
	sent  []message

	queryMu sync.Mutex // guards query
	query   *channel

	dumpMu sync.Mutex // guards dump, apart from query: a large table takes its time
	dump   *channel

	eventsMu sync.Mutex // guards events, which Watch opens anew when it fails
	events   *ct.Nfct   // nil once closed
	netNS    int        // to open it in; 0 is the calling thread's
	watching atomic.Bool
}

// Open connects to the kernel, finds out which helper it offers, and takes
// over the anchors that an earlier process has left.
func Open(o Options) (*Conn, error) {
	c := &Conn{log: o.Logger, quiet: log.New(io.Discard, "", 0)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if err := c.dial(o.NetNS); err != nil {
		return nil, errors.Join(fmt.Errorf("conntrack: %w", err), c.Close())
	}
	helpers := o.Helpers
	if helpers == nil {
		helpers = []Helper{HelperOwn, HelperSIP}
	}
	if err := c.choose(helpers); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Conn) dial(netNS int) (err error) {
	if c.ch, err = openChannel(netNS); err != nil {
		return err
	}
	if c.query, err = openChannel(netNS); err != nil {
		return err
	}
	if c.dump, err = openChannel(netNS); err != nil {
		return err
	}
	if netNS != 0 {
		if c.netNS, err = unix.FcntlInt(uintptr(netNS), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
	}
	c.events, err = ct.Open(&ct.Config{NetNS: c.netNS})
	return err
}

// Close closes the connection. What it has installed in the kernel stays until
// its lifetime ends, so that calls survive the process.
func (c *Conn) Close() error {
	var errs []error
	for _, ch := range []*channel{c.ch, c.query, c.dump} {
		if ch != nil {
			errs = append(errs, ch.close())
		}
	}
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	if c.events != nil {
		errs = append(errs, c.events.Close())
		c.events = nil
	}
	if c.netNS != 0 {
		errs = append(errs, unix.Close(c.netNS))
		c.netNS = 0
	}
	return errors.Join(errs...)
}

// Helper returns the helper that anchors have.
func (c *Conn) Helper() Helper { return c.helper }

// HelperName returns the name that the kernel knows the helper by; empty without
// one.
func (c *Conn) HelperName() string { return c.policy.name }

// HelperReason says in words which helper was chosen, and why none that is
// better.
func (c *Conn) HelperReason() string { return c.reason }

// MaxExpectations returns how many expectations an anchor can have, the one to
// its public endpoint included; 0 without a helper.
func (c *Conn) MaxExpectations() int {
	n := 0
	for _, class := range c.policy.classes {
		n += class.max
	}
	return n
}

// RenewEvery returns how often Renew has to be called for each anchor, however
// long its lifetime, so that none of its expectations expires before it.
func (c *Conn) RenewEvery() time.Duration { return expectTimeout / 3 }

// Anchors returns the public endpoints of all anchors: those that were opened,
// and those that an earlier process has left and nobody closed. Those that a
// daemon does not renew expire.
func (c *Conn) Anchors() []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.publics()
}

// Missing returns the public endpoints of the anchors that the kernel lacks, or of
// which it lacks an expectation: [Batch.Renew] creates them again. It reads all
// expectations, for a time when events may have been missed.
func (c *Conn) Missing() ([]netip.AddrPort, error) {
	if c.helper == HelperNone {
		return nil, nil
	}
	c.mu.Lock()
	before := make(map[netip.AddrPort][]claim, len(c.state.anchors))
	for public, a := range c.state.anchors {
		before[public] = slices.Clone(a.claims)
	}
	c.mu.Unlock()
	left, err := c.expectations()
	if err != nil {
		return nil, err
	}
	there := make(map[netip.AddrPort]bool, len(left))
	for _, e := range left {
		there[e.dst] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []netip.AddrPort
	for public, a := range c.state.anchors {
		// What is new may have come after it was looked for.
		if slices.ContainsFunc(a.claims, func(its claim) bool { return !there[its.dst] && slices.Contains(before[public], its) }) {
			missing = append(missing, public)
		}
	}
	return missing, nil
}

// choose takes the first helper that the kernel accepts.
func (c *Conn) choose(helpers []Helper) error {
	var why []string
	for _, h := range helpers {
		if h == HelperNone {
			break
		}
		policy, err := c.try(h)
		if err == nil {
			c.helper, c.policy = h, policy
			c.reason = fmt.Sprintf("helper %q, at most %d expectations each", policy.name, c.MaxExpectations())
			break
		}
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("conntrack: %w (CAP_NET_ADMIN is needed)", err)
		}
		why = append(why, fmt.Sprintf("%v: %v", h, err))
	}
	if c.helper == HelperNone {
		c.reason = "no helper, no expectations"
	}
	if len(why) > 0 {
		c.reason += " (" + strings.Join(why, "; ") + ")"
	}
	if c.helper == HelperNone {
		return nil
	}
	left, err := c.expectations()
	if err != nil {
		return err
	}
	for _, e := range left {
		c.state.adopt(e, &c.policy)
	}
	if n := len(c.state.anchors); n > 0 {
		c.log.Debug("took over anchors", "anchors", n, "expectations", len(left))
	}
	return nil
}

// trial is the endpoint with which a helper is tried; nobody can have it.
func trial() netip.AddrPort { return netip.AddrPortFrom(netip.IPv4Unspecified(), 1) }

// try finds out whether expectations work below an anchor with this helper, in
// the only way that tells.
func (c *Conn) try(h Helper) (policy, error) {
	p := sipPolicy()
	if h == HelperOwn {
		var err error
		if p, err = registerHelper(c.ch); err != nil {
			return policy{}, err
		}
	}
	enc := &c.ch.enc
	enc.newAnchor(c.ch.next(), trial(), p.name, 5)
	if err := c.ch.request(nil); err != nil {
		return policy{}, fmt.Errorf("conntrack entry with helper %q: %w", p.name, err)
	}
	defer func() {
		enc.flow(typeCtDelete, c.ch.next(), anchorTuple(trial()))
		_ = c.ch.request(nil)
	}()
	enc.newExpectation(c.ch.next(), trial(), trial(), p.classes[0].id, expectSeconds)
	switch err := c.ch.request(nil); {
	case errors.Is(err, unix.EMFILE):
		return p, nil // the helper is not to blame for a full table
	case err != nil:
		return policy{}, fmt.Errorf("expectation with helper %q: %w", p.name, err)
	}
	// Should the kernel ignore the class that the message names, then all
	// expectations are of the first, which may have room for one only.
	all, err := c.expectations()
	if err != nil {
		return policy{}, err
	}
	if i := slices.IndexFunc(all, func(e expectation) bool { return e.dst == trial() }); i >= 0 && all[i].class != p.classes[0].id {
		p.classes = []class{{all[i].class, 1}}
	}
	return p, nil
}

// An expectation is one that the kernel has below an anchor.
type expectation struct {
	public, dst netip.AddrPort
	class       uint32
	timeout     time.Duration // until it expires
}

// expectations reads those of all anchors.
func (c *Conn) expectations() ([]expectation, error) {
	c.dumpMu.Lock()
	defer c.dumpMu.Unlock()
	entries, err := c.dump.nfct.Dump(ct.Expected, ct.IPv4)
	if err != nil {
		return nil, fmt.Errorf("conntrack: read expectations: %w", err)
	}
	var all []expectation
	for i := range entries {
		master, ok := tupleOf(entries[i].Origin)
		exp := entries[i].Exp
		if !ok || exp == nil {
			continue
		}
		public, ok := anchoredBy(master)
		if !ok {
			continue
		}
		t, ok := tupleOf(exp.Tuple)
		if !ok {
			continue
		}
		all = append(all, expectation{
			public: public, dst: t.Dst, class: value(exp.Class),
			timeout: time.Duration(value(exp.Timeout)) * time.Second,
		})
	}
	return all, nil
}
