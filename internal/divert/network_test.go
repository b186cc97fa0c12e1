package divert

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

// patience is how long a test waits for what has to happen. It is generous: an
// emulated machine is slow.
const patience = 20 * time.Second

// namespace is a network namespace of a test.
type namespace struct {
	handle netns.NsHandle
}

// do runs f in the namespace, on a thread that is not used again.
func (n namespace) do(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(n.handle); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func newNamespace(t testing.TB) namespace {
	t.Helper()
	netspace.NeedRoot(t)
	var n namespace
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		var err error
		n.handle, err = netns.New()
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	t.Cleanup(func() { n.handle.Close() })
	// No wait for duplicates of IPv6 addresses that nobody else can have.
	n.sysctl(t, "ipv6/conf/default/accept_dad", "0")
	n.link(t, func(h *netlink.Handle) error { return up(h, "lo") })
	return n
}

func (n namespace) sysctl(t testing.TB, name, value string) {
	t.Helper()
	n.do(t, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}

// link runs f with a handle for the namespace's links, addresses and routes.
func (n namespace) link(t testing.TB, f func(*netlink.Handle) error) {
	t.Helper()
	h, err := netlink.NewHandleAt(n.handle)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := f(h); err != nil {
		t.Fatal(err)
	}
}

func up(h *netlink.Handle, name string, addrs ...string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := h.AddrAdd(l, a); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return h.LinkSetUp(l)
}

// network is a host inside and a host outside with a router in between, where
// packets are queued. MTUs are those of the two links.
type network struct {
	inside, router, outside namespace
}

func newNetwork(t testing.TB, insideMTU, outsideMTU int) network {
	t.Helper()
	n := network{newNamespace(t), newNamespace(t), newNamespace(t)}
	n.router.sysctl(t, "ipv4/ip_forward", "1")
	n.router.sysctl(t, "ipv6/conf/all/forwarding", "1")
	for _, side := range []struct {
		host             namespace
		name             string
		mtu              int
		hostIP, routerIP string
		host6, router6   string
	}{
		{n.inside, "in0", insideMTU, "10.0.0.2", "10.0.0.1", "2001:db8:1::2", "2001:db8:1::1"},
		{n.outside, "out0", outsideMTU, "192.0.2.2", "192.0.2.1", "2001:db8:2::2", "2001:db8:2::1"},
	} {
		n.router.link(t, func(h *netlink.Handle) error {
			veth := netlink.NewVeth(netlink.LinkAttrs{Name: side.name, MTU: side.mtu})
			veth.PeerName, veth.PeerMTU = "eth0", uint32(side.mtu)
			veth.PeerNamespace = netlink.NsFd(side.host.handle)
			if err := h.LinkAdd(veth); err != nil {
				return err
			}
			return up(h, side.name, side.routerIP+"/24", side.router6+"/64")
		})
		side.host.link(t, func(h *netlink.Handle) error {
			if err := up(h, "eth0", side.hostIP+"/24", side.host6+"/64"); err != nil {
				return err
			}
			for _, gw := range []string{side.routerIP, side.router6} {
				if err := h.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}); err != nil {
					return fmt.Errorf("route via %s: %w", gw, err)
				}
			}
			return nil
		})
	}
	n.resolve(t, inside4, outside4)
	n.resolve(t, inside6, outside6)
	return n
}

// resolve sends datagrams until one arrives: few, or none, are kept while
// neighbours are being resolved and addresses become usable.
func (n network) resolve(t testing.TB, from, to netip.AddrPort) {
	t.Helper()
	server, client := n.outside.listen(t, to), n.inside.dial(t, from, to)
	defer server.Close()
	defer client.Close()
	await(t, "a way from "+from.String()+" to "+to.String(), func() bool {
		if _, err := client.Write([]byte("resolve")); err != nil {
			return false
		}
		if err := server.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := server.Read(make([]byte, 16))
		return err == nil
	})
}

// queueKind is a way to write a rule that queues packets.
type queueKind string

const (
	nativeQueue queueKind = "native queue"
	xtQueue     queueKind = "xt NFQUEUE"
)

func (k queueKind) expr(num uint16) expr.Any {
	if k == nativeQueue {
		return &expr.Queue{Num: num, Total: 1}
	}
	info := make(xt.Unknown, 8) // struct xt_NFQ_info_v3, padded
	binary.NativeEndian.PutUint16(info, num)
	binary.NativeEndian.PutUint16(info[2:], 1)
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}

// rules are the router's, in one table per family.
type rules struct {
	conn *nftables.Conn
	hook *nftables.ChainHook
}

func (n namespace) rules(t testing.TB, hook *nftables.ChainHook) rules {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(int(n.handle)))
	if err != nil {
		t.Fatal(err)
	}
	return rules{conn, hook}
}

// udp adds a rule for UDP datagrams to a destination port (0: for all packets).
func (r rules) udp(family nftables.TableFamily, port uint16, hook *nftables.ChainHook, does ...expr.Any) (*nftables.Table, *nftables.Chain) {
	table := r.conn.AddTable(&nftables.Table{Family: family, Name: "divert"})
	chain := r.conn.AddChain(&nftables.Chain{
		Name: fmt.Sprintf("hook%d", *hook), Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: hook, Priority: nftables.ChainPriorityRef(290),
	})
	var match []expr.Any
	if port != 0 {
		match = []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		}
	}
	r.conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(match, does...)})
	return table, chain
}

// queue sends packets of both families to a queue.
func (r rules) queue(t testing.TB, kind queueKind, port, num uint16) {
	t.Helper()
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		r.udp(family, port, r.hook, kind.expr(num))
	}
	if err := r.conn.Flush(); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
}

