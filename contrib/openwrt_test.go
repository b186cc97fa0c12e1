package contrib

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipnatd/internal/config"
)

// openwrt runs one of OpenWrt's scripts, and a function of it, in a directory that
// stands for the root: with these UCI files.
func openwrt(t *testing.T, root, script, function string, uci map[string]string) string {
	t.Helper()
	for name, text := range uci {
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	functions, err := filepath.Abs("openwrt/testdata/functions.sh")
	must(t, err)
	text, err := os.ReadFile(filepath.Join("openwrt", script))
	must(t, err)
	moved := strings.NewReplacer("/var/etc", root+"/var/etc", "/var/lib", root+"/var/lib", "/etc/config", root+"/etc/config",
		". /lib/functions.sh", "", ". /lib/functions/network.sh", "").Replace(string(text))
	cmd := exec.Command("sh", "-c", ". "+functions+"\n"+moved+"\n"+function)
	cmd.Env = append(os.Environ(), "ROOT="+root)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.ReplaceAll(string(out), root, "")
}

// The options of UCI become a configuration.
func TestOpenWrtConfiguration(t *testing.T) {
	root := t.TempDir()
	got := openwrt(t, root, "sipnatd.init", "start_service; service_triggers", map[string]string{"etc/config/sipnatd": `
package sipnatd
config sipnatd 'main'
	option enabled '1'
	list interface_inbound 'lan'
	list interface_inbound 'dsl'
	list interface_inbound 'guest'
	option interface_outbound 'wan'
	option daemonize '1'
	list sip_peers '192.0.2.0/24'
	list sip_peers '198.51.100.1'
	option rtp_port_low '10000'
	option rtp_port_high '10999'
	list load_plugin 'plugin_logcall.so'
	list load_plugin 'plugin_codecfilter.so'
	list mask_host '10.0.0.1'
	list mask_host '10.0.0.2'
	list masked_host 'a.example'
	list masked_host 'b.example'
	list plugin_codecfilter_blacklist 'G729'
	list plugin_codecfilter_blacklist 'GSM'
config other 'strange'
	option rtp_timeout '17'
`})
	want := `chown sipnatd:sipnatd
chown root:sipnatd
procd open
procd set command /usr/sbin/sipnatd -c /var/etc/sipnatd.conf
procd set file /var/etc/sipnatd.conf
procd set reload_signal HUP
procd set respawn 3600 2 0
procd set stderr 1
procd set no_new_privs 1
procd close
procd reload trigger sipnatd
procd raw trigger interface.* 2000 /etc/init.d/sipnatd reload
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	path := filepath.Join(root, "var/etc/sipnatd.conf")
	text, err := os.ReadFile(path)
	must(t, err)
	want = `# From /etc/config/sipnatd; changes here are lost.
load_plugin = plugin_logcall.so
load_plugin = plugin_codecfilter.so
mask_host = 10.0.0.1
mask_host = 10.0.0.2
masked_host = a.example
masked_host = b.example
plugin_codecfilter_blacklist = G729
plugin_codecfilter_blacklist = GSM
if_inbound = br-lan, dsl0
if_outbound = pppoe-wan
user = sipnatd
state_dir = /var/run/sipnatd
sip_peers = 192.0.2.0/24, 198.51.100.1
rtp_port_low = 10000
rtp_port_high = 10999
`
	if diff := cmp.Diff(want, strings.ReplaceAll(string(text), root, "")); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := config.Load(path); err != nil {
		t.Error(err)
	}
}

// The file of the package is a start, and enabled = 0 none.
func TestOpenWrtEnabled(t *testing.T) {
	shipped, err := os.ReadFile("openwrt/sipnatd.config")
	must(t, err)
	root := t.TempDir()
	openwrt(t, root, "sipnatd.init", "start_service", map[string]string{"etc/config/sipnatd": string(shipped)})
	text, err := os.ReadFile(filepath.Join(root, "var/etc/sipnatd.conf"))
	must(t, err)
	if want := "# From /etc/config/sipnatd; changes here are lost.\nuser = sipnatd\nstate_dir = /var/run/sipnatd\n"; strings.ReplaceAll(string(text), root, "") != want {
		t.Errorf("got %q, want %q", text, want)
	}
	off := strings.Replace(string(shipped), "enabled '1'", "enabled '0'", 1)
	if got := openwrt(t, t.TempDir(), "sipnatd.init", "start_service", map[string]string{"etc/config/sipnatd": off}); got != "" {
		t.Errorf("disabled, it says %q", got)
	}
}

// What siproxd was configured with is taken over, unless sipnatd has a configuration.
func TestOpenWrtDefaults(t *testing.T) {
	siproxd := `
config siproxd 'general'
	option interface_inbound 'lan'
	option interface_outbound 'wan'
	list load_plugin 'plugin_logcall.so'
config siproxd 'second'
	option interface_inbound 'guest'
`
	const untouched = "sipnatd.main=sipnatd\nsipnatd.main.enabled='1'\n"
	for _, tt := range []struct{ name, siproxd, shown, want string }{
		{"siproxd", siproxd, untouched, `uci set sipnatd.main.interface_inbound=lan
uci set sipnatd.main.interface_outbound=wan
uci add_list sipnatd.main.load_plugin=plugin_logcall.so
uci commit sipnatd
`},
		{"no siproxd", "", untouched, ""},
		{"configured", siproxd, untouched + "sipnatd.main.rtp_timeout='60'\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := openwrt(t, t.TempDir(), "sipnatd.defaults", "", map[string]string{"etc/config/siproxd": tt.siproxd, "shown": tt.shown})
			if diff := cmp.Diff("user_add sipnatd gid 32768\n"+tt.want, got); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
		})
	}
}
