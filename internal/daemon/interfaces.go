package daemon

import (
	"context"
	"net/netip"
	"slices"

	"sipnatd/internal/ifaces"
)

// networks answers the engine's questions about addresses.
type networks Daemon

// Inside implements nat.Networks.
func (n *networks) Inside(a netip.Addr) bool { return n.faces.Load().InsideNetwork(a) }

// Outside implements nat.Networks.
func (n *networks) Outside(a netip.Addr) bool { return n.faces.Load().OutsideNetwork(a) }

// Elsewhere implements nat.Networks.
func (n *networks) Elsewhere(a netip.Addr) bool { return n.faces.Load().Elsewhere(a) }

// Own implements nat.Networks.
func (n *networks) Own(a netip.Addr) bool { return n.faces.Load().Own(a) }

// watchInterfaces follows the configured interfaces, and after a reload those that
// are configured then.
func (d *Daemon) watchInterfaces(ctx context.Context) error {
	for {
		round, stop := context.WithCancel(ctx)
		d.mu.Lock()
		d.rewatch = stop
		config := watched(d.cfg)
		d.mu.Unlock()
		ifaces.Watch(round, config, d.log.With("class", "net"), func(s *ifaces.Snapshot) { d.follow(round, s) })
		stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// follow takes in how the interfaces are now, unless others have been configured.
func (d *Daemon) follow(round context.Context, s *ifaces.Snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if round.Err() != nil {
		return
	}
	old := d.faces.Swap(s)
	if old.Equal(s) {
		return
	}
	if !slices.Equal(old.Names(ifaces.Inside), s.Names(ifaces.Inside)) ||
		!slices.Equal(old.Names(ifaces.Outside), s.Names(ifaces.Outside)) {
		if err := d.kernel.Configure(d.tableConfig(d.cfg, s)); err != nil {
			d.log.Error("the table does not follow the interfaces", "error", err)
		}
	}
	d.followProxy()
	d.followJoin()
	d.reportInterfaces(s)
	d.renumber(s) // the ports that are free are those that the proxy's sockets have left
}
