// Package rules writes rule files for firewalls: the daemon's own nftables table, and
// what the administrator's firewall needs beside it, in the language of his tool.
//
// Each format is a template, FORMAT.tmpl, that sees a [Config] with [Options] and the
// [Format]. What a template cannot say for itself is in FORMAT.go, and what several say
// is in settings.tmpl, netfilter.tmpl and blocks.tmpl. rules/siproxd.nft is what [Write]
// makes of format "nft" for the reference configuration.
//
// A file that is loaded twice does what it does when loaded once, and what it adds can
// be taken away again: by the same format with [Options.Remove].
package rules

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"sipnatd/internal/config"
	"sipnatd/internal/template"
)

// Config says what the rules depend on. The comments name the settings of sipnatd.conf
// that it comes from.
type Config struct {
	// Inside and Outside name the interfaces of the private networks and those
	// towards the provider (if_inbound, if_outbound). At least one of each.
	Inside, Outside []string

	// InsideNetworks are the networks behind the inside interfaces, as far as they
	// are known.
	InsideNetworks []netip.Prefix

	// PublicAddr is the outside interface's address, the zero Addr where it is not
	// known. Announced is the one that messages name in its place (host_outbound),
	// the zero Addr where there is none.
	PublicAddr, Announced netip.Addr

	// SIPPorts are the UDP ports where SIP is spoken (sip_ports). At least one.
	SIPPorts []uint16

	// SIPPeers are networks that may call in without having been called before
	// (sip_peers).
	SIPPeers []netip.Prefix

	AcceptAny     bool // sip_accept = any
	MediaAny      bool // media_source = any
	HairpinRouter bool // hairpin = router
	Bypass        bool // on_failure = pass

	// SIPDSCP and RTPDSCP are code points for SIP and media, 1 to 63 (sip_dscp,
	// rtp_dscp). 0 leaves a packet's own.
	SIPDSCP, RTPDSCP uint8

	// TCPPort is the local port that SIP over TCP is led to (sip_tcp, sip_tcp_port).
	// 0: it is forwarded like anything else.
	TCPPort uint16

	// QueueFirst is the number of the first queue, Queues how many there are
	// (queue_num, queues). 0 counts as 1.
	QueueFirst, Queues uint16

	// PortLow and PortHigh bound the public ports of media, both included
	// (rtp_port_low, rtp_port_high).
	PortLow, PortHigh uint16

	// ListenPort is where the daemon itself is spoken to, as a proxy
	// (sip_listen_port). 0: nowhere, and then no rule admits anybody to it. From
	// outside it is spoken to only with Callers.
	ListenPort uint16
	Callers    bool
}

// Options choose the form of a file.
type Options struct {
	// Whole asks for a complete masquerading firewall where the format otherwise
	// only adds to one that is there.
	Whole bool

	// Remove asks for what takes away again what the format adds.
	Remove bool
}

// A Format is a kind of rule file.
type Format struct {
	Name  string // as it is given to Write
	Title string // what it is, in one line
	Load  string // the command that loads it from its standard input or from FILE

	// Whole says that the format has a whole form besides.
	Whole bool

	// Unload is the command for the form with Options.Remove, where it is not Load.
	Unload string

	complete bool // it is the whole form, and there is no other
}

// formats lists them in the order in which they are explained to people.
var formats = []Format{
	{Name: "nft", Title: "the daemon's nftables table, and what a firewall of nftables has to accept",
		Load: "nft -f FILE", Whole: true},
	{Name: "iptables", Title: "a whole masquerading firewall for iptables-restore",
		Load: "iptables-restore <FILE", Unload: "iptables-restore --noflush <FILE", complete: true},
	{Name: "iptables-script", Title: "chains beside those of an iptables firewall that is there", Load: "sh FILE"},
	{Name: "ip6tables", Title: "the IPv6 side of that firewall, for ip6tables-restore: as closed as the other one",
		Load: "ip6tables-restore <FILE", Unload: "ip6tables-restore --noflush <FILE", complete: true},
	{Name: "ip6tables-script", Title: "the same for an ip6tables firewall that is there", Load: "sh FILE"},
	{Name: "ipchains", Title: "chains for a box with Linux 2.2 in front of sipnatd's machine", Load: "sh FILE"},
	{Name: "firewalld", Title: "policies for firewalld, by a script", Load: "sh FILE"},
	{Name: "ufw", Title: "rules and masquerade for ufw, by a script", Load: "sh FILE"},
	{Name: "openwrt", Title: "rules for OpenWrt's fw4, by a script: uci commands and an nftables include", Load: "sh FILE"},
	{Name: "shorewall", Title: "lines for Shorewall's files, by a script", Load: "sh FILE"},
}

