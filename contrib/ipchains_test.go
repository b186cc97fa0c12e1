package contrib

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
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

// rule is the rule of a command of ipchains(8), as far as filters need it:
//
//	[-i interface] [-p protocol] [-f] [[!] -y] [-s address [ports]] [-d address [ports]] -j target [-l]
type rule struct {
	target         string
	iface, proto   string
	src, dst       netip.Prefix
	sports, dports ports
	fragment, log  bool
	syn, notSyn    bool
}

// box is what a Linux 2.2 knows of filtering.
type box struct {
	policy map[string]string
	rules  map[string][]rule
	// forwarded says where ipmasqadm has a port of the box's own go.
	forwarded map[netip.AddrPort]netip.AddrPort
}

func newBox() *box {
	b := &box{policy: make(map[string]string), rules: make(map[string][]rule), forwarded: make(map[netip.AddrPort]netip.AddrPort)}
	for _, chain := range builtin {
		b.policy[chain], b.rules[chain] = "ACCEPT", nil
	}
	return b
}

var (
	builtin = []string{"input", "forward", "output"}
	targets = []string{"ACCEPT", "DENY", "REJECT", "MASQ"}
)

// errRefused is what a right command gets that cannot be done now.
var errRefused = errors.New("refused")

// command does what a command line of ipchains says, as its own parser would read it.
func (b *box) command(args []string) error {
	next := func() string {
		if len(args) == 0 {
			return ""
		}
		arg := args[0]
		args = args[1:]
		return arg
	}
	verb, chain := next(), next()
	_, known := b.rules[chain]
	user := chain != "" && !slices.Contains(builtin, chain)
	if len(chain) > 8 || user && strings.ToLower(chain) != chain || strings.HasPrefix(chain, "-") {
		return fmt.Errorf("chain %q", chain)
	}
	switch {
	case verb == "-F" && chain == "":
		for name := range b.rules {
			b.rules[name] = nil
		}
		return nil
	case verb == "-P" && !user && chain != "" && len(args) == 1 && slices.Contains(targets, args[0]):
		b.policy[chain] = args[0]
		return nil
	case verb == "-N" && user && len(args) == 0:
		if known {
			return errRefused
		}
		b.rules[chain] = nil
		return nil
	case chain != "" && !known:
		if slices.Contains([]string{"-F", "-X", "-A", "-I", "-D", "-L"}, verb) {
			return errRefused
		}
	case verb == "-F" && len(args) == 0:
		b.rules[chain] = nil
		return nil
	case verb == "-X" && user && len(args) == 0:
		for _, list := range b.rules {
			if slices.ContainsFunc(list, func(r rule) bool { return r.target == chain }) {
				return errRefused
			}
		}
		if len(b.rules[chain]) > 0 {
			return errRefused
		}
		delete(b.rules, chain)
		return nil
	case verb == "-L" && len(args) == 1 && args[0] == "-n":
		return nil
	case slices.Contains([]string{"-A", "-I", "-D"}, verb):
		r, err := b.parse(args)
		if err != nil {
			return err
		}
		if r.target == "MASQ" && chain != "forward" && !user {
			return fmt.Errorf("MASQ in %s", chain)
		}
		list := b.rules[chain]
		switch at := slices.Index(list, r); {
		case verb == "-A":
			list = append(list, r)
		case verb == "-I":
			list = slices.Insert(list, 0, r)
		case at < 0:
			return errRefused
		default:
			list = slices.Delete(list, at, at+1)
		}
		b.rules[chain] = list
		return nil
	}
	return fmt.Errorf("unknown command")
}

