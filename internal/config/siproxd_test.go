package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// generations are files as users of siproxd have them, from its oldest version to
// its last.
var generations = []string{"0.3", "0.5", "0.7", "0.8"}

func generation(version string) string { return filepath.Join("testdata", "siproxd-"+version+".conf") }

// An existing file works as it is: there are no errors, each line either has its
// effect or is answered, by one line that names it, and what is effective is what
// siproxd would make of it.
func TestSiproxdFiles(t *testing.T) {
	for _, version := range generations {
		t.Run(version, func(t *testing.T) {
			path := generation(version)
			c, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			answered := make(map[string]bool)
			for i, line := range strings.Split(string(text), "\n") {
				name, _, found := strings.Cut(line, "=")
				name = strings.TrimSpace(name)
				if !found || name[0] == '#' {
					continue
				}
				if newer, ok := olderNames[name]; ok {
					name = newer
				}
				s, ok := Lookup(name)
				if !ok {
					t.Errorf("%s is not known", name)
					continue
				}
				first := !answered[name]
				answered[name] = true
				at := position(path, i+1) + ": " + name + " "
				count := 0
				for _, w := range c.Warnings {
					if strings.HasPrefix(w, at) && strings.Contains(w, " has no effect: ") {
						count++
					}
				}
				want := s.Effect == NoEffect && first || name == "proxy_auth_pwfile" && c.Proxy.AuthRealm == ""
				if name == "load_plugin" {
					_, file, _ := strings.Cut(line, "=")
					want = answerPlugin(strings.TrimSpace(file)) != ""
				}
				if count != 1 && want || count != 0 && !want {
					t.Errorf("line %d: %s is answered %d times:\n%s", i+1, name, count, strings.Join(c.Warnings, "\n"))
				}
			}
		})
	}
}

