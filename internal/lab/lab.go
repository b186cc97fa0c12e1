package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The addresses of every lab.
var (
	InsideNet  = netip.MustParsePrefix("10.0.0.0/24")
	InsideAddr = netip.MustParseAddr("10.0.0.1")    // the firewall's eth0
	PublicAddr = netip.MustParseAddr("203.0.113.1") // the firewall's ppp0
	wanNet     = netip.MustParsePrefix("203.0.113.0/24")
	wanGateway = netip.MustParseAddr("203.0.113.254")
	// farNets are behind the gateway.
	farNets = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("192.0.2.0/24")}
)

// Options say what a lab consists of. The zero value is one phone, one outside
// host, the stock nftables firewall and an MTU of 1500.
type Options struct {
	// Phones is the number of inside hosts: 10.0.0.10, 10.0.0.11 ... Default 1.
	Phones int
	// Outside are the addresses of the outside hosts: 203.0.113.0/24 is the
	// firewall's own network, 198.51.100.0/24 and 192.0.2.0/24 are behind a
	// router. Default 203.0.113.10.
	Outside []string
	// Firewall is the administrator's rule set.
	Firewall Firewall
	// MTU of the outside network, 1500 or 1492. The inside has always 1500.
	MTU int
	// Offload leaves UDP checksums to the "hardware" as veth does by default:
	// packets then cross the firewall with partial checksums and nobody
	// verifies any. Otherwise checksums are real and verified.
	Offload bool
	// Front, if it is set, is the nft script of a packet filter between the firewall
	// and the world. It routes, and has no addresses of its own. Its interfaces are
	// fw, towards the firewall, and eth0.
	Front string
	// Leaky turns off the checks that every lab does at its end (see CheckWire).
	Leaky bool
}

// Lab is a network of namespaces: phones, a firewall, the world.
//
//	phones --- lan (switch) --- eth0 firewall ppp0 --- wan (switch, router) --- outside hosts
//
// Everything in it goes away at the end of the test: processes by their pid,
// then the namespaces' names, and with the last socket the namespaces.
type Lab struct {
	T        TB
	FW       *Host    // the firewall
	Phones   []*Host  // 10.0.0.10 ...
	Outside  []*Host  // in the order of Options.Outside
	Inside   *Capture // what passes the firewall's eth0
	Wire     *Capture // what passes the firewall's ppp0
	Firewall Firewall // as chosen
	Dir      string   // scratch and report directory

	id       string
	lan, wan *Host
	opt      Options
	daemon   *Daemon   // the last one started
	daemons  []*Daemon // all of them

	judgeInside, judgeWire int // marks, see JudgeFromHere

	mu    sync.Mutex
	procs []*Process
	hosts []*Host
}

var labs atomic.Int32

// New builds a lab. It skips the test where it cannot run.
func New(t TB, opt Options) *Lab {
	t.Helper()
	Require(t)
	if opt.Phones == 0 {
		opt.Phones = 1
	}
	if len(opt.Outside) == 0 {
		opt.Outside = []string{"203.0.113.10"}
	}
	if opt.MTU == 0 {
		opt.MTU = 1500
	}
	fw, err := opt.Firewall.fromEnvironment()
	if err != nil {
		t.Fatalf("%v", err)
	}
	sweep()
	l := &Lab{
		T:        t,
		Firewall: fw,
		id:       fmt.Sprintf("%s%d-%d", namePrefix, os.Getpid(), labs.Add(1)),
		opt:      opt,
	}
	if l.Dir, err = reportDir(t); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(l.close)
	if err := l.build(); err != nil {
		if reason := l.lacks(); reason != "" && !StockKernel() {
			t.Skipf("lab: the kernel has no %s: %s", fw.Backend, reason)
		}
		t.Fatalf("lab: %v", err)
	}
	return l
}

// NAT reports whether the lab's firewall translates addresses. It does not on
// the Routed one, where a scenario meets the same addresses inside and outside.
func (l *Lab) NAT() bool { return l.Firewall.NAT() }

