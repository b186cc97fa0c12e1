package check

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/divert"
	"sipnatd/internal/netspace"
	"sipnatd/internal/nft"
)

// bad lists the findings that are warnings or faults.
func bad(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Level < Warning })
}

// told writes findings as a person sees them.
func told(findings []Finding) string {
	var b strings.Builder
	Write(&b, findings)
	return b.String()
}

// TestHealthy: where nothing is wrong, nothing is said to be.
func TestHealthy(t *testing.T) {
	firewall(t, policy+masquerading)
	before := time.Now()
	findings := Run(parse(t, ""))
	slow, err := strconv.Atoi(cmp.Or(os.Getenv("SIPNATD_LAB_SLOW"), "1")) // an emulated machine
	must(t, err)
	if took := time.Since(before); took > time.Duration(slow)*5*time.Second { // a fifth of a second where nothing else runs
		t.Errorf("it took %v", took)
	}
	if len(bad(findings)) > 0 {
		t.Errorf("it says\n%s", told(findings))
	}
	if out, err := exec.Command("nft", "list", "tables").CombinedOutput(); err != nil || string(out) != "table inet filter\ntable ip nat\n" {
		t.Errorf("afterwards there is (%v)\n%s", err, out)
	}
}

// TestFaults: each fault is found in a firewall that has no other one, and the remedy
// removes it.
func TestFaults(t *testing.T) {
	// flush takes a chain's rules away and puts others there.
	forward := func(rules string) string {
		return fmt.Sprintf("table inet filter {\nchain forward {\ntype filter hook forward priority filter; policy drop;\n%s\n}\n}\n", rules)
	}
	const out = `iifname "eth0" oifname "ppp0" accept`
	sysctl := func(path, value string) func(*testing.T) {
		return func(t *testing.T) { must(t, os.WriteFile("/proc/sys/"+path, []byte(value), 0)) }
	}
	run := func(command string) func(*testing.T) {
		return func(t *testing.T) { shell(t, command, "") }
	}
	iptables := func(program, rules string) func(*testing.T) {
		return func(t *testing.T) {
			if out, err := exec.Command(program, "-t", "raw", "-S").CombinedOutput(); err != nil {
				t.Skipf("probe: the kernel has nothing for %s: %v\n%s", program, err, out)
			}
			for rule := range strings.Lines(rules) {
				shell(t, program+" "+strings.TrimSpace(rule), "")
			}
		}
	}
	const stock = "-P FORWARD DROP\n-A FORWARD -i eth0 -o ppp0 -p udp --dport 5060 -j ACCEPT\n-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT"
	for _, tt := range []struct {
		name   string
		rules  string           // of nft; empty: those of the README
		damage func(*testing.T) // beforehand
		config string

		id     string
		level  Level
		text   string // a part of it
		remedy string // a part of it
		also   string // IDs that this one brings along
		apply  bool   // the remedy is a command that removes it
	}{
		{name: "no forwarding", damage: sysctl("net/ipv4/ip_forward", "0"),
			id: Forwarding, level: Fault, remedy: "sysctl -w net.ipv4.ip_forward=1", apply: true},
		{name: "no forwarding from inside", damage: sysctl("net/ipv4/conf/eth0/forwarding", "0"),
			id: Forwarding, level: Fault, text: "eth0", remedy: "sysctl -w net.ipv4.conf.eth0.forwarding=1", apply: true},

		{name: "no default route", damage: run("ip route del default"),
			id: Interface, level: Fault, text: "there is no outside interface", remedy: "if_outbound"},
		{name: "inside is missing", config: "if_inbound = eth7",
			id: Interface, level: Fault, text: "eth7 does not exist", remedy: "if_inbound"},
		{name: "one of two is missing", config: "if_inbound = eth0 eth7",
			id: Interface, level: Warning, text: "eth7 does not exist", remedy: "if_inbound"},
		{name: "outside is down", damage: run("ip link set ppp0 down"), config: "if_outbound = ppp0",
			id: Interface, level: Fault, text: "ppp0 is down", remedy: "ip link set ppp0 up", also: DefaultRoute, apply: true},
		{name: "outside has no address", damage: run("ip addr flush dev ppp0; ip route add default dev ppp0"),
			id: Interface, level: Fault, text: "ppp0 has no IPv4 address", remedy: "DHCP"},
		{name: "another NAT", damage: run("ip addr flush dev ppp0; ip addr add 192.168.1.2/24 dev ppp0; ip route add default via 192.168.1.1"),
			id: OutsideAddr, level: Warning, text: "(192.168.1.2)", remedy: "set host_outbound"},
		{name: "private announced", config: "host_outbound = 192.168.1.2",
			id: HostOutbound, level: Warning, text: "192.168.1.2 is private", remedy: "host_outbound = "},
		{name: "another address announced", config: "host_outbound = 198.51.100.7",
			id: HostOutbound, level: Warning, text: "ppp0 has a public address", remedy: "host_outbound = 203.0.113.1"},
		{name: "overlap", damage: run("ip addr add 203.0.113.129/25 dev eth0"),
			id: Overlap, level: Warning, text: "203.0.113.128/25 (eth0) and the outside network 203.0.113.0/24 (ppp0)", remedy: "another network"},

		{name: "another way out", damage: func(t *testing.T) { link(t, "wan0", "198.51.100.1/24"); route(t, "wan0", "198.51.100.9") },
			config: "if_outbound = ppp0", id: DefaultRoute, level: Warning, text: "not by ppp0", remedy: "if_outbound"},
		{name: "strict, another way out", damage: func(t *testing.T) {
			link(t, "wan0", "198.51.100.1/24")
			route(t, "wan0", "198.51.100.9")
			sysctl("net/ipv4/conf/ppp0/rp_filter", "1")(t)
		}, config: "if_outbound = ppp0",
			id: ReversePath, level: Fault, text: "ppp0", remedy: "sysctl -w net.ipv4.conf.ppp0.rp_filter=2", also: DefaultRoute, apply: true},
		{name: "strict, a second line", damage: func(t *testing.T) {
			link(t, "wan.7", "198.51.100.1/24")
			sysctl("net/ipv4/conf/all/rp_filter", "1")(t)
		}, config: "if_outbound = ppp0 wan.7",
			id: ReversePath, level: Warning, text: "wan.7", remedy: "sysctl -w net/ipv4/conf/wan.7/rp_filter=2", apply: true},

		{name: "kernel's SIP helper", rules: policy + masquerading + `
			table inet raw {
				ct helper voice {
					type "sip" protocol udp;
				}
				chain prerouting {
					type filter hook prerouting priority filter;
					udp dport 5060 ct helper set "voice"
				}
			}`,
			id: SIPHelper, level: Fault, text: "chain prerouting", remedy: "nft delete rule inet raw prerouting handle", apply: true},
		{name: "kernel's SIP helper by iptables-nft", damage: iptables("iptables-nft", "-t raw -A PREROUTING -p udp --dport 5060 -j CT --helper sip"),
			id: SIPHelper, level: Fault, text: "chain PREROUTING", remedy: "nft delete rule ip raw PREROUTING handle", apply: true},
		{name: "kernel's SIP helper by iptables-legacy", damage: iptables("iptables-legacy", "-t raw -A PREROUTING -p tcp\n-t raw -A PREROUTING -p udp --dport 5060 -j CT --helper sip"),
			id: SIPHelper, level: Fault, text: "chain PREROUTING", remedy: "iptables-legacy -t raw -D PREROUTING 2", apply: true},

		{name: "late filter", rules: policy + masquerading + "table ip late { chain last { type filter hook forward priority 300; udp dport 9 drop; }; }",
			id: LateChain, level: Warning, text: "priority 300", remedy: "below 290"},
		{name: "nothing established", rules: masquerading + forward(out),
			id: ForwardReply, level: Fault, text: "chain forward of table inet filter", remedy: "nft insert rule inet filter forward ct state established,related accept", apply: true},
		{name: "nothing related", rules: masquerading + forward(out+"\nct state established accept"),
			id: ForwardMedia, level: Warning, text: "from outside", remedy: "nft insert rule inet filter forward ct state established,related accept", apply: true},
		{name: "no media out", rules: masquerading + forward("udp dport 5060 accept\nct state established accept\niifname \"ppp0\" ct state related accept"),
			id: ForwardMedia, level: Warning, text: "from inside", remedy: "ct state established,related accept", apply: true},
		{name: "no SIP out", rules: masquerading + forward("ct state established,related accept\ntcp dport 443 accept"),
			id: ForwardSIP, level: Fault, text: "SIP from inside to outside", remedy: `'iifname "eth0" oifname "ppp0" udp dport 5060 accept'`, apply: true},
		{name: "SIP on one of two ports", rules: masquerading + forward("ct state established,related accept"), config: "sip_ports = 5060 5070",
			id: ForwardSIP, level: Fault, remedy: `udp dport { 5060, 5070 } accept`, apply: true},
		{name: "nothing established, iptables-nft", rules: masquerading, damage: iptables("iptables-nft", "-P FORWARD DROP\n-A FORWARD -i eth0 -j ACCEPT"),
			id: ForwardReply, level: Fault, text: "chain FORWARD of table ip filter", remedy: "iptables-nft -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", apply: true},
		{name: "nothing established, iptables-legacy", rules: masquerading, damage: iptables("iptables-legacy", "-P FORWARD DROP\n-A FORWARD -i eth0 -j ACCEPT"),
			id: ForwardReply, level: Fault, text: "(iptables-legacy)", remedy: "iptables-legacy -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", apply: true},
		{name: "no SIP out, iptables-nft", rules: masquerading, damage: iptables("iptables-nft", "-P FORWARD DROP\n-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT"), config: "sip_ports = 5060 5070",
			id: ForwardSIP, level: Fault, remedy: "iptables-nft -I FORWARD -i eth0 -o ppp0 -p udp -m multiport --dports 5060,5070 -j ACCEPT", apply: true},
		{name: "a late filter besides iptables", rules: masquerading + "table ip late { chain last { type filter hook forward priority 290; udp dport 9 drop; }; }", damage: iptables("iptables-legacy", stock),
			id: LateChain, level: Warning, text: "priority 290", remedy: "below 290"},

		{name: "early masquerading", rules: policy + strings.Replace(masquerading, "srcnat", "80", 1),
			id: EarlyNAT, level: Fault, text: "what leaves at priority 80", remedy: "above 90, such as srcnat"},
		{name: "some early masquerading", rules: policy + masquerading + "table ip early { chain out { type nat hook postrouting priority 90; ip saddr 10.0.0.7 masquerade; }; }",
			id: EarlyNAT, level: Warning, text: "chain out of table ip early", remedy: "above 90"},
		{name: "early port-forward", rules: policy + masquerading + "table ip early { chain in { type nat hook prerouting priority -150; iifname \"ppp0\" udp dport 5060 dnat to 10.0.0.5; }; }",
			id: EarlyNAT, level: Fault, text: "chain in of table ip early", remedy: "above -110, such as dstnat"},
		{name: "all media ports forwarded", rules: policy + masquerading + "table ip pbx { chain in { type nat hook prerouting priority dstnat; iifname \"ppp0\" udp dport 7000-8000 dnat to 10.0.0.5; }; }",
			id: PortForward, level: Fault, text: "100 of the 100 ports", remedy: "rtp_port_low"},

		{name: "expectation table", config: "rtp_port_low = 10000\nrtp_port_high = 59999",
			id: ExpectTable, level: Warning, text: "full use needs 100000", remedy: "sysctl -w net.netfilter.nf_conntrack_expect_max=100000", also: FlowTable},
		{name: "a program on a media port", damage: func(t *testing.T) { listen(t, "0.0.0.0:7070"); listen(t, "[::]:7075") },
			id: LocalPorts, level: Warning, text: fmt.Sprintf("process %d (check.test) has port 7070, 7075", os.Getpid()), remedy: "rtp_port_low"},

		{name: "queue taken", damage: func(t *testing.T) { program(t, "suricata", "queue") }, config: "queues = 2",
			id: QueueNumber, level: Fault, text: "(suricata)", remedy: "queue_num = 5061"},
		{name: "siproxd", damage: func(t *testing.T) { program(t, "siproxd", "stay") },
			id: Siproxd, level: Warning, text: "it runs as well", remedy: "siproxd"},
		{name: "another sipnatd", damage: func(t *testing.T) { program(t, "sipnatd", "stay") },
			id: Daemon, level: Warning, text: "other queues", remedy: "kill "},
		{name: "no such user", config: "user = no-such-user", id: User, level: Fault, text: "no-such-user", remedy: "useradd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			rules := tt.rules
			if rules == "" {
				rules = policy + masquerading
			}
			firewall(t, rules)
			if tt.damage != nil {
				tt.damage(t)
			}
			cfg := parse(t, tt.config)
			findings := Run(cfg)
			found := bad(findings)
			i := slices.IndexFunc(found, func(f Finding) bool {
				return f.ID == tt.id && strings.Contains(f.Text, tt.text) && strings.Contains(f.Remedy, tt.remedy)
			})
			others := slices.ContainsFunc(found, func(f Finding) bool { return f.ID != tt.id && f.ID != tt.also })
			if i < 0 || found[i].Level != tt.level || others {
				t.Fatalf("want a %v of %s with %q and %q; it says\n%s", tt.level, tt.id, tt.text, tt.remedy, told(findings))
			}
			if !tt.apply {
				return
			}
			shell(t, found[i].Remedy, "")
			if after := Run(cfg); slices.ContainsFunc(after, func(f Finding) bool { return f.ID == tt.id && f.Level >= Warning }) {
				t.Errorf("after %s it says\n%s", found[i].Remedy, told(after))
			}
		})
	}
}