// Formats returns every format there is.
func Formats() []Format { return slices.Clone(formats) }

//go:embed *.tmpl
var templates embed.FS

// page is what a template sees.
type page struct {
	Config
	Options
	Format Format
}

// Write writes the rule file of a format for a configuration. The error names the
// nearest format where there is none of that name; nothing is written then.
func Write(w io.Writer, format string, cfg Config, opts Options) error {
	f, err := find(format)
	if err != nil {
		return err
	}
	if opts.Whole && !f.Whole && !f.complete {
		return fmt.Errorf("format %s has no whole form: %s", f.Name, f.Title)
	}
	if err := cfg.check(); err != nil {
		return err
	}
	set, err := parsed()
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	var out bytes.Buffer
	if err := set.Execute(&out, f.Name+".tmpl", &page{cfg, opts, f}); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// parsed returns all templates: formats share some.
func parsed() (*template.Set, error) {
	set := template.New(functions)
	files, err := templates.ReadDir(".")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		text, err := templates.ReadFile(f.Name())
		if err != nil {
			return nil, err
		}
		if err := set.Add(f.Name(), string(text)); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// Known returns nil where there is a format of that name, else the error of [Write].
func Known(format string) error {
	_, err := find(format)
	return err
}

func find(format string) (Format, error) {
	var names []string
	for _, f := range formats {
		if f.Name == format {
			return f, nil
		}
		names = append(names, f.Name)
	}
	if near := config.Nearest(format, names); near != "" {
		return Format{}, fmt.Errorf("there is no format %q; did you mean %s?", format, near)
	}
	return Format{}, fmt.Errorf("there is no format %q; there are %s", format, strings.Join(names, ", "))
}

const (
	maxName = 15 // bytes of an interface's name
	maxDSCP = 63
)

// check reports what no rule file could be written for.
func (c Config) check() error {
	var errs []error
	if len(c.Inside) == 0 {
		errs = append(errs, errors.New("there is no inside interface: set if_inbound"))
	}
	if len(c.Outside) == 0 {
		errs = append(errs, errors.New("there is no outside interface: set if_outbound"))
	}
	for _, name := range slices.Concat(c.Inside, c.Outside) {
		// The kernel allows more, but files and shells would make something of it.
		odd := func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@", r))
		}
		if name == "" || len(name) > maxName || name[0] == '-' || strings.ContainsFunc(name, odd) {
			errs = append(errs, fmt.Errorf("interface name %q cannot be written into a rule file", name))
		}
	}
	if len(c.SIPPorts) == 0 || slices.Contains(c.SIPPorts, 0) {
		errs = append(errs, errors.New("sip_ports: ports from 1 to 65535 are needed"))
	}
	if c.SIPDSCP > maxDSCP || c.RTPDSCP > maxDSCP {
		errs = append(errs, fmt.Errorf("sip_dscp %d, rtp_dscp %d: code points are 0 to %d", c.SIPDSCP, c.RTPDSCP, maxDSCP))
	}
	if last := int(c.QueueFirst) + int(c.queues()) - 1; last > 0xffff {
		errs = append(errs, fmt.Errorf("queue number %d is above 65535", last))
	}
	return errors.Join(errs...)
}

// Called are the interfaces from which callers come to the proxy.
func (p *page) Called() []string {
	if p.ListenPort == 0 || !p.Callers {
		return nil
	}
	return p.Outside
}

func (c Config) queues() uint16 { return max(1, c.Queues) }

// functions are what templates can call besides methods of page.
var functions = template.Functions{
	"join":   join,
	"oneof":  oneof,
	"gt":     func(n uint16, than int) bool { return int(n) > than },
	"printf": func(format string, value any) string { return fmt.Sprintf(format, value) },
}

// Methods implements [template.Methods].
func (p *page) Methods() template.Functions {
	return template.Functions{
		// Of every format.
		"Command": p.Command, "Loading": p.Loading, "Removal": p.Removal, "Settings": p.Settings,
		// Of nftables.
		"PeerRanges": p.PeerRanges, "Quoted": p.Quoted, "QueueIn": p.QueueIn, "QueueOut": p.QueueOut,
		"Elements": p.Elements, "Between": p.Between, "From": p.From,
		// Of some others.
		"Called": p.Called, "Masqueraded": p.Masqueraded, "Behind": p.Behind, "Signalling": p.Signalling,
		"Sources": p.Sources, "SourceList": p.SourceList,
	}
}

// join lists values, none of which has a space in it.
func join(separator string, list any) string {
	return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(list), "[]")), separator)
}

