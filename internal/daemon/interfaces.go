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

func (d *Daemon) watchInterfaces(ctx context.Context) error {
	watched := ifaces.Config{Inside: d.cfg.Inside, Outside: d.cfg.Outside}
	return ifaces.Watch(ctx, watched, func(s *ifaces.Snapshot) {
		old := d.faces.Swap(s)
		if old.Equal(s) {
			return
		}
		d.reportInterfaces(s)
		d.renumber(s)
		if slices.Equal(old.Names(ifaces.Inside), s.Names(ifaces.Inside)) &&
			slices.Equal(old.Names(ifaces.Outside), s.Names(ifaces.Outside)) {
			return
		}
		if err := d.kernel.Configure(d.tableConfig(s)); err != nil {
			d.log.Error("the table does not follow the interfaces", "error", err)
		}
	})
}