// parse reads a rule.
func (b *box) parse(args []string) (rule, error) {
	next := func() string {
		if len(args) == 0 {
			return ""
		}
		arg := args[0]
		args = args[1:]
		return arg
	}
	any := ports{0, 65535}
	all := netip.MustParsePrefix("0.0.0.0/0")
	r := rule{src: all, dst: all, sports: any, dports: any}
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
		case option == "-l" || option == "--log":
			r.log = true
		case option == "-i":
			r.iface = next()
		case option == "-p" || option == "--proto":
			r.proto = next()
		case option == "-j":
			r.target = next()
		case option == "-s":
			r.src, r.sports, args, err = address(args)
		case option == "-d":
			r.dst, r.dports, args, err = address(args)
		case option == "--dport":
			r.dports, err = portRange(next())
		default:
			err = fmt.Errorf("unknown option %q", option)
		}
		if err != nil {
			return r, err
		}
	}
	portless := r.sports == any && r.dports == any
	_, chain := b.rules[r.target]
	switch {
	case !slices.Contains(targets, r.target) && !chain:
		if r.target == strings.ToLower(r.target) && r.target != "" {
			return r, errRefused // a chain that is not there
		}
		return r, fmt.Errorf("target %q", r.target)
	case !slices.Contains([]string{"", "udp", "tcp", "icmp"}, r.proto):
		return r, fmt.Errorf("protocol %q", r.proto)
	case !portless && r.proto == "":
		return r, fmt.Errorf("ports without a protocol")
	case r.fragment && !portless:
		return r, fmt.Errorf("further fragments have no ports")
	case (r.syn || r.notSyn) && r.proto != "tcp":
		return r, fmt.Errorf("-y without TCP")
	}
	return r, nil
}

// masquerade does what a command line of ipmasqadm(8) says:
//
//	portfw -a -P protocol -L address port -R address port
//	portfw -d -P protocol -L address port
func (b *box) masquerade(args []string) error {
	if len(args) < 7 || args[0] != "portfw" || args[2] != "-P" || args[3] != "udp" || args[4] != "-L" {
		return fmt.Errorf("unknown command")
	}
	local, err := netip.ParseAddrPort(args[5] + ":" + args[6])
	if err != nil {
		return err
	}
	_, known := b.forwarded[local]
	switch verb, rest := args[1], args[7:]; {
	case verb == "-d" && len(rest) == 0:
		if !known {
			return errRefused
		}
		delete(b.forwarded, local)
		return nil
	case verb == "-a" && len(rest) == 3 && rest[0] == "-R":
		to, err := netip.ParseAddrPort(rest[1] + ":" + rest[2])
		if err != nil {
			return err
		}
		if known {
			return errRefused
		}
		b.forwarded[local] = to
		return nil
	}
	return fmt.Errorf("unknown command")
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
	p, err = portRange(rest[0])
	return net, p, rest[1:], err
}

