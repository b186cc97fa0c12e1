package config

import (
	"slices"
	"strings"
)

// A directive is one that siproxd (0.3 to 0.8) knows and that has no effect
// here, with what does its job.
type directive struct{ name, fate string }

// What is said of several directives.
const (
	fateProxy   = "it belongs to the registrar and proxy mode, which this version does not have; forwarded SIP needs no proxy"
	fateTCP     = "SIP over TCP is not handled yet, it passes unchanged"
	fateKernel  = "the kernel forwards RTP, it never enters the daemon"
	fateAccess  = "only traffic that the firewall forwards is looked at, so the firewall's own rules decide; see sip_accept and sip_peers for requests from outside"
	fatePlugins = "there are no plugins"
)

var siproxdDirectives = []directive{
	{"hosts_allow_reg", fateAccess},
	{"hosts_allow_sip", fateAccess},
	{"hosts_deny_sip", fateAccess},
	{"chrootjail", "after the start the process opens no files; user drops every privilege but CAP_NET_ADMIN"},
	{"thread_stack_size", "stacks grow as needed"},
	{"registration_file", "registrations are kept in the kernel's nftables maps, which outlive the daemon"},
	{"autosave_registrations", "registrations are kept in the kernel's nftables maps, which outlive the daemon"},
	{"rtp_proxy_enable", fateKernel},
	{"rtp_input_dejitter", fateKernel + ", and phones have a jitter buffer"},
	{"rtp_output_dejitter", fateKernel + ", and phones have a jitter buffer"},
	{"default_expires", fateProxy},
	{"tcp_timeout", fateTCP},
	{"tcp_connect_timeout", fateTCP},
	{"tcp_keepalive", fateTCP},
	{"proxy_auth_realm", fateProxy},
	{"proxy_auth_passwd", fateProxy},
	{"proxy_auth_pwfile", fateProxy},
	{"debug_port", "debug messages go to the log; debug_level and -d select them"},
	{"mask_host", "a phone's addresses are replaced wherever they stand, whatever it registers as"},
	{"masked_host", "a phone's addresses are replaced wherever they stand, whatever it registers as"},
	{"ua_string", "User-Agent is left as the phone writes it"},
	{"use_rport", "rport is answered and kept as RFC 3581 says"},
	{"obscure_loops", fateProxy},
	{"outbound_proxy_host", fateProxy},
	{"outbound_proxy_port", fateProxy},
	{"outbound_domain_name", fateProxy},
	{"outbound_domain_host", fateProxy},
	{"outbound_domain_port", fateProxy},
	{"plugindir", fatePlugins},
	{"load_plugin", fatePlugins},
}

// siproxdFate returns what is to be said of a directive of siproxd, and false
// for any other name.
func siproxdFate(name string) (string, bool) {
	if strings.HasPrefix(name, "plugin_") {
		return fatePlugins, true
	}
	i := slices.IndexFunc(siproxdDirectives, func(d directive) bool { return d.name == name })
	if i < 0 {
		return "", false
	}
	return siproxdDirectives[i].fate, true
}

// knownNames returns every name that a file may set.
func knownNames() []string {
	names := make([]string, 0, len(settings)+len(siproxdDirectives))
	for _, s := range settings {
		names = append(names, s.Name)
	}
	for _, d := range siproxdDirectives {
		names = append(names, d.name)
	}
	return names
}
