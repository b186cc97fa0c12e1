package rules

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// openWrt is a directory with what the script meets on a router: uci, fw4 with the zones
// lan and wan, and the places of files.
type openWrt struct {
	t   *testing.T
	dir string
}

// shipped is the firewall's configuration as OpenWrt has it, in short.
const shipped = `
config defaults
	option input 'REJECT'
	option forward 'REJECT'
config zone
	option name 'lan'
	list network 'lan'
	option forward 'ACCEPT'
config zone
	option name 'wan'
	list network 'wan'
	option masq '1'
config forwarding
	option src 'lan'
	option dest 'wan'
`

// known are helpers that fw4 knows.
const known = `
config helper
	option name 'ftp'
	option module 'nf_conntrack_ftp'
config helper
	option name 'sip'
	option module 'nf_conntrack_sip'
config helper
	option name 'tftp'
	option module 'nf_conntrack_tftp'
`

func newOpenWrt(t *testing.T, firewall string, modules ...string) *openWrt {
	o := &openWrt{t, t.TempDir()}
	program, err := os.Executable()
	must(t, err)
	for name, script := range map[string]string{
		"bin/uci":         "#!/bin/sh\n" + uciVariable + "='" + o.dir + "/config' exec '" + program + "' \"$@\"\n",
		"init.d/firewall": "#!/bin/sh\necho \"$1\" >>'" + o.dir + "/done'\n",
		"bin/nft":         "#!/bin/sh\necho nft \"$@\" >>'" + o.dir + "/done'\n",
		"bin/fw4": `#!/bin/sh
[ "$1" = -q ] && shift
case $1$2 in
deviceeth0 | devicebr-lan.3) echo lan ;;
deviceppp*) echo wan ;;
check) [ ! -e '` + o.dir + `/refuse' ] ;;
*) exit 1 ;;
esac
`,
	} {
		o.write(name, script)
		must(t, os.Chmod(filepath.Join(o.dir, name), 0o755))
	}
	for name, text := range map[string]string{"config/firewall": firewall, "fw4/helpers": known} {
		b, err := json.Marshal(parseUCI(text))
		must(t, err)
		o.write(name, string(b))
	}
	for _, m := range modules {
		must(t, os.MkdirAll(filepath.Join(o.dir, "module", m), 0o755))
	}
	return o
}