// TestNotes: what is told and is no reason to do anything.
func TestNotes(t *testing.T) {
	for _, tt := range []struct {
		name, rules string
		before      func(*testing.T)
		config      string
		id, text    string
		remedy      string // to be applied
	}{
		{"no masquerading", policy, nil, "", Masquerade, "eth0 to ppp0", ""},
		{"guests", "", func(t *testing.T) { link(t, "guest", "10.0.7.1/24") }, "", ForwardSIP, "(guest to ppp0)", ""},
		{"another way out, and a provider", "", func(t *testing.T) {
			link(t, "wan0", "198.51.100.1/24")
			route(t, "wan0", "198.51.100.9")
			shell(t, "ip route add 192.0.2.0/24 via 203.0.113.10", "")
		}, "if_outbound = ppp0", DefaultRoute, "not by ppp0", ""},
		{"a SIP server here", "", func(t *testing.T) { listen(t, "203.0.113.1:5060") }, "", LocalPorts, "speaks SIP here itself", ""},
		{"ports for everybody", "", func(t *testing.T) {
			shell(t, "sysctl -qw net.ipv4.ip_local_port_range='7000 9000' net.ipv4.ip_local_reserved_ports=7500-7600", "")
		}, "", EphemeralPort, "ports 7070 to 7169", `sysctl -w net.ipv4.ip_local_reserved_ports="7500-7600,7070-7169"`},
		{"some media ports forwarded", policy + masquerading + "table ip pbx { chain in { type nat hook prerouting priority dstnat; iifname \"ppp0\" udp dport 7070-7079 dnat to 10.0.0.5; }; }",
			nil, "", PortForward, "10 of the 100", ""},
		{"a table left", "", func(t *testing.T) {
			table, err := nft.Open(nft.Config{Inside: []string{"eth0"}, Outside: []string{"ppp0"}, SIPPorts: []uint16{5060}}, slog.New(slog.DiscardHandler))
			must(t, err)
			must(t, table.Close())
		}, "", Daemon, "left it for running calls", ""},
		{"settings", "", nil, "rtp_input_dejitter = 10", Settings, "rtp_input_dejitter", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			rules := tt.rules
			if rules == "" {
				rules = policy + masquerading
			}
			firewall(t, rules)
			if tt.before != nil {
				tt.before(t)
			}
			cfg := parse(t, tt.config)
			findings := Run(cfg)
			is := func(f Finding) bool { return f.ID == tt.id && f.Level == Note && strings.Contains(f.Text, tt.text) }
			i := slices.IndexFunc(findings, is)
			if i < 0 || len(bad(findings)) > 0 || tt.remedy != "" && findings[i].Remedy != tt.remedy {
				t.Fatalf("want a note of %s with %q; it says\n%s", tt.id, tt.text, told(findings))
			}
			if tt.remedy == "" {
				return
			}
			shell(t, tt.remedy, "")
			if after := Run(cfg); slices.ContainsFunc(after, is) {
				t.Errorf("after %s it says\n%s", tt.remedy, told(after))
			}
		})
	}
}