func (l *Lab) host(name string) (*Host, error) {
	h, err := newHost(l, name)
	if err == nil {
		l.hosts = append(l.hosts, h)
	}
	return h, err
}

// build lays the cables. The order is that of a packet from inside out.
func (l *Lab) build() (err error) {
	for _, step := range []func() error{
		l.buildSwitches, l.buildFirewall, l.buildPhones, l.buildOutside, l.loadRules, l.startCaptures,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) buildSwitches() (err error) {
	if l.lan, err = l.host("lan"); err != nil {
		return err
	}
	if l.wan, err = l.host("wan"); err != nil {
		return err
	}
	if err := l.lan.bridge("lan", 1500); err != nil {
		return err
	}
	if err := l.wan.bridge("wan", l.opt.MTU); err != nil {
		return err
	}
	if err := l.wan.bridge("far", 1500); err != nil {
		return err
	}
	if err := l.wan.address("wan", netip.PrefixFrom(wanGateway, wanNet.Bits())); err != nil {
		return err
	}
	for _, n := range farNets {
		if err := l.wan.address("far", netip.PrefixFrom(n.Addr().Next(), n.Bits())); err != nil {
			return err
		}
	}
	return l.wan.forwarding()
}

func (l *Lab) buildFirewall() (err error) {
	if l.FW, err = l.host("firewall"); err != nil {
		return err
	}
	l.FW.Addr = PublicAddr
	if err := l.FW.plug("eth0", l.lan, "lan", 1500, l.opt.Offload); err != nil {
		return err
	}
	outer, port := l.wan, "wan"
	if l.opt.Front != "" {
		if outer, err = l.buildFront(); err != nil {
			return err
		}
		port = "fw"
	}
	if err := l.FW.plug("ppp0", outer, port, l.opt.MTU, l.opt.Offload); err != nil {
		return err
	}
	if err := l.FW.address("eth0", netip.PrefixFrom(InsideAddr, InsideNet.Bits())); err != nil {
		return err
	}
	if err := l.FW.address("ppp0", netip.PrefixFrom(PublicAddr, wanNet.Bits())); err != nil {
		return err
	}
	if err := l.FW.route(netip.Prefix{}, wanGateway); err != nil {
		return err
	}
	if !l.NAT() {
		if err := l.wan.route(InsideNet, PublicAddr); err != nil {
			return err
		}
	}
	return l.FW.forwarding()
}

// buildFront puts a box between the firewall and the world, which answers ARP for both
// sides (RFC 1027).
func (l *Lab) buildFront() (*Host, error) {
	front, err := l.host("front")
	if err != nil {
		return nil, err
	}
	if err := front.bridge("fw", l.opt.MTU); err != nil {
		return nil, err
	}
	if err := front.plug("eth0", l.wan, "wan", l.opt.MTU, l.opt.Offload); err != nil {
		return nil, err
	}
	script := "ip route add " + PublicAddr.String() + " dev fw && ip route add " + wanNet.String() + " dev eth0 && " +
		"ip route add default via " + wanGateway.String() + " dev eth0\n"
	for _, i := range []string{"fw", "eth0"} {
		script += "echo 1 >/proc/sys/net/ipv4/conf/" + i + "/proxy_arp\necho 0 >/proc/sys/net/ipv4/neigh/" + i + "/proxy_delay\n"
	}
	if _, err := front.Pipe(script, "sh", "-e"); err != nil {
		return nil, err
	}
	if _, err := front.Pipe(l.opt.Front, "nft", "-f", "-"); err != nil {
		return nil, err
	}
	return front, front.forwarding()
}

func (l *Lab) buildPhones() error {
	addr := netip.MustParseAddr("10.0.0.10")
	for i := range l.opt.Phones {
		h, err := l.host("phone" + strconv.Itoa(i+1))
		if err != nil {
			return err
		}
		h.Addr = addr
		addr = addr.Next()
		if err := h.plug("eth0", l.lan, "lan", 1500, l.opt.Offload); err != nil {
			return err
		}
		if err := h.address("eth0", netip.PrefixFrom(h.Addr, InsideNet.Bits())); err != nil {
			return err
		}
		if err := h.route(netip.Prefix{}, InsideAddr); err != nil {
			return err
		}
		l.Phones = append(l.Phones, h)
	}
	return nil
}

func (l *Lab) buildOutside() error {
	for i, s := range l.opt.Outside {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return err
		}
		h, err := l.host("outside" + strconv.Itoa(i+1))
		if err != nil {
			return err
		}
		h.Addr = addr
		network, sw, mtu, gw := wanNet, "wan", l.opt.MTU, wanGateway
		for _, n := range farNets {
			if n.Contains(addr) {
				network, sw, mtu, gw = n, "far", 1500, n.Addr().Next()
			}
		}
		if !network.Contains(addr) || addr == gw || addr == PublicAddr {
			return fmt.Errorf("outside host %v: no such place", addr)
		}
		if err := h.plug("eth0", l.wan, sw, mtu, l.opt.Offload); err != nil {
			return err
		}
		if err := h.address("eth0", netip.PrefixFrom(addr, network.Bits())); err != nil {
			return err
		}
		if err := h.route(netip.Prefix{}, gw); err != nil {
			return err
		}
		l.Outside = append(l.Outside, h)
	}
	return nil
}

