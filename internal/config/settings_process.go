package config

var processSettings = []Setting{
	{
		Name: "daemonize", Kind: Switch, Default: "no", Essential: true, Siproxd: true,
		Help:  "Go to the background once everything is ready.",
		field: func(c *Config) any { return &c.Daemonize },
	}, {
		Name: "user", Kind: Account, Essential: true, Siproxd: true,
		Help:  "Unprivileged user to become after the start, keeping only CAP_NET_ADMIN. Empty: stay as started.",
		field: func(c *Config) any { return &c.User },
	}, {
		Name: "pid_file", Kind: Path, Siproxd: true,
		Help:  "File that the daemon writes its process number to. Empty: none.",
		field: func(c *Config) any { return &c.PIDFile },
	}, {
		Name: "state_dir", Kind: Path, Default: "/run/sipnatd",
		Help:  "Directory, made if it is missing, for what the next start must know of running calls and registrations. It belongs in memory, as /run is: it has to outlive the daemon, not the machine. Empty: none; calls then keep their media over a restart, for a while, but no more than that.",
		field: func(c *Config) any { return &c.StateDir },
	}, {
		Name: "queue_num", Kind: Number, Default: "5060", Max: 65535,
		Help:  "First NFQUEUE number. No other program may use it.",
		field: func(c *Config) any { return &c.QueueNum },
	}, {
		Name: "queues", Kind: Number, Default: "1", Min: 1, Max: 64,
		Help:  "How many queues, from queue_num on, share the SIP traffic. One is enough for thousands of messages a second.",
		field: func(c *Config) any { return &c.Queues },
	},
}

var logSettings = []Setting{
	{
		Name: "silence_log", Kind: Number, Default: "1", Max: 4, Reload: true, Essential: true, Siproxd: true,
		Help:  "What the log leaves out: 0 nothing, 1 debug messages in the background (a terminal shows them), 2 informational messages too, 3 warnings too, 4 everything.",
		field: func(c *Config) any { return &c.SilenceLog },
	}, {
		Name: "debug_level", Kind: Mask, Default: "none", Choices: debugNames(), Reload: true, Essential: true, Siproxd: true,
		Help:  "Classes of debug messages to write, as names or as siproxd's numeric mask (-1: all). In the background they are written with silence_log = 0.",
		field: func(c *Config) any { return &c.Debug },
	},
}
