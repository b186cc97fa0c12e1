package check

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"sipnatd/internal/config"
	"sipnatd/internal/divert"
	"sipnatd/internal/netspace"
)

// roleVariable makes the test program be another program.
const roleVariable = "SIPNATD_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		return
	}
	os.Exit(run(m))
}

// programs is a directory with copies of the test program under other names. A file
// that has just been written cannot be executed while another test starts a program.
var programs string

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"sipnatd", "siproxd", "suricata"} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			panic(err)
		}
	}
	programs = dir
	return m.Run()
}

// play serves a queue, or just stays, until nobody writes to it any more.
func play(role string) {
	if role == "queue" {
		d, err := divert.Open(divert.Config{First: 5060}, divert.HandlerFunc(func(int, *divert.Packet) divert.Result {
			return divert.Result{Verdict: divert.Accept}
		}))
		if err != nil {
			os.Stdout.WriteString(err.Error())
			return
		}
		defer d.Close()
	}
	os.Stdout.WriteString("ready")
	os.Stdout.Close()
	os.Stdin.Read(make([]byte, 1))
}

// program starts another program, one of programs, in the test's namespace.
func program(t *testing.T, name, role string) int {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, name))
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	said := make([]byte, 256)
	n, _ := out.Read(said)
	if string(said[:n]) != "ready" {
		t.Fatalf("%s: %s", name, said[:n])
	}
	return cmd.Process.Pid
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// policy is that of the README.
const policy = `
table inet filter {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "eth0" oifname "ppp0" accept
	}
}
`

const masquerading = `
table ip nat {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "ppp0" masquerade
	}
}
`

// firewall puts the test into a firewall in which nothing is wrong: eth0 (10.0.0.1) is
// inside, ppp0 (203.0.113.1) outside. Of its rules only those given are there.
func firewall(t testing.TB, rules string) {
	t.Helper()
	netspace.New(t)
	link(t, "eth0", "10.0.0.1/24")
	link(t, "ppp0", "203.0.113.1/24")
	route(t, "ppp0", "203.0.113.10")
	for path, value := range map[string]string{
		"net/ipv4/ip_forward":         "1",
		"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/eth0/rp_filter": "0", "net/ipv4/conf/ppp0/rp_filter": "0",
	} {
		must(t, os.WriteFile("/proc/sys/"+path, []byte(value), 0))
	}
	shell(t, "nft -f -", rules)
}

// link makes an interface that is up and has an address.
func link(t testing.TB, name, address string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}))
	for _, end := range []string{name + "-peer", name} {
		l, err := netlink.LinkByName(end)
		must(t, err)
		must(t, netlink.LinkSetUp(l))
		if end == name && address != "" {
			a, err := netlink.ParseAddr(address)
			must(t, err)
			must(t, netlink.AddrAdd(l, a))
		}
	}
}

// route makes the default route.
func route(t testing.TB, name, gateway string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway),
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}))
}

// shell runs a command in the test's namespace.
func shell(t testing.TB, command, input string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// parse makes a configuration of a file's text. Its range of ports is one for which the
// smallest tables have room, unless it says otherwise.
func parse(t testing.TB, text string) *config.Config {
	t.Helper()
	if !strings.Contains(text, "rtp_port_high") {
		text += "\nrtp_port_high = 7169"
	}
	cfg, err := config.Parse("sipnatd.conf", strings.NewReader(text))
	must(t, err)
	return cfg
}

// listen opens a local socket.
func listen(t testing.TB, address string) {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	must(t, err)
	t.Cleanup(func() { c.Close() })
}