func (h *Host) forwarding() error {
	return h.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
}

func (l *Lab) loadRules() error {
	if l.Firewall.Load != nil {
		if err := l.Firewall.Load(l.FW); err != nil {
			return fmt.Errorf("the rules of the firewall: %w", err)
		}
		return nil
	}
	script, load := l.Firewall.Script()
	if load == nil {
		return nil
	}
	_, err := l.FW.Pipe(script, load...)
	if err != nil {
		return fmt.Errorf("the rules of the firewall: %w", err)
	}
	return nil
}

func (l *Lab) startCaptures() (err error) {
	if l.Inside, err = newCapture(l, "inside", l.FW, "eth0"); err != nil {
		return err
	}
	l.Wire, err = newCapture(l, "outside", l.FW, "ppp0")
	return err
}

// close ends the lab: the checks and, after a failure, the report first, while
// everything still runs.
func (l *Lab) close() {
	if l.Wire != nil {
		if l.NAT() && !l.opt.Leaky && !l.T.Failed() {
			l.CheckWire()
		}
		l.CheckDaemon()
		l.report()
	}
	l.mu.Lock()
	procs := l.procs
	l.mu.Unlock()
	for i := len(procs) - 1; i >= 0; i-- {
		procs[i].kill()
	}
	for _, c := range []*Capture{l.Inside, l.Wire} {
		if c != nil {
			c.close()
		}
	}
	for _, h := range l.hosts {
		h.close()
	}
	if !l.T.Failed() && os.Getenv("SIPNATD_LAB_OUT") == "" {
		os.RemoveAll(l.Dir)
	}
}

// namePrefix marks the namespaces of this kit; the pid of the test follows.
const namePrefix = "sipnatd-lab-"

// sweep removes the names that a test left behind which was killed, and the
// daemons that earlier tests have built.
func sweep() {
	for _, pattern := range []string{filepath.Join(netnsDir, namePrefix), binPrefix()} {
		names, err := filepath.Glob(pattern + "*")
		if err != nil {
			continue
		}
		for _, path := range names {
			pid, _, _ := strings.Cut(strings.TrimPrefix(path, pattern), "-")
			if n, err := strconv.Atoi(pid); err != nil || unix.Kill(n, 0) != unix.ESRCH {
				continue
			}
			if pattern == binPrefix() {
				os.RemoveAll(path)
			} else {
				removeName(path)
			}
		}
	}
}

// Reach is where an outside host reaches an inside one: with NAT the
// firewall's address, else the host's own.
func (l *Lab) Reach(h *Host, port int) netip.AddrPort {
	if l.NAT() {
		return netip.AddrPortFrom(PublicAddr, uint16(port))
	}
	return h.At(port)
}