func TestSiproxdValues(t *testing.T) {
	load := func(version string) *Config {
		c, err := Load(generation(version))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	check := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
	network := func(v string) Access {
		p := netip.MustParsePrefix(v)
		return Access{Network: p, Bits: p.Bits()}
	}
	c := load("0.3")
	check("sides", [][]string{c.Inside, c.Outside}, [][]string{{"eth0"}, {"ippp0"}})
	check("masks", [][]string{c.Proxy.MaskHosts, c.Proxy.MaskedHosts}, [][]string{{"192.168.1.1"}, {"voice.example.org"}})
	check("realm", c.Proxy.AuthRealm, "home")
	check("media", []uint16{c.RTPPortLow, c.RTPPortHigh}, []uint16{7070, 7080})

	c = load("0.5")
	check("an odd port", c.RTPPortLow, uint16(7072))
	check("debug", c.Debug, DebugSIP|DebugRTP)
	check("access", c.Proxy.DenySIP, []Access{network("203.0.113.0/24"), {Name: "scanner.example.com", Bits: 32}})
	check("domains", c.Proxy.OutboundDomains, []string{"one.example", "two.example"})
	check("domains' hosts", c.Proxy.OutboundDomainHosts, []string{"proxy.one.example", "198.51.100.7"})
	check("domains' ports", c.Proxy.OutboundDomainPorts, []uint16{5060, 0})

	c = load("0.7")
	check("debug", c.Debug, DebugAll)
	check("short numbers", c.Plugins.ShortdialEntries, []string{"17474743246", "17474745000"})
	check("short key", c.Plugins.ShortdialKey, "*00")
	check("one interface", [][]string{c.Inside, c.Outside}, [][]string{{"eth0"}, {"eth0"}})

	c = load("0.8")
	check("a label", c.Outside, []string{"eth0.7"})
	check("marks", []uint8{c.SIPDSCP, c.RTPDSCP}, []uint8{24, 46})
	check("debug", c.Debug, DebugMask(0x2fff))
	check("proxy", c.Proxy, Proxy{
		AllowRegister: []Access{network("192.168.1.0/24")}, AllowSIP: []Access{network("198.51.100.0/24"), network("192.0.2.0/24")},
		DenySIP:          []Access{network("203.0.113.0/24")},
		RegistrationFile: "/var/lib/siproxd/siproxd_registrations", Autosave: 300 * time.Second, DefaultExpires: 600 * time.Second,
		AuthRealm: "The realm of home", AuthPassword: "pass word#1", AuthFile: "/etc/siproxd_passwd.cfg",
		MaskHosts: []string{"10.0.1.1"}, MaskedHosts: []string{"my.public.host"},
		OutboundHost: "my.outboundproxy.org", OutboundPort: 5060,
		OutboundDomains: []string{"freenet.example"}, OutboundDomainHosts: []string{"proxy.freenet.example"}, OutboundDomainPorts: []uint16{5060},
		UserAgent:  "My own phone (v1)",
		TCPTimeout: 600 * time.Second, TCPConnectTimeout: 500 * time.Millisecond, TCPKeepalive: 20 * time.Second,
	})
	check("trunk", []string{c.Plugins.TrunkNames[0], c.Plugins.TrunkAccounts[0], c.Plugins.TrunkNumbers[0]},
		[]string{"Trunk, 555-123100 ... 555-123112", "sip:user@sip.example.org", "^555123(10[0-9]|11[012])$"})
	check("replacements", c.Plugins.RegexReplacements, []string{`\10041\2`, `\1+`})
	check("removed headers", c.Plugins.StripHeaders, []string{"Allow", "Supported:100rel"})
	check("counters", []int{c.Plugins.StatsSyslog, c.Plugins.StatsFile}, []int{300, -1})
}

// Every directive that siproxd had from 0.3 to 0.8 is a setting.
func TestEveryDirective(t *testing.T) {
	const all = `if_inbound if_outbound host_outbound hosts_allow_reg hosts_allow_sip hosts_deny_sip
		sip_listen_port daemonize silence_log user chrootjail thread_stack_size registration_file
		autosave_registrations pid_file rtp_proxy_enable rtp_port_low rtp_port_high rtp_timeout rtp_dscp
		sip_dscp rtp_input_dejitter rtp_output_dejitter default_expires tcp_timeout tcp_connect_timeout
		tcp_keepalive proxy_auth_realm proxy_auth_passwd proxy_auth_pwfile debug_level debug_port mask_host
		masked_host ua_string use_rport obscure_loops outbound_proxy_host outbound_proxy_port
		outbound_domain_name outbound_domain_host outbound_domain_port plugindir load_plugin log_calls pi_shortdial
		plugin_demo_string plugin_shortdial_akey plugin_shortdial_entry plugin_defaulttarget_target
		plugin_defaulttarget_log plugin_fix_bogus_via_networks plugin_fix_DTAG_networks
		plugin_fix_fbox_anoncall_networks plugin_stun_server plugin_stun_port plugin_stun_period plugin_prefix_akey
		plugin_regex_desc plugin_regex_pattern plugin_regex_replace plugin_regex_body_desc plugin_regex_body_pattern
		plugin_regex_body_replace plugin_stripheader_remove plugin_codecfilter_blacklist plugin_codecfilter_whitelist
		plugin_siptrunk_name plugin_siptrunk_account plugin_siptrunk_numbers_regex plugin_blacklist_dbpath
		plugin_blacklist_simulate plugin_blacklist_duration plugin_blacklist_hitcount plugin_blacklist_register_window
		plugin_stats_to_syslog plugin_stats_to_file plugin_stats_filename`
	names := strings.Fields(all)
	for _, s := range settings {
		if theirs := slices.Contains(names, s.Name); theirs != s.Siproxd {
			t.Errorf("%s: siproxd has it: %t, it is said to: %t", s.Name, theirs, s.Siproxd)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return name == s.Name })
	}
	if len(names) > 0 {
		t.Errorf("not known: %q", names)
	}
}