// portRange reads "port[:port]".
func portRange(text string) (p ports, err error) {
	low, high, isRange := strings.Cut(text, ":")
	if p.low, err = strconv.Atoi(low); err != nil {
		return p, err
	}
	if p.high = p.low; isRange {
		p.high, err = strconv.Atoi(high)
	}
	if err == nil && (p.low > p.high || p.high > 65535) {
		err = fmt.Errorf("ports %s", text)
	}
	return p, err
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
func (b *box) verdict(chain string, p packet) string {
	for _, r := range b.rules[chain] {
		if !r.matches(p) {
			continue
		}
		if slices.Contains(targets, r.target) {
			return r.target
		}
		if v := b.verdict(r.target, p); v != "" {
			return v
		}
	}
	return b.policy[chain]
}

// callsVariable names the file in which the programs of a box write down what they are
// told.
const callsVariable = "SIPNATD_TEST_CALLS"

// The programs of the box are this test program by another name. They write down what
// they are told and do it to a box that was told the same before.
func TestMain(m *testing.M) {
	program := filepath.Base(os.Args[0])
	if program != "ipchains" && program != "ipmasqadm" {
		os.Exit(m.Run())
	}
	calls := os.Getenv(callsVariable)
	line := strings.Join(append([]string{program}, os.Args[1:]...), " ")
	b, err := replay(calls)
	if err == nil {
		err = b.do(line)
	}
	if err != nil && err != errRefused {
		line = "wrong: " + line + ": " + err.Error()
	}
	if err != errRefused {
		f, err := os.OpenFile(calls, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintln(f, line)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, line, err)
		os.Exit(1)
	}
}

// do runs a command line.
func (b *box) do(line string) error {
	words := strings.Fields(line)
	if words[0] == "ipmasqadm" {
		return b.masquerade(words[1:])
	}
	return b.command(words[1:])
}

// replay makes the box of the commands that were written down.
func replay(calls string) (*box, error) {
	b := newBox()
	text, err := os.ReadFile(calls)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if err := b.do(line); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	return b, nil
}

// stock is a filter of Linux 2.2 as its administrator has it: nothing comes in but
// answers, nothing goes through.
const stock = `ipchains -P input DENY
ipchains -P forward DENY
ipchains -A input -i lo -j ACCEPT
ipchains -A input -i eth0 -j ACCEPT
ipchains -A input -i ppp0 -s 203.0.113.1 -j DENY -l
ipchains -A input -i ppp0 -p tcp ! -y -j ACCEPT
`

// A site is a box with Linux 2.2 on which a script is run.
type site struct {
	t                  *testing.T
	dir, calls, script string
}

func newSite(t *testing.T, script string) *site {
	dir := t.TempDir()
	s := &site{t, dir, filepath.Join(dir, "calls"), script}
	program, err := os.Executable()
	must(t, err)
	for _, name := range []string{"ipchains", "ipmasqadm"} {
		must(t, os.Symlink(program, filepath.Join(s.dir, name)))
	}
	must(t, os.WriteFile(s.calls, []byte(stock), 0o644))
	return s
}

// run runs the script, wants it to end with a status, and gives the box after it.
func (s *site) run(action string, status int) *box {
	s.t.Helper()
	sh, err := exec.LookPath("sh")
	must(s.t, err)
	cmd := exec.Command(sh, "-s", action)
	cmd.Stdin = strings.NewReader(s.script)
	cmd.Env = []string{"PATH=" + s.dir, callsVariable + "=" + s.calls}
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status || len(out) > 0 {
		s.t.Fatalf("%s: status %d, want %d: %s", action, got, status, out)
	}
	b, err := replay(s.calls)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// The packets of a call that a box in front has to let by, from outside and from
// sipnatd at an address. Those that are not let by are denied.
const (
	publicAddr = "203.0.113.1:"
	provider   = "198.51.100.10:"
	stranger   = "192.0.2.9:"
)

var packets = []struct {
	name     string
	proto    string
	src, dst string
	change   func(*packet)
	passes   bool
}{
	{"SIP in", "udp", provider + "5080", publicAddr + "5060", nil, true},
	{"media in, first port", "udp", stranger + "30000", publicAddr + "7070", nil, true},
	{"media in, last port", "udp", stranger + "30000", publicAddr + "7080", nil, true},
	{"below the range", "udp", stranger + "30000", publicAddr + "7069", nil, false},
	{"above the range", "udp", stranger + "30000", publicAddr + "7081", nil, false},
	{"another port", "udp", stranger + "5060", publicAddr + "111", nil, false},
	{"TCP from outside", "tcp", stranger + "4000", publicAddr + "22", func(p *packet) { p.syn = true }, false},
	{"ping", "icmp", stranger + "8", publicAddr + "0", nil, false},
	{"SIP from its own address", "udp", publicAddr + "5060", publicAddr + "22", nil, false},
}

func made(proto, src, dst, iface string, change func(*packet)) packet {
	p := packet{iface: iface, proto: proto, src: netip.MustParseAddrPort(src), dst: netip.MustParseAddrPort(dst)}
	if change != nil {
		change(&p)
	}
	return p
}

// TestIPChainsMasquerading: on the masquerading firewall of siproxd's README, with
// sipnatd on a machine behind it, the script is right for ipchains and lets calls by.
func TestIPChainsMasquerading(t *testing.T) {
	text, err := os.ReadFile("ipchains/ipchains.sh")
	must(t, err)
	s := newSite(t, string(text))
	before := s.run("remove", 0)
	s.run("status", 3)
	b := s.run("start", 0)
	if again := s.run("start", 0); fmt.Sprint(b) != fmt.Sprint(again) {
		t.Errorf("started twice it is %v, was %v", again, b)
	}
	s.run("status", 0)
	for _, test := range packets {
		p := made(test.proto, test.src, test.dst, "ppp0", test.change)
		got := b.verdict("input", p) == "ACCEPT"
		if got && p.proto == "udp" {
			to, forwarded := b.forwarded[p.dst]
			got = forwarded && to == netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), p.dst.Port())
		}
		if got != test.passes {
			t.Errorf("%s: passes %v", test.name, got)
		}
	}
	out := made("udp", "10.0.0.2:5060", provider+"5060", "ppp0", nil)
	if got := b.verdict("forward", out); got != "MASQ" {
		t.Errorf("SIP out: %s", got)
	}
	answer := made("udp", provider+"5060", publicAddr+"61000", "ppp0", nil)
	if got := b.verdict("input", answer); got != "ACCEPT" {
		t.Errorf("the answer to a masqueraded packet: %s", got)
	}
	if after := s.run("remove", 0); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("removed it leaves %v, was %v", after, before)
	}
	s.run("remove", 0)
}

