package rules

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sipnatd/internal/netspace"
	"sipnatd/internal/nft"
)

// command runs a program in the test's namespace on a text, and gives what it writes.
func command(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(argv, " "), err, errs.String(), stdin)
	}
	return string(out)
}

// configurations have every choice at least once.
func configurations() map[string]Config {
	proxy := scenario()
	proxy.ListenPort, proxy.Callers = 5060, true
	many := scenario()
	many.Inside, many.Outside = []string{"eth0", "br-lan.3"}, []string{"ppp0", "ppp1"}
	many.InsideNetworks = append(many.InsideNetworks, netip.MustParsePrefix("10.3.0.0/16"))
	many.SIPPorts = []uint16{5060, 5080}
	many.SIPPeers = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.7/32")}
	many.AcceptAny, many.MediaAny, many.HairpinRouter, many.Bypass = true, true, true, false
	many.SIPDSCP, many.RTPDSCP = 24, 46
	many.Queues = 4
	many.ListenPort, many.TCPPort = 5070, 5058
	many.PublicAddr = netip.MustParseAddr("203.0.113.1")
	behind := scenario()
	behind.ListenPort = 5060
	behind.InsideNetworks = nil
	behind.PublicAddr, behind.Announced = netip.MustParseAddr("192.168.1.2"), netip.MustParseAddr("203.0.113.1")
	return map[string]Config{"scenario": scenario(), "proxy": proxy, "many": many, "behind": behind}
}

// queueStatement is a line that ends in a queue.
var queueStatement = regexp.MustCompile(`(?m)^.*\bqueue (flags bypass )?to [0-9]+$`)

// An nftables file loads, twice is as once, and taken away it leaves what was there.
func TestNFT(t *testing.T) {
	for name, cfg := range configurations() {
		for _, whole := range []bool{false, true} {
			form := map[bool]string{true: ", whole", false: ""}[whole]
			t.Run(name+form, func(t *testing.T) {
				netspace.New(t)
				features, err := nft.Probe()
				must(t, err)
				text := written(t, "nft", cfg, Options{Whole: whole})
				if !features.NativeQueue {
					t.Log("this kernel has no queue statement: the file is tried without it")
					text = queueStatement.ReplaceAllString(text, "")
				}
				if !whole {
					command(t, "table inet filter {\n\tchain mine {\n\t\taccept\n\t}\n}\n", "nft", "-f", "-")
				}
				ruleset := func() string { return command(t, "", "nft", "list", "ruleset") }
				before := ruleset()
				command(t, text, "nft", "-c", "-f", "-")
				if got := ruleset(); got != before {
					t.Fatalf("the check has changed\n%s\nto\n%s", before, got)
				}
				command(t, text, "nft", "-f", "-")
				once := ruleset()
				command(t, text, "nft", "-f", "-")
				if got := ruleset(); got != once {
					t.Errorf("loaded twice it is\n%s\nwas\n%s", got, once)
				}
				remove := written(t, "nft", cfg, Options{Whole: whole, Remove: true})
				for range 2 {
					command(t, remove, "nft", "-f", "-")
					if got := ruleset(); got != before {
						t.Errorf("taken away it leaves\n%s\nwas\n%s", got, before)
					}
				}
			})
		}
	}
}

// siproxd.nft loads as it is, on a kernel that has the queue statement.
func TestSiproxdNFT(t *testing.T) {
	netspace.New(t)
	features, err := nft.Probe()
	must(t, err)
	if !features.NativeQueue {
		t.Skip("this kernel has no queue statement")
	}
	for range 2 {
		command(t, "", "nft", "-f", "siproxd.nft")
	}
	if got := command(t, "", "nft", "list", "table", "ip", "sipnatd"); !strings.Contains(got, "queue flags bypass to 5060") {
		t.Errorf("it is\n%s", got)
	}
}

// A changed configuration leaves nothing of the old one.
func TestNFTChanged(t *testing.T) {
	netspace.New(t)
	load := func(cfg Config) string {
		text := written(t, "nft", cfg, Options{})
		command(t, queueStatement.ReplaceAllString(text, ""), "nft", "-f", "-") // other kernels, too
		return command(t, "", "nft", "list", "ruleset")
	}
	all := configurations()
	want := load(all["scenario"])
	load(all["many"])
	if got := load(all["scenario"]); got != want {
		t.Errorf("it is\n%s\nwas\n%s", got, want)
	}
}

// A family of iptables: the program that both of its kinds come with.
var kinds = []string{"legacy", "nft"}

// saved is what PROGRAM-save prints, without comments and counts; chains that are
// built in are left out as long as they are empty and accept.
func saved(t *testing.T, program string) string {
	t.Helper()
	out := command(t, "", program+"-save")
	out = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(out, "")
	out = regexp.MustCompile(` \[[0-9:]+\]`).ReplaceAllString(out, "")
	return regexp.MustCompile(`(?m)^(:[A-Z]+ ACCEPT|\*[a-z]+|COMMIT)\n`).ReplaceAllString(out, "")
}

