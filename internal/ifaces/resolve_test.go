package ifaces

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// home is a plain home router: a LAN, a guest network, a PPP link outside.
func home() *tables {
	return &tables{
		links: []link{
			{name: "lo", index: 1, mtu: 65536, up: true, loopback: true},
			{name: "eth0", index: 2, mtu: 1500, up: true},
			{name: "eth1", index: 3, mtu: 1500, up: true},
			{name: "guest", index: 4, mtu: 1500, up: true},
			{name: "spare", index: 5, mtu: 1500},
			{name: "ppp0", index: 6, mtu: 1492, up: true},
		},
		addresses: []address{
			{index: 1, local: addr("127.0.0.1"), network: prefix("127.0.0.0/8")},
			{index: 2, local: addr("10.0.0.1"), network: prefix("10.0.0.0/24"), global: true},
			{index: 4, local: addr("192.168.7.1"), network: prefix("192.168.7.0/24"), global: true},
			{index: 5, local: addr("192.168.9.1"), network: prefix("192.168.9.0/24"), global: true},
			{index: 6, local: addr("203.0.113.9"), network: prefix("198.51.100.1/32"), global: true},
		},
		routes: []route{
			{dst: prefix("0.0.0.0/0"), oif: 6},
			{dst: prefix("10.0.0.0/24"), oif: 2},
			{dst: prefix("10.9.0.0/16"), oif: 2, gateway: addr("10.0.0.254")},
			{dst: prefix("192.168.7.0/24"), oif: 4},
			{dst: prefix("198.51.100.1/32"), oif: 6},
		},
	}
}

func TestSnapshotSides(t *testing.T) {
	const noOutside = "no IPv4 default route leaves through an interface that is not inside: there is no outside interface until one does, or if_outbound names it"
	const noInside = "no interface but the outside one is up and has a private address: there is no inside interface until one has, or if_inbound names it"
	for _, tt := range []struct {
		name            string
		config          Config
		change          func(*tables)
		inside, outside []string
		problems        []string
	}{
		{name: "detected", inside: []string{"eth0", "guest"}, outside: []string{"ppp0"}},
		{name: "inside given", config: Config{Inside: []string{"guest"}}, inside: []string{"guest"}, outside: []string{"ppp0"}},
		{name: "both given, in that order", config: Config{Inside: []string{"guest", "eth0"}, Outside: []string{"ppp0"}},
			inside: []string{"guest", "eth0"}, outside: []string{"ppp0"}},
		{name: "outside given, another one is the default", config: Config{Outside: []string{"guest"}},
			inside: []string{"eth0"}, outside: []string{"guest"}},
		{name: "given and missing", config: Config{Outside: []string{"ppp1"}},
			inside: []string{"eth0", "guest"}, outside: []string{"ppp1"},
			problems: []string{"the outside interface ppp1 does not exist: no SIP is handled on it until it does"}},
		{name: "given and down", config: Config{Inside: []string{"spare"}},
			inside: []string{"spare"}, outside: []string{"ppp0"},
			problems: []string{"the inside interface spare is down"}},
		{name: "no default route", change: func(t *tables) { t.routes = t.routes[1:] },
			inside: []string{"eth0", "guest"}, problems: []string{noOutside}},
		{name: "default route leaves inside", config: Config{Inside: []string{"ppp0"}},
			inside: []string{"ppp0"}, problems: []string{noOutside}},
		{name: "nothing private", change: func(t *tables) { t.addresses = t.addresses[4:] },
			outside: []string{"ppp0"}, problems: []string{noInside}},
		{name: "outside without address", change: func(t *tables) { t.addresses = t.addresses[:4] },
			inside: []string{"eth0", "guest"}, outside: []string{"ppp0"},
			problems: []string{"the outside interface ppp0 has no IPv4 address"}},
		{name: "the lower metric is the default route",
			change: func(t *tables) {
				t.routes = append(t.routes, route{dst: prefix("0.0.0.0/0"), oif: 3, metric: 100})
			},
			inside: []string{"eth0", "guest"}, outside: []string{"ppp0"}},
		{name: "a later route with a lower metric",
			change: func(t *tables) {
				t.routes[0].metric = 200
				t.routes = append(t.routes, route{dst: prefix("0.0.0.0/0"), oif: 3, metric: 100})
			},
			inside: []string{"eth0", "guest"}, outside: []string{"eth1"},
			problems: []string{"the outside interface eth1 has no IPv4 address"}},
		{name: "several next hops",
			change: func(t *tables) {
				t.routes = append(t.routes, route{dst: prefix("0.0.0.0/0"), oif: 3})
			},
			inside: []string{"eth0", "guest"}, outside: []string{"eth1", "ppp0"},
			problems: []string{"the outside interface eth1 has no IPv4 address"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tables := home()
			if tt.change != nil {
				tt.change(tables)
			}
			s := tables.snapshot(tt.config)
			if got := s.Names(Inside); !slices.Equal(got, tt.inside) {
				t.Errorf("inside %q, want %q", got, tt.inside)
			}
			if got := s.Names(Outside); !slices.Equal(got, tt.outside) {
				t.Errorf("outside %q, want %q", got, tt.outside)
			}
			var problems []string
			for _, p := range s.Problems() {
				problems = append(problems, p.String())
			}
			if !slices.Equal(problems, tt.problems) {
				t.Errorf("problems %q, want %q", problems, tt.problems)
			}
		})
	}
}

