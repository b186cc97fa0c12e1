package conntrack

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

// A world is a firewall between an inside and an outside network, in network
// namespaces of its own. The test's goroutine keeps its thread, which is in the
// firewall's namespace.
//
//	10.0.0.2, .3 -- in0 [ firewall 10.0.0.1, 198.51.100.1 ] out0 -- 198.51.100.2, .3
type world struct {
	t                         testing.TB
	firewall, inside, outside int // namespace file descriptors
}

// ruleset is a stock firewall: only SIP and what belongs to it goes out,
// nothing comes in. The NAT rules stand for a stream: 10.0.0.2:4000 is
// 198.51.100.1:7070. Everything else is masqueraded.
const ruleset = `
table ip firewall {
	counter dropped {
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "in0" udp dport 5060 accept
		counter name "dropped"
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname "out0" ip daddr 198.51.100.1 udp dport 7070 dnat to 10.0.0.2:4000
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "out0" ip saddr 10.0.0.2 udp sport 4000 snat to 198.51.100.1:7070
		oifname "out0" masquerade random
	}
}
`

var (
	phone   = netip.MustParseAddrPort("10.0.0.2:4000")
	public  = netip.MustParseAddrPort("198.51.100.1:7070")
	far     = netip.MustParseAddrPort("198.51.100.2:6000")
	farther = netip.MustParseAddrPort("198.51.100.3:6002")
)

func unshare(t testing.TB) int {
	t.Helper()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal("unshare:", err)
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func newWorld(t testing.TB) *world {
	t.Helper()
	netspace.NeedRoot(t)
	runtime.LockOSThread()
	w := &world{t: t, inside: unshare(t), outside: unshare(t), firewall: unshare(t)}
	ns := func(fd int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd) }
	run(t, fmt.Sprintf(`
		link set lo up
		link add in0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns %s
		link add out0 address 02:00:00:00:00:03 type veth peer name eth0 address 02:00:00:00:00:04 netns %s
		addr add 10.0.0.1/24 dev in0
		addr add 198.51.100.1/24 dev out0
		link set in0 up
		link set out0 up
		neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev in0
		neigh add 198.51.100.2 lladdr 02:00:00:00:00:04 dev out0
		neigh add 198.51.100.3 lladdr 02:00:00:00:00:04 dev out0`, ns(w.inside), ns(w.outside)), "ip", "-batch", "-")
	w.in(w.inside, func() {
		run(t, `
			addr add 10.0.0.2/24 dev eth0
			addr add 10.0.0.3/24 dev eth0
			link set eth0 up
			neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0
			route add default via 10.0.0.1`, "ip", "-batch", "-")
	})
	w.in(w.outside, func() {
		run(t, `
			addr add 198.51.100.2/24 dev eth0
			addr add 198.51.100.3/24 dev eth0
			link set eth0 up
			neigh add 198.51.100.1 lladdr 02:00:00:00:00:03 dev eth0`, "ip", "-batch", "-")
	})
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	w.awaitLink(w.inside, "10.0.0.1:9")
	w.awaitLink(w.outside, "198.51.100.1:9")
	run(t, ruleset, "nft", "-f", "-")
	return w
}

// awaitLink waits until packets pass to the firewall and back, which is some
// time after both ends of a link were set up. Its closed port answers.
func (w *world) awaitLink(ns int, addr string) {
	w.t.Helper()
	var conn *net.UDPConn
	w.in(ns, func() {
		var err error
		if conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))); err != nil {
			w.t.Fatal(err)
		}
	})
	defer conn.Close()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		_, err := conn.Write([]byte("?"))
		if err == nil {
			conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, err = conn.Read(make([]byte, 1))
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
	w.t.Fatal("no answer from the firewall's " + addr)
}

// in calls f with the thread in another namespace.
func (w *world) in(ns int, f func()) {
	w.t.Helper()
	enter := func(fd int) {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			w.t.Fatal("setns:", err)
		}
	}
	enter(ns)
	defer enter(w.firewall)
	f()
}

// run runs a program, in the namespace of the calling thread.
func run(t testing.TB, stdin, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, bytes.TrimSpace(out))
	}
	return string(out)
}

// awaitDrops waits until the firewall has dropped n packets in all.
func (w *world) awaitDrops(n int) {
	w.t.Helper()
	want := fmt.Sprintf("packets %d ", n)
	var got string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if got = run(w.t, "", "nft", "list", "counter", "ip", "firewall", "dropped"); strings.Contains(got, want) {
			return
		}
	}
	w.t.Fatalf("the firewall dropped not %d packets:\n%s", n, got)
}

// listen opens a UDP socket inside or outside.
func (w *world) listen(ns int, addr string) *socket {
	w.t.Helper()
	var s socket
	w.in(ns, func() {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		if err != nil {
			w.t.Fatal(err)
		}
		s = socket{w.t, conn}
	})
	w.t.Cleanup(func() { s.Close() })
	return &s
}

type socket struct {
	t testing.TB
	*net.UDPConn
}

func (s *socket) addr() netip.AddrPort { return s.LocalAddr().(*net.UDPAddr).AddrPort() }

func (s *socket) send(to netip.AddrPort, payload string) {
	s.t.Helper()
	if _, err := s.WriteToUDPAddrPort([]byte(payload), to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
		s.t.Fatal(err)
	}
}

// want receives the next datagram.
func (s *socket) want(payload string, from netip.AddrPort) {
	s.t.Helper()
	var buf [100]byte
	s.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, src, err := s.ReadFromUDPAddrPort(buf[:])
	if err != nil {
		s.t.Fatalf("%v: want %q from %v: %v", s.addr(), payload, from, err)
	}
	if got := string(buf[:n]); got != payload || src != from {
		s.t.Fatalf("%v: got %q from %v, want %q from %v", s.addr(), got, src, payload, from)
	}
}

// open opens a Conn in the namespace of the calling thread.
func open(t testing.TB, helpers ...Helper) *Conn {
	t.Helper()
	c, err := Open(Options{Helpers: helpers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, h := range helpers {
		if c.Helper() != h {
			t.Skip("this kernel offers no other helper: " + c.HelperReason())
		}
	}
	return c
}

// eachHelper runs a test with each helper that the kernel offers. The stock
// kernels offer both, and every kernel that is tested on at least one.
func eachHelper(t *testing.T, f func(t *testing.T, h Helper)) {
	netspace.NeedRoot(t)
	for _, h := range []Helper{HelperOwn, HelperSIP} {
		t.Run(h.String(), func(t *testing.T) { f(t, h) })
	}
}

// commit carries out what fill puts into a batch.
func commitBatch(t testing.TB, c *Conn, fill func(b *Batch)) {
	t.Helper()
	if err := tryCommit(c, fill); err != nil {
		t.Fatal(err)
	}
}

func tryCommit(c *Conn, fill func(b *Batch)) error {
	var b Batch
	fill(&b)
	return c.Commit(&b)
}

// expected returns the expectations in the kernel, by destination.
func expected(t testing.TB, c *Conn) map[netip.AddrPort]expectation {
	t.Helper()
	all, err := c.expectations()
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[netip.AddrPort]expectation)
	for _, e := range all {
		m[e.dst] = e
	}
	if len(m) != len(all) {
		t.Fatalf("several expectations of one destination: %v", all)
	}
	return m
}

func lookup(t testing.TB, c *Conn, tuple Tuple) Flow {
	t.Helper()
	f, err := c.Lookup(tuple)
	if err != nil {
		t.Fatalf("%v: %v", tuple, err)
	}
	return f
}
