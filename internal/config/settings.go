package config

import (
	"fmt"
	"slices"
	"strings"
)

// A Kind is the form of a setting's value.
type Kind string

// The kinds of settings.
const (
	Interfaces Kind = "interfaces" // list of interface names
	Host       Kind = "host"       // one IPv4 address or host name
	Port       Kind = "port"       // one UDP port
	Ports      Kind = "ports"      // list of UDP ports
	Number     Kind = "number"     // one decimal number
	Seconds    Kind = "seconds"    // one decimal number of seconds
	Networks   Kind = "networks"   // list of IPv4 addresses and networks (address/bits)
	Choice     Kind = "choice"     // one of Setting.Choices
	Switch     Kind = "switch"     // yes or no, as 1/0, yes/no, true/false, on/off
	Account    Kind = "user"       // one user, by name or number
	Path       Kind = "path"       // one absolute file name
	Mask       Kind = "mask"       // numeric mask or list of class names
)

// A Setting defines one setting of the configuration file.
type Setting struct {
	Name    string
	Kind    Kind
	Default string   // as it would be written in the file
	Unit    string   // what a number counts; empty for none
	Min     int      // smallest value of a number or port
	Max     int      // largest value of a number or port
	Choices []string // the values of a Choice, or the class names of a Mask
	Help    string   // what it does, in one or two sentences
	Reload  bool     // takes effect on SIGHUP; others with the next start

	field func(*Config) any // the field of Config that it sets
}

// Accepts says in words which values the setting takes.
func (s Setting) Accepts() string {
	switch s.Kind {
	case Port, Number:
		return fmt.Sprintf("%d to %d", s.Min, s.Max)
	case Seconds:
		return fmt.Sprintf("%d to %d seconds", s.Min, s.Max)
	case Ports:
		return fmt.Sprintf("ports %d to %d, separated by commas or spaces", s.Min, s.Max)
	case Choice:
		return strings.Join(s.Choices, " or ")
	case Interfaces:
		return "interface names, separated by commas or spaces"
	case Networks:
		return "IPv4 addresses and networks such as 192.0.2.0/24, separated by commas or spaces"
	case Host:
		return "an IPv4 address or a host name"
	case Switch:
		return "yes or no"
	case Path:
		return "an absolute file name"
	case Account:
		return "a user's name or number"
	case Mask:
		return "a number such as 0x204, or classes: " + strings.Join(s.Choices, ", ")
	}
	return string(s.Kind)
}

// Settings returns the definition of every setting, in the order in which they
// are explained to people.
func Settings() []Setting { return slices.Clone(settings) }

// lookup finds a setting by its exact name.
func lookup(name string) (Setting, bool) {
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return Setting{}, false
	}
	return settings[i], true
}

