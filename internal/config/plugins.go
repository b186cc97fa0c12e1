package config

import (
	"path"
	"slices"
	"strings"
)

// A Plugin is one of those that come with siproxd, and what became of it here,
// where what they did is built in.
type Plugin struct {
	Name   string // as in plugin_NAME
	Does   string // what it does in siproxd; no full stop
	Effect Effect // InProxyMode: its options do what they did
	Fate   string // where it has none: why, or what does its job; no full stop

	options []Setting
}

const (
	fateLogcall = "the log tells of every call when it has ended, with the packets of its media"
	fateNumber  = "the number that a phone behind the firewall calls stays as it is"
	fateMessage = "of forwarded SIP only the addresses are changed"
)

// SiproxdPlugins returns the plugins of siproxd, by name.
func SiproxdPlugins() []Plugin { return slices.Clone(plugins) }

var plugins = []Plugin{
	{
		Name: "blacklist", Does: "blocks hosts whose registrations fail too often", Effect: InProxyMode,
		Fate: "who registers through the firewall is its registrar's matter",
		options: []Setting{
			{Name: "dbpath", Kind: Path, Default: "/var/lib/siproxd/blacklist.sqlite", Help: "Database of the hosts.",
				Effect: NoEffect, Fate: "who is blocked is known until the daemon ends",
				field: func(c *Config) any { return &c.Plugins.BlacklistFile }},
			{Name: "simulate", Kind: Switch, Default: "no", Help: "Only tell the log of what would be blocked.",
				field: func(c *Config) any { return &c.Plugins.BlacklistSimulate }},
			{Name: "duration", Kind: Seconds, Default: "3600", Max: year, Help: "How long a host is blocked. 0: for ever.",
				field: func(c *Config) any { return &c.Plugins.BlacklistDuration }},
			{Name: "hitcount", Kind: Number, Default: "0", Max: 1000000, Help: "Failures that block a host. 0: none do, or 10 where load_plugin names this plugin.",
				field: func(c *Config) any { return &c.Plugins.BlacklistHits }},
			{Name: "register_window", Kind: Seconds, Default: "30", Min: 1, Max: year, Help: "One failure in each such time is forgiven.",
				field: func(c *Config) any { return &c.Plugins.BlacklistWindow }},
		},
	}, {
		Name: "codecfilter", Does: "removes codecs from SDP", Effect: InProxyMode, Fate: fateMessage,
		options: []Setting{
			{Name: "blacklist", Kind: Text, Repeated: true, Help: "Codec to remove.",
				field: func(c *Config) any { return &c.Plugins.CodecsForbidden }},
			{Name: "whitelist", Kind: Text, Repeated: true, Help: "Codec to keep.",
				field: func(c *Config) any { return &c.Plugins.CodecsAllowed }},
		},
	}, {
		Name: "defaulttarget", Does: "sends calls for nobody to one phone", Effect: InProxyMode,
		Fate: "a call from outside goes to the phone whose port it comes to",
		options: []Setting{
			{Name: "target", Kind: URI, Help: "Who gets these calls.",
				field: func(c *Config) any { return &c.Plugins.DefaultTarget }},
			{Name: "log", Kind: Switch, Default: "no", Help: "Tell the log of them.",
				field: func(c *Config) any { return &c.Plugins.DefaultTargetLog }},
		},
	}, {
		Name: "demo", Does: "shows how a plugin is written", Effect: NoEffect, Fate: "it does nothing in siproxd either",
		options: []Setting{
			{Name: "string", Kind: Text, Help: "Any text.", field: func(c *Config) any { return &c.Plugins.Demo }},
		},
	}, {
		Name: "fix_DTAG", Does: "restores the Via in answers of a provider that spoils it", Effect: NoEffect,
		Fate: "a phone gets back the Via that it sent, whatever the provider made of it",
		options: []Setting{
			{Name: "networks", Kind: AccessList, Help: "The provider's servers.",
				field: func(c *Config) any { return &c.Plugins.DTAG }},
		},
	}, {
		Name: "fix_bogus_via", Does: "replaces a private address in the Via of requests from outside", Effect: NoEffect,
		Fate: "a phone answers to where a request came from (RFC 3261, section 18.2.1)",
		options: []Setting{
			{Name: "networks", Kind: AccessList, Help: "Addresses that are replaced.",
				field: func(c *Config) any { return &c.Plugins.BogusVia }},
		},
	}, {
		Name: "fix_fbox_anoncall", Does: "restores the Contact of phones that spoil it in anonymous calls", Effect: NoEffect,
		Fate: "the provider gets the Contact's user as the phone writes it, which needs no registration to match",
		options: []Setting{
			{Name: "networks", Kind: AccessList, Help: "These phones.",
				field: func(c *Config) any { return &c.Plugins.Fritzbox }},
		},
	}, {
		Name: "logcall", Does: "logs calls", Effect: NoEffect, Fate: fateLogcall,
	}, {
		Name: "prefix", Does: "puts a prefix in front of called numbers", Effect: InProxyMode, Fate: fateNumber,
		options: []Setting{
			{Name: "akey", Kind: Text, Help: "The prefix.", field: func(c *Config) any { return &c.Plugins.Prefix }},
		},
	}, {
		Name: "regex", Does: "replaces called addresses by regular expressions", Effect: InProxyMode, Fate: fateNumber,
		options: []Setting{
			{Name: "desc", Kind: Text, Repeated: true, Help: "Name of a rule. It goes together with a pattern and a replacement.",
				field: func(c *Config) any { return &c.Plugins.RegexNames }},
			{Name: "pattern", Kind: Pattern, Repeated: true, Help: "What an address is matched with, as an extended regular expression.",
				field: func(c *Config) any { return &c.Plugins.RegexPatterns }},
			{Name: "replace", Kind: Text, Repeated: true, Help: "What replaces the match.",
				field: func(c *Config) any { return &c.Plugins.RegexReplacements }},
		},
	}, {
		Name: "regex_body", Does: "changes message bodies by regular expressions", Effect: InProxyMode, Fate: fateMessage,
		options: []Setting{
			{Name: "desc", Kind: Text, Repeated: true, Help: "Name of a rule. It goes together with a pattern and a replacement.",
				field: func(c *Config) any { return &c.Plugins.BodyNames }},
			{Name: "pattern", Kind: Pattern, Repeated: true, Help: "What a body is matched with, as an extended regular expression.",
				field: func(c *Config) any { return &c.Plugins.BodyPatterns }},
			{Name: "replace", Kind: Text, Repeated: true, Help: "What replaces the match.",
				field: func(c *Config) any { return &c.Plugins.BodyReplacements }},
		},
	}, {
		Name: "shortdial", Does: "dials a whole number for a short one", Effect: InProxyMode, Fate: fateNumber,
		options: []Setting{
			{Name: "akey", Kind: Text, Help: "What short numbers look like: *00 makes them *01 to *99.",
				field: func(c *Config) any { return &c.Plugins.ShortdialKey }},
			{Name: "entry", Kind: Text, Repeated: true, Help: "What is dialled for the first short number, the second one and so on.",
				field: func(c *Config) any { return &c.Plugins.ShortdialEntries }},
		},
	}, {
		Name: "siptrunk", Does: "finds the account that a number of a trunk belongs to", Effect: InProxyMode,
		Fate: "a call from outside goes to the PBX whose port it comes to, whatever the number",
		options: []Setting{
			{Name: "name", Kind: Text, Repeated: true, Help: "Name of a trunk. It goes together with an account and with numbers.",
				field: func(c *Config) any { return &c.Plugins.TrunkNames }},
			{Name: "account", Kind: URI, Repeated: true, Help: "The account that is registered.",
				field: func(c *Config) any { return &c.Plugins.TrunkAccounts }},
			{Name: "numbers_regex", Kind: Pattern, Repeated: true, Help: "The trunk's numbers, as an extended regular expression.",
				field: func(c *Config) any { return &c.Plugins.TrunkNumbers }},
		},
	}, {
		Name: "stats", Does: "counts calls and registrations", Effect: NoEffect, Fate: "SIGUSR1 has the counters written to the log",
		options: []Setting{
			{Name: "to_syslog", Kind: Number, Default: "0", Min: -1, Max: year, Unit: "seconds", Help: "How often they are written to syslog. 0: never, -1: on SIGUSR1.",
				field: func(c *Config) any { return &c.Plugins.StatsSyslog }},
			{Name: "to_file", Kind: Number, Default: "0", Min: -1, Max: year, Unit: "seconds", Help: "How often they are written to a file. 0: never, -1: on SIGUSR1.",
				field: func(c *Config) any { return &c.Plugins.StatsFile }},
			{Name: "filename", Kind: Path, Help: "That file.", field: func(c *Config) any { return &c.Plugins.StatsPath }},
		},
	}, {
		Name: "stripheader", Does: "removes headers", Effect: InProxyMode, Fate: fateMessage,
		options: []Setting{
			{Name: "remove", Kind: Text, Repeated: true, Help: "Header to remove, or one of its values as name:value.",
				field: func(c *Config) any { return &c.Plugins.StripHeaders }},
		},
	}, {
		Name: "stun", Does: "asks a STUN server for the public address", Effect: NoEffect,
		Fate: "the public address is the outside interface's, or host_outbound where another NAT stands in front",
		options: []Setting{
			{Name: "server", Kind: Host, Help: "The server.", field: func(c *Config) any { return &c.Plugins.StunServer }},
			{Name: "port", Kind: Port, Default: "3478", Min: 1, Max: 65535, Help: "Its port.",
				field: func(c *Config) any { return &c.Plugins.StunPort }},
			{Name: "period", Kind: Seconds, Default: "300", Min: 1, Max: year, Help: "How often it is asked.",
				field: func(c *Config) any { return &c.Plugins.StunPeriod }},
		},
	},
}

