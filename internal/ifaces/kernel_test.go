package ifaces

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	rtnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// addLink makes an interface that is up, has a carrier and the addresses: one
// end of a veth pair, since not every kernel has the dummy driver.
func addLink(t *testing.T, name string, mtu int, addresses ...string) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}))
	peer, err := netlink.LinkByName(name + "-peer")
	must(t, err)
	must(t, netlink.LinkSetUp(peer))
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	for _, a := range addresses {
		addAddress(t, l, a)
	}
	return l
}

func addAddress(t *testing.T, l netlink.Link, address string) {
	t.Helper()
	a, err := netlink.ParseAddr(address)
	must(t, err)
	must(t, netlink.AddrAdd(l, a))
}

func defaultRoute(l netlink.Link, gateway string, metric int) *netlink.Route {
	return &netlink.Route{
		LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway), Priority: metric,
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
	}
}

func TestResolveKernel(t *testing.T) {
	netspace.New(t)
	lan := addLink(t, "lan", 1500, "10.1.0.1/24", "10.1.0.2/24", "10.2.0.1/16")
	wan := addLink(t, "wan", 1492, "192.0.2.9/24", "198.51.100.9/24")
	addLink(t, "other", 1500, "203.0.113.1/24") // neither private nor default
	must(t, netlink.RouteAdd(defaultRoute(wan, "198.51.100.1", 0)))
	must(t, netlink.RouteAdd(&netlink.Route{
		LinkIndex: lan.Attrs().Index, Gw: net.ParseIP("10.1.0.254"),
		Dst: &net.IPNet{IP: net.IPv4(10, 50, 0, 0), Mask: net.CIDRMask(16, 32)},
	}))

	s, err := Resolve(Config{})
	must(t, err)
	if got, want := s.String(), "inside lan (10.1.0.1); outside wan (198.51.100.9)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(s.Problems()) != 0 {
		t.Errorf("problems: %q", s.Problems())
	}
	i := s.Interface(uint32(lan.Attrs().Index))
	if i == nil {
		t.Fatal("the inside interface is not found by its index")
	}
	networks := []netip.Prefix{prefix("10.1.0.0/24"), prefix("10.2.0.0/16"), prefix("10.50.0.0/16")}
	if !slices.Equal(i.Networks, networks) {
		t.Errorf("networks %v, want %v", i.Networks, networks)
	}
	if !s.Own(addr("10.1.0.2")) {
		t.Error("a secondary address is not known as our own")
	}
	if o := s.Interface(uint32(wan.Attrs().Index)); o == nil || o.MTU != 1492 || o.Side != Outside || !o.Up {
		t.Errorf("outside: %+v", o)
	}
}

func TestResolveMultipath(t *testing.T) {
	netspace.New(t)
	a := addLink(t, "wan1", 1500, "192.0.2.2/24")
	b := addLink(t, "wan2", 1500, "198.51.100.2/24")
	r := defaultRoute(a, "", 0)
	r.LinkIndex, r.Gw = 0, nil
	r.MultiPath = []*netlink.NexthopInfo{
		{LinkIndex: a.Attrs().Index, Gw: net.ParseIP("192.0.2.1")},
		{LinkIndex: b.Attrs().Index, Gw: net.ParseIP("198.51.100.1")},
	}
	must(t, netlink.RouteAdd(r))
	s, err := Resolve(Config{})
	must(t, err)
	if got, want := s.Names(Outside), []string{"wan1", "wan2"}; !slices.Equal(got, want) {
		t.Errorf("outside %q, want %q", got, want)
	}
}