var settings = []Setting{
	{
		Name: "if_inbound", Kind: Interfaces, Reload: true,
		Help:  "Interfaces of the private networks. Empty: every interface that is up and has a private address, except the outside ones.",
		field: func(c *Config) any { return &c.Inside },
	}, {
		Name: "if_outbound", Kind: Interfaces, Reload: true,
		Help:  "Interfaces to the public side. Empty: the interface of the IPv4 default route.",
		field: func(c *Config) any { return &c.Outside },
	}, {
		Name: "host_outbound", Kind: Host, Reload: true,
		Help:  "Address that SIP and SDP announce to the outside, where it is not the one of the outside interface (another NAT in front). Empty: the interface's own.",
		field: func(c *Config) any { return &c.HostOutbound },
	}, {
		Name: "sip_ports", Kind: Ports, Reload: true, Default: "5060", Min: 1, Max: 65535,
		Help:  "UDP ports whose forwarded traffic is SIP. Traffic of an endpoint that is already known is recognised on any port.",
		field: func(c *Config) any { return &c.SIPPorts },
	}, {
		Name: "rtp_port_low", Kind: Port, Reload: true, Default: "7070", Min: 1024, Max: 65534,
		Help:  "First public port for media. Must be even: RTP takes the even port of a pair, RTCP the odd one after it (RFC 3550, section 11).",
		field: func(c *Config) any { return &c.RTPPortLow },
	}, {
		Name: "rtp_port_high", Kind: Port, Reload: true, Default: "7999", Min: 1025, Max: 65535,
		Help:  "Last public port for media. An audio stream takes two ports of the range, a signalling endpoint one if its own port is taken.",
		field: func(c *Config) any { return &c.RTPPortHigh },
	}, {
		Name: "rtp_timeout", Kind: Seconds, Reload: true, Default: "300", Unit: "s", Min: 10, Max: 86400,
		Help:  "An answered call without a packet of media in either direction is closed after this time. On hold it may be silent for two hours.",
		field: func(c *Config) any { return &c.RTPTimeout },
	}, {
		Name: "media_source", Kind: Choice, Reload: true, Default: string(MediaSignalled),
		Choices: []string{string(MediaSignalled), string(MediaAny)},
		Help:    "Who may send media in: the addresses that the far side's SDP names, or anybody.",
		field:   func(c *Config) any { return &c.MediaSource },
	}, {
		Name: "media_hosts", Kind: Networks, Reload: true,
		Help:  "Inside addresses to which any inside SIP endpoint may direct media, such as the media gateways of a PBX. Without it an endpoint gets media for its own address only.",
		field: func(c *Config) any { return &c.MediaHosts },
	}, {
		Name: "hairpin", Kind: Choice, Reload: true, Default: string(HairpinDirect),
		Choices: []string{string(HairpinDirect), string(HairpinRouter)},
		Help:    "Media between two inside phones that call each other through an outside server: straight from one to the other, or through the firewall.",
		field:   func(c *Config) any { return &c.Hairpin },
	}, {
		Name: "sip_accept", Kind: Choice, Reload: true, Default: string(AcceptPeers),
		Choices: []string{string(AcceptPeers), string(AcceptAny)},
		Help:    "From whom a phone is sent new requests: from hosts that it registered with or has sent to (and sip_peers), or from anybody.",
		field:   func(c *Config) any { return &c.SIPAccept },
	}, {
		Name: "sip_peers", Kind: Networks, Reload: true,
		Help:  "Outside networks that may always send requests, such as the other servers of the provider.",
		field: func(c *Config) any { return &c.SIPPeers },
	}, {
		Name: "on_failure", Kind: Choice, Reload: true, Default: string(FailPass),
		Choices: []string{string(FailPass), string(FailDrop)},
		Help:    "What becomes of SIP while no daemon runs: it passes unchanged (private addresses show), or it is dropped.",
		field:   func(c *Config) any { return &c.OnFailure },
	}, {
		Name: "queue_num", Kind: Number, Default: "5060", Min: 0, Max: 65535,
		Help:  "First NFQUEUE number. No other program may use it.",
		field: func(c *Config) any { return &c.QueueNum },
	}, {
		Name: "queues", Kind: Number, Default: "1", Min: 1, Max: 64,
		Help:  "How many queues, from queue_num on, share the SIP traffic. One is enough for thousands of messages a second.",
		field: func(c *Config) any { return &c.Queues },
	}, {
		Name: "daemonize", Kind: Switch, Default: "no",
		Help:  "Go to the background once everything is ready.",
		field: func(c *Config) any { return &c.Daemonize },
	}, {
		Name: "user", Kind: Account,
		Help:  "Unprivileged user to become after the start, keeping only CAP_NET_ADMIN. Empty: stay as started.",
		field: func(c *Config) any { return &c.User },
	}, {
		Name: "pid_file", Kind: Path,
		Help:  "File that the daemon writes its process number to. Empty: none.",
		field: func(c *Config) any { return &c.PIDFile },
	}, {
		Name: "sip_dscp", Kind: Number, Reload: true, Default: "0", Max: 63,
		Help:  "Code point of differentiated services (DSCP) that SIP leaves with, done by nftables. 0: what the sender has set stays.",
		field: func(c *Config) any { return &c.SIPDSCP },
	}, {
		Name: "rtp_dscp", Kind: Number, Reload: true, Default: "0", Max: 63,
		Help:  "Code point of differentiated services (DSCP) that media leaves with, done by nftables. 0: what the sender has set stays.",
		field: func(c *Config) any { return &c.RTPDSCP },
	}, {
		Name: "sip_listen_port", Kind: Port, Default: "5060", Min: 1, Max: 65535,
		Help:  "Port of the proxy mode.",
		field: func(c *Config) any { return &c.ListenPort },
	}, {
		Name: "silence_log", Kind: Number, Reload: true, Default: "1", Max: 4,
		Help:  "What the log leaves out: 0 nothing, 1 debug messages, 2 notes too, 3 warnings too, 4 everything.",
		field: func(c *Config) any { return &c.SilenceLog },
	}, {
		Name: "debug_level", Kind: Mask, Reload: true, Default: "0", Choices: debugNames(),
		Help:  "Write debug messages too, as siproxd's numeric mask or class names. 0 or none: no; in this version anything else writes all of them.",
		field: func(c *Config) any { return &c.Debug },
	},
}