// oneof is what nftables matches any of the values with.
func oneof(list any) string {
	values := strings.Fields(strings.Trim(fmt.Sprint(list), "[]"))
	if len(values) == 1 {
		return values[0]
	}
	return "{ " + strings.Join(values, ", ") + " }"
}

// Command is the command line that writes the file.
func (p *page) Command() string {
	command := "sipnatd rules"
	if p.Whole {
		command += " -whole"
	}
	if p.Remove {
		command += " -remove"
	}
	return command + " " + p.Format.Name
}

// Loading is the command that loads the file.
func (p *page) Loading() string {
	if p.Remove && p.Format.Unload != "" {
		return p.Format.Unload
	}
	return p.Format.Load
}

// Removal is the command line that takes away what the file has added.
func (p *page) Removal() string {
	removal := *p
	removal.Remove = true
	load := strings.NewReplacer(" <FILE", "", "nft -f FILE", "nft -f -", " FILE", "").Replace(removal.Loading())
	return removal.Command() + " | " + load
}

// A setting is a line of sipnatd.conf.
type setting struct{ Name, Value string }

// Settings are the configuration as sipnatd.conf would say it.
func (p *page) Settings() []setting {
	choice := func(is bool, yes, no string) string {
		if is {
			return yes
		}
		return no
	}
	all := []setting{
		{"if_inbound", join(" ", p.Inside)},
		{"if_outbound", join(" ", p.Outside)},
		{"sip_ports", join(" ", p.SIPPorts)},
		{"sip_peers", join(" ", p.SIPPeers)},
		{"sip_accept", choice(p.AcceptAny, "any", "peers")},
		{"media_source", choice(p.MediaAny, "any", "signalled")},
		{"hairpin", choice(p.HairpinRouter, "router", "direct")},
		{"on_failure", choice(p.Bypass, "pass", "drop")},
		{"sip_dscp", fmt.Sprint(p.SIPDSCP)},
		{"rtp_dscp", fmt.Sprint(p.RTPDSCP)},
		{"queue_num", fmt.Sprint(p.QueueFirst)},
		{"queues", fmt.Sprint(p.queues())},
	}
	if p.PortHigh != 0 {
		all = append(all, setting{"rtp_port_low", fmt.Sprint(p.PortLow)}, setting{"rtp_port_high", fmt.Sprint(p.PortHigh)})
	}
	if p.TCPPort != 0 {
		all = append(all, setting{"sip_tcp", "yes"}, setting{"sip_tcp_port", fmt.Sprint(p.TCPPort)})
	}
	if p.ListenPort != 0 {
		all = append(all, setting{"sip_listen_port", fmt.Sprint(p.ListenPort)})
	}
	return all
}
