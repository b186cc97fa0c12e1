package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sipnatd/conntrack"
	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/nft"
	"sipnatd/internal/privilege"
	"sipnatd/internal/state"
)

// Level says how bad a finding is.
type Level uint8

// The levels.
const (
	OK      Level = iota
	Note          // worth knowing, nothing to do
	Warning       // it works, but not always, or not all of it
	Fault         // it does not work, or not for long
)

// String is the word for people: a fault can be seen from afar.
func (l Level) String() string {
	return [...]string{"ok", "note", "warning", "FAULT"}[l]
}

// MarshalText gives the word for programs.
func (l Level) MarshalText() ([]byte, error) { return []byte(strings.ToLower(l.String())), nil }

// Finding is what was found about one subject.
type Finding struct {
	ID      string `json:"id"` // one of this package's, which stay the same from version to version
	Level   Level  `json:"level"`
	Subject string `json:"subject"` // an interface, a chain, a setting: what it is about
	Text    string `json:"text"`    // what was found
	Remedy  string `json:"remedy"`  // a command or a setting; empty where there is nothing to do
}

// Run looks at the machine, and at how it fits the configuration. The findings are in
// the order of their levels, the worst last, and within these as a packet would meet
// them. It works in the network namespace of the calling thread.
//
// It takes a fraction of a second, changes nothing that stays, and does not disturb a
// daemon that runs. What it tries may have the kernel load modules that the daemon
// needs as well.
func Run(cfg *config.Config) []Finding {
	i := inspection{cfg: cfg}
	i.findings = append(i.findings, settings(cfg)...)
	i.findings = append(i.findings, account(cfg, privilege.Check, privilege.CanRead)...)
	privileged := privilege.Need() == nil
	i.findings = append(i.findings, capabilities(privileged))
	i.lookAround(privileged)
	if privileged {
		i.lookInside()
	}
	slices.SortStableFunc(i.findings, func(a, b Finding) int { return cmp.Compare(a.Level, b.Level) })
	return i.findings
}

// inspection is one look at the machine.
type inspection struct {
	cfg      *config.Config
	faces    *ifaces.Snapshot
	others   others
	findings []Finding
}

func (i *inspection) add(findings ...Finding) { i.findings = append(i.findings, findings...) }

// lookAround finds out what everybody may know.
func (i *inspection) lookAround(privileged bool) {
	var err error
	i.faces, err = ifaces.Resolve(ifaces.Config{Inside: i.cfg.Inside, Outside: i.cfg.Outside})
	if err != nil {
		i.add(Finding{ID: Interface, Level: Fault, Subject: "interfaces", Text: "they cannot be read: " + err.Error()})
		i.faces = new(ifaces.Snapshot)
	}
	i.add(Interfaces(i.faces, i.cfg.HostOutbound)...)
	i.add(hostOutbound(i.cfg.HostOutbound, i.faces.Interfaces(), i.faces.Own, resolve)...)
	i.add(domains(i.cfg, i.faces.Own, resolve, sipServers)...)
	i.add(overlaps(i.faces.Interfaces())...)
	i.add(defaultRoute(i.faces.Interfaces(), farHost(i.cfg), ifaces.Leaves)...)
	i.add(forwarding(i.faces.Interfaces(), sysctl)...)
	i.add(reversePaths(i.faces.Interfaces(), farHost(i.cfg), sysctl, ifaces.Leaves, ifaces.Arrives)...)

	i.others = findOthers(i.cfg)
	i.add(i.others.findings(i.cfg, privileged)...)
	i.add(files(i.cfg, userOf(i.cfg, i.others.daemon), canRead, canCreate)...)
	i.add(stateDir(i.cfg, state.Check))
	udp, err := localSockets("udp")
	tcp, tcpErr := localSockets("tcp")
	if err := errors.Join(err, tcpErr); err != nil {
		i.add(unread(LocalPorts, "local sockets", err))
	}
	i.add(localPorts(i.cfg, i.faces.Interfaces(), udp, owners)...)
	i.add(proxyPorts(i.cfg, i.faces.Interfaces(), udp, tcp, owners)...)
	i.add(ephemeralPorts(i.cfg, sysctl)...)
}

// lookInside finds out what takes CAP_NET_ADMIN.
func (i *inspection) lookInside() {
	i.add(packetFilter(nft.Probe)...)
	i.add(maps(nft.ProbeMaps), flowtables(nft.ProbeFlowtable))

	firewall, err := nft.ReadFirewall()
	rewriter := FindRewriter(firewall, err)
	i.add(rewriter.Findings()...)
	helper, reason, err := conntrack.Probe(conntrack.Options{Helpers: rewriter.Helpers()})
	if err != nil {
		i.add(Finding{ID: Expectations, Level: Fault, Subject: "expectations", Text: err.Error(), Remedy: modules("nf_conntrack_netlink")})
	} else {
		i.add(expectations(helper, reason))
	}
	i.add(accounting(i.others.daemon.pid != 0, sysctl))
	i.add(Tables(i.cfg, helper)...)
	i.add(flowCount(sysctl)...)
	i.add(udpTimeout(helper, sysctl)...)
	if firewall == nil {
		return
	}
	defer firewall.Close()
	i.add(i.others.table(firewall.Installed())...)
	i.add(Chains(firewall, helper)...)
	i.add(Policy(firewall, i.cfg, i.faces, helper)...)
	i.add(Input(firewall, i.cfg, i.faces)...)
	i.add(masquerade(firewall, i.faces.Interfaces())...)
	redirects, err := nft.Redirects()
	if err != nil {
		i.add(unread(Firewall, "port-forwards", err))
	}
	i.add(portForwards(i.cfg, i.faces.Interfaces(), redirects)...)
}

// Err is an error that has the faults, each with its remedy; nil where there is none.
func Err(findings []Finding) error {
	var errs []error
	for _, f := range findings {
		if f.Level == Fault {
			errs = append(errs, fmt.Errorf("%s; remedy: %s", f.Text, f.Remedy))
		}
	}
	return errors.Join(errs...)
}

// capabilities says what can be looked at.
func capabilities(privileged bool) Finding {
	if privileged {
		return Finding{ID: Capabilities, Subject: "capabilities", Text: "CAP_NET_ADMIN"}
	}
	return Finding{ID: Capabilities, Level: Warning, Subject: "capabilities",
		Text:   "without CAP_NET_ADMIN neither the kernel's features nor the firewall, nor who serves the queues can be looked at",
		Remedy: "sudo sipnatd check"}
}

// unread is the finding about something that cannot be looked at.
func unread(id, subject string, err error) Finding {
	return Finding{ID: id, Level: Warning, Subject: subject, Text: "it could not all be looked at: " + err.Error()}
}

// plural is "1 thing" or "2 things".
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing
}