func TestSnapshotInterface(t *testing.T) {
	s := home().snapshot(Config{})
	want := &Interface{
		Name: "eth0", Index: 2, Side: Inside, Up: true, MTU: 1500, Addr: addr("10.0.0.1"),
		Addrs:    []netip.Prefix{prefix("10.0.0.1/24")},
		Networks: []netip.Prefix{prefix("10.0.0.0/24"), prefix("10.9.0.0/16")},
	}
	if got := s.Interface(2); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for index, side := range map[uint32]Side{0: Neither, 1: Neither, 2: Inside, 3: Neither, 4: Inside, 6: Outside, 99: Neither} {
		if got := s.Side(index); got != side {
			t.Errorf("Side(%d) = %v, want %v", index, got, side)
		}
	}
	if got := s.Public(6); got != addr("203.0.113.9") {
		t.Errorf("Public(6) = %v", got)
	}
	if got := s.Public(2); got.IsValid() {
		t.Errorf("Public of an inside interface = %v, want none", got)
	}
	if s.Interface(99) != nil || s.Interface(0) != nil {
		t.Error("an unknown index has an interface")
	}
	for a, want := range map[string]bool{"10.0.0.77": true, "10.9.200.1": true, "10.10.0.1": false, "192.168.7.3": true, "198.51.100.1": false} {
		if got := s.InsideNetwork(addr(a)); got != want {
			t.Errorf("InsideNetwork(%s) = %t", a, got)
		}
	}
	for a, want := range map[string]bool{"198.51.100.1": true, "198.51.100.2": false, "10.0.0.77": false, "192.0.2.1": false} {
		if got := s.OutsideNetwork(addr(a)); got != want {
			t.Errorf("OutsideNetwork(%s) = %t", a, got)
		}
	}
	for a, want := range map[string]bool{"10.0.0.1": true, "203.0.113.9": true, "10.0.0.2": false, "192.168.9.1": true, "192.168.9.2": false} {
		if got := s.Own(addr(a)); got != want {
			t.Errorf("Own(%s) = %t", a, got)
		}
	}
	const line = "inside eth0 (10.0.0.1) guest (192.168.7.1); outside ppp0 (203.0.113.9)"
	if got := s.String(); got != line {
		t.Errorf("String() = %q, want %q", got, line)
	}
	if got := home().snapshot(Config{Outside: []string{"ppp7"}}).String(); !strings.HasSuffix(got, "; outside ppp7 (missing)") {
		t.Errorf("String() = %q", got)
	}
}

