package nft

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

// skip leaves a test out, for a reason; where everything has to be tested, the
// reason must be one that a probe of the kernel gives.
func skip(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("SIPNATD_CI") == "1" {
		t.Fatal("must not be skipped here: ", reason)
	}
	t.Skip(reason)
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// nftRun runs the nft program on a script, in the test's namespace.
func nftRun(t testing.TB, script string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s\n%s", err, out, script)
	}
}

// nftList runs the nft program with arguments, in the test's namespace.
func nftList(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// reference is the simplest configuration.
func reference() Config {
	return Config{
		Inside: []string{"eth0"}, Outside: []string{"ppp0"},
		SIPPorts: []uint16{5060}, QueueFirst: 5060, Queues: 1,
	}
}

// open opens the table in the test's namespace.
func open(t testing.TB, cfg Config) *Table {
	t.Helper()
	table, err := Open(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	t.Cleanup(func() { must(t, table.Close()) })
	return table
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// world is a firewall with two private networks and a provider's network:
//
//	phone    10.1.0.2 -- lan0 10.1.0.1 \
//	                                    firewall -- wan0 198.51.100.1 -- 198.51.100.2 provider
//	phone2   10.1.1.2 -- lan1 10.1.1.1 /                                 198.51.100.3 stranger
//
// The test itself runs in the firewall. Its policy is to drop, it lets the private
// networks out, masqueraded, and admits what is established, related, or
// translated.
type world struct {
	t                       testing.TB
	phone, phone2, provider netns.NsHandle
}

const (
	phone, phone2      = "10.1.0.2", "10.1.1.2"
	public             = "198.51.100.1"
	provider, stranger = "198.51.100.2", "198.51.100.3"
)

const policy = `
table inet fw {
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		ct status dnat accept
		iifname { "lan0", "lan1" } oifname "wan0" accept
	}
	chain postrouting {
		type nat hook postrouting priority 100;
		oifname "wan0" masquerade
	}
}
`

func newWorld(t testing.TB) *world {
	t.Helper()
	fw := netspace.New(t)
	w := &world{t: t}
	for _, host := range []struct {
		ns       *netns.NsHandle
		link, fw string
		addrs    []string
		gateway  string
	}{
		{&w.phone, "lan0", "10.1.0.1/24", []string{phone + "/24"}, "10.1.0.1"},
		{&w.phone2, "lan1", "10.1.1.1/24", []string{phone2 + "/24"}, "10.1.1.1"},
		{&w.provider, "wan0", public + "/24", []string{provider + "/24", stranger + "/24"}, ""},
	} {
		ns, err := netns.New()
		must(t, err)
		*host.ns = ns
		t.Cleanup(func() { ns.Close() })
		must(t, netns.Set(fw))

		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: host.link}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
		must(t, netlink.LinkAdd(veth))
		up(t, host.link, host.fw)
		w.in(ns, func() {
			up(t, "eth0", host.addrs...)
			if host.gateway != "" {
				must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(host.gateway)}))
			}
		})
	}
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	nftRun(t, policy)
	return w
}

// up gives a link addresses and turns it on.
func up(t testing.TB, name string, addrs ...string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		must(t, netlink.AddrAdd(link, addr))
	}
	must(t, netlink.LinkSetUp(link))
}

// in runs f in another namespace, on the test's own thread.
func (w *world) in(ns netns.NsHandle, f func()) {
	w.t.Helper()
	here, err := netns.Get()
	must(w.t, err)
	defer here.Close()
	must(w.t, netns.Set(ns))
	defer func() { must(w.t, netns.Set(here)) }()
	f()
}

// config is the reference for this world.
func (w *world) config() Config {
	cfg := reference()
	cfg.Inside, cfg.Outside = []string{"lan0", "lan1"}, []string{"wan0"}
	return cfg
}

// host is a UDP socket of a host.
type host struct {
	t    testing.TB
	conn *net.UDPConn
	addr netip.AddrPort
}

// host opens a UDP socket at addr in a namespace.
func (w *world) host(ns netns.NsHandle, addr string) *host {
	w.t.Helper()
	h := &host{t: w.t, addr: ap(addr)}
	w.in(ns, func() {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(h.addr))
		must(w.t, err)
		h.conn = conn
	})
	w.t.Cleanup(func() { h.conn.Close() })
	return h
}

func (h *host) send(to, text string) {
	h.t.Helper()
	_, err := h.conn.WriteToUDPAddrPort([]byte(text), ap(to))
	must(h.t, err)
}

// receive waits for a packet and wants it to be text, from the address and port
// from. A packet that should have been dropped shows up here as a wrong text:
// packets do not overtake each other on their way.
func (h *host) receive(from, text string) {
	h.t.Helper()
	b := make([]byte, 2048)
	must(h.t, h.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, src, err := h.conn.ReadFromUDPAddrPort(b)
	if err != nil {
		h.t.Fatalf("%v waits for %q: %v", h.addr, text, err)
	}
	if got := fmt.Sprintf("%s from %v", b[:n], netip.AddrPortFrom(src.Addr().Unmap(), src.Port())); got != text+" from "+from {
		h.t.Fatalf("%v received %s, want %s from %s", h.addr, got, text, from)
	}
}

// silent wants no packet to be waiting.
func (h *host) silent() {
	h.t.Helper()
	raw, err := h.conn.SyscallConn()
	must(h.t, err)
	must(h.t, raw.Control(func(fd uintptr) {
		b := make([]byte, 2048)
		n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EAGAIN) {
			h.t.Errorf("%v received %q (%v), want nothing", h.addr, b[:max(n, 0)], err)
		}
	}))
}
