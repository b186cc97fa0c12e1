package daemon

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/check"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/nft"
)

// tell writes to the log what is wrong, as "sipnatd check" says it.
func (d *Daemon) tell(findings []check.Finding) {
	for _, f := range findings {
		if f.Level < check.Warning {
			continue
		}
		attrs := []any{slog.String("check", f.ID)}
		if f.Remedy != "" {
			attrs = append(attrs, slog.String("remedy", f.Remedy))
		}
		d.log.Warn(f.Text, attrs...)
	}
}

func (d *Daemon) reportInterfaces(s *ifaces.Snapshot) {
	d.log.Info("interfaces", "sides", s.String())
	d.tell(check.Interfaces(s, d.cfg.HostOutbound))
}

func (d *Daemon) reportConntrack() {
	if already, err := conntrack.EnableAccounting(); err != nil {
		d.tell([]check.Finding{check.Uncounted(err)})
	} else if !already {
		d.log.Info("flow accounting enabled", "sysctl", "net.netfilter.nf_conntrack_acct")
	}
	d.tell(check.Tables(d.cfg, d.track.Helper()))
	if d.track.Helper() == conntrack.HelperNone {
		d.tell([]check.Finding{check.NoHelper()})
	}
}

// reportFirewall tells what the firewall does to SIP and media that keeps calls from
// working, unless the log has been told so when it was looked at before. One that could
// not be read is nil.
func (d *Daemon) reportFirewall(firewall *nft.Firewall) {
	if firewall == nil {
		return
	}
	d.mu.Lock()
	cfg := d.cfg
	d.mu.Unlock()
	findings := slices.Concat(
		check.Chains(firewall, d.track.Helper()),
		check.Policy(firewall, cfg, d.faces.Load(), d.track.Helper()),
		check.Input(firewall, cfg, d.faces.Load()))
	told := make(map[string]bool)
	var fresh []check.Finding
	for _, f := range findings {
		if f.Level < check.Warning {
			continue
		}
		if !d.told[f.Text] && !told[f.Text] {
			fresh = append(fresh, f)
		}
		told[f.Text] = true
	}
	d.told = told
	d.tell(fresh)
}

// Looking at a firewall takes as long as it has rules. It is done when they have not
// changed for a moment, and not all the time.
const (
	firewallSettles = time.Second
	firewallPause   = 20 // times as long as it took
)

// watchTable has the table repaired when others have changed it.
func (d *Daemon) watchTable(ctx context.Context) error {
	return d.table.Watch(ctx, func(c nft.Change) {
		d.kernel.Changed(ctx, c)
		if !c.Firewall {
			return
		}
		select {
		case d.firewall <- struct{}{}:
		default:
		}
	})
}

// followFirewall tells what is wrong with the firewall's rules when they have changed.
func (d *Daemon) followFirewall(ctx context.Context) error {
	settled := time.NewTimer(0)
	settled.Stop()
	next := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.firewall:
			settled.Reset(max(firewallSettles, time.Until(next)))
		case <-settled.C:
			begin := time.Now()
			firewall, err := nft.ReadFirewall()
			if err != nil {
				d.log.Debug("the firewall was not read", "error", err)
			}
			if firewall != nil {
				d.reportFirewall(firewall)
				firewall.Close()
			}
			next = time.Now().Add(firewallPause * time.Since(begin))
		}
	}
}
