package nft

import (
	"fmt"
	"strings"
	"testing"

	"sipnatd/internal/netspace"
)

// readFirewall reads the firewall of the test's namespace.
func readFirewall(t testing.TB) *Firewall {
	t.Helper()
	f, err := ReadFirewall()
	must(t, err)
	t.Cleanup(f.Close)
	return f
}

// TestLateChains finds the chains that filter after ours, and only those.
func TestLateChains(t *testing.T) {
	netspace.New(t)
	open(t, reference())
	nftRun(t, `
		table inet firewalld {
			chain early {
				type filter hook forward priority 10; policy drop;
			}
			chain late {
				type filter hook forward priority 300;
				udp dport 9 drop
			}
			chain counts {
				type filter hook forward priority 300;
				counter
			}
			chain other {
				type filter hook input priority 300; policy drop;
			}
		}
		table ip mine {
			chain same {
				type filter hook forward priority 290; policy drop;
			}
		}
	`)
	f := readFirewall(t)
	if !f.Installed() {
		t.Error("the daemon's table is not noticed")
	}
	if got := fmt.Sprint(f.LateChains()); got != "[chain same of table ip mine chain late of table inet firewalld]" {
		t.Errorf("found %s", got)
	}
}

// TestFateOfConnections: of rules for what comes to the firewall itself, those about TCP
// are told from those about UDP.
func TestFateOfConnections(t *testing.T) {
	datagram := Packet{In: "eth0", DstPorts: Ports{5060, 5060}, State: StateNew}
	connection := datagram
	connection.TCP = true
	const either = Accepted | Dropped
	for _, tt := range []struct {
		program string // "" is nft
		rule    string
		want    [2]Fate // of the datagram and of the connection
	}{
		{"", "tcp dport 5060 accept", [2]Fate{Dropped, Accepted}},
		{"", "udp dport 5060 accept", [2]Fate{Accepted, Dropped}},
		{"", "meta l4proto { tcp, udp } th dport 5060 accept", [2]Fate{Accepted, Accepted}},
		{"", "ip protocol tcp accept", [2]Fate{Dropped, Accepted}},
		{"", "tcp flags syn accept", [2]Fate{Dropped, either}},
		{"iptables", "-p tcp -j ACCEPT", [2]Fate{Dropped, Accepted}},
		{"iptables", "-p tcp --dport 5060 -j ACCEPT", [2]Fate{Dropped, Accepted}},
		{"iptables", "-p tcp --dport 5061 -j ACCEPT", [2]Fate{Dropped, Dropped}},
		{"iptables", "-p tcp ! --dport 5061 -j ACCEPT", [2]Fate{Dropped, Accepted}},
		{"iptables", "-p tcp --sport 5060 -j ACCEPT", [2]Fate{Dropped, either}},
		{"iptables", "-p udp --dport 5060 -j ACCEPT", [2]Fate{Accepted, Dropped}},
		{"iptables", "-p tcp -m multiport --dports 5060,5070 -j ACCEPT", [2]Fate{Dropped, Accepted}},
	} {
		programs := []string{tt.program}
		if tt.program != "" {
			programs = []string{"iptables-nft", "iptables-legacy"}
		}
		for _, program := range programs {
			t.Run(strings.TrimSpace(program+" "+tt.rule), func(t *testing.T) {
				netspace.New(t)
				if program == "" {
					nftRun(t, "table inet fw {\nchain input {\ntype filter hook input priority 0; policy drop;\n"+tt.rule+"\n}\n}")
				} else {
					iptables(t, program, "-t filter -P INPUT DROP\n-t filter -A INPUT "+tt.rule)
				}
				f := readFirewall(t)
				chains := f.Chains(KindFilter, Input)
				if len(chains) != 1 {
					t.Fatalf("chains %v", chains)
				}
				for i, p := range []Packet{datagram, connection} {
					if got := f.Fate(chains[0], p); got != tt.want[i] {
						t.Errorf("packet %d: fate %05b, want %05b", i, got, tt.want[i])
					}
				}
				must(t, f.Err())
			})
		}
	}
	// The flags of the first packet.
	syn := xtMatch{name: "tcp", info: []byte{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0x17, 0x02, 0}}
	if got := syn.about(&connection); got != always {
		t.Errorf("--syn: %d", got)
	}
	syn.info[11] = 4
	if got := syn.about(&connection); got != never {
		t.Errorf("! --syn: %d", got)
	}
	if got := syn.about(&datagram); got != never {
		t.Errorf("of a datagram: %d", got)
	}
}