// pluginSettings returns how plugins are loaded, and their options under their
// whole names.
func pluginSettings() []Setting {
	list := []Setting{
		{
			Name: "plugindir", Kind: Path, Effect: NoEffect, Siproxd: true,
			Help:  "Directory of siproxd's plugins.",
			Fate:  "there are no plugins to load",
			field: func(c *Config) any { return &c.Obsolete.PluginDir },
		}, {
			Name: "load_plugin", Kind: Path, Repeated: true, Reload: true, Siproxd: true,
			Help:  "Plugin of siproxd whose options count. They need no such line in a file that has none, nor a plugindir.",
			Fate:  "what is forwarded has no plugins",
			field: func(c *Config) any { return &c.Plugins.Load },
		},
	}
	for _, p := range plugins {
		for _, s := range p.options {
			s.Name = "plugin_" + p.Name + "_" + s.Name
			if s.Effect == Effective {
				s.Effect, s.Fate = p.Effect, p.Fate
			}
			s.Siproxd, s.Reload = true, s.Effect == InProxyMode
			list = append(list, s)
		}
	}
	return list
}

// answerPlugin is what a line that loads a plugin is answered with; nothing where the
// plugin's options do what they did.
func answerPlugin(file string) string {
	line, name := "load_plugin = "+printable(file), pluginName(file)
	i := slices.IndexFunc(plugins, func(p Plugin) bool { return p.Name == name })
	switch {
	case i < 0:
		return noEffect(line, "there are no plugins, and siproxd has none of this name")
	case plugins[i].Effect == NoEffect:
		return noEffect(line, plugins[i].Fate)
	}
	return ""
}

