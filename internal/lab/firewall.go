package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"sipnatd/rules"
)

// Backend is the tool that the firewall's administrator uses.
type Backend string

// The backends.
const (
	// Nftables is an inet table with policy drop and an ip table for masquerade.
	Nftables Backend = "nftables"
	// IPTablesLegacy is the same policy as "sipnatd rules iptables" writes it,
	// through iptables-legacy-restore.
	IPTablesLegacy Backend = "iptables-legacy"
	// IPTablesNFT is that file through iptables-nft-restore.
	IPTablesNFT Backend = "iptables-nft"
	// Bare has no rules at all. The test puts them in place, before it starts the
	// daemon.
	Bare Backend = "bare"
	// Routed is a plain router: no NAT, no filter, and a provider that knows
	// the way to 10.0.0.0/24. No daemon is started there. Every scenario must
	// pass on it, which proves that the scenario is right.
	Routed Backend = "routed"
)

// Firewall is the administrator's rule set. The zero value is nftables with
// policy drop on input and forward; established and related accepted; inside
// to outside accepted; masquerade on ppp0; neither a hole for RTP nor for
// SIP from outside.
type Firewall struct {
	Backend Backend
	// Priority of the nftables filter chains: 0, or 10 as firewalld has it.
	Priority int
	// EgressSIPOnly lets only UDP 5060 and DNS out (besides established and
	// related), so that RTP leaves only where an expectation says so.
	EgressSIPOnly bool
	// PortForward, if valid, is the administrator's own DNAT of UDP 5060 on
	// ppp0 to this inside address and port, with the forward rule for it.
	PortForward netip.AddrPort
	// Load, if it is set, puts the rules into the firewall, in place of all others.
	Load func(fw *Host) error
	// Extra is appended to the nft script or to the iptables-restore filter
	// table (rules only, e.g. "-A FORWARD ...").
	Extra string
}

// NAT reports whether the firewall translates, that is, not Routed.
func (f Firewall) NAT() bool { return f.Backend != Routed }

// Flavours are the rule sets on which the main cases run.
func Flavours() map[string]Firewall {
	return map[string]Firewall{
		"nftables":        {Backend: Nftables},
		"iptables-legacy": {Backend: IPTablesLegacy},
		"iptables-nft":    {Backend: IPTablesNFT},
		"egress":          {Backend: Nftables, EgressSIPOnly: true},
		"firewalld":       {Backend: Nftables, Priority: 10},
		"routed":          {Backend: Routed},
	}
}

// fromEnvironment lets SIPNATD_LAB=<flavour> choose the rule set of every lab
// that did not ask for a particular one; "routed" is forced on all of them.
func (f Firewall) fromEnvironment() (Firewall, error) {
	name := os.Getenv("SIPNATD_LAB")
	if name != "" {
		chosen, ok := Flavours()[name]
		if !ok {
			return f, fmt.Errorf("SIPNATD_LAB=%s: no such firewall", name)
		}
		if chosen.Backend == Routed {
			return chosen, nil
		}
		if f.Backend == "" && f.Priority == 0 && !f.EgressSIPOnly && f.Load == nil {
			chosen.PortForward, chosen.Extra = f.PortForward, f.Extra
			if f.Extra == "" || chosen.Backend == Nftables {
				f = chosen
			}
		}
	}
	if f.Backend == "" {
		f.Backend = Nftables
	}
	return f, nil
}

// Script is the rule set in the language of its tool, with the command that
// loads it from its standard input. Bare and Routed have none.
func (f Firewall) Script() (script string, load []string) {
	switch f.Backend {
	case Nftables:
		return f.nft(), []string{"nft", "-f", "-"}
	case IPTablesLegacy:
		return f.iptables(), []string{"iptables-legacy-restore"}
	case IPTablesNFT:
		return f.iptables(), []string{"iptables-nft-restore"}
	default:
		return "", nil
	}
}

func (f Firewall) nft() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("table inet firewall {")
	p("  chain input {")
	p("    type filter hook input priority %d; policy drop;", f.Priority)
	p("    iifname \"lo\" accept")
	p("    ct state established,related accept")
	p("    iifname \"eth0\" accept")
	p("    icmp type echo-request accept")
	p("  }")
	p("  chain forward {")
	p("    type filter hook forward priority %d; policy drop;", f.Priority)
	p("    ct state established,related accept")
	if f.EgressSIPOnly {
		p("    iifname \"eth0\" oifname \"ppp0\" udp dport { 53, 5060 } accept")
	} else {
		p("    iifname \"eth0\" oifname \"ppp0\" accept")
	}
	if f.PortForward.IsValid() {
		p("    iifname \"ppp0\" ip daddr %v udp dport %d accept", f.PortForward.Addr(), f.PortForward.Port())
	}
	p("  }")
	p("}")
	p("table ip nat {")
	p("  chain postrouting {")
	p("    type nat hook postrouting priority srcnat; policy accept;")
	p("    oifname \"ppp0\" masquerade")
	p("  }")
	if f.PortForward.IsValid() {
		p("  chain prerouting {")
		p("    type nat hook prerouting priority dstnat; policy accept;")
		p("    iifname \"ppp0\" udp dport 5060 dnat to %v", f.PortForward)
		p("  }")
	}
	p("}")
	b.WriteString(f.Extra)
	return b.String()
}

// iptables is what the rule generator writes for the lab, with what the firewall's
// options change of it.
func (f Firewall) iptables() string {
	const toOutside = "-A FORWARD -i eth0 -o ppp0 -j ACCEPT\n"
	var file strings.Builder
	if err := rules.Write(&file, "iptables", rules.Config{
		Inside: []string{"eth0"}, Outside: []string{"ppp0"},
		InsideNetworks: []netip.Prefix{InsideNet}, SIPPorts: []uint16{5060},
	}, rules.Options{}); err != nil {
		panic(err) // the configuration does not change
	}
	nat, rest, _ := strings.Cut(file.String(), "COMMIT\n")
	filter, _, _ := strings.Cut(rest, "COMMIT\n")
	if f.EgressSIPOnly {
		filter = strings.Replace(filter, toOutside, ""+
			"-A FORWARD -i eth0 -o ppp0 -p udp --dport 5060 -j ACCEPT\n"+
			"-A FORWARD -i eth0 -o ppp0 -p udp --dport 53 -j ACCEPT\n", 1)
	}
	if to := f.PortForward; to.IsValid() {
		nat += fmt.Sprintf("-A PREROUTING -i ppp0 -p udp --dport 5060 -j DNAT --to-destination %v\n", to)
		filter += fmt.Sprintf("-A FORWARD -i ppp0 -d %v -p udp --dport %d -j ACCEPT\n", to.Addr(), to.Port())
	}
	return nat + "COMMIT\n" + filter + f.Extra + "COMMIT\n"
}

// lacks says what the kernel has not got of the firewall's backend, by its own
// word; "" if it has everything.
func (l *Lab) lacks() string {
	tool := string(l.Firewall.Backend)
	if l.FW == nil || l.Firewall.Backend != IPTablesLegacy && l.Firewall.Backend != IPTablesNFT {
		return ""
	}
	for _, table := range []string{"nat", "filter"} {
		_, err := l.FW.Output(tool, "-t", table, "-S")
		// xtables: RESOURCE_PROBLEM and VERSION_PROBLEM, the table is not there.
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && (exit.ExitCode() == 3 || exit.ExitCode() == 4) {
			return err.Error()
		}
	}
	return ""
}