// TestFate: what becomes of packets is found out where it can be, whoever has made
// the rules.
func TestFate(t *testing.T) {
	out := Packet{In: "eth0", Out: "ppp0", DstPorts: Ports{5060, 5060}, State: StateNew}
	in := Packet{In: "ppp0", Out: "eth0", DstPorts: Ports{7070, 7999}, State: StateRelated, Status: StatusExpected | StatusDNAT}
	established := Packet{In: "ppp0", Out: "eth0", State: StateEstablished}
	const either = Accepted | Dropped
	for _, tt := range []struct {
		program string // "" is nft
		policy  string
		rules   string // separated by line ends
		more    string // chains of nft
		want    [3]Fate
	}{
		{"", "accept", "", "", [3]Fate{Accepted, Accepted, Accepted}},
		{"", "drop", "", "", [3]Fate{Dropped, Dropped, Dropped}},
		{"", "drop", "ct state established,related accept", "", [3]Fate{Dropped, Accepted, Accepted}},
		{"", "drop", "ct state { established, related } accept", "", [3]Fate{Dropped, Accepted, Accepted}},
		{"", "drop", "ct state established accept", "", [3]Fate{Dropped, Dropped, Accepted}},
		{"", "drop", "ct state vmap { established : accept, related : accept, invalid : drop }", "", [3]Fate{Dropped, Accepted, Accepted}},
		{"", "drop", "ct state != new accept", "", [3]Fate{Dropped, Accepted, Accepted}},
		{"", "drop", "ct status dnat accept", "", [3]Fate{either, Accepted, either}},
		{"", "drop", "ct status expected,dnat accept", "", [3]Fate{either, Accepted, either}},
		{"", "drop", `iifname "eth0" oifname "ppp0" accept`, "", [3]Fate{Accepted, Dropped, Dropped}},
		{"", "drop", `iifname "eth*" accept`, "", [3]Fate{Accepted, Dropped, Dropped}},
		{"", "drop", `iifname { "eth0", "eth1" } accept`, "", [3]Fate{Accepted, Dropped, Dropped}},
		{"", "drop", `iifname { "lo", "eth*" } accept`, "", [3]Fate{Accepted, Dropped, Dropped}},
		{"", "drop", `iifname != "eth0" accept`, "", [3]Fate{Dropped, Accepted, Accepted}},
		{"", "drop", `iifname . oifname { "eth0" . "ppp0" } accept`, "", [3]Fate{Accepted, Dropped, Dropped}},
		{"", "drop", `iifname . udp dport { "eth0" . 5000-5070 } accept`, "", [3]Fate{Accepted, either, either}},
		{"", "drop", `iifname . oifname vmap { "eth0" . "ppp0" : jump more, "ppp0" . "eth0" : goto more }`, "udp dport 5060 accept", [3]Fate{Accepted, Dropped, either}},
		{"", "drop", "ip saddr 10.0.0.0/24 accept", "", [3]Fate{either, either, either}},
		{"", "drop", "ip saddr { 10.0.0.0/24, 10.1.0.0/24 } accept", "", [3]Fate{either, either, either}},
		{"", "drop", "ip saddr vmap { 10.0.0.0/24 : accept }", "", [3]Fate{either, either, either}},
		{"", "drop", "meta mark 7 accept", "", [3]Fate{either, either, either}},
		{"", "drop", "meta l4proto tcp accept", "", [3]Fate{Dropped, Dropped, Dropped}},
		{"", "drop", "meta l4proto { tcp, udp } accept", "", [3]Fate{Accepted, Accepted, Accepted}},
		{"", "drop", "ip6 saddr fe80::1 accept", "", [3]Fate{Dropped, Dropped, Dropped}},
		{"", "drop", "udp dport 5060 accept", "", [3]Fate{Accepted, Dropped, either}},
		{"", "drop", "udp dport 7000-8000 accept", "", [3]Fate{Dropped, either, either}}, // 7070 to 7999 are not aligned
		{"", "drop", "udp dport >= 4096 accept", "", [3]Fate{Accepted, Accepted, either}},
		{"", "drop", "udp dport { 5060-5070, 7070-7999 } accept", "", [3]Fate{Accepted, either, either}},
		{"", "drop", "limit rate 10/second accept", "", [3]Fate{either, either, either}},
		{"", "accept", "limit rate over 10/second drop", "", [3]Fate{either, either, either}},
		{"", "accept", "reject", "", [3]Fate{Dropped, Dropped, Dropped}},
		{"", "accept", "udp dport 5060 drop", "", [3]Fate{Dropped, Accepted, either}},
		{"", "drop", "jump more\naccept", "return", [3]Fate{Accepted, Accepted, Accepted}},
		{"", "drop", "goto more\naccept", "return", [3]Fate{Dropped, Dropped, Dropped}},
		{"", "drop", "jump more\naccept", `iifname "eth0" drop`, [3]Fate{Dropped, Accepted, Accepted}},
		{"", "accept", "jump more\ndrop", `iifname "eth0" accept`, [3]Fate{Accepted, Dropped, Dropped}},
		{"", "drop", "ct mark set 1 counter log accept", "", [3]Fate{Accepted, Accepted, Accepted}},
		{"", "drop", "fib daddr type unicast accept", "", [3]Fate{either, either, either}},

		{"iptables", "DROP", "", "", [3]Fate{Dropped, Dropped, Dropped}},
		{"iptables", "DROP", "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "", [3]Fate{Dropped, Accepted, Accepted}},
		{"iptables", "DROP", "-m state --state ESTABLISHED -j ACCEPT", "", [3]Fate{Dropped, Dropped, Accepted}},
		{"iptables", "DROP", "-m conntrack ! --ctstate NEW -j ACCEPT", "", [3]Fate{Dropped, Accepted, Accepted}},
		{"iptables", "DROP", "-m conntrack --ctstate DNAT -j ACCEPT", "", [3]Fate{either, Accepted, either}},
		{"iptables", "DROP", "-m conntrack --ctstatus EXPECTED -j ACCEPT", "", [3]Fate{either, Accepted, either}},
		{"iptables", "DROP", "-m conntrack --ctstate RELATED --ctproto tcp -j ACCEPT", "", [3]Fate{Dropped, either, Dropped}},
		{"iptables", "DROP", "-i eth0 -o ppp0 -j ACCEPT", "", [3]Fate{Accepted, Dropped, Dropped}},
		{"iptables", "DROP", "-i eth+ -j ACCEPT", "", [3]Fate{Accepted, Dropped, Dropped}},
		{"iptables", "DROP", "! -i eth0 -j ACCEPT", "", [3]Fate{Dropped, Accepted, Accepted}},
		{"iptables", "DROP", "-p tcp -j ACCEPT", "", [3]Fate{Dropped, Dropped, Dropped}},
		{"iptables", "DROP", "-p udp --dport 5060 -j ACCEPT", "", [3]Fate{Accepted, Dropped, either}},
		{"iptables", "DROP", "-p udp --sport 5060 -j ACCEPT", "", [3]Fate{either, either, either}},
		{"iptables", "DROP", "-p udp -m multiport --dports 5060,5070:5080 -j ACCEPT", "", [3]Fate{Accepted, Dropped, either}},
		{"iptables", "DROP", "-s 10.0.0.0/24 -j ACCEPT", "", [3]Fate{either, either, either}},
		{"iptables", "DROP", "-m mark --mark 1 -j ACCEPT", "", [3]Fate{either, either, either}},
		{"iptables", "DROP", "-m comment --comment hello -j ACCEPT", "", [3]Fate{Accepted, Accepted, Accepted}},
		{"iptables", "ACCEPT", "-p udp --dport 5060 -j REJECT", "", [3]Fate{Dropped, Accepted, either}},
		{"iptables", "ACCEPT", "-p udp --dport 5060 -j DROP", "", [3]Fate{Dropped, Accepted, either}},
		{"iptables", "DROP", "-j LOG\n-j MARK --set-mark 1\n-j ACCEPT", "", [3]Fate{Accepted, Accepted, Accepted}},
		{"iptables", "DROP", "-j more\n-j ACCEPT", "-i eth0 -j DROP", [3]Fate{Dropped, Accepted, Accepted}},
		{"iptables", "DROP", "-j more\n-j ACCEPT", "-j RETURN", [3]Fate{Accepted, Accepted, Accepted}},
		{"iptables", "DROP", "-g more\n-j ACCEPT", "-i eth0 -j ACCEPT", [3]Fate{Accepted, Dropped, Dropped}},
	} {
		programs := []string{tt.program}
		if tt.program != "" {
			programs = []string{"iptables-nft", "iptables-legacy"}
		}
		for _, program := range programs {
			t.Run(strings.TrimSpace(program+" "+tt.policy+" "+tt.rules), func(t *testing.T) {
				netspace.New(t)
				if program == "" {
					nftRun(t, fmt.Sprintf("table inet fw {\nchain more {\n%s\n}\nchain forward {\ntype filter hook forward priority 0; policy %s;\n%s\n}\n}",
						tt.more, tt.policy, tt.rules))
				} else {
					script := "-t filter -N more\n-t filter -P FORWARD " + tt.policy
					for rule := range strings.Lines(tt.more) {
						script += "\n-t filter -A more " + rule
					}
					for rule := range strings.Lines(tt.rules) {
						script += "\n-t filter -A FORWARD " + strings.TrimSpace(rule)
					}
					iptables(t, program, script)
				}
				f := readFirewall(t)
				chains := f.Chains(KindFilter, Forward)
				if len(chains) != 1 {
					t.Fatalf("chains %v", chains)
				}
				for i, p := range []Packet{out, in, established} {
					if got := f.Fate(chains[0], p); got != tt.want[i] {
						t.Errorf("packet %d: fate %05b, want %05b", i, got, tt.want[i])
					}
				}
				must(t, f.Err())
			})
		}
	}
}
