package nft

import (
	"strings"
	"testing"

	"sipnatd/internal/netspace"
)

// TestSIPHelperRules finds the rules that assign the kernel's SIP helper, however
// they do it, and those alone.
func TestSIPHelperRules(t *testing.T) {
	const objects = `table inet fw {
		ct helper voice {
			type "sip" protocol udp;
		}
		ct helper files {
			type "ftp" protocol tcp;
		}
		counter seen {
		}
		map services {
			type inet_service : counter
			elements = { 5060 : "seen" }
		}
		chain prerouting {
			type filter hook prerouting priority 0;
			%
		}
	}`
	for _, tt := range []struct {
		name, rule string
		found      bool
	}{
		{"assigned", `udp dport 5060 ct helper set "voice"`, true},
		{"by a map", `ct helper set udp dport map { 5060 : "voice", 5061 : "voice" }`, true},
		{"another helper", `tcp dport 21 ct helper set "files"`, false},
		{"by a map, another helper", `ct helper set tcp dport map { 21 : "files" }`, false},
		{"looked at", `ct helper "sip" counter`, false},
		{"a map of counters", `counter name udp dport map @services`, false},
		{"nothing", ``, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			netspace.New(t)
			open(t, reference())
			nftRun(t, strings.Replace(objects, "%", tt.rule, 1))
			got, err := readFirewall(t).SIPHelperRules()
			must(t, err)
			if (len(got) > 0) != tt.found || tt.found && !strings.Contains(got[0].String(), "in table fw, chain prerouting") {
				t.Errorf("%s: found %q", tt.rule, got)
			}
		})
	}
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program, func(t *testing.T) {
			netspace.New(t)
			iptables(t, program, "-t raw -A PREROUTING -p udp --dport 5060 -j CT --helper sip\n-t raw -A PREROUTING -p udp -j CT --notrack")
			got, err := readFirewall(t).SIPHelperRules()
			must(t, err)
			if len(got) != 1 || !strings.Contains(got[0].String(), "in table raw, chain PREROUTING") {
				t.Errorf("found %q", got)
			}
		})
	}
}
