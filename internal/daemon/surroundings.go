package daemon

import (
	"log/slog"

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
// working. One that could not be read is nil.
func (d *Daemon) reportFirewall(firewall *nft.Firewall) {
	if firewall == nil {
		return
	}
	d.tell(check.Chains(firewall, d.track.Helper()))
	d.tell(check.Policy(firewall, d.cfg, d.faces.Load(), d.track.Helper()))
	d.tell(check.Input(firewall, d.cfg, d.faces.Load()))
}
