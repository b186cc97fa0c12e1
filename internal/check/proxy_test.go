package check

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/privilege"
)

func TestProxyPorts(t *testing.T) {
	faces := []ifaces.Interface{
		{Name: "eth0", Index: 2, Up: true, Side: ifaces.Inside, Addr: netip.MustParseAddr("10.0.0.1"), Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		{Name: "ppp0", Index: 3, Up: true, Side: ifaces.Outside, Addr: netip.MustParseAddr("203.0.113.1"), Addrs: []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24")}},
	}
	owners := func(inodes []uint64) map[uint64]process {
		return map[uint64]process{1: {7, "asterisk"}, 2: {8, "sipnatd"}}
	}
	ports := func(text string, inode uint64, udp, tcp string) []Finding {
		var sockets [2][]socket
		for i, address := range []string{udp, tcp} {
			if address != "" {
				sockets[i] = []socket{{netip.MustParseAddrPort(address), inode}}
			}
		}
		return proxyPorts(parse(t, text), faces, sockets[0], sockets[1], owners)
	}
	const asked = "sip_listen_port = 5060\n"
	one(t, ports(asked, 1, "", ""), OK, "no other program", "")
	one(t, ports(asked, 1, "0.0.0.0:5060", ""), Fault, "process 7 (asterisk) has UDP port 5060 (0.0.0.0:5060): the daemon does not start", "mode = transparent")
	one(t, ports(asked, 1, "", "203.0.113.1:5060"), Fault, "TCP port 5060", "sip_listen_port = another port")
	one(t, ports(asked, 1, "127.0.0.1:5060", "[::]:5070"), OK, "no other program", "")
	one(t, ports(asked, 2, "10.0.0.1:5060", "10.0.0.1:5060"), OK, "no other program", "")
	one(t, ports("", 1, "10.0.0.1:5060", ""), Note, "there is no proxy mode", "")
	one(t, ports("mode = transparent\nsip_tcp = yes", 1, "10.0.0.1:5060", "10.0.0.1:5058"), Fault, "TCP port 5058", "sip_tcp_port = another port")
	one(t, ports("mode = transparent\nsip_tcp = yes", 1, "", "203.0.113.1:5058"), OK, "no other program", "")
	if got := ports("mode = transparent", 1, "0.0.0.0:5060", ""); got != nil {
		t.Errorf("transparent: %v", got)
	}
}

func TestDomains(t *testing.T) {
	records := map[string]string{"foo.example": "203.0.113.1", "moved.example": "198.51.100.9", "gw.example": "192.0.2.7", "sip.example": "203.0.113.1"}
	resolve := func(name string) ([]netip.Addr, error) {
		if a, ok := records[name]; ok {
			return []netip.Addr{netip.MustParseAddr("::ffff:" + a)}, nil
		}
		return nil, errors.New("no such host")
	}
	servers := func(domain string) []string {
		return map[string][]string{"srv.example": {"sip.example"}, "elsewhere.example": {"moved.example"}}[domain]
	}
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("203.0.113.1") }
	of := func(text string) []Finding { return domains(parse(t, text), own, resolve, servers) }
	one(t, of("sip_domains = foo.example"), OK, "foo.example leads here", "")
	one(t, of("sip_domains = srv.example"), OK, "srv.example leads here", "")
	one(t, of("sip_domains = moved.example"), Warning, "moved.example is 198.51.100.9", "host_outbound = 198.51.100.9")
	one(t, of("sip_domains = elsewhere.example"), Warning, "elsewhere.example is 198.51.100.9", "DNS")
	one(t, of("sip_domains = none.example"), Warning, "none.example has no address: callers do not find it (no such host)", "DNS")
	one(t, of("sip_domains = moved.example\nhost_outbound = 198.51.100.9"), OK, "leads here", "")
	one(t, of("sip_domains = gw.example\nhost_outbound = gw.example"), OK, "leads here", "")
	for _, text := range []string{"", "sip_domains = none.example\nmode = transparent"} {
		if got := of(text); got != nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	must(t, os.WriteFile(path, []byte("johndoe secret\n"), 0o640))
	answer := func(err error) func(string, string) error { return func(string, string) error { return err } }
	of := func(text string, err error) []Finding {
		return files(parse(t, text), "nobody", answer(err), answer(err))
	}
	asked := "proxy_auth_realm = home\nproxy_auth_pwfile = "
	one(t, of(asked+path, nil), OK, "can read it", "")
	one(t, of(asked+path, fs.ErrPermission), Fault, "cannot read it, so that no phone can register", "chmod g+r "+path)
	one(t, of(asked+path, privilege.ErrNotRoot), Note, "not tried", "")
	one(t, of(asked+path+"x", nil), Fault, "no such file", "name password")
	must(t, os.Chmod(path, 0o644))
	one(t, of(asked+path, nil), Warning, "everybody", "chmod o-r "+path)

	const kept = "registration_file = /var/lib/sipnatd/registrations\n"
	one(t, of(kept, nil), OK, "can write it", "")
	one(t, of(kept, fs.ErrPermission), Warning, "lost with a restart", "chown nobody /var/lib/sipnatd")
	one(t, of(kept, fs.ErrNotExist), Warning, "lost with a restart", "install -d -o nobody /var/lib/sipnatd")
	one(t, of(kept, privilege.ErrNotRoot), Note, "not tried", "")
	for _, text := range []string{"", "mode = transparent\n" + kept, "proxy_auth_pwfile = /none"} {
		if got := of(text, fs.ErrPermission); got != nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	cfg := parse(t, "user = nobody")
	if got := userOf(cfg, process{}); got != "nobody" {
		t.Errorf("the user is %s", got)
	}
	if got := userOf(config.Default(), process{pid: os.Getpid()}); os.Geteuid() == 0 && got != root {
		t.Errorf("the daemon's user is %s", got)
	}
}

// TestProxyFaults: each fault of the proxy mode and of SIP over TCP is found in a
// firewall that has no other one, and the remedy removes it.
func TestProxyFaults(t *testing.T) {
	input := func(rules string) string {
		return policy + masquerading + "table inet filter {\nchain input {\ntype filter hook input priority filter; policy drop;\niifname \"lo\" accept\nct state established,related accept\n" + rules + "\n}\n}\n"
	}
	const asked = "sip_listen_port = 5070\n"
	const callee = asked + "host_outbound = 203.0.113.1\nsip_domains = foo.bar.invalid\n"
	const everybody = "meta l4proto { tcp, udp } th dport 5070 accept\n"
	for _, tt := range []struct {
		name, rules string
		iptables    string // program; the rules are its
		config      string
		damage      func(*testing.T)

		id     string
		level  Level
		text   string
		remedy string
		also   string
		apply  bool
	}{
		{name: "nothing from inside", rules: input(`iifname "ppp0" ` + everybody), config: asked,
			id: ProxyInput, level: Fault, text: "from inside (UDP port 5070): phones cannot use", remedy: `nft insert rule inet filter input 'iifname "eth0" udp dport 5070 accept'`, apply: true},
		{name: "no TCP from inside", rules: input(`iifname "ppp0" ` + everybody + `iifname "eth0" udp dport 5070 accept`), config: asked,
			id: ProxyInput, level: Note, text: "from inside (TCP port 5070)", remedy: `tcp dport 5070 accept`, apply: true},
		{name: "nothing from outside", rules: input(`iifname "eth0" ` + everybody), config: callee,
			id: ProxyInput, level: Warning, text: "from outside (UDP port 5070): calls from the Internet", remedy: `'iifname "ppp0" udp dport 5070 accept'`, also: Domains, apply: true},
		{name: "nothing from outside, to the provider only", rules: input(`iifname "eth0" ` + everybody), config: asked + "outbound_proxy_host = 203.0.113.10\n",
			id: ProxyInput, level: Note, text: "from outside (UDP port 5070)"},
		{name: "nothing from inside, which nobody wants", rules: input(""),
			id: ProxyInput, level: Note, text: "from inside (UDP port 5060)"},
		{name: "nothing from inside, iptables-nft", iptables: "iptables-nft", rules: "-P INPUT DROP\n-A INPUT -i ppp0 -p udp --dport 5070 -j ACCEPT", config: asked,
			id: ProxyInput, level: Fault, text: "chain INPUT of table ip filter", remedy: "iptables-nft -I INPUT -i eth0 -p udp --dport 5070 -j ACCEPT", apply: true},
		{name: "nothing from inside, iptables-legacy", iptables: "iptables-legacy", rules: "-P INPUT DROP\n-A INPUT -i ppp0 -p udp --dport 5070 -j ACCEPT", config: asked,
			id: ProxyInput, level: Fault, text: "(iptables-legacy)", remedy: "iptables-legacy -I INPUT -i eth0 -p udp --dport 5070 -j ACCEPT", apply: true},
		{name: "guests", rules: input(`iifname { "eth0", "ppp0" } ` + everybody), config: asked,
			damage: func(t *testing.T) { link(t, "guest", "10.0.7.1/24") },
			id:     ProxyInput, level: Note, text: "(guest)"},

		{name: "joined connections", rules: input(everybody + `iifname "ppp0" tcp dport 5058 accept`), config: asked + "sip_tcp = yes\n",
			id: Joined, level: Fault, text: "(port 5058): no phone gets out by TCP", remedy: `'iifname "eth0" ct status dnat tcp dport 5058 accept'`, apply: true},
		{name: "joined connections, iptables-nft", iptables: "iptables-nft", rules: "-P INPUT DROP\n-A INPUT -p udp --dport 5070 -j ACCEPT\n-A INPUT -p tcp --dport 5070 -j ACCEPT", config: asked + "sip_tcp = yes\n",
			id: Joined, level: Fault, text: "port 5058", remedy: "iptables-nft -I INPUT -i eth0 -p tcp -m conntrack --ctstate DNAT --dport 5058 -j ACCEPT", apply: true},
		{name: "past the policy", rules: masquerading + strings.Replace(policy, `oifname "ppp0" accept`, `oifname "ppp0" meta l4proto udp accept`, 1), config: "sip_tcp = yes\n",
			id: Joined, level: Warning, text: "drops SIP over TCP (eth0 to ppp0), and sip_tcp = yes leads it past that chain", remedy: "sip_tcp = no"},

		{name: "the port is taken", config: asked, damage: func(t *testing.T) { listen(t, "10.0.0.1:5070") },
			id: ProxyPort, level: Fault, text: "(check.test) has UDP port 5070 (10.0.0.1:5070)", remedy: "mode = transparent"},
		{name: "the TCP port is taken", config: asked, damage: func(t *testing.T) { listenTCP(t, "203.0.113.1:5070") },
			id: ProxyPort, level: Fault, text: "has TCP port 5070 (203.0.113.1:5070)", remedy: "sip_listen_port = another port"},
		{name: "the port of joined connections is taken", config: "sip_tcp = yes", damage: func(t *testing.T) { listenTCP(t, "0.0.0.0:5058") },
			id: ProxyPort, level: Fault, text: "has TCP port 5058", remedy: "sip_tcp_port = another port"},
		{name: "no such domain", config: callee,
			id: Domains, level: Warning, text: "foo.bar.invalid has no address", remedy: "DNS"},
		{name: "no passwords", config: asked + "proxy_auth_realm = home\nproxy_auth_pwfile = /no/passwords",
			id: Passwords, level: Fault, text: "no such file"},
		{name: "passwords of root's", config: asked + "user = nobody\nproxy_auth_realm = home\nproxy_auth_pwfile = /proc/1/environ",
			id: Passwords, level: Fault, text: "cannot read it", also: ConfigFile},
		{name: "no place for registrations", config: asked + "user = nobody\nregistration_file = /proc/registrations",
			id: Registrations, level: Warning, text: "lost with a restart", remedy: "chown nobody /proc", also: ConfigFile},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rules := tt.rules
			if rules == "" || tt.iptables != "" {
				rules = policy + masquerading
			}
			firewall(t, rules)
			if tt.iptables != "" {
				if out, err := exec.Command(tt.iptables, "-t", "filter", "-S").CombinedOutput(); err != nil {
					t.Skipf("probe: the kernel has nothing for %s: %v\n%s", tt.iptables, err, out)
				}
				for rule := range strings.Lines(tt.rules) {
					shell(t, tt.iptables+" "+strings.TrimSpace(rule), "")
				}
			}
			if tt.damage != nil {
				tt.damage(t)
			}
			cfg := parse(t, tt.config)
			findings := Run(cfg)
			is := func(f Finding) bool {
				return f.ID == tt.id && f.Level == tt.level && strings.Contains(f.Text, tt.text) && strings.Contains(f.Remedy, tt.remedy)
			}
			i := slices.IndexFunc(findings, is)
			others := slices.ContainsFunc(bad(findings), func(f Finding) bool { return f.ID != tt.id && f.ID != tt.also })
			if i < 0 || others {
				t.Fatalf("want a %v of %s with %q and %q; it says\n%s", tt.level, tt.id, tt.text, tt.remedy, told(findings))
			}
			if !tt.apply {
				return
			}
			shell(t, findings[i].Remedy, "")
			if after := Run(cfg); slices.ContainsFunc(after, is) {
				t.Errorf("after %s it says\n%s", findings[i].Remedy, told(after))
			}
		})
	}
}

// TestProxyHealthy: where nothing is wrong with it, nothing is said to be.
func TestProxyHealthy(t *testing.T) {
	firewall(t, policy+masquerading+`table inet filter { chain input {
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		ct state established,related accept
		meta l4proto { tcp, udp } th dport 5060 accept
		iifname "eth0" ct status dnat tcp dport 5058 accept
	}; }`)
	dir := t.TempDir()
	cfg := parse(t, fmt.Sprintf("mode = both\nsip_tcp = yes\nregistration_file = %s/registrations", dir))
	findings := Run(cfg)
	for _, id := range []string{ProxyInput, ProxyPort, Joined, Registrations} {
		if !slices.ContainsFunc(findings, func(f Finding) bool { return f.ID == id && f.Level == OK }) {
			t.Errorf("nothing good of %s in\n%s", id, told(findings))
		}
	}
	if len(bad(findings)) > 0 {
		t.Errorf("it says\n%s", told(findings))
	}
}

// listenTCP opens a local socket for connections.
func listenTCP(t testing.TB, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { l.Close() })
}
