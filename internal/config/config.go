package config

import (
	"net/netip"
	"time"
)

// Config is a complete and valid configuration, as [Default] and [Parse]
// return it. It is not changed after that, but by [Config.Override]; lists must
// not be modified.
type Config struct {
	// File is where it was read from. Empty: nowhere, all are defaults.
	File string

	// Inside and Outside name the interfaces of the private networks and of
	// the public side. Empty: they are detected.
	Inside, Outside []string

	// HostOutbound is announced to the outside in place of the outside
	// interface's address: an IPv4 address or a host name. Empty: no other.
	HostOutbound string

	// SIPPorts are the UDP ports whose forwarded traffic is SIP.
	SIPPorts []uint16

	// SIPAccept says from whom an inside phone may get new requests.
	SIPAccept SIPAccept

	// SIPPeers are outside networks that may always send requests.
	SIPPeers []netip.Prefix

	// RegisterExpiresMax is the longest registration that a phone reads in its
	// registrar's answer. 0: what was granted.
	RegisterExpiresMax time.Duration

	// OnFailure is what happens to SIP when no daemon looks at it.
	OnFailure OnFailure

	// RTPPortLow and RTPPortHigh bound the public media ports, both included.
	// RTPPortLow is even, and there is room for one pair of RTP and RTCP ports.
	RTPPortLow, RTPPortHigh uint16

	// RTPTimeout is how long an answered call lives without a packet of media in
	// either direction.
	RTPTimeout time.Duration

	// MediaSource says who may send media to a stream.
	MediaSource MediaSource

	// MediaHosts are inside networks to which an inside SIP endpoint may
	// direct media, besides itself.
	MediaHosts []netip.Prefix

	// Hairpin says how media flows between two inside phones.
	Hairpin Hairpin

	// SIPDSCP and RTPDSCP mark what leaves with a code point of differentiated
	// services, 0 to 63 (RFC 2474). 0: what the sender has set stays.
	SIPDSCP, RTPDSCP uint8

	// Daemonize detaches the process once it is ready.
	Daemonize bool

	// User is the unprivileged user to become, by name or number. Empty: none.
	User string

	// PIDFile is where the daemon writes its process number. Empty: nowhere.
	PIDFile string

	// StateDir is where the daemon keeps what the next start must know. Empty: nowhere.
	StateDir string

	// QueueNum is the first NFQUEUE number, Queues how many there are from it.
	QueueNum, Queues uint16

	// SilenceLog is what the log leaves out: 0 nothing, 1 debug messages, 2
	// informational ones too, 3 warnings too, 4 everything.
	SilenceLog int

	// Debug selects the classes of debug messages.
	Debug DebugMask

	// Mode says whether SIP that is forwarded is handled, SIP that is sent to the
	// firewall itself, or both.
	Mode Mode

	// SIPTCP has TCP connections from inside to one of SIPPorts joined by the
	// daemon, which they are led to at the local port SIPTCPPort.
	SIPTCP     bool
	SIPTCPPort uint16

	// ListenPort is the port of the proxy mode, UDP and TCP.
	ListenPort uint16

	// Proxy is the rest of the proxy mode.
	Proxy Proxy

	// Plugins holds the options of siproxd's plugins. In a file that loads plugins,
	// as siproxd's does, those of the others are as if they were not set.
	Plugins Plugins

	// Obsolete holds directives of siproxd that have no place here.
	Obsolete Obsolete

	// Warnings holds what the file said that has no effect, or not the one that
	// it had in siproxd, or is probably not meant, each as "file:line: text".
	// The caller logs them.
	Warnings []string

	origins map[string][]string // where a setting's values come from, if not from its default
}

// MediaSource is the value of media_source.
type MediaSource string

// The values of media_source.
const (
	MediaSignalled MediaSource = "signalled" // the addresses that the SDP of the far side names
	MediaAny       MediaSource = "any"       // everybody
)

// Hairpin is the value of hairpin.
type Hairpin string

// The values of hairpin.
const (
	HairpinDirect Hairpin = "direct" // each phone is given the inside address of the other
	HairpinRouter Hairpin = "router" // media goes through the firewall and is translated twice
)

// Mode is the value of mode.
type Mode string

// The values of mode.
const (
	ModeTransparent Mode = "transparent" // forwarded SIP, which phones send to their provider
	ModeProxy       Mode = "proxy"       // SIP that phones send to the firewall, their registrar or outbound proxy
	ModeBoth        Mode = "both"
)

// SIPAccept is the value of sip_accept.
type SIPAccept string

// The values of sip_accept.
const (
	AcceptPeers SIPAccept = "peers" // hosts that the phone registered with or has sent to, and sip_peers
	AcceptAny   SIPAccept = "any"   // everybody
)

// OnFailure is the value of on_failure.
type OnFailure string

// The values of on_failure.
const (
	FailPass OnFailure = "pass" // SIP passes as if there were no daemon
	FailDrop OnFailure = "drop" // SIP is dropped, no private address leaves
)

// Default returns the configuration of an empty file.
func Default() *Config {
	c := &Config{origins: make(map[string][]string)}
	for _, s := range settings {
		if s.Repeated {
			continue
		}
		if _, err := s.set(c, s.Default); err != nil {
			panic("config: the default of " + s.Name + ": " + err.Error())
		}
	}
	return c
}