// The kernel's own choice of a source towards the gateway is the address that
// Public returns.
func TestPublicIsTheKernelsChoice(t *testing.T) {
	netspace.New(t)
	wan := addLink(t, "wan", 1500, "192.0.2.9/24", "198.51.100.9/24", "198.51.100.10/24")
	for _, gateway := range []string{"192.0.2.1", "198.51.100.1"} {
		must(t, netlink.RouteReplace(defaultRoute(wan, gateway, 0)))
		s, err := Resolve(Config{})
		must(t, err)
		routes, err := netlink.RouteGet(net.ParseIP("203.0.113.5"))
		must(t, err)
		want, _ := netip.AddrFromSlice(routes[0].Src.To4())
		if got := s.Public(uint32(wan.Attrs().Index)); got != want {
			t.Errorf("gateway %s: %v, the kernel takes %v", gateway, got, want)
		}
	}
}

// A kernel that does not answer for a while ends nothing: one message, and what has
// changed meanwhile is told when it answers again.
func TestWatchOutlivesErrors(t *testing.T) {
	dials, reads := 0, 0
	seen := make(chan *Snapshot, 1)
	var log bytes.Buffer
	w := watcher{
		pause:   time.Millisecond,
		changed: func(s *Snapshot) { seen <- s },
		dial: func() (*rtnetlink.Conn, error) {
			if dials++; dials <= 3 {
				return nil, unix.ENOBUFS
			}
			return dial()
		},
		read: func(c Config) (*Snapshot, error) {
			if reads++; reads <= 3 {
				return nil, unix.ENOMEM
			}
			return Resolve(c)
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		w.run(ctx, slog.New(slog.NewTextHandler(&log, nil)))
		close(ended)
	}()
	select {
	case <-seen:
	case <-time.After(5 * time.Second):
		t.Error("no snapshot after the errors")
	}
	cancel()
	<-ended
	if text := log.String(); strings.Count(text, "cannot be watched") != 1 || strings.Count(text, "watched again") != 1 || dials != 7 {
		t.Errorf("after %d attempts the log says\n%s", dials, text)
	}
}

// A PPP-like link comes, gets a new address and goes; each is reported once,
// and what does not concern us is not.
func TestWatch(t *testing.T) {
	ns := netspace.New(t)
	lan := addLink(t, "lan", 1500, "10.1.0.1/24")

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	snapshots := make(chan *Snapshot, 16)
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			ended <- err
			return
		}
		Watch(ctx, Config{}, slog.New(slog.DiscardHandler), func(s *Snapshot) { snapshots <- s })
		ended <- nil
	}()
	await := func(want string) {
		t.Helper()
		timeout := time.After(5 * time.Second)
		for {
			select {
			case s := <-snapshots:
				if s.String() == want {
					return
				}
				t.Logf("on the way: %s", s)
			case err := <-ended:
				t.Fatalf("ended: %v", err)
			case <-timeout:
				t.Fatalf("no snapshot %q", want)
			}
		}
	}

	await("inside lan (10.1.0.1); outside")
	wan := addLink(t, "wan", 1492, "192.0.2.9/24")
	must(t, netlink.RouteAdd(defaultRoute(wan, "192.0.2.1", 0)))
	await("inside lan (10.1.0.1); outside wan (192.0.2.9)")

	// A new address of the provider's: the old one and its route go.
	old, err := netlink.ParseAddr("192.0.2.9/24")
	must(t, err)
	must(t, netlink.AddrDel(wan, old))
	addAddress(t, wan, "198.51.100.7/24")
	must(t, netlink.RouteReplace(defaultRoute(wan, "198.51.100.1", 0)))
	await("inside lan (10.1.0.1); outside wan (198.51.100.7)")

	// An interface on neither side is no change; the next event shows that it
	// was not reported.
	addLink(t, "other", 1500, "203.0.113.1/24")
	must(t, netlink.LinkSetMTU(lan, 1400))
	select {
	case s := <-snapshots:
		if i := s.Interface(uint32(lan.Attrs().Index)); i == nil || i.MTU != 1400 {
			t.Errorf("a snapshot without the change: %s", s)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the new MTU is not reported")
	}

	must(t, netlink.LinkDel(wan))
	await("inside lan (10.1.0.1); outside")

	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v, want nil", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Watch does not end with its context")
	}
}