// TestIPChainsFilter: in front of a sipnatd that has a public address, the box only
// filters.
func TestIPChainsFilter(t *testing.T) {
	cfg := scenario()
	cfg.PublicAddr = netip.MustParseAddr("203.0.113.1")
	s := newSite(t, written(t, "ipchains", cfg))
	before := s.run("remove", 0)
	b := s.run("start", 0)
	if again := s.run("start", 0); fmt.Sprint(b) != fmt.Sprint(again) {
		t.Errorf("started twice it is %v, was %v", again, b)
	}
	// In the forward chain -i is where a packet leaves.
	through := func(p packet, from, to string) bool {
		p.iface = from
		if b.verdict("input", p) != "ACCEPT" {
			return false
		}
		p.iface = to
		return b.verdict("forward", p) == "ACCEPT"
	}
	for _, test := range packets {
		p := made(test.proto, test.src, test.dst, "", test.change)
		if got := through(p, "ppp0", "eth0"); got != test.passes {
			t.Errorf("%s: passes %v", test.name, got)
		}
	}
	for _, to := range []string{provider + "5060", stranger + "30000"} {
		if p := made("udp", publicAddr+"7070", to, "", nil); !through(p, "eth0", "ppp0") {
			t.Errorf("out to %s: does not pass", to)
		}
	}
	piece := made("udp", provider+"0", publicAddr+"0", "", func(p *packet) { p.fragment = true })
	if !through(piece, "ppp0", "eth0") {
		t.Error("the further pieces of a long INVITE do not pass")
	}
	if after := s.run("remove", 0); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("removed it leaves %v, was %v", after, before)
	}
}

// The rules as siproxd's README has them are commands of ipchains.
func TestIPChainsReadme(t *testing.T) {
	b := newBox()
	for _, line := range []string{
		"-A input --proto udp --dport 5060 --log -j ACCEPT",
		"-A input --proto udp --dport 7070:7080 -j ACCEPT",
		"-A forward -i ppp0 -j MASQ -s 10.0.0.0/24 -d 0.0.0.0/0",
	} {
		if err := b.command(strings.Fields(line)); err != nil {
			t.Errorf("ipchains %s: %v", line, err)
		}
	}
}

// The grammar of this test refuses what ipchains would.
func TestIPChainsWrong(t *testing.T) {
	for _, line := range []string{
		"", "-A", "-A nowhere -j ACCEPT", "-P forward DROP", "-A input -j DROP", "-A input",
		"-A input -s 10.0.0.0/40 -j DENY", "-A input -d 203.0.113.1 5060 -j ACCEPT",
		"-A input -p udp -d 203.0.113.1 7999:7070 -j ACCEPT", "-A input -p udp -d 203.0.113.1 sip -j ACCEPT",
		"-A forward -o eth0 -j ACCEPT", "-A forward -m state --state ESTABLISHED -j ACCEPT",
		"-A input -p udp ! -y -j ACCEPT", "-A input -f -p udp -d 203.0.113.1 5060 -j ACCEPT",
		"-N sipnatd-in", "-N SIP", "-N input", "-X input", "-X nothing", "-D input -j ACCEPT", "-A input -j MASQ",
		"-A input -j nowhere", "-C input -j ACCEPT",
	} {
		if err := newBox().command(strings.Fields(line)); err == nil {
			t.Errorf("accepted: ipchains %s", line)
		}
	}
	for _, line := range []string{
		"", "portfw -a -P udp -L 203.0.113.1 5060", "portfw -a -P udp -L 203.0.113.1:5060 -R 10.0.0.2:5060",
		"portfw -a -p udp -L 203.0.113.1 5060 -R 10.0.0.2 5060", "portfw -d -P udp -L 203.0.113.1 5060",
		"autofw -A -r udp 7070 7080 -h 10.0.0.2",
	} {
		if err := newBox().masquerade(strings.Fields(line)); err == nil {
			t.Errorf("accepted: ipmasqadm %s", line)
		}
	}
}
