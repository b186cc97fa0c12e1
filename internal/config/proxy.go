package config

import (
	"net/netip"
	"strconv"
	"time"
)

// Proxy is what siproxd can be told about being a registrar and a proxy.
type Proxy struct {
	// Domains are host names that are the firewall's own, besides HostOutbound and
	// the addresses of its interfaces: phones register in them.
	Domains []string

	// AllowRegister, AllowSIP and DenySIP say who may register and who may send
	// SIP at all. An empty list says nothing; DenySIP goes before the others, and
	// who may register may send SIP.
	AllowRegister, AllowSIP, DenySIP []Access

	// RegistrationFile keeps the registrations over a restart, written every
	// Autosave (0: at the end only). Empty: they are not kept.
	RegistrationFile string
	Autosave         time.Duration

	// DefaultExpires is the lifetime of a registration that names none.
	DefaultExpires time.Duration

	// AuthRealm makes phones authenticate where it is not empty, with the one
	// password of all or, if there is one, a file of users and passwords.
	AuthRealm, AuthPassword, AuthFile string

	// MaskHosts are hosts that phones register as, MaskedHosts what each of them
	// is replaced by.
	MaskHosts, MaskedHosts []string

	// OutboundHost and OutboundPort are the proxy that everything is sent to.
	// Empty: none. Port 0: the usual one.
	OutboundHost string
	OutboundPort uint16

	// OutboundDomains are domains with an outbound proxy of their own, which the
	// other two lists name.
	OutboundDomains, OutboundDomainHosts []string
	OutboundDomainPorts                  []uint16

	// UserAgent replaces what phones say of themselves. Empty: nothing does.
	UserAgent string

	// Rport has bits for where the proxy's Via asks for rport (RFC 3581): 1 in
	// what comes in, 2 in what goes out.
	Rport int

	// ObscureLoops changes Call-IDs, so that a server does not take a call that
	// comes back to it for a loop.
	ObscureLoops bool

	// TCPTimeout ends a connection that is silent, TCPConnectTimeout the attempt
	// at one; TCPKeepalive is the interval between keep-alives, 0 for none.
	TCPTimeout, TCPConnectTimeout, TCPKeepalive time.Duration
}

// Access is an entry of an access list: a network, or a host name with the number
// of bits that count of its address.
type Access struct {
	Network netip.Prefix // not valid where there is a name
	Name    string
	Bits    int // 0 to 32
}

// String returns the entry as a file has it.
func (a Access) String() string {
	if a.Name != "" {
		return a.Name + "/" + strconv.Itoa(a.Bits)
	}
	return a.Network.String()
}

// Plugins is what siproxd's plugins can be told.
type Plugins struct {
	Load []string // the files of load_plugin

	ShortdialKey     string   // its first character begins a short number, its length is that of one
	ShortdialEntries []string // what is dialled instead of number 1, 2, ...

	Prefix string // is put in front of called numbers

	// A called URI that matches a pattern (extended regular expression) is
	// replaced; the three lists go together.
	RegexNames, RegexPatterns, RegexReplacements []string

	// The same for message bodies.
	BodyNames, BodyPatterns, BodyReplacements []string

	DefaultTarget    string // URI that gets the calls nobody is registered for
	DefaultTargetLog bool

	// A called number that matches a pattern belongs to the trunk's account; the
	// three lists go together.
	TrunkNames, TrunkAccounts, TrunkNumbers []string

	StripHeaders []string // names, or name:value

	CodecsForbidden, CodecsAllowed []string

	BlacklistFile     string
	BlacklistSimulate bool
	BlacklistDuration time.Duration // 0: for ever
	BlacklistHits     int           // 0: nobody is blocked
	BlacklistWindow   time.Duration

	StunServer string
	StunPort   uint16
	StunPeriod time.Duration

	BogusVia, DTAG, Fritzbox []Access // whose messages are mended

	StatsSyslog, StatsFile int // interval in seconds, 0: never, -1: on SIGUSR1
	StatsPath              string

	Demo string
}

// Obsolete is what siproxd can be told that has no place here.
type Obsolete struct {
	Chroot         string
	ThreadStack    int // kB
	RTPProxy       int // 0 none, 1 relay, 2 ipchains, 3 iptables
	InputDejitter  int // microseconds
	OutputDejitter int // microseconds
	DebugPort      uint16
	LogCalls       bool
	Shortdial      bool
	PluginDir      string
}
