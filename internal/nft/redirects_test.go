package nft

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/netspace"
)

// describe writes a redirect down as "interface address ports -> target".
func describe(r Redirect) string {
	in, addr, ports, to := r.InIf, "any", fmt.Sprintf("%d-%d", r.Low, r.High), "here"
	if in == "" {
		in = "any"
	}
	if r.Addr.IsValid() {
		addr = r.Addr.String()
	}
	if r.Low == r.High {
		ports = fmt.Sprint(r.Low)
	}
	if r.To.IsValid() {
		to = r.To.String()
	}
	if r.last > r.To.Port() {
		to += fmt.Sprintf("-%d", r.last)
	}
	if r.shift {
		to += fmt.Sprintf("/%d", r.base)
	}
	if r.network > 0 {
		to += fmt.Sprintf(" network /%d", r.network)
	}
	return fmt.Sprintf("%s %s %s -> %s", in, addr, ports, to)
}

// wantRedirects reads the namespace's rules.
func wantRedirects(t *testing.T, want ...string) {
	t.Helper()
	all, err := Redirects()
	must(t, err)
	var got []string
	for _, r := range all {
		got = append(got, describe(r))
	}
	if !slices.Equal(got, want) {
		t.Errorf("redirects:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestRedirectsNFT(t *testing.T) {
	for _, tt := range []struct {
		name, rules string // in a nat chain at prerouting
		want        []string
	}{
		{"port", "udp dport 5060 dnat to 10.0.0.2", []string{"any any 5060 -> 10.0.0.2:0"}},
		{"port and address", "ip daddr 192.0.2.1 udp dport 5060 dnat to 10.0.0.2:5070",
			[]string{"any 192.0.2.1/32 5060 -> 10.0.0.2:5070"}},
		{"all of an address", "ip daddr 192.0.2.1 dnat to 10.0.0.2", []string{"any 192.0.2.1/32 0-65535 -> 10.0.0.2:0"}},
		{"prefixes of whole bytes and not", "ip daddr 192.0.2.0/24 ip daddr 192.0.2.32/27 dnat to 10.0.0.2",
			[]string{"any 192.0.2.32/27 0-65535 -> 10.0.0.2:0"}},
		{"range of addresses", "ip daddr 192.0.2.3-192.0.2.9 dnat to 10.0.0.2", []string{
			"any 192.0.2.3/32 0-65535 -> 10.0.0.2:0",
			"any 192.0.2.4/30 0-65535 -> 10.0.0.2:0",
			"any 192.0.2.8/31 0-65535 -> 10.0.0.2:0"}},
		{"range of ports", "udp dport 5060-5070 dnat to 10.0.0.2", []string{"any any 5060-5070 -> 10.0.0.2:0"}},
		{"set of ports", "udp dport { 5060, 7000-7100 } dnat to 10.0.0.2",
			[]string{"any any 5060 -> 10.0.0.2:0", "any any 7000-7100 -> 10.0.0.2:0"}},
		{"set up to the last port", "udp dport { 5060, 60000-65535 } dnat to 10.0.0.2",
			[]string{"any any 5060 -> 10.0.0.2:0", "any any 60000-65535 -> 10.0.0.2:0"}},
		{"not a port", "udp dport != 5060 dnat to 10.0.0.2",
			[]string{"any any 0-5059 -> 10.0.0.2:0", "any any 5061-65535 -> 10.0.0.2:0"}},
		{"not a range", "udp dport != 1000-65535 dnat to 10.0.0.2", []string{"any any 0-999 -> 10.0.0.2:0"}},
		{"not in a set", "udp dport != { 0-5059, 5070 } dnat to 10.0.0.2",
			[]string{"any any 5060-5069 -> 10.0.0.2:0", "any any 5071-65535 -> 10.0.0.2:0"}},
		{"above and below", "udp dport > 5000 udp dport <= 6000 dnat to 10.0.0.2", []string{"any any 5001-6000 -> 10.0.0.2:0"}},
		{"neighbours compared at once", "udp sport 5060 udp dport 5070 ip saddr 203.0.113.1 ip daddr 192.0.2.1 dnat to 10.0.0.2",
			[]string{"any 192.0.2.1/32 5070 -> 10.0.0.2:0"}},
		{"source set", "ip saddr { 203.0.113.1, 203.0.113.2 } udp dport 5060 dnat to 10.0.0.2",
			[]string{"any any 5060 -> 10.0.0.2:0"}},
		{"any protocol's port", "meta l4proto { tcp, udp } th dport 5060 dnat to 10.0.0.2", []string{"any any 5060 -> 10.0.0.2:0"}},
		{"protocol in the header", "ip protocol udp th dport 5060 dnat to 10.0.0.2", []string{"any any 5060 -> 10.0.0.2:0"}},
		{"not TCP", "meta l4proto != tcp dnat to 10.0.0.2", []string{"any any 0-65535 -> 10.0.0.2:0"}},
		{"TCP", "tcp dport 5060 dnat to 10.0.0.2", nil},
		{"not UDP", "meta l4proto != udp dnat to 10.0.0.2", nil},
		{"interface", `iifname "wan0" udp dport 5060 dnat to 10.0.0.2`, []string{"wan0 any 5060 -> 10.0.0.2:0"}},
		{"interfaces", `iifname { "wan0", "wan1" } udp dport 5060 dnat to 10.0.0.2`,
			[]string{"wan0 any 5060 -> 10.0.0.2:0", "wan1 any 5060 -> 10.0.0.2:0"}},
		{"interface pattern", `iifname "ppp*" udp dport 5060 dnat to 10.0.0.2`, []string{"ppp* any 5060 -> 10.0.0.2:0"}},
		{"not an interface", `iifname != "lan0" udp dport 5060 dnat to 10.0.0.2`, []string{"any any 5060 -> 10.0.0.2:0"}},
		{"interface by number", "iif lo udp dport 5060 dnat to 10.0.0.2", []string{"lo any 5060 -> 10.0.0.2:0"}},
		{"target ports", "udp dport 5060 dnat to 10.0.0.2:6000-6010", []string{"any any 5060 -> 10.0.0.2:6000-6010"}},
		{"target addresses", "udp dport 5060 dnat to 10.0.0.2-10.0.0.5", []string{"any any 5060 -> 10.0.0.2:0"}},
		{"map of ports", "dnat to udp dport map { 5060 : 10.0.0.2, 5070-5080 : 10.0.0.3 }",
			[]string{"any any 5060 -> 10.0.0.2:0", "any any 5070-5080 -> 10.0.0.3:0"}},
		{"map of addresses and ports",
			"dnat to ip daddr . udp dport map { 192.0.2.1 . 5060 : 10.0.0.2 . 5060, 192.0.2.2 . 5060 : 10.0.0.3 . 5061 }", []string{
				"any 192.0.2.1/32 5060 -> 10.0.0.2:5060", "any 192.0.2.2/32 5060 -> 10.0.0.3:5061"}},
		{"map of networks", "dnat prefix to ip daddr map { 192.0.2.0/24 : 10.0.0.0/24 }",
			[]string{"any 192.0.2.0/24 0-65535 -> 10.0.0.0:0 network /24"}},
		{"spread", "udp dport 5060 dnat to numgen inc mod 2 map { 0 : 10.0.0.2, 1 : 10.0.0.3 }",
			[]string{"any any 5060 -> 10.0.0.2:0", "any any 5060 -> 10.0.0.3:0"}},
		{"redirect", "udp dport 5060 redirect to :5070", []string{"any any 5060 -> here"}},
		{"what is not understood", "fib daddr type local ct state new limit rate 5/second udp dport 5060 counter log dnat to 10.0.0.2",
			[]string{"any any 5060 -> 10.0.0.2:0"}},
		{"jump", `iifname "wan0" udp dport 5000-6000 jump dstnat_wan`, []string{"wan0 192.0.2.1/32 5060 -> 10.0.0.7:0"}},
		{"jump elsewhere", `udp dport 1-1000 jump dstnat_wan`, nil},
		{"jump by map", `iifname vmap { "wan0" : jump dstnat_wan, "wan1" : goto dstnat_wan, "lan0" : accept }`, []string{
			"wan0 192.0.2.1/32 5060 -> 10.0.0.7:0", "wan1 192.0.2.1/32 5060 -> 10.0.0.7:0"}},
		{"no DNAT", "udp dport 5060 accept", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			netspace.New(t)
			nftRun(t, `
table ip site {
	chain dstnat_wan {
		ip daddr 192.0.2.1 udp dport 5060 dnat to 10.0.0.7
	}
	chain unused {
		dnat to 10.0.0.8
	}
	chain prerouting {
		type nat hook prerouting priority -100;
		`+tt.rules+`
	}
	chain output {
		type nat hook output priority -100;
		udp dport 5060 dnat to 10.0.0.9
	}
}
`)
			slices.Sort(tt.want)
			all, err := Redirects()
			must(t, err)
			var got []string
			for _, r := range all {
				got = append(got, describe(r))
			}
			slices.Sort(got) // hash sets have no order
			if !slices.Equal(got, tt.want) {
				t.Errorf("redirects:\n\t%s\nwant:\n\t%s\n%s", strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"),
					nftList(t, "--debug=netlink", "list", "chain", "ip", "site", "prerouting"))
			}
		})
	}
}

// Tables come in the order in which packets meet them, our own not at all, nor what
// is for IPv6.
func TestRedirectsTables(t *testing.T) {
	netspace.New(t)
	wantRedirects(t)
	open(t, reference())
	nftRun(t, `
table inet late {
	chain prerouting {
		type nat hook prerouting priority 5;
		meta nfproto ipv6 udp dport 5060 dnat ip6 to 2001:db8::1
		meta nfproto ipv4 udp dport 5060 dnat ip to 10.0.0.3
	}
}
table ip6 six {
	chain prerouting {
		type nat hook prerouting priority -100;
		udp dport 5060 dnat to 2001:db8::1
	}
}
table ip early {
	chain filter {
		type filter hook prerouting priority -300;
		udp dport 5060 drop
	}
	chain prerouting {
		type nat hook prerouting priority -100;
		udp dport 5060 dnat to 10.0.0.2
	}
}
`)
	wantRedirects(t, "any any 5060 -> 10.0.0.2:0", "any any 5060 -> 10.0.0.3:0")
}

// iptables runs commands of an iptables program in the test's namespace. A program
// that is not installed, or that the kernel has nothing for, leaves the test out.
func iptables(t *testing.T, program, commands string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		skip(t, err.Error())
	}
	if out, err := exec.Command(program, "-t", "nat", "-S").CombinedOutput(); err != nil {
		t.Skipf("probe: the kernel has no nat table for %s: %v\n%s", program, err, out)
	}
	for line := range strings.Lines(commands) {
		args := append([]string{"-t", "nat"}, strings.Fields(line)...)
		if len(args) == 2 {
			continue
		}
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", program, line, err, out)
		}
	}
}