// TestBesideDaemon: what a daemon has is no fault.
func TestBesideDaemon(t *testing.T) {
	firewall(t, policy+masquerading)
	queues, err := divert.Open(divert.Config{First: 5060}, divert.HandlerFunc(func(int, *divert.Packet) divert.Result { return divert.Result{} }))
	must(t, err)
	defer queues.Close()
	_, err = conntrack.EnableAccounting()
	must(t, err)
	findings := Run(parse(t, ""))
	if len(bad(findings)) > 0 || !strings.Contains(told(findings), fmt.Sprintf("it runs (process %d)", os.Getpid())) {
		t.Errorf("it says\n%s", told(findings))
	}
}

// TestElsewhere: what is in another network namespace does not matter.
func TestElsewhere(t *testing.T) {
	netspace.New(t)
	program(t, "siproxd", "queue")
	firewall(t, policy+masquerading)
	if findings := Run(parse(t, "")); len(bad(findings)) > 0 {
		t.Errorf("it says\n%s", told(findings))
	}
}

// TestOffload: rules that move UDP to a flowtable matter where no helper keeps SIP out
// of it.
func TestOffload(t *testing.T) {
	firewall(t, policy+masquerading)
	if err := nft.ProbeFlowtable(); err != nil {
		t.Skip("probe: ", err)
	}
	shell(t, "nft -f -", `table inet filter {
		flowtable fast {
			hook ingress priority 0; devices = { eth0, ppp0 };
		}
	}
	insert rule inet filter forward meta l4proto udp flow add @fast`)
	findings := Run(parse(t, ""))
	own := slices.ContainsFunc(findings, func(f Finding) bool { return f.ID == Expectations && f.Level == OK })
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == Offload })
	if want := map[bool]Level{true: OK, false: Warning}[own]; i < 0 || findings[i].Level != want {
		t.Errorf("own helper %v; it says\n%s", own, told(findings))
	}
}
