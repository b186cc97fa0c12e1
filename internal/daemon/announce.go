package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	// lookUpEvery is how often the name in host_outbound is looked up: dynamic DNS
	// gives out addresses for some minutes.
	lookUpEvery = 5 * time.Minute

	// lookUpAgain is when a name is looked up again that had no address.
	lookUpAgain = 30 * time.Second

	// lookUpTime bounds a look-up, and lookUpStart the one that the start waits for.
	lookUpTime  = 10 * time.Second
	lookUpStart = 2 * time.Second
)

// announcer finds the address that messages name in place of the outside
// interface's own: host_outbound.
type announcer struct {
	log     *slog.Logger
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	failing bool                // and it has been reported
	stood   map[netip.Addr]bool // addresses of the name that were the firewall's own
}

func newAnnouncer(log *slog.Logger) *announcer {
	return &announcer{
		log:   log,
		stood: make(map[netip.Addr]bool),
		resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		},
	}
}

var errNoAddress = errors.New("it has no IPv4 address")

// lookUp asks for the addresses of a host, which takes a while if it is a name.
func (a *announcer) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	list, err := a.resolve(ctx, host)
	if err == nil && len(list) == 0 {
		err = errNoAddress
	}
	for i := range list {
		list[i] = list[i].Unmap()
	}
	a.log.With("class", "dns").Debug("looked up", "name", host, "addresses", list, "error", err)
	return list, err
}

// choose returns what to announce, the zero Addr for the interface's own address.
// now is what is announced so far: it stays where nothing better is known, and where
// it is one of several.
//
// A name that stands for the firewall's own address is not announced but followed:
// when the outside address has changed, the name has the old one until the new one
// is known everywhere.
func (a *announcer) choose(host string, list []netip.Addr, err error, now netip.Addr, own func(netip.Addr) bool) netip.Addr {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr // what the administrator says
	}
	if err != nil {
		if !a.failing {
			stays := "the outside interface's own"
			if now.IsValid() {
				stays = now.String()
			}
			a.log.Warn("host_outbound has no address now: another one stays announced until it can be looked up",
				"name", host, "announced", stays, "error", err)
		}
		a.failing = true
		return now
	}
	if a.failing {
		a.log.Info("host_outbound has an address again", "name", host, "addresses", list)
	}
	a.failing = false
	if slices.Contains(list, now) && !own(now) {
		return now
	}
	addr := list[0]
	if own(addr) {
		a.stood[addr] = true
		return netip.Addr{}
	}
	if a.stood[addr] {
		return netip.Addr{}
	}
	return addr
}

// begin returns what to announce until another host has been looked up for the first
// time: what it says by itself, else what is announced now.
func (a *announcer) begin(host string, now netip.Addr) netip.Addr {
	a.failing = false
	if host == "" {
		return netip.Addr{}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr
	}
	return now
}

// followHost looks host_outbound up again and again, as long as it is a name.
func (d *Daemon) followHost(ctx context.Context) error {
	next := time.NewTimer(lookUpEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		case <-d.lookUp:
		}
		next.Reset(d.lookUpHost(ctx))
	}
}

// lookUpSoon has host_outbound looked up in the background.
func (d *Daemon) lookUpSoon() {
	select {
	case d.lookUp <- struct{}{}:
	default: // it is about to be
	}
}

// lookUpHost looks host_outbound up, has messages announce it, and returns when to
// do so again.
func (d *Daemon) lookUpHost(ctx context.Context) time.Duration {
	d.mu.Lock()
	host := d.cfg.HostOutbound
	d.mu.Unlock()
	if host == "" {
		return lookUpEvery
	}
	limited, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	list, err := d.announcer.lookUp(limited, host)
	if ctx.Err() != nil {
		return lookUpEvery
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if host != d.cfg.HostOutbound {
		return 0 // changed meanwhile
	}
	now := d.announcer.choose(host, list, err, d.announced, d.faces.Load().Own)
	if before := d.announced; now != before {
		d.announced = now
		d.engine.Configure(d.engineConfig())
		d.followProxy()
		d.reportAnnounced(before)
	}
	if err != nil {
		return lookUpAgain
	}
	return lookUpEvery
}

// announce sets what messages announce.
func (d *Daemon) announce(a netip.Addr) {
	before := d.announced
	d.announced = a
	d.reportAnnounced(before)
}

// reportAnnounced tells the log what messages announce, if it is something else than
// before.
func (d *Daemon) reportAnnounced(before netip.Addr) {
	text := func(a netip.Addr) string {
		if a.IsValid() {
			return a.String()
		}
		return "the outside interface's own"
	}
	if before != d.announced {
		d.log.Info("host_outbound", "name", d.cfg.HostOutbound, "announced", text(d.announced), "before", text(before))
	}
}