// need skips where the kernel has not got the tables of an iptables, by its own word.
func need(t *testing.T, program string) {
	t.Helper()
	for _, table := range []string{"filter", "nat"} {
		out, err := exec.Command(program, "-t", table, "-S").CombinedOutput()
		// xtables: RESOURCE_PROBLEM and VERSION_PROBLEM, the table is not there.
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && (exit.ExitCode() == 3 || exit.ExitCode() == 4) {
			t.Skipf("the kernel has no %s: %s", program, out)
		}
	}
}

// Whole firewalls for iptables-restore pass its test, twice is as once, and what takes
// sipnatd's part away leaves the firewall.
func TestIPTables(t *testing.T) {
	for name, cfg := range configurations() {
		for _, family := range []string{"iptables", "ip6tables"} {
			for _, kind := range kinds {
				t.Run(name+", "+family+"-"+kind, func(t *testing.T) {
					netspace.New(t)
					program := family + "-" + kind
					need(t, program)
					text := written(t, family, cfg, Options{})
					before := saved(t, program)
					command(t, text, program+"-restore", "--test")
					if got := saved(t, program); got != before {
						t.Fatalf("the test has changed\n%s\nto\n%s", before, got)
					}
					command(t, text, program+"-restore")
					once := saved(t, program)
					command(t, text, program+"-restore")
					if got := saved(t, program); got != once {
						t.Errorf("loaded twice it is\n%s\nwas\n%s", got, once)
					}
					want := regexp.MustCompile(`(?m)^-A SIPNATD_.*\n`).ReplaceAllString(once, "")
					if want == once {
						t.Errorf("nothing of sipnatd in\n%s", once)
					}
					remove := written(t, family, cfg, Options{Remove: true})
					for range 2 {
						command(t, remove, program+"-restore", "--noflush")
						if got := saved(t, program); got != want {
							t.Errorf("taken away it leaves\n%s\nwant\n%s", got, want)
						}
					}
				})
			}
		}
	}
}

// Scripts add to a firewall, once however often they run, before what drops, and take
// away all of it.
func TestIPTablesScript(t *testing.T) {
	const mine = "*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT ACCEPT\n-A INPUT -j DROP\n-A FORWARD -j DROP\nCOMMIT\n"
	cfg := configurations()["many"] // what others have less of takes as long
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, kind := range kinds {
			t.Run(family+"-"+kind, func(t *testing.T) {
				netspace.New(t)
				program := family + "-" + kind
				need(t, program)
				command(t, mine, program+"-restore")
				before := saved(t, program)
				script := written(t, family+"-script", cfg, Options{})
				run := func(script, action string) (status int) {
					t.Helper()
					cmd := exec.Command("sh", "-s", action)
					if action == "" {
						cmd = exec.Command("sh")
					}
					cmd.Env = append(os.Environ(), strings.ToUpper(family)+"="+program)
					cmd.Stdin = strings.NewReader(script)
					out, err := cmd.CombinedOutput()
					if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
						t.Fatal(err)
					}
					for line := range strings.Lines(string(out)) {
						if !strings.Contains(line, "-legacy tables present") {
							t.Errorf("%s: it says %s", action, line)
						}
					}
					return cmd.ProcessState.ExitCode()
				}
				want := func(action string, got, want int) {
					t.Helper()
					if got != want {
						t.Errorf("%s: status %d, want %d", action, got, want)
					}
				}
				want("status", run(script, "status"), 3)
				want("no action", run(script, ""), 0)
				once := saved(t, program)
				if i, j := strings.Index(once, "-A FORWARD -j SIPNATD_FORWARD"), strings.Index(once, "-A FORWARD -j DROP"); i < 0 || i > j {
					t.Errorf("it comes after what drops:\n%s", once)
				}
				want("start", run(script, "start"), 0)
				if got := saved(t, program); got != once {
					t.Errorf("started twice it is\n%s\nwas\n%s", got, once)
				}
				want("status", run(script, "status"), 0)
				for _, removal := range [][2]string{{script, "remove"}, {script, "remove"}, {written(t, family+"-script", cfg, Options{Remove: true}), ""}} {
					want("remove", run(removal[0], removal[1]), 0)
					if got := saved(t, program); got != before {
						t.Errorf("taken away it leaves\n%s\nwas\n%s", got, before)
					}
					want("status", run(script, "status"), 3)
					run(script, "start")
				}
			})
		}
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
	dir := t.TempDir()
	args := []string{"-s", "sh"}
	seen := make(map[string]bool)
	for _, name := range []string{"many", "behind"} { // every branch of a template
		cfg := configurations()[name]
		for _, f := range formats {
			for _, remove := range []bool{false, true} {
				text := written(t, f.Name, cfg, Options{Remove: remove})
				if !strings.HasPrefix(text, "#!/bin/sh\n") || seen[text] {
					continue
				}
				seen[text] = true
				file := dir + "/" + f.Name + "-" + name + map[bool]string{true: "-remove", false: ""}[remove]
				must(t, os.WriteFile(file, []byte(text), 0o644))
				args = append(args, file)
			}
		}
	}
	if out, err := exec.Command("shellcheck", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