func TestRedirectsIptables(t *testing.T) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		for _, tt := range []struct {
			name, commands string
			want           []string
		}{
			{"port", "-A PREROUTING -p udp --dport 5060 -j DNAT --to-destination 10.0.0.2",
				[]string{"any any 5060 -> 10.0.0.2:0"}},
			{"all", "-A PREROUTING -j DNAT --to-destination 10.0.0.2", []string{"any any 0-65535 -> 10.0.0.2:0"}},
			{"everything", "-A PREROUTING -i ppp+ -s 203.0.113.0/24 -d 192.0.2.16/28 -p udp --sport 5060 --dport 5000:6000 " +
				"-m comment --comment pbx -j DNAT --to-destination 10.0.0.2:6000-6010",
				[]string{"ppp* 192.0.2.16/28 5000-6000 -> 10.0.0.2:6000-6010"}},
			{"not", "-A PREROUTING ! -i lan0 ! -d 192.0.2.1 -p udp ! --dport 5000:6000 -j DNAT --to-destination 10.0.0.2",
				[]string{"any any 0-4999 -> 10.0.0.2:0", "any any 6001-65535 -> 10.0.0.2:0"}},
			{"multiport", "-A PREROUTING -i wan0 -p udp -m multiport --dports 5060,7000:7100 -j DNAT --to-destination 10.0.0.2",
				[]string{"wan0 any 5060 -> 10.0.0.2:0", "wan0 any 7000-7100 -> 10.0.0.2:0"}},
			{"not multiport", "-A PREROUTING -p udp -m multiport ! --dports 1:65535 -j DNAT --to-destination 10.0.0.2",
				[]string{"any any 0 -> 10.0.0.2:0"}},
			{"source multiport", "-A PREROUTING -p udp -m multiport --sports 5060 -j DNAT --to-destination 10.0.0.2",
				[]string{"any any 0-65535 -> 10.0.0.2:0"}},
			{"shifted ports", "-A PREROUTING -p udp --dport 5060:5070 -j DNAT --to-destination 10.0.0.2:6000-6010/5060",
				[]string{"any any 5060-5070 -> 10.0.0.2:6000-6010/5060"}},
			{"other protocols", "-A PREROUTING -p tcp --dport 5060 -j DNAT --to-destination 10.0.0.2\n" +
				"-A PREROUTING ! -p udp -j DNAT --to-destination 10.0.0.2\n" +
				"-A PREROUTING ! -p tcp -j DNAT --to-destination 10.0.0.3",
				[]string{"any any 0-65535 -> 10.0.0.3:0"}},
			{"redirect", "-A PREROUTING -p udp --dport 5060 -j REDIRECT --to-ports 5070", []string{"any any 5060 -> here"}},
			{"network", "-A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 10.0.0.0/24",
				[]string{"any 192.0.2.0/24 0-65535 -> 10.0.0.0:0 network /24"}},
			{"user chains", "-N FORWARDS\n-N UNUSED\n-N MORE\n" +
				"-A PREROUTING -i wan0 -m addrtype --dst-type LOCAL -j FORWARDS\n" +
				"-A PREROUTING -p udp --dport 9 -j DNAT --to-destination 10.0.0.9\n" +
				"-A FORWARDS -p udp --dport 5060 -j DNAT --to-destination 10.0.0.2\n" +
				"-A FORWARDS -p udp --dport 7000:8000 -g MORE\n" +
				"-A MORE -p udp --dport 7999:9000 -j DNAT --to-destination 10.0.0.3\n" +
				"-A UNUSED -p udp -j DNAT --to-destination 10.0.0.4",
				[]string{"wan0 any 5060 -> 10.0.0.2:0", "wan0 any 7999-8000 -> 10.0.0.3:0", "any any 9 -> 10.0.0.9:0"}},
			{"other hooks", "-A OUTPUT -p udp --dport 5060 -j DNAT --to-destination 10.0.0.2\n-A POSTROUTING -j MASQUERADE\n" +
				"-A POSTROUTING -j SNAT --to-source 192.0.2.1", nil},
		} {
			t.Run(program+"/"+tt.name, func(t *testing.T) {
				netspace.New(t)
				iptables(t, program, tt.commands)
				wantRedirects(t, tt.want...)
			})
		}
	}
}

