package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("test.conf", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// alike reports whether two configurations say the same, wherever it comes from.
func alike(a, b *Config) bool {
	x, y := *a, *b
	x.File, x.origins, x.Warnings = "", nil, nil
	y.File, y.origins, y.Warnings = "", nil, nil
	return reflect.DeepEqual(x, y)
}

func TestDefault(t *testing.T) {
	want := &Config{
		SIPPorts:   []uint16{5060},
		RTPPortLow: 7070, RTPPortHigh: 7999,
		RTPTimeout:  300 * time.Second,
		MediaSource: MediaSignalled,
		Hairpin:     HairpinDirect,
		SIPAccept:   AcceptPeers,
		OnFailure:   FailPass,
		StateDir:    "/run/sipnatd",
		QueueNum:    5060, Queues: 1,
		SilenceLog: 1,
		Mode:       ModeBoth,
		SIPTCPPort: 5058,
		ListenPort: 5060,
		Proxy: Proxy{
			DefaultExpires: time.Hour, TCPTimeout: 300 * time.Second, TCPConnectTimeout: 500 * time.Millisecond,
		},
		Plugins: Plugins{
			BlacklistFile: "/var/lib/siproxd/blacklist.sqlite", BlacklistDuration: time.Hour, BlacklistWindow: 30 * time.Second,
			StunPort: 3478, StunPeriod: 300 * time.Second,
		},
		Obsolete: Obsolete{RTPProxy: 1},
	}
	if got := Default(); !alike(got, want) {
		t.Errorf("Default() = %+v, want %+v", got, want)
	}
	if got := parse(t, "# nothing but a comment\n\n \t\n"); !alike(got, want) || got.Warnings != nil {
		t.Errorf("an empty file gives %+v, want %+v", got, want)
	}
}

func TestParseEverySetting(t *testing.T) {
	const text = "\ufeff" + `# everything, in every way to write it
if_inbound	= eth0, eth1 br-lan	# a comment
if_outbound="ppp0"
host_outbound = 192.0.2.1
mode = proxy
sip_ports = 5060,5062 5060
sip_accept = any
sip_peers = 198.51.100.0/24
register_expires_max = 120
sip_dscp = 24
on_failure = drop
sip_tcp = yes
sip_tcp_port = 5070
rtp_port_low = 10000
  rtp_port_high = 19999  
rtp_timeout = 60
rtp_dscp = 0x2e
media_source = any
media_hosts = 10.0.0.7, '10.1.2.3/16'
hairpin = router
daemonize = 1
user = nobody
pid_file = /run/x.pid
state_dir = /run/x
queue_num = 0
queues = 4
silence_log = 2
debug_level = sip,rtp 0x1
`
	want := Default()
	want.Inside, want.Outside = []string{"eth0", "eth1", "br-lan"}, []string{"ppp0"}
	want.HostOutbound = "192.0.2.1"
	want.Mode = ModeProxy
	want.SIPPorts = []uint16{5060, 5062}
	want.SIPAccept = AcceptAny
	want.SIPPeers = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	want.SIPDSCP, want.RTPDSCP = 24, 46
	want.OnFailure = FailDrop
	want.SIPTCP, want.SIPTCPPort = true, 5070
	want.RTPPortLow, want.RTPPortHigh = 10000, 19999
	want.RTPTimeout = time.Minute
	want.RegisterExpiresMax = 2 * time.Minute
	want.MediaSource = MediaAny
	want.MediaHosts = []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32"), netip.MustParsePrefix("10.1.0.0/16")}
	want.Hairpin = HairpinRouter
	want.Daemonize, want.User, want.PIDFile, want.StateDir = true, "nobody", "/run/x.pid", "/run/x"
	want.QueueNum, want.Queues = 0, 4
	want.SilenceLog, want.Debug = 2, DebugSIP|DebugRTP|DebugBabble
	got := parse(t, text)
	if !alike(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, w := range got.Warnings {
		if !strings.Contains(w, " has no effect with mode = proxy: ") {
			t.Error(w)
		}
	}
	if len(got.Warnings) != 6 {
		t.Errorf("it says %q", got.Warnings)
	}
	if got := parse(t, strings.ReplaceAll(text, "\n", "\r\n")); !alike(got, want) {
		t.Errorf("with CRLF: got  %+v\nwant %+v", got, want)
	}
	for _, s := range settings {
		if s.Effect == Effective && !strings.Contains(text, s.Name) {
			t.Errorf("the test does not set %s", s.Name)
		}
	}
}

func TestParseValues(t *testing.T) {
	for _, tt := range []struct {
		line  string
		field func(*Config) any
		want  any
	}{
		{"if_inbound =", func(c *Config) any { return len(c.Inside) }, 0},
		{"if_inbound = eth0.10", func(c *Config) any { return c.Inside }, []string{"eth0.10"}},
		{"if_inbound = a#b # c", func(c *Config) any { return c.Inside }, []string{"a#b"}},
		{"host_outbound = voice.example.org", func(c *Config) any { return c.HostOutbound }, "voice.example.org"},
		{"host_outbound = 3com.example.", func(c *Config) any { return c.HostOutbound }, "3com.example."},
		{"host_outbound =", func(c *Config) any { return c.HostOutbound }, ""},
		{"host_outbound = # none", func(c *Config) any { return c.HostOutbound }, ""},
		{"rtp_port_high = 7080", func(c *Config) any { return c.RTPPortHigh }, uint16(7080)},
		{"daemonize = on", func(c *Config) any { return c.Daemonize }, true},
		{"daemonize = FALSE", func(c *Config) any { return c.Daemonize }, false},
		{"sip_domains = Foo.Bar.org., b.example foo.bar.org", func(c *Config) any { return c.Proxy.Domains }, []string{"foo.bar.org", "b.example"}},
		{"user = 65534", func(c *Config) any { return c.User }, "65534"},
		{"debug_level = -1", func(c *Config) any { return c.Debug }, DebugAll},
		{"debug_level = 0x00000204", func(c *Config) any { return c.Debug }, DebugSIP | DebugRTP},
		{"debug_level = 010", func(c *Config) any { return c.Debug }, DebugReg},
		{"debug_level = none", func(c *Config) any { return c.Debug }, DebugMask(0)},
		{"debug_level = All", func(c *Config) any { return c.Debug }, DebugAll},
	} {
		t.Run(tt.line, func(t *testing.T) {
			if got := tt.field(parse(t, tt.line)); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string // each error, in order
	}{
		{"unknown", "\nrtp_portlow = 7070", []string{`test.conf:2: rtp_portlow = 7070: unknown setting; did you mean rtp_port_low?`}},
		{"unknown, swapped letters", "hiarpin = direct", []string{`test.conf:1: hiarpin = direct: unknown setting; did you mean hairpin?`}},
		{"unknown, letter case", "User = nobody", []string{`test.conf:1: User = nobody: unknown setting; did you mean user?`}},
		{"unknown, like siproxd's", "hosts_allow_ref = 10.0.0.0/8", []string{`test.conf:1: hosts_allow_ref = 10.0.0.0/8: unknown setting; did you mean hosts_allow_reg?`}},
		{"unknown, like nothing", "zzzzzz = 1", []string{`test.conf:1: zzzzzz = 1: unknown setting`}},
		{"unknown, control characters", "a\x1b[2J = \x07", []string{`test.conf:1: "a\x1b[2J" = "\a": unknown setting`}},
		{"no equals sign", "rtp_timeout 300", []string{`test.conf:1: rtp_timeout 300: a line is "name = value", a comment starts with #`}},
		{"no name", " = 5", []string{`test.conf:1: = 5: a name is missing before the =`}},
		{"no value", "rtp_timeout =", []string{`test.conf:1: rtp_timeout: a value is missing; wanted: 10 to 86400 seconds`}},
		{"no number", "rtp_timeout = 5m", []string{`test.conf:1: rtp_timeout = 5m: "5m" is not a number of seconds; did you mean 300?; wanted: 10 to 86400 seconds`}},
		{"out of range", "queues = 65", []string{`test.conf:1: queues = 65: 65 is out of range; the nearest is 64; wanted: 1 to 64`}},
		{"overflow", "queue_num = 99999999999999999999", []string{`test.conf:1: queue_num = 99999999999999999999: 99999999999999999999 is out of range; the nearest is 65535; wanted: 0 to 65535`}},
		{"two values", "queues = 1 2", []string{`test.conf:1: queues = 1 2: one value is wanted, not 2; wanted: 1 to 64`}},
		{"choice", "media_source = signaled", []string{`test.conf:1: media_source = signaled: "signaled" is none of signalled, any; did you mean signalled?; wanted: signalled or any`}},
		{"switch", "daemonize = perhaps", []string{`test.conf:1: daemonize = perhaps: "perhaps" is neither yes nor no (1, 0, true, false, on, off are known too); wanted: yes or no`}},
		{"long interface", "if_inbound = abcdefghijklmnop", []string{`test.conf:1: if_inbound = abcdefghijklmnop: "abcdefghijklmnop" cannot be an interface name: longer than 15 characters; wanted: interface names, separated by commas or spaces`}},
		{"open quote", `if_inbound = "eth0`, []string{`test.conf:1: if_inbound = "eth0: the quote " is not closed; wanted: interface names, separated by commas or spaces`}},
		{"after quote", `user = "no"body`, []string{`test.conf:1: user = "no"body: text follows the closing quote "; wanted: a user's name or number`}},
		{"two in one list", "sip_peers = 1.2.3, 192.0.2.0/24, ::1", []string{`test.conf:1: sip_peers = 1.2.3, 192.0.2.0/24, ::1: "1.2.3" is neither an IPv4 address nor a network such as 192.0.2.0/24; "::1": IPv6 is not supported yet; wanted: IPv4 addresses and networks such as 192.0.2.0/24, separated by commas or spaces`}},
		{"half an address", "host_outbound = 192.0.2", []string{`test.conf:1: host_outbound = 192.0.2: "192.0.2" is not a complete IPv4 address; wanted: an IPv4 address or a host name`}},
		{"loopback", "host_outbound = 127.0.0.1", []string{`test.conf:1: host_outbound = 127.0.0.1: "127.0.0.1" cannot be announced; wanted: an IPv4 address or a host name`}},
		{"debug class", "debug_level = spi", []string{`test.conf:1: debug_level = spi: "spi" is none of ` + strings.Join(debugNames(), ", ") + `; did you mean sip?; wanted: a number such as 0x204, or classes: ` + strings.Join(debugNames(), ", ")}},
		{"no room", "rtp_port_high = 7060\nrtp_port_low = 7070", []string{`test.conf:2: rtp_port_low = 7070, rtp_port_high = 7060: the range has no room for one pair of RTP and RTCP ports; the nearest rtp_port_high is 7071`}},
		{"both sides", "if_inbound = eth0\nif_outbound = eth1,eth0", []string{`test.conf:2: eth0 is in if_inbound and in if_outbound: an interface is on one side`}},
		{"one port for two", "sip_tcp_port = 5060\nsip_tcp = yes", []string{`test.conf:2: sip_tcp_port = 5060 is sip_listen_port, too: the proxy mode listens there for TCP as well`}},
		{"an address of the firewall", "sip_domains = foo.bar.org 192.0.2.1", []string{`test.conf:1: sip_domains = foo.bar.org 192.0.2.1: "192.0.2.1" is an address: those of the firewall are its own without being named; wanted: host names, separated by commas or spaces`}},
		{"last queue", "queue_num = 65535\nqueues = 2", []string{`test.conf:2: queue_num = 65535, queues = 2: the last queue would be 65536, and there is none above 65535; the nearest queue_num is 65534`}},
		{"all together, by line", "rtp_port_low = 7.5\nnonsense\nqueues = 0\nqueue_num = 65535\nuserr = x", []string{
			`test.conf:1: rtp_port_low = 7.5: "7.5" is not a number; wanted: 1024 to 65534`,
			`test.conf:2: nonsense: a line is "name = value", a comment starts with #`,
			`test.conf:3: queues = 0: 0 is out of range; the nearest is 1; wanted: 1 to 64`,
			`test.conf:5: userr = x: unknown setting; did you mean user?`,
		}},
		{"pattern", "plugin_regex_pattern = ^sip:(0", []string{`test.conf:1: plugin_regex_pattern = ^sip:(0: not an extended regular expression: missing closing ); wanted: an extended regular expression`}},
		{"line too long", "user = nobody\n" + strings.Repeat("x", maxLine+1), []string{`test.conf:2: the line is longer than 65536 bytes`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("test.conf", strings.NewReader(tt.text))
			var errs Errors
			if c != nil || !errors.As(err, &errs) {
				t.Fatalf("got %v, %v, want errors", c, err)
			}
			if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestLastLineCounts(t *testing.T) {
	c := parse(t, "rtp_timeout = 60\nqueues = 2\nrtp_timeout = 70")
	want := []string{"test.conf:3: rtp_timeout is set again, line 1 has no effect"}
	if c.RTPTimeout != 70*time.Second || !slices.Equal(c.Warnings, want) {
		t.Errorf("rtp_timeout %v, warnings %q; want 70s, %q", c.RTPTimeout, c.Warnings, want)
	}
}

func TestLoadWithoutFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
}

// What the table says of a setting must be enough to explain it to people.
func TestSettingsAreComplete(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range Settings() {
		if s.Help == "" || s.Accepts() == "" || s.field == nil || seen[s.Name] {
			t.Errorf("%s: incomplete or twice: %+v", s.Name, s)
		}
		seen[s.Name] = true
		if s.Effect != Effective && s.Fate == "" || s.Effect == NoEffect && (s.Essential || s.Reload) {
			t.Errorf("%s: has no effect: %+v", s.Name, s)
		}
		switch s.Kind {
		case Port, Ports, Number, Seconds, Milliseconds:
			if s.Min >= s.Max {
				t.Errorf("%s: no range", s.Name)
			}
		case Choice, Mask:
			if len(s.Choices) < 2 {
				t.Errorf("%s: no choices", s.Name)
			}
		}
	}
}

func TestParseDebug(t *testing.T) {
	for _, m := range []DebugMask{0, DebugAll, DebugSIP, DebugSIP | DebugRTPBabble, DebugBabble | 1<<20} {
		if got, err := ParseDebug(m.String()); err != nil || got != m {
			t.Errorf("ParseDebug(%q) = %v, %v", m.String(), got, err)
		}
	}
	for _, wrong := range []string{"", "-2", "0x100000000", "sipp", "'sip"} {
		if got, err := ParseDebug(wrong); err == nil {
			t.Errorf("ParseDebug(%q) = %v, want an error", wrong, got)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"user", "user", 0}, {"userr", "user", 1},
		{"suer", "user", 1}, {"queue", "queues", 1}, {"hairpin", "hiarpni", 2}, {"kitten", "sitting", 3},
	} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
