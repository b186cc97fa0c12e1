package config

// The longest time that a setting may name, in seconds: a year.
const year = 365 * 24 * 3600

// What does the job of a setting of the proxy mode with mode = transparent.
const (
	fateAccess     = "the firewall's rules and sip_accept say who may send SIP"
	fateMask       = "in forwarded SIP a phone's addresses are replaced wherever they stand"
	fateBindings   = "what a phone has registered through the firewall is kept in the kernel, which outlives the daemon"
	fateRegistrar  = "a phone behind the firewall registers with its own registrar"
	fateOutbound   = "forwarded SIP goes where the phone sends it"
	fateTCP        = "the firewall's kernel times forwarded connections out"
	fateListenPort = "sip_ports names the ports of forwarded SIP"
)

var proxySettings = []Setting{
	{
		Name: "sip_listen_port", Kind: Port, Default: "5060", Min: 1, Max: 65535, Essential: true, Siproxd: true,
		Help:  "Port of the firewall that phones register at and send to, UDP and TCP.",
		Fate:  fateListenPort,
		field: func(c *Config) any { return &c.ListenPort },
	}, {
		Name: "sip_domains", Kind: Hosts, Reload: true, Essential: true,
		Help:  "Host names that are the firewall's own, such as its name in the DNS: phones register in them, and callers outside find the phones there. host_outbound and the addresses of its interfaces are its own as well, and so is a domain that a phone registers in, once the DNS has said that its address is one of these.",
		Fate:  fateRegistrar,
		field: func(c *Config) any { return &c.Proxy.Domains },
	}, {
		Name: "hosts_allow_reg", Kind: AccessList, Reload: true, Siproxd: true,
		Help:  "Who may register, and so send SIP. Empty: everybody inside.",
		Fate:  fateAccess,
		field: func(c *Config) any { return &c.Proxy.AllowRegister },
	}, {
		Name: "hosts_allow_sip", Kind: AccessList, Reload: true, Siproxd: true,
		Help:  "Who may send SIP. Empty: everybody.",
		Fate:  fateAccess,
		field: func(c *Config) any { return &c.Proxy.AllowSIP },
	}, {
		Name: "hosts_deny_sip", Kind: AccessList, Reload: true, Siproxd: true,
		Help:  "Who may not send SIP, whatever the other lists say. Empty: nobody.",
		Fate:  fateAccess,
		field: func(c *Config) any { return &c.Proxy.DenySIP },
	}, {
		Name: "registration_file", Kind: Path, Reload: true, Essential: true, Siproxd: true,
		Help:  "File that keeps registrations while the machine starts anew, which the daemon's user can write. The packages' service has a directory for it, /var/lib/sipnatd. Empty: only state_dir keeps them.",
		Fate:  fateBindings,
		field: func(c *Config) any { return &c.Proxy.RegistrationFile },
	}, {
		Name: "autosave_registrations", Kind: Seconds, Default: "0", Max: year, Reload: true, Siproxd: true,
		Help:  "How often registration_file is written. 0: at the end only.",
		Fate:  fateBindings,
		field: func(c *Config) any { return &c.Proxy.Autosave },
	}, {
		Name: "default_expires", Kind: Seconds, Default: "3600", Min: 1, Max: year, Reload: true, Siproxd: true,
		Help:  "Lifetime of a registration that names none.",
		Fate:  fateRegistrar,
		field: func(c *Config) any { return &c.Proxy.DefaultExpires },
	}, {
		Name: "proxy_auth_realm", Kind: Text, Reload: true, Essential: true, Siproxd: true,
		Help:  "Realm in which phones must authenticate to register, at the firewall or through it. Empty: they need not.",
		Fate:  fateRegistrar,
		field: func(c *Config) any { return &c.Proxy.AuthRealm },
	}, {
		Name: "proxy_auth_passwd", Kind: Text, Secret: true, Reload: true, Siproxd: true,
		Help:  "The one password of all phones.",
		Fate:  fateRegistrar,
		field: func(c *Config) any { return &c.Proxy.AuthPassword },
	}, {
		Name: "proxy_auth_pwfile", Kind: Path, Reload: true, Essential: true, Siproxd: true,
		Help:  "File of users and passwords, which goes before proxy_auth_passwd: a line for each, the name first. The daemon's user must be able to read it, and nobody else should.",
		Fate:  fateRegistrar,
		field: func(c *Config) any { return &c.Proxy.AuthFile },
	}, {
		Name: "mask_host", Kind: Host, Repeated: true, Reload: true, Siproxd: true,
		Help:  "Host that a phone registers as, usually the firewall's inside address. It goes together with a masked_host.",
		Fate:  fateMask,
		field: func(c *Config) any { return &c.Proxy.MaskHosts },
	}, {
		Name: "masked_host", Kind: Host, Repeated: true, Reload: true, Siproxd: true,
		Help:  "Host that replaces mask_host towards the outside.",
		Fate:  fateMask,
		field: func(c *Config) any { return &c.Proxy.MaskedHosts },
	}, {
		Name: "outbound_proxy_host", Kind: Host, Reload: true, Essential: true, Siproxd: true,
		Help:  "Proxy that everything is sent to. Empty: none.",
		Fate:  fateOutbound,
		field: func(c *Config) any { return &c.Proxy.OutboundHost },
	}, {
		Name: "outbound_proxy_port", Kind: Port, Default: "0", Max: 65535, Reload: true, Siproxd: true,
		Help:  "Port of that proxy. 0: the usual one.",
		Fate:  fateOutbound,
		field: func(c *Config) any { return &c.Proxy.OutboundPort },
	}, {
		Name: "outbound_domain_name", Kind: Host, Repeated: true, Reload: true, Siproxd: true,
		Help:  "Domain with an outbound proxy of its own. It goes together with an outbound_domain_host and an outbound_domain_port.",
		Fate:  fateOutbound,
		field: func(c *Config) any { return &c.Proxy.OutboundDomains },
	}, {
		Name: "outbound_domain_host", Kind: Host, Repeated: true, Reload: true, Siproxd: true,
		Help:  "The proxy of that domain.",
		Fate:  fateOutbound,
		field: func(c *Config) any { return &c.Proxy.OutboundDomainHosts },
	}, {
		Name: "outbound_domain_port", Kind: Port, Max: 65535, Repeated: true, Reload: true, Siproxd: true,
		Help:  "Port of that proxy. 0: the usual one.",
		Fate:  fateOutbound,
		field: func(c *Config) any { return &c.Proxy.OutboundDomainPorts },
	}, {
		Name: "ua_string", Kind: Text, Reload: true, Siproxd: true,
		Help:  "What replaces the User-Agent of phones. Empty: nothing does.",
		Fate:  "in forwarded SIP a phone's User-Agent stays",
		field: func(c *Config) any { return &c.Proxy.UserAgent },
	}, {
		Name: "use_rport", Kind: Number, Default: "0", Max: 3, Reload: true, Siproxd: true,
		Help:  "Where the proxy's Via asks for rport (RFC 3581): 0 nowhere, 1 in what it sends to phones, 2 in what it sends outside, 3 in both.",
		Fate:  "in forwarded SIP rport is asked for and answered as phones and servers do it",
		field: func(c *Config) any { return &c.Proxy.Rport },
	}, {
		Name: "obscure_loops", Kind: Switch, Default: "no", Reload: true, Siproxd: true,
		Help:  "Change Call-IDs, so that a server does not take a call that comes back to it for a loop.",
		Fate:  "in forwarded SIP a Call-ID stays",
		field: func(c *Config) any { return &c.Proxy.ObscureLoops },
	}, {
		Name: "tcp_timeout", Kind: Seconds, Default: "300", Min: 1, Max: year, Siproxd: true,
		Help:  "A TCP connection that is silent for this time is closed.",
		Fate:  fateTCP,
		field: func(c *Config) any { return &c.Proxy.TCPTimeout },
	}, {
		Name: "tcp_connect_timeout", Kind: Milliseconds, Default: "500", Min: 1, Max: 600000, Siproxd: true,
		Help:  "How long a TCP connection may take to be made.",
		Fate:  fateTCP,
		field: func(c *Config) any { return &c.Proxy.TCPConnectTimeout },
	}, {
		Name: "tcp_keepalive", Kind: Seconds, Default: "0", Max: year, Siproxd: true,
		Help:  "How often a TCP connection is kept alive. 0: never.",
		Fate:  fateTCP,
		field: func(c *Config) any { return &c.Proxy.TCPKeepalive },
	},
}