// pluginName is the plugin that a file of load_plugin has.
func pluginName(file string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path.Base(file), "plugin_"), ".")
	return name
}

// checkPlugins takes the options of plugins back that siproxd's file does not load:
// the example that comes with siproxd sets many, and loads few. In a file that does
// not speak of plugins an option is enough.
func (p *parser) checkPlugins() {
	c := p.config
	directory := c.Obsolete.PluginDir != ""
	_, before := p.lines["pi_shortdial"] // of siproxd 0.6, in place of load_plugin
	for _, plugin := range plugins {
		loaded := !directory && len(c.Plugins.Load) == 0
		if before && plugin.Name == "shortdial" {
			loaded = loaded && c.Obsolete.Shortdial
		}
		named := slices.ContainsFunc(c.Plugins.Load, func(file string) bool { return pluginName(file) == plugin.Name })
		if _, set := p.lines["plugin_blacklist_hitcount"]; named && plugin.Name == "blacklist" && !set {
			c.Plugins.BlacklistHits = 10
		}
		if loaded || named || plugin.Effect != InProxyMode {
			continue
		}
		for _, option := range plugin.options {
			s, _ := Lookup("plugin_" + plugin.Name + "_" + option.Name)
			if _, set := p.lines[s.Name]; !set || s.Effect != InProxyMode {
				continue
			}
			if c.Mode != ModeTransparent { // where none has one
				p.warnAt(noEffect(s.Name, "no load_plugin names plugin_"+plugin.Name), s.Name)
			}
			s.reset(c)
		}
	}
}

// reset gives a setting its default.
func (s Setting) reset(c *Config) {
	if f, ok := s.field(c).(*[]string); ok && s.Repeated {
		*f = nil
	} else if _, err := s.set(c, s.Default); err != nil {
		panic("config: the default of " + s.Name + ": " + err.Error())
	}
	delete(c.origins, s.Name)
}
