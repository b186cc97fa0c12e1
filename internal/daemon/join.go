package daemon

import (
	"context"
	"net/netip"

	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/join"
)

// joinsTCP reports whether a configuration has TCP connections joined.
func joinsTCP(cfg *config.Config) bool { return cfg.SIPTCP && cfg.Mode != config.ModeProxy }

// redirectPort is the port that the table leads TCP connections to, 0 for none.
func redirectPort(cfg *config.Config) uint16 {
	if !joinsTCP(cfg) {
		return 0
	}
	return cfg.SIPTCPPort
}

// openJoin listens for the connections that the table leads here.
func (d *Daemon) openJoin(faces *ifaces.Snapshot) error {
	d.join = join.New(join.Config{
		Port: d.cfg.SIPTCPPort, Engine: d.engine, Networks: (*border)(d), DSCP: d.cfg.SIPDSCP,
		Logger: d.log.With("class", "net"),
	})
	if err := d.join.Listen(faces.Names(ifaces.Inside)); err != nil {
		return err
	}
	d.log.Info("SIP over TCP is joined: the firewall has to let it in from inside, and its rules for forwarded packets do not apply to it",
		"sip_tcp_port", d.cfg.SIPTCPPort)
	return nil
}

// followJoin has the connections follow the configuration and the interfaces. It is
// called with the daemon's lock.
func (d *Daemon) followJoin() {
	if d.join == nil {
		return
	}
	d.join.SetDSCP(d.cfg.SIPDSCP)
	if err := d.join.Listen(d.faces.Load().Names(ifaces.Inside)); err != nil {
		d.log.Error("SIP over TCP is not joined on every inside interface", "error", err)
	}
}

// runJoin serves until ctx ends, and the connections with it. New ones then pass as
// they are, or are refused, as on_failure says.
func (d *Daemon) runJoin(ctx context.Context) error {
	<-ctx.Done()
	if d.OnFailure() == config.FailPass {
		if err := d.table.StopRedirect(); err != nil {
			d.log.Warn("TCP connections are still led to the daemon, which ends: they are refused", "error", err)
		}
	}
	d.join.Close()
	return nil
}

// border answers join's questions about addresses.
type border Daemon

// Own implements join.Networks.
func (b *border) Own(a netip.Addr) bool { return b.faces.Load().Own(a) }

// Outside implements join.Networks.
func (b *border) Outside(host netip.Addr) (public netip.Addr, ok bool) {
	index, err := ifaces.Leaves(host)
	if err != nil {
		return netip.Addr{}, false
	}
	public = b.faces.Load().Public(index)
	return public, public.IsValid()
}

var _ join.Networks = (*border)(nil)
