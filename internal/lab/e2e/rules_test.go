package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"sipnatd/internal/lab"
)

// generated is a firewall that is loaded with what "sipnatd rules" writes, and with
// nothing else but what before says.
type generated struct {
	args    []string // of sipnatd rules
	before  func(fw *lab.Host) error
	load    []string // the command that reads the file
	backend lab.Backend
}

// policyDrop is an iptables firewall that lets nothing in and nothing through.
func policyDrop(iptables string) func(fw *lab.Host) error {
	return func(fw *lab.Host) error {
		_, err := fw.Pipe("*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT ACCEPT\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -j DROP\nCOMMIT\n", iptables+"-restore")
		return err
	}
}

// withJumps is an nftables firewall that accepts what the chains of sipnatd accept,
// and masquerades.
func withJumps(fw *lab.Host) error {
	_, err := fw.Pipe(`table inet filter {
	chain sipnatd_input {
	}
	chain sipnatd_forward {
	}
	chain input {
		type filter hook input priority filter; policy drop;
		jump sipnatd_input
		iifname "lo" accept
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		jump sipnatd_forward
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "ppp0" masquerade
	}
}
`, "nft", "-f", "-")
	return err
}

// queueStatement is a line that ends in a queue.
var queueStatement = regexp.MustCompile(`(?m)^.*\bqueue (flags bypass )?to [0-9]+$`)

// TestRules: calls through firewalls that are loaded with the files of the rule
// generator.
func TestRules(t *testing.T) {
	t.Parallel()
	for name, g := range map[string]generated{
		"nft, whole":              {[]string{"-whole", "nft"}, nil, []string{"nft", "-f", "-"}, lab.Nftables},
		"nft, beside":             {[]string{"nft"}, withJumps, []string{"nft", "-f", "-"}, lab.Nftables},
		"iptables, legacy":        {[]string{"iptables"}, nil, []string{"iptables-legacy-restore"}, lab.IPTablesLegacy},
		"iptables, nft":           {[]string{"iptables"}, nil, []string{"iptables-nft-restore"}, lab.IPTablesNFT},
		"iptables-script, legacy": {[]string{"iptables-script"}, policyDrop("iptables-legacy"), []string{"env", "IPTABLES=iptables-legacy", "sh"}, lab.IPTablesLegacy},
		"iptables-script, nft":    {[]string{"iptables-script"}, policyDrop("iptables-nft"), []string{"env", "IPTABLES=iptables-nft", "sh"}, lab.IPTablesNFT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for name, run := range map[string]func(*testing.T, lab.Firewall){
				"an agent calls out":                 agentCallsOut,
				"an agent is called after a silence": agentIsCalledAfterSilence,
				"baresip calls out":                  baresipCallsOut,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run(t, lab.Firewall{Backend: g.backend, Load: g.loader(t)})
				})
			}
		})
	}
}

// loader loads the file that the program writes in the firewall itself.
func (g generated) loader(t *testing.T) func(fw *lab.Host) error {
	bin, err := lab.BuildDaemon()
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "sipnatd.conf")
	if err := os.WriteFile(conf, []byte(lab.Config), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(fw *lab.Host) error {
		if g.before != nil {
			if err := g.before(fw); err != nil {
				return err
			}
		}
		text, err := fw.Output(append([]string{bin, "rules", "-c", conf}, g.args...)...)
		if err != nil {
			return err
		}
		if !queues(fw) {
			text = queueStatement.ReplaceAllString(text, "")
		}
		if _, err := fw.Pipe(text, g.load...); err != nil {
			return fmt.Errorf("%s: %w", g.load, err)
		}
		return nil
	}
}

// queues reports whether the kernel has nftables' queue statement. The daemon has
// another way where it has not; a file has none.
func queues(fw *lab.Host) bool {
	_, err := fw.Pipe("table ip probe {\n\tchain probe {\n\t\tqueue to 1\n\t}\n}\n", "nft", "-c", "-f", "-")
	return err == nil || lab.StockKernel()
}