func TestMasqueradeAddress(t *testing.T) {
	a := func(local, network string) address {
		return address{index: 6, local: addr(local), network: prefix(network), global: true}
	}
	secondary, linkScope := a("203.0.113.1", "203.0.113.0/24"), a("203.0.113.2", "203.0.113.0/24")
	secondary.secondary, linkScope.global = true, false
	for _, tt := range []struct {
		name      string
		addresses []address
		gateway   netip.Addr
		want      netip.Addr
	}{
		{"none", nil, netip.Addr{}, netip.Addr{}},
		{"the first", []address{a("203.0.113.9", "203.0.113.0/24"), a("192.0.2.1", "192.0.2.0/24")}, netip.Addr{}, addr("203.0.113.9")},
		{"the gateway's network", []address{a("203.0.113.9", "203.0.113.0/24"), a("192.0.2.1", "192.0.2.0/24")}, addr("192.0.2.254"), addr("192.0.2.1")},
		{"a gateway elsewhere", []address{a("203.0.113.9", "203.0.113.0/24"), a("192.0.2.1", "192.0.2.0/24")}, addr("10.1.1.1"), addr("203.0.113.9")},
		{"secondary and link scope", []address{secondary, linkScope, a("203.0.113.9", "203.0.113.0/24")}, addr("203.0.113.254"), addr("203.0.113.9")},
		{"point to point", []address{a("203.0.113.9", "198.51.100.1/32"), a("192.0.2.1", "198.51.100.2/32")}, addr("198.51.100.2"), addr("192.0.2.1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tables := home()
			tables.addresses = append(tables.addresses[:4:4], tt.addresses...)
			tables.routes[0].gateway = tt.gateway
			if got := tables.masquerade(6); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBehindNAT(t *testing.T) {
	for a, want := range map[string]bool{
		"203.0.113.9": false, "192.0.2.1": false, "100.63.255.255": false,
		"10.1.1.1": true, "172.31.0.1": true, "192.168.1.2": true, "100.64.0.1": true, "169.254.3.3": true,
	} {
		tables := home()
		tables.addresses[4].local = addr(a)
		s := tables.snapshot(Config{})
		if got := s.Interface(6).BehindNAT(); got != want {
			t.Errorf("outside address %s: BehindNAT() = %t", a, got)
		}
		if s.Interface(2).BehindNAT() {
			t.Error("an inside interface is behind NAT")
		}
	}
}

func TestSnapshotEqual(t *testing.T) {
	base := home().snapshot(Config{})
	if !base.Equal(home().snapshot(Config{})) {
		t.Error("the same tables give different snapshots")
	}
	for name, change := range map[string]func(*tables){
		"address":     func(t *tables) { t.addresses[4].local = addr("203.0.113.10") },
		"mtu":         func(t *tables) { t.links[5].mtu = 1400 },
		"index":       func(t *tables) { t.links[5].index, t.addresses[4].index, t.routes[0].oif, t.routes[4].oif = 9, 9, 9, 9 },
		"down":        func(t *tables) { t.links[5].up = false },
		"new network": func(t *tables) { t.routes = append(t.routes, route{dst: prefix("10.8.0.0/16"), oif: 2}) },
	} {
		tables := home()
		change(tables)
		if base.Equal(tables.snapshot(Config{})) {
			t.Errorf("%s: the change is not noticed", name)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	s := home().snapshot(Config{})
	host := addr("10.9.1.1")
	if n := testing.AllocsPerRun(100, func() {
		if s.Side(6) != Outside || !s.Public(6).IsValid() || s.Interface(2) == nil || !s.InsideNetwork(host) {
			t.Error("wrong answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSide(b *testing.B) {
	s := home().snapshot(Config{})
	for b.Loop() {
		if s.Side(6) != Outside {
			b.Fatal("wrong side")
		}
	}
}

func FuzzNextHops(f *testing.F) {
	f.Add([]byte{16, 0, 0, 0, 3, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		hops, err := nextHops(b)
		if err == nil && len(hops) > len(b)/8 {
			t.Errorf("%d next hops in %d bytes", len(hops), len(b))
		}
	})
}

// FuzzTables reads links, addresses and routes as the kernel tells them, and resolves
// the sides of what there is then.
func FuzzTables(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 6, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0, 9, 0, 3, 0, 'p', 'p', 'p', '0', 0, 0, 0, 0, 8, 0, 4, 0, 0xd4, 5, 0, 0},
		[]byte{2, 24, 0x80, 0, 6, 0, 0, 0, 8, 0, 1, 0, 203, 0, 113, 1, 8, 0, 2, 0, 203, 0, 113, 1},
		[]byte{2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 5, 0, 203, 0, 113, 254, 8, 0, 4, 0, 6, 0, 0, 0})
	f.Fuzz(func(t *testing.T, link, address, route []byte) {
		tables := home()
		object(link, unix.SizeofIfInfomsg, tables.addLink)
		object(address, unix.SizeofIfAddrmsg, tables.addAddress)
		object(route, unix.SizeofRtMsg, tables.addRoute)
		for _, r := range tables.routes {
			if !r.dst.IsValid() {
				t.Errorf("a route to nowhere: %+v", r)
			}
		}
		s := tables.snapshot(Config{})
		for index := range uint32(8) {
			if p := s.Public(index); p.IsValid() && !p.Is4() {
				t.Errorf("interface %d announces %v", index, p)
			}
		}
		s.Elsewhere(addr("10.0.0.1"))
	})
}

func TestElsewhere(t *testing.T) {
	tables := home()
	tables.routes = append(tables.routes,
		route{dst: prefix("198.51.100.64/28"), oif: 3}, // a DMZ with public addresses
		route{dst: prefix("192.0.2.0/24"), oif: 3},     // of which a part is outside
		route{dst: prefix("192.0.2.128/25"), oif: 6})
	s := tables.snapshot(Config{Inside: []string{"eth0"}})
	for a, want := range map[string]bool{
		"10.0.0.99":      true,
		"10.9.1.1":       true,
		"192.168.7.7":    true, // the guest network is on neither side
		"198.51.100.70":  true,
		"198.51.100.1":   false,
		"198.51.100.200": false, // by the default route
		"192.0.2.1":      true,
		"192.0.2.129":    false,
	} {
		if got := s.Elsewhere(addr(a)); got != want {
			t.Errorf("%s is elsewhere: %v", a, got)
		}
	}
}
