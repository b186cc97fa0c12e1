package contrib

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sipnatd/internal/config"
)

// ports is a range of ports; of ICMP it is one of types.
type ports struct{ low, high int }

// packet is what the kernel compares with a rule. Port 0 of a source or
// destination is that of a further fragment, which has none.
type packet struct {
	iface    string
	proto    string
	src, dst netip.AddrPort
	syn      bool
	fragment bool
}

// rule is a command of ipchains(8), as far as filters need it:
//
//	-A chain [-i interface] [-p protocol] [-f] [[!] -y] [-s address [ports]] [-d address [ports]] -j target [-l]
type rule struct {
	chain, target  string
	iface, proto   string
	src, dst       netip.Prefix
	sports, dports ports
	fragment, log  bool
	syn, notSyn    bool
}

// chains are a packet filter of Linux 2.2.
type chains struct {
	policy map[string]string
	rules  []rule
}

// command takes a command line of ipchains, as its own parser would.
func (c *chains) command(args []string) error {
	next := func() string {
		if len(args) == 0 {
			return ""
		}
		arg := args[0]
		args = args[1:]
		return arg
	}
	builtin := []string{"input", "forward", "output"}
	switch verb, chain := next(), next(); {
	case verb == "-F" && chain == "":
		c.rules = nil
	case verb == "-P" && slices.Contains(builtin, chain) && len(args) == 1 && slices.Contains([]string{"ACCEPT", "DENY", "REJECT"}, args[0]):
		c.policy[chain] = args[0]
	case verb == "-A" && slices.Contains(builtin, chain):
		any := ports{0, 65535}
		all := netip.MustParsePrefix("0.0.0.0/0")
		r := rule{chain: chain, src: all, dst: all, sports: any, dports: any}
		for not := false; len(args) > 0; {
			var err error
			switch option := next(); {
			case option == "!" && len(args) > 0 && args[0] == "-y":
				not = true
			case option == "-y":
				r.syn, r.notSyn = !not, not
				not = false
			case option == "-f":
				r.fragment = true
			case option == "-l":
				r.log = true
			case option == "-i":
				r.iface = next()
			case option == "-p":
				r.proto = next()
			case option == "-j":
				r.target = next()
			case option == "-s":
				r.src, r.sports, args, err = address(args)
			case option == "-d":
				r.dst, r.dports, args, err = address(args)
			default:
				err = fmt.Errorf("unknown option %q", option)
			}
			if err != nil {
				return err
			}
		}
		portless := r.sports == any && r.dports == any
		switch {
		case !slices.Contains([]string{"ACCEPT", "DENY", "REJECT"}, r.target):
			return fmt.Errorf("target %q", r.target)
		case !slices.Contains([]string{"", "udp", "tcp", "icmp"}, r.proto):
			return fmt.Errorf("protocol %q", r.proto)
		case !portless && r.proto == "":
			return fmt.Errorf("ports without a protocol")
		case r.fragment && !portless:
			return fmt.Errorf("further fragments have no ports")
		case (r.syn || r.notSyn) && r.proto != "tcp":
			return fmt.Errorf("-y without TCP")
		}
		c.rules = append(c.rules, r)
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

// address takes "address[/bits] [port[:port]]" off the arguments.
func address(args []string) (net netip.Prefix, p ports, rest []string, err error) {
	p = ports{0, 65535}
	if len(args) == 0 {
		return net, p, nil, fmt.Errorf("no address")
	}
	text := args[0]
	switch {
	case text == "0/0":
		text = "0.0.0.0/0"
	case !strings.Contains(text, "/"):
		text += "/32"
	}
	if net, err = netip.ParsePrefix(text); err != nil {
		return net, p, nil, err
	}
	rest = args[1:]
	if len(rest) == 0 || strings.HasPrefix(rest[0], "-") || rest[0] == "!" {
		return net, p, rest, nil
	}
	low, high, isRange := strings.Cut(rest[0], ":")
	if p.low, err = strconv.Atoi(low); err != nil {
		return net, p, nil, err
	}
	if p.high = p.low; isRange {
		p.high, err = strconv.Atoi(high)
	}
	if err == nil && (p.low > p.high || p.high > 65535) {
		err = fmt.Errorf("ports %s", rest[0])
	}
	return net, p, rest[1:], err
}

func (p ports) contain(port uint16) bool { return p.low <= int(port) && int(port) <= p.high }

func (r rule) matches(p packet) bool {
	return (r.iface == "" || r.iface == p.iface) &&
		(r.proto == "" || r.proto == p.proto) &&
		(!r.fragment || p.fragment) &&
		(!r.syn || p.syn) && (!r.notSyn || !p.syn) &&
		r.src.Contains(p.src.Addr()) && r.sports.contain(p.src.Port()) &&
		r.dst.Contains(p.dst.Addr()) && r.dports.contain(p.dst.Port())
}

// verdict is what becomes of a packet in a chain.
func (c *chains) verdict(chain string, p packet) string {
	for _, r := range c.rules {
		if r.chain == chain && r.matches(p) {
			return r.target
		}
	}
	return c.policy[chain]
}

// run runs the script with an ipchains that only writes down how it is called.
func run(t *testing.T) *chains {
	t.Helper()
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	stub := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\n", calls)
	if err := os.WriteFile(filepath.Join(dir, "ipchains"), []byte(stub), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-eu", "ipchains/firewall.sh")
	cmd.Env = []string{"PATH=" + dir}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("the script: %v: %s", err, out)
	}
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	c := &chains{policy: make(map[string]string)}
	for line := range strings.Lines(string(text)) {
		if err := c.command(strings.Fields(line)); err != nil {
			t.Errorf("ipchains %s: %v", strings.TrimSpace(line), err)
		}
	}
	return c
}

// TestIPChains: the script is right for ipchains, and lets calls through to
// sipnatd without knowing of them.
func TestIPChains(t *testing.T) {
	c := run(t)
	defaults := config.Default()
	const sipnatd, provider, stranger = "203.0.113.1:", "203.0.113.10:", "192.0.2.9:"
	low, high := fmt.Sprint(defaults.RTPPortLow), fmt.Sprint(defaults.RTPPortHigh)
	for _, test := range []struct {
		name     string
		proto    string
		src, dst string
		change   func(*packet)
		want     string
	}{
		{"SIP out", "udp", sipnatd + "5060", provider + "5060", nil, "ACCEPT"},
		{"SIP in", "udp", provider + "5080", sipnatd + "5060", nil, "ACCEPT"},
		{"SIP of a stranger", "udp", stranger + "5060", sipnatd + "5060", nil, "DENY"},
		{"media out", "udp", sipnatd + low, stranger + "30000", nil, "ACCEPT"},
		{"media in, first port", "udp", stranger + "30000", sipnatd + low, nil, "ACCEPT"},
		{"media in, last port", "udp", stranger + "30000", sipnatd + high, nil, "ACCEPT"},
		{"below the range", "udp", stranger + "30000", sipnatd + fmt.Sprint(defaults.RTPPortLow-1), nil, "DENY"},
		{"above the range", "udp", stranger + "30000", sipnatd + fmt.Sprint(defaults.RTPPortHigh+1), nil, "DENY"},
		{"further fragment", "udp", provider + "0", sipnatd + "0", func(p *packet) { p.fragment = true }, "ACCEPT"},
		{"names", "udp", stranger + "53", sipnatd + "40000", nil, "ACCEPT"},
		{"TCP answers", "tcp", stranger + "80", sipnatd + "40000", nil, "ACCEPT"},
		{"TCP from outside", "tcp", stranger + "4000", sipnatd + "22", func(p *packet) { p.syn = true }, "DENY"},
		{"unreachable", "icmp", stranger + "3", sipnatd + "4", nil, "ACCEPT"},
		{"ping", "icmp", stranger + "8", sipnatd + "0", nil, "DENY"},
		{"its own address from outside", "udp", sipnatd + "5060", sipnatd + "5060", nil, "DENY"},
	} {
		p := packet{proto: test.proto, src: netip.MustParseAddrPort(test.src), dst: netip.MustParseAddrPort(test.dst)}
		if test.change != nil {
			test.change(&p)
		}
		// The input chain sees where a packet comes from, forward where it goes.
		outwards := strings.HasPrefix(test.src, sipnatd) && !strings.HasPrefix(test.dst, sipnatd)
		from, to := "eth1", "eth0"
		if outwards {
			from, to = to, from
		}
		got := "ACCEPT"
		for _, hop := range [][2]string{{"input", from}, {"forward", to}, {"output", to}} {
			p.iface = hop[1]
			if verdict := c.verdict(hop[0], p); verdict != "ACCEPT" {
				got = verdict
				break
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestIPChainsGrammar: the test itself notices what ipchains would refuse.
func TestIPChainsGrammar(t *testing.T) {
	for _, line := range []string{
		"", "-A", "-A nowhere -j ACCEPT", "-P forward DROP", "-A input -j DROP", "-A input",
		"-A input -s 10.0.0.0/40 -j DENY", "-A input -d 203.0.113.1 5060 -j ACCEPT",
		"-A input -p udp -d 203.0.113.1 7999:7070 -j ACCEPT", "-A input -p udp -d 203.0.113.1 sip -j ACCEPT",
		"-A forward -o eth0 -j ACCEPT", "-A forward -m state --state ESTABLISHED -j ACCEPT",
		"-A input -p udp ! -y -j ACCEPT", "-A input -f -p udp -d 203.0.113.1 5060 -j ACCEPT",
	} {
		c := &chains{policy: make(map[string]string)}
		if err := c.command(strings.Fields(line)); err == nil {
			t.Errorf("accepted: ipchains %s", line)
		}
	}
}
