package config

const fateKernel = "the kernel forwards media, which never enters the daemon"

var obsoleteSettings = []Setting{
	{
		Name: "rtp_proxy_enable", Kind: Number, Default: "1", Max: 3, Siproxd: true,
		Help:  "siproxd's media: 0 none, 1 its relay, 2 with ipchains, 3 with iptables.",
		Fate:  fateKernel,
		field: func(c *Config) any { return &c.Obsolete.RTPProxy },
	}, {
		Name: "rtp_input_dejitter", Kind: Number, Default: "0", Max: 1500000, Unit: "microseconds", Siproxd: true,
		Help:  "siproxd's buffer for media that comes in.",
		Fate:  fateKernel + ", and phones have a jitter buffer",
		field: func(c *Config) any { return &c.Obsolete.InputDejitter },
	}, {
		Name: "rtp_output_dejitter", Kind: Number, Default: "0", Max: 1500000, Unit: "microseconds", Siproxd: true,
		Help:  "siproxd's buffer for media that goes out.",
		Fate:  fateKernel + ", and phones have a jitter buffer",
		field: func(c *Config) any { return &c.Obsolete.OutputDejitter },
	}, {
		Name: "chrootjail", Kind: Path, Siproxd: true,
		Help:  "siproxd's root directory.",
		Fate:  "user drops every privilege but CAP_NET_ADMIN for good, and the service manager can take the file system away",
		field: func(c *Config) any { return &c.Obsolete.Chroot },
	}, {
		Name: "thread_stack_size", Kind: Number, Default: "0", Max: 1 << 20, Unit: "kB", Siproxd: true,
		Help:  "Stack of siproxd's threads. 0: the system's default.",
		Fate:  "stacks grow as they need to",
		field: func(c *Config) any { return &c.Obsolete.ThreadStack },
	}, {
		Name: "debug_port", Kind: Number, Default: "0", Max: 65535, Siproxd: true,
		Help:  "TCP port at which siproxd's debug messages could be read. 0: none.",
		Fate:  "debug messages go to the log, debug_level and -d choose them",
		field: func(c *Config) any { return &c.Obsolete.DebugPort },
	}, {
		Name: "log_calls", Kind: Switch, Default: "no", Siproxd: true,
		Help:  "Call log of siproxd 0.5, later its plugin logcall.",
		Fate:  fateLogcall,
		field: func(c *Config) any { return &c.Obsolete.LogCalls },
	}, {
		Name: "pi_shortdial", Kind: Switch, Default: "no", Effect: InProxyMode, Reload: true, Siproxd: true,
		Help:  "Short dialling of siproxd 0.6, later its plugin shortdial: with no in the file, its options have no effect.",
		Fate:  fateNumber,
		field: func(c *Config) any { return &c.Obsolete.Shortdial },
	},
}

// olderNames are what settings were called in older versions of siproxd.
var olderNames = map[string]string{
	"pi_shortdial_akey":  "plugin_shortdial_akey",
	"pi_shortdial_entry": "plugin_shortdial_entry",
}