// What an existing file may say and should not is done as siproxd does it, and
// said.
func TestSiproxdLeniency(t *testing.T) {
	for _, tt := range []struct {
		text  string
		field func(*Config) any
		want  any
		says  string
	}{
		{"rtp_port_low = 7071", func(c *Config) any { return c.RTPPortLow }, uint16(7072),
			"1: rtp_port_low = 7071 is rounded up to 7072: RTP takes the even port of a pair and RTCP the odd one after it (RFC 3550, section 11)"},
		{"rtp_port_low = 7070\nrtp_port_high = 7070", func(c *Config) any { return c.RTPPortHigh }, uint16(7071),
			"2: rtp_port_high = 7070 is raised to 7071: there must be room for one pair of RTP and RTCP ports"},
		{"rtp_port_low = 5000\nrtp_port_high = 5999", func(c *Config) any { return c.RTPPortLow }, uint16(5000),
			"2: the SIP port 5060 is one of the media ports, 5000 to 5999: it is left out of them"},
		{"if_inbound = eth0:1", func(c *Config) any { return c.Inside }, []string{"eth0"},
			`1: if_inbound = eth0:1: "eth0:1" is the label of an address, not an interface: "eth0" is taken; host_outbound can name the address`},
		{"if_inbound = eth0\nif_outbound = eth0", func(c *Config) any { return c.Outside }, []string{"eth0"},
			"2: eth0 is in if_inbound and in if_outbound, as siproxd has it beside a NAT router: nothing is forwarded there for sipnatd to rewrite, and its proxy mode needs an interface of either side"},
		{"rtp_timeout = 60 seconds", func(c *Config) any { return c.RTPTimeout }, time.Minute,
			"1: rtp_timeout = 60 seconds: only 60 counts, as in siproxd: a value ends at the first space"},
		{"pid_file = siproxd.pid", func(c *Config) any { return c.PIDFile }, "siproxd.pid",
			"1: pid_file = siproxd.pid is taken from the directory that the daemon is started in"},
		{"mask_host = a.example", func(c *Config) any { return c.Proxy.MaskHosts }, []string{"a.example"},
			"1: there are 1 mask_host, 0 masked_host: they go together, the first with the first and so on"},
		{"sip_listen_port = 7074", func(c *Config) any { return c.ListenPort }, uint16(7074),
			"1: sip_listen_port = 7074 is one of the media ports, 7070 to 7999: it is left out of them"},
		{"proxy_auth_realm = home", func(c *Config) any { return c.Proxy.AuthRealm }, "home",
			"1: proxy_auth_realm has phones authenticate, and there is neither proxy_auth_pwfile nor proxy_auth_passwd: no phone can register"},
		{"proxy_auth_pwfile = /etc/siproxd_passwd.cfg", func(c *Config) any { return c.Proxy.AuthFile }, "/etc/siproxd_passwd.cfg",
			"1: proxy_auth_pwfile has no effect: it needs proxy_auth_realm"},
		{"autosave_registrations = 60", func(c *Config) any { return c.Proxy.Autosave }, time.Minute,
			"1: autosave_registrations has no effect: it needs registration_file"},
		{"outbound_proxy_port = 5070", func(c *Config) any { return c.Proxy.OutboundPort }, uint16(5070),
			"1: outbound_proxy_port has no effect: it needs outbound_proxy_host"},
		{"pi_shortdial_akey = *00", func(c *Config) any { return c.Plugins.ShortdialKey }, "*00",
			"1: pi_shortdial_akey is called plugin_shortdial_akey now"},
		{"plugin_log_calls = 1", func(c *Config) any { return c.Plugins.Load }, []string(nil),
			"1: plugin_log_calls has no effect: there are no plugins, and siproxd's have no such option"},
		{"plugin_stun_sever = x", func(c *Config) any { return c.Plugins.StunServer }, "",
			"1: plugin_stun_sever has no effect: there are no plugins, and siproxd's have no such option; did you mean plugin_stun_server?"},
		{"load_plugin = /usr/lib/plugin_orange.la", func(c *Config) any { return c.Plugins.Load }, []string{"/usr/lib/plugin_orange.la"},
			"1: load_plugin = /usr/lib/plugin_orange.la has no effect: there are no plugins, and siproxd has none of this name"},
		{"load_plugin =", func(c *Config) any { return c.Plugins.Load }, []string(nil), ""},
	} {
		t.Run(tt.text, func(t *testing.T) {
			c := parse(t, tt.text)
			if got := tt.field(c); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if tt.says != "" && !slices.Contains(c.Warnings, "test.conf:"+tt.says) {
				t.Errorf("it does not say %q but\n%s", tt.says, strings.Join(c.Warnings, "\n"))
			}
		})
	}
}

// Every plugin of siproxd is answered with its fate when it is loaded, and its
// options with the same.
func TestPlugins(t *testing.T) {
	for _, p := range SiproxdPlugins() {
		if p.Does == "" || p.Fate == "" || p.Effect == Effective {
			t.Errorf("incomplete: %+v", p)
		}
		for _, file := range []string{"plugin_" + p.Name + ".la", "/usr/lib/siproxd/plugin_" + p.Name + ".so"} {
			c := parse(t, "load_plugin = "+file+"\nload_plugin = "+file)
			switch {
			case p.Effect == InProxyMode && len(c.Warnings) == 0:
			case p.Effect == NoEffect && len(c.Warnings) == 2 && strings.HasSuffix(c.Warnings[0], p.Fate) &&
				strings.HasPrefix(c.Warnings[1], "test.conf:2: load_plugin = "+file+" has no effect: "):
			default:
				t.Errorf("%s: it says %q", file, c.Warnings)
			}
		}
	}
}

