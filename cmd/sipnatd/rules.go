package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
	"sipnatd/rules"
)

// runRules writes the rule file of a format.
func runRules(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("rules", flag.ContinueOnError)
	file := flags.String("c", "", "")
	whole := flags.Bool("whole", false, "")
	remove := flags.Bool("remove", false, "")
	if more, err := parseFlags(flags, args, out, printRulesUsage); !more {
		return err
	}
	if flags.NArg() == 0 {
		printRulesUsage(out)
		return nil
	}
	// Flags may come after the format, too.
	format := flags.Arg(0)
	if more, err := parseFlags(flags, flags.Args()[1:], out, printRulesUsage); !more {
		return err
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; see sipnatd rules -h", flags.Arg(0))}
	}
	if err := rules.Known(format); err != nil {
		return usageError{fmt.Errorf("%w; see sipnatd rules -h", err)}
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	faces, err := ifaces.Resolve(ifaces.Config{Inside: cfg.Inside, Outside: cfg.Outside})
	if err != nil {
		return err
	}
	about, notes, err := rulesConfig(cfg, faces)
	if err != nil {
		return err
	}
	for _, note := range slices.Concat(cfg.Warnings, notes) {
		fmt.Fprintln(os.Stderr, "sipnatd:", note)
	}
	return rules.Write(out, format, about, rules.Options{Whole: *whole, Remove: *remove})
}

// rulesConfig is what rules depend on: the configuration, and what it leaves to be
// found on this machine. The notes say what was found.
func rulesConfig(cfg *config.Config, faces *ifaces.Snapshot) (about rules.Config, notes []string, err error) {
	about = rules.Config{
		Inside: faces.Names(ifaces.Inside), Outside: faces.Names(ifaces.Outside),
		SIPPorts: cfg.SIPPorts, SIPPeers: cfg.SIPPeers,
		AcceptAny:     cfg.SIPAccept == config.AcceptAny,
		MediaAny:      cfg.MediaSource == config.MediaAny,
		HairpinRouter: cfg.Hairpin == config.HairpinRouter,
		Bypass:        cfg.OnFailure == config.FailPass,
		SIPDSCP:       cfg.SIPDSCP, RTPDSCP: cfg.RTPDSCP,
		QueueFirst: cfg.QueueNum, Queues: cfg.Queues,
		PortLow: cfg.RTPPortLow, PortHigh: cfg.RTPPortHigh,
	}
	if cfg.Mode != config.ModeTransparent {
		about.ListenPort, about.Callers = cfg.ListenPort, cfg.AsksForProxy()
	}
	if cfg.Mode != config.ModeProxy && cfg.SIPTCP {
		about.TCPPort = cfg.SIPTCPPort
	}
	for _, side := range []struct {
		setting, missing  string
		configured, found []string
	}{
		{"if_outbound", "no IPv4 default route leaves through an interface that is not inside", cfg.Outside, about.Outside},
		{"if_inbound", "no other interface is up and has a private address", cfg.Inside, about.Inside},
	} {
		switch {
		case len(side.found) == 0:
			err = errors.Join(err, fmt.Errorf("%s is not set, and now %s: set %s", side.setting, side.missing, side.setting))
		case len(side.configured) == 0:
			notes = append(notes, fmt.Sprintf("%s is not set: the rules are for %s, as found now", side.setting, strings.Join(side.found, " and ")))
		}
	}
	for _, i := range faces.Interfaces() {
		switch {
		case i.Side == ifaces.Inside:
			about.InsideNetworks = append(about.InsideNetworks, i.Networks...)
		case !about.PublicAddr.IsValid():
			about.PublicAddr = i.Addr
		}
	}
	if a, parsed := netip.ParseAddr(cfg.HostOutbound); parsed == nil && a != about.PublicAddr {
		about.Announced = a
	}
	return about, notes, err
}

// printRulesUsage writes the text for sipnatd rules -h.
func printRulesUsage(w io.Writer) {
	fmt.Fprint(w, `Usage: sipnatd rules [-c file] [-whole] [-remove] format

Writes to the standard output the rules that a firewall needs for the configuration,
in the language of its tool. Nothing is changed on this machine, and root is not needed.

  -c file   configuration, as for the daemon
  -whole    a complete masquerading firewall, where the format only adds to one
  -remove   what takes away again what the format adds
  -h        this text

Formats, and how each is loaded:
`)
	for _, f := range rules.Formats() {
		form := ""
		if f.Whole {
			form = " (or -whole)"
		}
		fmt.Fprintf(w, "  %-16s %s%s\n  %-16s   %s\n", f.Name, f.Title, form, "", f.Load)
	}
}