func (o *openWrt) write(name, content string) {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	must(o.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(o.t, os.WriteFile(path, []byte(content), 0o644))
}

// run gives the router a script, and returns what that says.
func (o *openWrt) run(script string) (string, error) {
	o.t.Helper()
	script = strings.NewReplacer(
		"/etc/nftables.d", o.dir+"/nftables.d",
		"/etc/init.d", o.dir+"/init.d",
		"/sys/module", o.dir+"/module",
		"/lib/modules", o.dir+"/lib",
		"/usr/share/firewall4", o.dir+"/fw4",
	).Replace(script)
	cmd := exec.Command("sh", "-s")
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(os.Environ(), "PATH="+o.dir+"/bin:"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// state is the firewall's configuration and the include.
func (o *openWrt) state() string {
	o.t.Helper()
	var b strings.Builder
	u := &uci{dir: o.dir + "/config"}
	c, err := u.load("firewall")
	must(o.t, err)
	if _, err := os.Stat(u.file("firewall", true)); err == nil {
		b.WriteString("not committed:\n")
	}
	c.show(&b, "firewall")
	include, _ := os.ReadFile(o.dir + "/nftables.d/20-sipnatd.nft")
	b.Write(include)
	return b.String()
}

// done is what was done to the firewall, and forgets it.
func (o *openWrt) done() string {
	b, _ := os.ReadFile(o.dir + "/done")
	os.Remove(o.dir + "/done")
	return strings.TrimSpace(string(b))
}

// On OpenWrt the script's changes to the configuration are what they should be, once
// however often it runs, and all of them can be taken away.
func TestOpenWrt(t *testing.T) {
	lan := func(options string) string {
		return strings.Replace(shipped, "\toption forward 'ACCEPT'\n", "\toption forward 'ACCEPT'\n"+options, 1)
	}
	proxy := scenario()
	proxy.ListenPort, proxy.Callers = 5070, true
	joined := scenario()
	joined.TCPPort = 5058
	sip := []string{"nf_conntrack_sip"}
	sipAndFTP := []string{"nf_conntrack_sip", "nf_conntrack_ftp"}
	for name, test := range map[string]struct {
		firewall string
		modules  []string
		cfg      Config
		has      []string // lines of the configuration
		hasNot   []string // parts of any
	}{
		"as shipped": {shipped, nil, scenario(), []string{
			"firewall.sipnatd_1=rule", "firewall.sipnatd_1.src='lan'", "firewall.sipnatd_1.dest='wan'", "firewall.sipnatd_1.proto='udp'",
			"firewall.sipnatd_1.dest_port='5060'", "firewall.sipnatd_1.target='ACCEPT'", "firewall.sipnatd_2.src_port='5060'",
		}, []string{"helper", "=nat", "sipnatd_3"}},
		"no masquerade": {strings.ReplaceAll(shipped, "option masq '1'", "option masq '0'"), nil, scenario(), []string{
			"firewall.sipnatd_3=nat", "firewall.sipnatd_3.src='wan'", "firewall.sipnatd_3.target='MASQUERADE'",
		}, nil},
		"proxy": {shipped, nil, proxy, []string{
			"firewall.sipnatd_3.src='lan'", "firewall.sipnatd_3.dest_port='5070'", "firewall.sipnatd_3.proto='tcp udp'", "firewall.sipnatd_4.src='wan'",
		}, []string{"sipnatd_3.dest=", "sipnatd_4.dest=", "sipnatd_5"}},
		"SIP over TCP": {shipped, nil, joined, []string{
			"firewall.sipnatd_3.src='lan'", "firewall.sipnatd_3.dest_port='5058'", "firewall.sipnatd_3.proto='tcp'", "firewall.sipnatd_3.target='ACCEPT'",
		}, []string{"sipnatd_3.dest=", "sipnatd_4"}},
		"many": {shipped, sip, configurations()["many"], []string{"firewall.sipnatd_1.dest_port='5060 5080'"}, nil},
		"helper, automatic": {shipped, sipAndFTP, scenario(), []string{
			"firewall.@zone[0].helper='ftp'", "firewall.sipnatd_3=sipnatd",
		}, []string{"zone[1].helper", "auto_helper"}},
		"helper, automatic and the only one": {shipped, sip, scenario(), []string{
			"firewall.@zone[0].auto_helper='0'",
		}, []string{"zone[0].helper", "zone[1].auto_helper"}},
		"helper, turned off":     {lan("\toption auto_helper '0'\n"), sip, scenario(), nil, []string{"sipnatd_3"}},
		"helper, all turned off": {strings.Replace(shipped, "defaults\n", "defaults\n\toption auto_helper '0'\n", 1), sip, scenario(), nil, []string{"sipnatd_3"}},
		"helper, listed": {lan("\tlist helper 'ftp'\n\tlist helper 'sip'\n"), sipAndFTP, scenario(), []string{
			"firewall.@zone[0].helper='ftp'",
		}, nil},
		"helper, listed alone": {lan("\tlist helper 'sip'\n"), sip, scenario(), []string{
			"firewall.@zone[0].auto_helper='0'",
		}, []string{"zone[0].helper"}},
		"helper, listed alone, not automatic": {lan("\toption auto_helper '0'\n\tlist helper 'sip'\n"), sip, scenario(), []string{
			"firewall.@zone[0].auto_helper='0'",
		}, []string{"zone[0].helper"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOpenWrt(t, test.firewall, test.modules...)
			before := o.state()
			apply, remove := written(t, "openwrt", test.cfg, Options{}), written(t, "openwrt", test.cfg, Options{Remove: true})
			run := func(script, does string) {
				t.Helper()
				if out, err := o.run(script); err != nil || out != "" {
					t.Fatalf("%v: %s", err, out)
				}
				if got := o.done(); got != does {
					t.Errorf("it does %q, want %q", got, does)
				}
			}
			run(remove, "")
			run(apply, "reload")
			once := o.state()
			lines := strings.Split(once, "\n")
			for _, line := range test.has {
				if !slices.Contains(lines, line) {
					t.Errorf("there is no %s in\n%s", line, once)
				}
			}
			for _, part := range test.hasNot {
				if config, _, _ := strings.Cut(once, "#"); strings.Contains(config, part) {
					t.Errorf("there is %s in\n%s", part, once)
				}
			}
			run(apply, "")
			if got := o.state(); got != once {
				t.Errorf("twice, it is\n%s\nwas\n%s", got, once)
			}
			run(remove, "reload\nnft delete chain inet fw4 sipnatd")
			if got := o.state(); got != before {
				t.Errorf("taken away, it is\n%s\nwas\n%s", got, before)
			}
			run(remove, "")
		})
	}
}

// What cannot be done is said, and the configuration stays as it is.
func TestOpenWrtRefused(t *testing.T) {
	elsewhere := scenario()
	elsewhere.Inside = []string{"wlan7"}
	for name, test := range map[string]struct {
		firewall string
		cfg      Config
		staged   bool
		says     string
	}{
		"others' changes": {shipped, scenario(), true, "not committed"},
		"no zone":         {shipped, elsewhere, false, "no zone of the firewall has the device wlan7"},
		"fw4 check":       {shipped, scenario(), false, "fw4 does not take"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOpenWrt(t, test.firewall)
			o.write("refuse", "")
			if test.staged {
				must(t, (&uci{dir: o.dir + "/config"}).do("set", "firewall.@zone[0].masq", true, "1"))
			}
			before := o.state()
			out, err := o.run(written(t, "openwrt", test.cfg, Options{}))
			if err == nil || !strings.Contains(out, test.says) {
				t.Errorf("%v, it says %q", err, out)
			}
			if got := o.state(); got != before {
				t.Errorf("it is\n%s\nwas\n%s", got, before)
			}
			if got := o.done(); got != "" {
				t.Errorf("it does %q", got)
			}
		})
	}
}
