package daemon

import (
	"fmt"

	"sipnatd/conntrack"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/nft"
)

func (d *Daemon) reportInterfaces(s *ifaces.Snapshot) {
	d.log.Info("interfaces", "sides", s.String())
	for _, p := range s.Problems() {
		d.log.Warn(p.String())
	}
	for _, i := range s.Interfaces() {
		if i.BehindNAT() && d.cfg.HostOutbound == "" {
			d.log.Warn("the outside address is private: another NAT stands in front; set host_outbound to its public address and forward the SIP and RTP ports here",
				"interface", i.Name, "address", i.Addr)
		}
	}
}

func (d *Daemon) reportConntrack() {
	if already, err := conntrack.EnableAccounting(); err != nil {
		d.log.Warn("flows are not counted, so that a call without media is not noticed; set the sysctl net.netfilter.nf_conntrack_acct=1", "error", err)
	} else if !already {
		d.log.Info("flow accounting enabled", "sysctl", "net.netfilter.nf_conntrack_acct")
	}
	expectMax, _, _, _, err := conntrack.Limits()
	if err != nil {
		d.log.Debug("the sizes of the conntrack tables are not known", "error", err)
		return
	}
	if want := 2 * (int(d.cfg.RTPPortHigh) - int(d.cfg.RTPPortLow) + 1); d.track.Helper() != conntrack.HelperNone && expectMax < want {
		d.log.Warn("the expectation table is small for the port range; raise the sysctl net.netfilter.nf_conntrack_expect_max",
			"has", expectMax, "full use of the range needs", want)
	}
	if d.track.Helper() == conntrack.HelperNone {
		d.log.Warn("without a conntrack helper media is not RELATED: the firewall must accept `ct status dnat` in its forward chain, or the kernel have nfnetlink_cthelper or nf_conntrack_sip (with the sysctl net.netfilter.nf_conntrack_helper=0, where it exists)")
	}
}

func (d *Daemon) reportChains() {
	firewall, err := nft.ReadFirewall()
	if err != nil {
		d.log.Debug("the firewall's rules were not all read", "error", err)
	}
	if firewall == nil {
		return
	}
	defer firewall.Close()
	for _, c := range firewall.LateChains() {
		d.log.Warn(fmt.Sprintf("%v filters forwarded packets at priority %d, after sipnatd (%d): give it a lower priority, or packets that it drops may still open media streams",
			c, c.Priority, nft.OwnPriority(c.Kind, c.Hook)))
	}
	if d.track.Helper() == conntrack.HelperOwn {
		return // which flows of SIP and media are given, and no flowtable takes those
	}
	offloads, err := firewall.OffloadRules()
	if err != nil {
		d.log.Debug("the firewall's rules were not all read", "error", err)
	}
	if len(offloads) > 0 {
		d.log.Warn("the firewall moves UDP flows to a flowtable, where SIP is not seen and media neither guarded nor counted: let it offload TCP only, or have a kernel with nfnetlink_cthelper",
			"rules", fmt.Sprint(offloads))
	}
}
