package contrib

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sipnatd/rules"
)

var update = flag.Bool("update", false, "write the rule files anew")

// scenario is that of siproxd's README, in which siproxd itself is spoken to.
func scenario() rules.Config {
	return rules.Config{
		Inside: []string{"eth0"}, Outside: []string{"ppp0"},
		InsideNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		SIPPorts:       []uint16{5060},
		Bypass:         true,
		QueueFirst:     5060, Queues: 1,
		PortLow: 7070, PortHigh: 7080,
		ListenPort: 5060, Callers: true,
	}
}

// behind is the scenario with its masquerading firewall still a Linux 2.2, and sipnatd
// on another machine behind it.
func behind() rules.Config {
	cfg := scenario()
	cfg.PublicAddr = netip.MustParseAddr("10.0.0.2")
	cfg.Announced = netip.MustParseAddr("203.0.113.1")
	return cfg
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// written is the rule file of a format.
func written(t *testing.T, format string, cfg rules.Config) string {
	t.Helper()
	var out bytes.Buffer
	must(t, rules.Write(&out, format, cfg, rules.Options{}))
	return out.String()
}

// The rule files are what the generator writes for the scenario.
func TestGenerated(t *testing.T) {
	for _, file := range []struct {
		name, format string
		cfg          rules.Config
		mode         os.FileMode
	}{
		{"iptables/firewall.rules", "iptables", scenario(), 0o644},
		{"iptables/firewall6.rules", "ip6tables", scenario(), 0o644},
		{"iptables/iptables.sh", "iptables-script", scenario(), 0o755},
		{"iptables/ip6tables.sh", "ip6tables-script", scenario(), 0o755},
		{"ipchains/ipchains.sh", "ipchains", behind(), 0o755},
	} {
		want := written(t, file.format, file.cfg)
		if *update {
			must(t, os.WriteFile(file.name, []byte(want), file.mode))
		}
		got, err := os.ReadFile(file.name)
		must(t, err)
		if string(got) != want {
			t.Errorf("%s is not what the generator writes: go test ./contrib -update", file.name)
		}
	}
}

// The two rules that siproxd's README gives are there, the one that is not needed any
// more as a comment.
func TestReadmeRules(t *testing.T) {
	for _, name := range []string{"iptables/firewall.rules", "iptables/iptables.sh"} {
		text, err := os.ReadFile(name)
		must(t, err)
		for _, line := range []string{
			"\n-A SIPNATD_INPUT -i ppp0 -p udp -m udp --dport 5060 -j ACCEPT\n",
			"\n# -A SIPNATD_INPUT -i ppp0 -p udp -m udp --dport 7070:7080 -j ACCEPT\n",
		} {
			if strings.Count(string(text), line) != 1 {
				t.Errorf("%s has not once: %s", name, strings.TrimSpace(line))
			}
		}
	}
}

// initScripts are the init scripts, each with the rule scripts that it runs.
var initScripts = map[string][]string{
	"iptables/sipnatd-firewall": {"iptables.sh", "ip6tables.sh"},
	"ipchains/sipnatd-firewall": {"ipchains.sh"},
}

// The init scripts do as the Linux Standard Base wants it, with the statuses that the
// rule scripts give.
func TestInitScripts(t *testing.T) {
	for script, files := range initScripts {
		t.Run(script, func(t *testing.T) {
			dir := t.TempDir()
			call := func(action string, want int, calls string) {
				t.Helper()
				log := filepath.Join(dir, "calls")
				os.Remove(log)
				cmd := exec.Command("sh", script, action)
				cmd.Env = append(os.Environ(), "SIPNATD_RULES="+dir)
				out, err := cmd.CombinedOutput()
				if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
					t.Fatal(err)
				}
				made, _ := os.ReadFile(log)
				if got := cmd.ProcessState.ExitCode(); got != want || string(made) != calls {
					t.Errorf("%s: status %d, want %d; calls %q, want %q; %s", action, got, want, made, calls, out)
				}
			}
			all := func(action string) (calls string) {
				for _, name := range files {
					calls += name + " " + action + "\n"
				}
				return calls
			}
			// stub writes down its calls, and fails where a file says so.
			stub := func(name string) {
				text := fmt.Sprintf("echo \"%s $1\" >>%s/calls\n[ ! -e %[2]s/fails ] || exit 3\n", name, dir)
				must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
			}

			call("start", 5, "")
			for _, name := range files {
				stub(name)
			}
			call("start", 0, all("start"))
			call("restart", 0, all("start"))
			call("force-reload", 0, all("start"))
			call("stop", 0, all("remove"))
			call("status", 0, all("status"))
			call("begin", 2, "")
			call("", 2, "")
			must(t, os.WriteFile(filepath.Join(dir, "fails"), nil, 0o644))
			call("status", 3, all("status"))
			call("start", 3, all("start"))
		})
	}
}

// shellcheck has nothing to say about any script.
func TestShellcheck(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		if os.Getenv("SIPNATD_CI") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	args := []string{"iptables/iptables.sh", "iptables/ip6tables.sh", "ipchains/ipchains.sh"}
	for name := range initScripts {
		args = append(args, name)
	}
	if out, err := exec.Command("shellcheck", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