// Who asks for a table of iptables-legacy gets one made.
func TestRedirectsMakeNoTable(t *testing.T) {
	netspace.New(t)
	_, err := Redirects()
	must(t, err)
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if os.IsNotExist(err) {
		t.Skip("probe: the kernel has no iptables-legacy")
	}
	must(t, err)
	if len(names) > 0 {
		t.Errorf("tables of iptables-legacy: %q", names)
	}
}

// Where Target says that a packet goes, there it goes.
func TestRedirectsAndKernel(t *testing.T) {
	for _, tt := range []struct {
		name, nft, iptables string
		to                  []string // ports
	}{
		{name: "port unchanged", nft: "udp dport 5060-5070 dnat ip to " + phone, to: []string{"5060", "5070"}},
		{name: "port translated", nft: "udp dport 5060-5070 dnat ip to " + phone + ":6000", to: []string{"5060", "5065"}},
		{name: "several ports", nft: "udp dport 5060-7000 dnat ip to " + phone + ":6000-6010", to: []string{"6000", "6005", "6010"}},
		{name: "shifted ports", iptables: "-A PREROUTING -p udp --dport 5000:5100 -j DNAT --to-destination " + phone + ":6000-6010/5060",
			to: []string{"5060", "5063", "5070", "5071", "5100", "5000"}},
		{name: "network", nft: "dnat ip prefix to ip daddr map { 198.51.100.0/31 : 10.1.0.2/31 }", to: []string{"5060"}},
		{name: "network of iptables", iptables: "-A PREROUTING -d 198.51.100.0/31 -j NETMAP --to 10.1.0.2/31", to: []string{"5060"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.in(w.phone, func() { up(t, "eth0", "10.1.0.3/24") }) // the public address's place in the network
			if tt.nft != "" {
				nftRun(t, "table inet site {\n chain pre {\n type nat hook prerouting priority -100;\n"+tt.nft+"\n}\n}\n")
			} else {
				iptables(t, "iptables-nft", tt.iptables)
			}
			all, err := Redirects()
			must(t, err)
			for i, port := range tt.to {
				to := public + ":" + port
				at := slices.IndexFunc(all, func(r Redirect) bool {
					_, ok := r.Target(ap(to))
					return ok
				})
				if at < 0 {
					t.Fatalf("nothing translates %s: %+v", to, all)
				}
				inside, _ := all[at].Target(ap(to))
				receiver := w.host(w.phone, inside.String())
				from := fmt.Sprintf("%s:%d", provider, 5080+i) // a flow of its own, that takes nobody's port
				w.host(w.provider, from).send(to, "for "+port)
				receiver.receive(from, "for "+port)
				must(t, receiver.conn.Close())
			}
		})
	}
}

func BenchmarkRedirects(b *testing.B) {
	netspace.New(b)
	var rules strings.Builder
	for i := range 100 {
		fmt.Fprintf(&rules, "iifname \"wan0\" ip daddr 192.0.2.1 udp dport { %d, %d-%d } counter dnat to 10.0.0.%d\n",
			5000+i, 7000+10*i, 7000+10*i+9, i)
	}
	nftRun(b, "table ip site {\n chain pre {\n type nat hook prerouting priority -100;\n"+rules.String()+"\n}\n}\n")
	for b.Loop() {
		all, err := Redirects()
		must(b, err)
		if len(all) != 200 {
			b.Fatalf("%d redirects", len(all))
		}
	}
}
