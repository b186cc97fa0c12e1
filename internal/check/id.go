package check

// What the findings are about, for programs. An ID stands for a question; the level of
// its findings is the answer.
const (
	Settings      = "settings"       // what the configuration says to no effect
	User          = "user"           // user exists
	ConfigFile    = "config-file"    // the user can read the configuration again
	Capabilities  = "capabilities"   // CAP_NET_ADMIN is there
	Interface     = "interface"      // both sides have one that is up
	OutsideAddr   = "outside-addr"   // it can be reached from the Internet, or host_outbound is set
	HostOutbound  = "host-outbound"  // the name has an address, the right one
	Overlap       = "overlap"        // the networks of both sides are different ones
	DefaultRoute  = "default-route"  // it leaves through an outside interface
	Forwarding    = "ip-forward"     // the kernel forwards
	ReversePath   = "rp-filter"      // it does not drop what comes from outside
	Queue         = "queue"          // the kernel queues
	Maps          = "maps"           // it translates by maps with timeouts
	Flowtable     = "flowtable"      // it has flowtables
	Expectations  = "expectations"   // and by which helper
	Accounting    = "accounting"     // flows are counted
	SIPHelper     = "sip-helper"     // no rule assigns the kernel's own
	AutoHelper    = "auto-helper"    // nor does the kernel by itself
	ExpectTable   = "expect-table"   // it has room for the port range
	FlowTable     = "conntrack"      // the conntrack table has room
	UDPTimeout    = "udp-timeout"    // flows live long enough
	Firewall      = "firewall"       // its rules can be read
	LateChain     = "late-chain"     // nobody filters after the daemon
	Offload       = "offload"        // SIP and media stay out of flowtables
	ForwardSIP    = "forward-sip"    // SIP gets out
	ForwardReply  = "forward-reply"  // what belongs to it gets in
	ForwardMedia  = "forward-media"  // related media gets in and out
	EarlyNAT      = "early-nat"      // nobody translates before the daemon
	Masquerade    = "masquerade"     // the rest is translated, too
	PortForward   = "port-forward"   // none takes the ports for media
	LocalPorts    = "local-ports"    // no program has them
	EphemeralPort = "ephemeral-port" // none is given them by the kernel
	QueueNumber   = "queue-number"   // nobody else serves the queues
	Daemon        = "daemon"         // whether one runs
	Siproxd       = "siproxd"        // none runs
	ProxyInput    = "proxy-input"    // SIP gets to the proxy mode
	ProxyPort     = "proxy-port"     // no other program has its port
	Joined        = "sip-tcp"        // SIP over TCP gets to the daemon, and past nobody
	Domains       = "domains"        // the firewall's names lead to it
	Passwords     = "passwords"      // they can be read, and not by everybody
	Registrations = "registrations"  // their file can be written
	StateDir      = "state-dir"      // what the next start must know can be kept
	SaveRules     = "save-rules"     // nft can read what it lists
)