// defragment turns conntrack on.
func (r rules) defragment(t testing.TB) {
	t.Helper()
	r.udp(nftables.TableFamilyIPv4, 0, nftables.ChainHookPrerouting, &expr.Ct{Key: expr.CtKeySTATE, Register: 1})
	if err := r.conn.Flush(); err != nil {
		t.Fatalf("conntrack: %v", err)
	}
}

// counted adds a counter of the IPv4 datagrams that leave the router, and returns
// its reader.
func (r rules) counted(t testing.TB, port uint16) func() uint64 {
	t.Helper()
	table, chain := r.udp(nftables.TableFamilyIPv4, port, nftables.ChainHookPostrouting, &expr.Counter{})
	if err := r.conn.Flush(); err != nil {
		t.Fatalf("counter: %v", err)
	}
	return func() uint64 {
		rules, err := r.conn.GetRules(table, chain)
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if c, ok := e.(*expr.Counter); ok {
					return c.Packets
				}
			}
		}
		t.Fatal("no counter")
		return 0
	}
}

// queueKinds returns the ways that the kernel knows to queue packets, the one to
// be preferred first.
func queueKinds(t testing.TB) []queueKind {
	t.Helper()
	n := newNamespace(t)
	var kinds []queueKind
	for _, kind := range []queueKind{nativeQueue, xtQueue} {
		r := n.rules(t, nftables.ChainHookForward)
		r.udp(nftables.TableFamilyIPv4, 1, r.hook, kind.expr(1))
		if err := r.conn.Flush(); err != nil {
			t.Logf("%s: %v", kind, err)
			continue
		}
		kinds = append(kinds, kind)
	}
	if len(kinds) == 0 {
		t.Skip("the kernel knows neither the queue expression nor the NFQUEUE target")
	}
	return kinds
}

// open opens a Divert in the namespace.
func (n namespace) open(t testing.TB, cfg Config, h Handler) (d *Divert, err error) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	n.do(t, func() error {
		d, err = Open(cfg, h)
		return nil
	})
	return d, err
}

// serve opens and runs a Divert until the returned function, or else the test's
// end, stops it.
func (n namespace) serve(t testing.TB, cfg Config, h Handler) (*Divert, func()) {
	t.Helper()
	d, err := n.open(t, cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stopped := false
	stop := func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not return")
		}
	}
	t.Cleanup(stop)
	return d, stop
}

// dial opens a connected UDP socket; listen an unconnected one. What a dialled
// one has sent and is still queued does not block it.
func (n namespace) dial(t testing.TB, from, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	var local *net.UDPAddr
	if from.IsValid() {
		local = net.UDPAddrFromAddrPort(from)
	}
	var c *net.UDPConn
	n.do(t, func() (err error) {
		if c, err = net.DialUDP("udp", local, net.UDPAddrFromAddrPort(to)); err != nil {
			return err
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		if cerr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20)
		}); cerr != nil {
			return cerr
		}
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func (n namespace) listen(t testing.TB, at netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	n.do(t, func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// receive reads the next datagram.
func receive(t testing.TB, c *net.UDPConn) []byte {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil {
		t.Fatalf("nothing arrives: %v", err)
	}
	return b[:n]
}

// rawSocket sends whole IPv4 packets.
type rawSocket struct{ fd int }

func (n namespace) raw(t testing.TB) rawSocket {
	t.Helper()
	var s rawSocket
	n.do(t, func() (err error) {
		s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

func (s rawSocket) send(t testing.TB, packet []byte) {
	t.Helper()
	to := &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])}
	if err := unix.Sendto(s.fd, packet, 0, to); err != nil {
		t.Fatalf("send %d bytes: %v", len(packet), err)
	}
}

// tap sees the IPv4 packets that come in on a namespace's eth0, fragments one
// by one.
type tap struct{ fd int }

func (n namespace) tap(t testing.TB) tap {
	t.Helper()
	var s tap
	n.do(t, func() (err error) {
		const proto = unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8 // network byte order on little-endian machines
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return err
		}
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link.Index}); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)})
	})
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

func (s tap) next(t testing.TB) []byte {
	t.Helper()
	b := make([]byte, 1<<16)
	n, err := unix.Read(s.fd, b)
	if err != nil {
		t.Fatalf("nothing on the wire: %v", err)
	}
	return b[:n]
}

// await waits until cond holds.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// checkSettled asserts that every packet got its one verdict: none waits, and
// the kernel refused none (it does if the packet has had its verdict).
func checkSettled(t testing.TB, d *Divert) {
	t.Helper()
	for _, s := range d.Stats() {
		if s.Kernel.Waiting != 0 || s.Errors != 0 {
			t.Errorf("not settled: %+v", s)
		}
		if n := s.Accepted + s.Dropped + s.Rewritten + s.Unread.Total(); n != s.Packets {
			t.Errorf("%d packets, %d verdicts: %+v", s.Packets, n, s)
		}
	}
}

var errNoQueue = errors.New("no such queue")

// queueRow returns the kernel's line about a queue.
func (n namespace) queueRow(t testing.TB, num uint16) (row queueRow, err error) {
	t.Helper()
	n.do(t, func() error {
		text, rerr := os.ReadFile(queuesPath)
		if rerr != nil {
			return rerr
		}
		err = errNoQueue
		for _, r := range parseQueues(text) {
			if r.num == num {
				row, err = r, nil
			}
		}
		return nil
	})
	return row, err
}
