package config

var interfaceSettings = []Setting{
	{
		Name: "if_inbound", Kind: Interfaces, Reload: true, Essential: true, Siproxd: true,
		Help:  "Interfaces of the private networks. Empty: every interface that is up and has a private address, except the outside ones.",
		field: func(c *Config) any { return &c.Inside },
	}, {
		Name: "if_outbound", Kind: Interfaces, Reload: true, Essential: true, Siproxd: true,
		Help:  "Interfaces to the public side. Empty: the interface of the IPv4 default route.",
		field: func(c *Config) any { return &c.Outside },
	}, {
		Name: "host_outbound", Kind: Host, Reload: true, Essential: true, Siproxd: true,
		Help:  "Address that SIP and SDP announce to the outside, where it is not the one of the outside interface (another NAT in front). Empty: the interface's own.",
		field: func(c *Config) any { return &c.HostOutbound },
	},
}

var signallingSettings = []Setting{
	{
		Name: "mode", Kind: Choice, Default: string(ModeBoth), Essential: true,
		Choices: []string{string(ModeTransparent), string(ModeProxy), string(ModeBoth)},
		Help:    "Which phones are served: transparent, those that send their SIP through the firewall to a provider; proxy, those that send it to the firewall itself, as with siproxd; or both. In one mode alone, the SIP of the others is not looked at.",
		field:   func(c *Config) any { return &c.Mode },
	}, {
		Name: "sip_ports", Kind: Ports, Default: "5060", Min: 1, Max: 65535, Reload: true, Essential: true,
		Help:  "UDP ports whose forwarded traffic is SIP. Traffic of an endpoint that is already known is recognised on any port.",
		field: func(c *Config) any { return &c.SIPPorts },
	}, {
		Name: "sip_accept", Kind: Choice, Default: string(AcceptPeers), Reload: true, Essential: true,
		Choices: []string{string(AcceptPeers), string(AcceptAny)},
		Help:    "From whom a phone is sent new requests: from hosts that it registered with or has sent to (and sip_peers), or from anybody.",
		field:   func(c *Config) any { return &c.SIPAccept },
	}, {
		Name: "sip_peers", Kind: Networks, Reload: true, Essential: true,
		Help:  "Outside networks that may always send requests, such as the other servers of the provider.",
		field: func(c *Config) any { return &c.SIPPeers },
	}, {
		Name: "register_expires_max", Kind: Seconds, Default: "0", Max: 86400, Reload: true, Essential: true,
		Help:  "Longest registration that a phone is granted: a longer one is lowered in its registrar's answer, so that the phone registers again that soon, as after the outside address has changed. 0: as long as the registrar says.",
		field: func(c *Config) any { return &c.RegisterExpiresMax },
	}, {
		Name: "sip_dscp", Kind: Number, Default: "0", Max: 63, Reload: true, Essential: true, Siproxd: true,
		Help:  "Code point of differentiated services (DSCP) that SIP leaves with, such as 24 (CS3). 0: what the sender has set stays.",
		field: func(c *Config) any { return &c.SIPDSCP },
	}, {
		Name: "on_failure", Kind: Choice, Default: string(FailPass), Reload: true, Essential: true,
		Choices: []string{string(FailPass), string(FailDrop)},
		Help:    "What becomes of SIP while no daemon runs: it passes unchanged (private addresses show), or it is dropped. For the first 15 seconds it is dropped in any case: a restart lets none pass, and what is lost is repeated.",
		field:   func(c *Config) any { return &c.OnFailure },
	}, {
		Name: "sip_tcp", Kind: Switch, Default: "no", Essential: true,
		Help:  "Handle SIP over TCP that phones send through the firewall, too. It is led to the daemon, which the firewall has to let in, and no rule for forwarded packets applies to it. TLS is not touched.",
		field: func(c *Config) any { return &c.SIPTCP },
	}, {
		Name: "sip_tcp_port", Kind: Port, Default: "5058", Min: 1, Max: 65535,
		Help:  "Local TCP port that these connections are led to. No other program may use it.",
		field: func(c *Config) any { return &c.SIPTCPPort },
	},
}

var mediaSettings = []Setting{
	{
		Name: "rtp_port_low", Kind: Port, Default: "7070", Min: 1024, Max: 65534, Reload: true, Essential: true, Siproxd: true,
		Help:  "First public port for media. An odd one is rounded up: RTP takes the even port of a pair, RTCP the odd one after it (RFC 3550, section 11).",
		field: func(c *Config) any { return &c.RTPPortLow },
	}, {
		Name: "rtp_port_high", Kind: Port, Default: "7999", Min: 1025, Max: 65535, Reload: true, Essential: true, Siproxd: true,
		Help:  "Last public port for media. An audio stream takes two ports of the range, a signalling endpoint one if its own port is taken.",
		field: func(c *Config) any { return &c.RTPPortHigh },
	}, {
		Name: "rtp_timeout", Kind: Seconds, Default: "300", Min: 10, Max: 86400, Reload: true, Essential: true, Siproxd: true,
		Help:  "An answered call without a packet of media in either direction is closed after this time. On hold it may be silent for two hours.",
		field: func(c *Config) any { return &c.RTPTimeout },
	}, {
		Name: "rtp_dscp", Kind: Number, Default: "0", Max: 63, Reload: true, Essential: true, Siproxd: true,
		Help:  "Code point of differentiated services (DSCP) that media leaves with, in both directions, such as 46 (EF). 0: what the sender has set stays.",
		field: func(c *Config) any { return &c.RTPDSCP },
	}, {
		Name: "media_source", Kind: Choice, Default: string(MediaSignalled), Reload: true, Essential: true,
		Choices: []string{string(MediaSignalled), string(MediaAny)},
		Help:    "Who may send media in: the addresses that the far side's SDP names, or anybody.",
		field:   func(c *Config) any { return &c.MediaSource },
	}, {
		Name: "media_hosts", Kind: Networks, Reload: true,
		Help:  "Inside addresses to which any inside SIP endpoint may direct media, such as the media gateways of a PBX. Without it an endpoint gets media for its own address only.",
		field: func(c *Config) any { return &c.MediaHosts },
	}, {
		Name: "hairpin", Kind: Choice, Default: string(HairpinDirect), Reload: true, Essential: true,
		Choices: []string{string(HairpinDirect), string(HairpinRouter)},
		Help:    "Media between two inside phones that call each other through an outside server: straight from one to the other, or through the firewall.",
		field:   func(c *Config) any { return &c.Hairpin },
	},
}