// In a file that loads plugins only what it loads has an effect: siproxd's example
// sets options of many others.
func TestPluginsNotLoaded(t *testing.T) {
	const options = "plugin_prefix_akey = 0\nplugin_shortdial_akey = *00\nplugin_shortdial_entry = 17474743246\nplugin_blacklist_hitcount = 3\n"
	for _, tt := range []struct {
		name, text              string
		prefix, short, hitcount bool
	}{
		{"no plugins are spoken of", "", true, true, true},
		{"none is loaded", "plugindir = /usr/lib/siproxd/\n", false, false, false},
		{"one is loaded", "load_plugin = plugin_prefix.la\n", true, false, false},
		{"others are loaded", "plugindir = /x\nload_plugin = plugin_blacklist.so\nload_plugin = plugin_shortdial.so\n", false, true, true},
		{"siproxd 0.6", "pi_shortdial = 1\n", true, true, true},
		{"siproxd 0.6, off", "pi_shortdial = 0\n", true, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parse(t, tt.text+options)
			if got := c.Plugins.Prefix != ""; got != tt.prefix {
				t.Errorf("prefix: %t", got)
			}
			if got := c.Plugins.ShortdialKey != "" && len(c.Plugins.ShortdialEntries) > 0; got != tt.short {
				t.Errorf("short numbers: %t", got)
			}
			if got := c.Plugins.BlacklistHits == 3; got != tt.hitcount {
				t.Errorf("hits: %d", c.Plugins.BlacklistHits)
			}
			for name, effect := range map[string]bool{"plugin_prefix_akey": tt.prefix, "plugin_shortdial_entry": tt.short, "plugin_blacklist_hitcount": tt.hitcount} {
				said := slices.ContainsFunc(c.Warnings, func(w string) bool {
					return strings.Contains(w, ": "+name+" has no effect: no load_plugin names plugin_")
				})
				if said == effect {
					t.Errorf("%s: effect %t; it says %q", name, effect, c.Warnings)
				}
			}
		})
	}
}

// Without the proxy mode its settings are answered with what does their job, once
// each, wherever the mode stands.
func TestTransparent(t *testing.T) {
	const text = "proxy_auth_realm = home\nmask_host = 10.0.0.1\nmask_host = 10.0.0.2\nload_plugin = plugin_prefix.la\nplugin_prefix_akey = 0\nplugin_shortdial_akey = *0\n"
	c := parse(t, text+"masked_host = a.example\nmasked_host = b.example\nmode = transparent")
	var want []string
	for line, name := range map[int]string{1: "proxy_auth_realm", 3: "mask_host", 4: "load_plugin", 5: "plugin_prefix_akey", 6: "plugin_shortdial_akey", 8: "masked_host"} {
		s, _ := Lookup(name)
		want = append(want, position("test.conf", line)+": "+name+" has no effect with mode = transparent: "+s.Fate)
	}
	slices.Sort(want)
	if !slices.Equal(c.Warnings, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(c.Warnings, "\n"), strings.Join(want, "\n"))
	}
}

// The passwords of all stay in the file.
func TestSecrets(t *testing.T) {
	c := parse(t, "proxy_auth_passwd = sesame")
	for _, v := range c.Values() {
		if strings.Contains(v.Text, "sesame") {
			t.Errorf("%s = %s", v.Name, v.Text)
		}
	}
	for _, change := range Changes(Default(), c) {
		if change.Name != "proxy_auth_passwd" || change.Old != "" || change.New != Hidden {
			t.Errorf("%+v", change)
		}
	}
	if len(Changes(c, parse(t, "proxy_auth_passwd = open"))) != 1 {
		t.Error("its change is not seen")
	}
	for _, wrong := range []string{"proxy_auth_paswd = sesame", "proxy_auth_passwd = sesame\x01"} {
		if _, err := Parse("f", strings.NewReader(wrong)); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("got %v", err)
		}
	}
}
