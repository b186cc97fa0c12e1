package locate

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
)

// The ways of RFC 3263 sections 4.1 and 4.2.
func TestWays(t *testing.T) {
	s := serve(t, zone{
		"plain.example A": "300 192.0.2.1",

		"_sip._udp.srv.example SRV": "300 10 0 5070 a.srv.example\n300 20 0 5060 b.srv.example",
		"_sip._tcp.srv.example SRV": "300 5 0 5080 b.srv.example",
		"a.srv.example A":           "300 192.0.2.2",
		"b.srv.example A":           "300 192.0.2.3",
		"srv.example A":             "300 192.0.2.99",

		"naptr.example NAPTR": `300 100 50 "s" "SIP+D2U" "" _sip._udp.other.example
300 50 20 "S" "sip+d2t" "" _sip._tcp.other.example
300 50 10 "s" "SIPS+D2T" "" _sips._tcp.other.example
300 10 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .
300 10 10 "s" "SIP+D2U" "!a!b!" _sip._udp.wrong.example`,
		"_sip._udp.other.example SRV": "300 1 1 5061 x.other.example",
		"_sip._tcp.other.example SRV": "300 1 1 5062 x.other.example",
		"x.other.example A":           "300 192.0.2.4",

		"empty.example NAPTR":         `300 1 1 "s" "SIP+D2T" "" _sip._tcp.nowhere.example`,
		"_sip._udp.empty.example SRV": "300 1 1 5063 x.other.example",

		"_sip._udp.closed.example SRV": "300 0 0 0 .",
		"_sip._tcp.closed.example SRV": "300 0 0 0 .",
		"closed.example A":             "300 192.0.2.5",
		"_sip._udp.half.example SRV":   "300 0 0 0 .",
		"_sip._tcp.half.example SRV":   "300 0 0 5060 x.other.example",

		"dead.example NX":              "",
		"_sip._udp.orphan.example SRV": "300 1 1 5060 gone.example\n300 2 1 5060 x.other.example",
	})
	l, _ := locator(t, Config{}, s)
	for _, x := range []struct {
		name   string
		server proxy.Server
		want   string
	}{
		{"no SRV: A and the usual port", proxy.Server{Host: "plain.example"}, "UDP 192.0.2.1:5060"},
		{"no SRV, transport", proxy.Server{Host: "plain.example", Transport: "tcp"}, "TCP 192.0.2.1:5060"},
		{"case and a dot at the end", proxy.Server{Host: "Plain.Example."}, "UDP 192.0.2.1:5060"},
		{"SRV by priority, UDP first", proxy.Server{Host: "srv.example"}, "UDP 192.0.2.2:5070, UDP 192.0.2.3:5060, TCP 192.0.2.3:5080"},
		{"transport: its SRV only", proxy.Server{Host: "srv.example", Transport: "tcp"}, "TCP 192.0.2.3:5080"},
		{"transport UDP", proxy.Server{Host: "srv.example", Transport: "udp"}, "UDP 192.0.2.2:5070, UDP 192.0.2.3:5060"},
		{"port: no SRV", proxy.Server{Host: "srv.example", Port: 5099}, "UDP 192.0.2.99:5099"},
		{"port and transport", proxy.Server{Host: "srv.example", Port: 5099, Transport: "tcp"}, "TCP 192.0.2.99:5099"},
		{"NAPTR by order and preference", proxy.Server{Host: "naptr.example"}, "TCP 192.0.2.4:5062, UDP 192.0.2.4:5061"},
		{"NAPTR without SRV", proxy.Server{Host: "empty.example"}, "UDP 192.0.2.4:5063"},
		{"no such service", proxy.Server{Host: "closed.example"}, ""},
		{"not over UDP", proxy.Server{Host: "half.example"}, "TCP 192.0.2.4:5060"},
		{"not over UDP, but wanted", proxy.Server{Host: "half.example", Transport: "udp"}, ""},
		{"a target without address", proxy.Server{Host: "orphan.example"}, "UDP 192.0.2.4:5060"},
		{"no such domain", proxy.Server{Host: "dead.example"}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			list, _ := find(t, l, x.server)
			equal(t, list, x.want)
			list, now := find(t, l, x.server)
			if !now {
				t.Error("it is not known afterwards")
			}
			equal(t, list, x.want)
		})
	}
	if n := s.asked("_sip._udp.srv.example SRV"); n != 1 {
		t.Errorf("%d queries for one name", n)
	}
	for _, q := range s.queries() {
		if q.name == "wrong.example" || q.name == "_sips._tcp.other.example" {
			t.Errorf("asked for %s", q.name)
		}
	}
}

func TestAtOnce(t *testing.T) {
	s := serve(t, zone{})
	l, _ := locator(t, Config{}, s)
	for _, x := range []struct {
		server proxy.Server
		want   string
	}{
		{proxy.Server{Host: "192.0.2.1"}, "UDP 192.0.2.1:5060"},
		{proxy.Server{Host: "192.0.2.1", Port: 5070, Transport: "tcp"}, "TCP 192.0.2.1:5070"},
		{proxy.Server{Host: "[2001:db8::1]"}, ""},
		{proxy.Server{Host: "[::ffff:192.0.2.1]"}, "UDP 192.0.2.1:5060"},
		{proxy.Server{Host: "192.0.2.1", Sips: true}, ""},
		{proxy.Server{Host: "plain.example", Sips: true}, ""},
		{proxy.Server{Host: "plain.example", Transport: "tls"}, ""},
		{proxy.Server{Host: "plain.example", Transport: "sctp"}, ""},
		{proxy.Server{Host: "not a name"}, ""},
		{proxy.Server{Host: "a..b"}, ""},
		{proxy.Server{Host: strings.Repeat("a", 64) + ".example"}, ""},
		{proxy.Server{Host: strings.Repeat("a.", 130) + "example"}, ""},
		{proxy.Server{Host: ""}, ""},
	} {
		list, now := find(t, l, x.server)
		if !now {
			t.Errorf("%+v: not at once", x.server)
		}
		equal(t, list, x.want)
	}
	if q := s.queries(); len(q) != 0 {
		t.Errorf("asked %v", q)
	}
}

// A thousand who want the same cost one query for each record.
func TestTogether(t *testing.T) {
	s := serve(t, zone{"pbx.example A": "300 192.0.2.1"})
	held := make(chan struct{})
	s.answers(func(q query) ([][]byte, bool) { <-held; return nil, false })
	l, _ := locator(t, Config{}, s)
	var asking, wait sync.WaitGroup
	var once sync.Map
	wait.Add(1000)
	for i := range 1000 {
		asking.Go(func() {
			answer := func(list []proxy.Target) {
				defer wait.Done()
				if _, twice := once.LoadOrStore(i, true); twice {
					t.Error("answered twice")
				}
				if len(list) != 1 || list[0] != (proxy.Target{Kind: transport.UDP, Addr: netip.MustParseAddrPort("192.0.2.1:5060")}) {
					t.Errorf("found %v", list)
				}
			}
			if _, ok := l.Locate(host("pbx.example"), answer); ok {
				t.Error("known before it can be")
			}
		})
	}
	asking.Wait()
	close(held)
	wait.Wait()
	for _, key := range []string{"pbx.example NAPTR", "_sip._udp.pbx.example SRV", "_sip._tcp.pbx.example SRV", "pbx.example A"} {
		if n := s.asked(key); n != 1 {
			t.Errorf("%d queries for %s", n, key)
		}
	}
	if st := l.Stats(); st.Queries != 4 || st.Located != 1000 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// Of different servers that lead to the same name, that name is asked for once.
func TestSharedName(t *testing.T) {
	s := serve(t, zone{"pbx.example A": "300 192.0.2.1"})
	held := make(chan struct{})
	s.answers(func(q query) ([][]byte, bool) { <-held; return nil, false })
	l, _ := locator(t, Config{}, s)
	done := make(chan []proxy.Target)
	for port := range 50 {
		l.Locate(proxy.Server{Host: "pbx.example", Port: port + 1}, func(list []proxy.Target) { done <- list })
	}
	close(held)
	for range 50 {
		if list := <-done; len(list) != 1 {
			t.Errorf("found %v", list)
		}
	}
	if n := s.asked("pbx.example A"); n != 1 {
		t.Errorf("%d queries", n)
	}
}

// Too many servers at once are refused, not queued.
func TestTooMany(t *testing.T) {
	s := serve(t, zone{})
	held := make(chan struct{})
	s.answers(func(q query) ([][]byte, bool) { <-held; return nil, false })
	l, _ := locator(t, Config{}, s)
	var wait sync.WaitGroup
	for i := range maxPending {
		wait.Add(1)
		if _, ok := l.Locate(proxy.Server{Host: fmt.Sprintf("n%d.example", i), Port: 5060}, func([]proxy.Target) { wait.Done() }); ok {
			t.Fatal("known")
		}
	}
	if list, ok := l.Locate(host("more.example"), nil); !ok || list != nil {
		t.Errorf("%v, %v", list, ok)
	}
	if st := l.Stats(); st.Pending != maxPending || st.Overflow != 1 {
		t.Errorf("%+v", st)
	}
	close(held)
	wait.Wait()
}

// Close answers whoever waits.
func TestClose(t *testing.T) {
	s := serve(t, zone{})
	s.answers(func(q query) ([][]byte, bool) { return nil, true }) // never
	l, _ := locator(t, Config{}, s)
	done := make(chan []proxy.Target, 1)
	l.Locate(host("pbx.example"), func(list []proxy.Target) { done <- list })
	l.Close()
	if list := <-done; len(list) != 0 {
		t.Errorf("found %v", list)
	}
	if list, ok := l.Locate(host("pbx.example"), nil); !ok || list != nil {
		t.Errorf("%v, %v", list, ok)
	}
}

func TestFailedLast(t *testing.T) {
	s := serve(t, zone{
		"_sip._udp.srv.example SRV": "3600 1 0 5061 x.srv.example\n3600 2 0 5062 x.srv.example\n3600 3 0 5063 x.srv.example",
		"x.srv.example A":           "3600 192.0.2.1",
	})
	l, c := locator(t, Config{}, s)
	server := proxy.Server{Host: "srv.example", Transport: "udp"}
	target := func(port uint16) proxy.Target {
		return proxy.Target{Kind: transport.UDP, Addr: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)}
	}
	l.Failed(target(5061)) // before the first look-up, too
	list, _ := find(t, l, server)
	equal(t, list, "UDP 192.0.2.1:5062, UDP 192.0.2.1:5063, UDP 192.0.2.1:5061")
	l.Failed(target(5062))
	list, _ = find(t, l, server)
	equal(t, list, "UDP 192.0.2.1:5063, UDP 192.0.2.1:5061, UDP 192.0.2.1:5062")
	c.pass(shunned)
	list, _ = find(t, l, server)
	equal(t, list, "UDP 192.0.2.1:5061, UDP 192.0.2.1:5062, UDP 192.0.2.1:5063")
	for port := range uint16(2 * maxFailed) {
		l.Failed(target(port))
	}
	if len(l.failed) > maxFailed {
		t.Errorf("%d failed targets are remembered", len(l.failed))
	}
	c.pass(shunned)
	l.Failed(target(5061))
	if len(l.failed) != 1 {
		t.Errorf("%d failed targets are remembered", len(l.failed))
	}
}

// Firewalls choose by weight; one firewall always the same.
func TestWeights(t *testing.T) {
	var list []candidate
	for i, weight := range []uint16{60, 30, 10, 0} {
		list = append(list, candidate{
			Target:   proxy.Target{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 5060)},
			priority: 10, weight: weight, host: fmt.Sprintf("host%d.example", i),
		})
	}
	list = append(list, candidate{Target: proxy.Target{Addr: netip.MustParseAddrPort("192.0.2.200:5060")}, priority: 20, weight: 65535, host: "backup.example"})
	const firewalls = 20000
	var first, second [4]float64
	for range firewalls {
		l := &Locator{seed: newSeed()}
		a := l.arrange(slices.Clone(list))
		if len(a) != 5 || a[4].Addr.Addr().As4()[3] != 200 {
			t.Fatalf("%v", a)
		}
		first[a[0].Addr.Addr().As4()[3]]++
		if a[0].Addr.Addr().As4()[3] == 0 {
			second[a[1].Addr.Addr().As4()[3]]++
		}
		reversed := slices.Clone(list)
		slices.Reverse(reversed)
		if b := l.arrange(reversed); !slices.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
		without := l.arrange(slices.Delete(slices.Clone(list), 1, 2))
		if rest := slices.DeleteFunc(a, func(x proxy.Target) bool { return x.Addr.Addr().As4()[3] == 1 }); !slices.Equal(rest, without) {
			t.Fatalf("%v became %v", rest, without)
		}
	}
	// Six standard deviations: one failure in 500 million runs.
	near := func(what string, got, n, share float64) {
		if d := 6*math.Sqrt(n*share*(1-share)) + 3; math.Abs(got-n*share) > d {
			t.Errorf("%s: %.0f of %.0f, not %.0f%%", what, got, n, 100*share)
		}
	}
	near("weight 60", first[0], firewalls, 0.6)
	near("weight 30", first[1], firewalls, 0.3)
	near("weight 10", first[2], firewalls, 0.1)
	near("weight 0", first[3], firewalls, 0.00001)
	near("weight 30 after 60", second[1], first[0], 0.75)
	near("weight 10 after 60", second[2], first[0], 0.25)
}

// Addresses of one host: all of them are used, by different firewalls in another order.
func TestAddresses(t *testing.T) {
	var list []candidate
	for i := range 3 {
		list = append(list, candidate{Target: proxy.Target{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 5060)}, host: "pbx.example"})
	}
	var first [3]int
	for range 3000 {
		l := &Locator{seed: newSeed()}
		first[l.arrange(slices.Clone(list))[0].Addr.Addr().As4()[3]]++
	}
	for i, n := range first {
		if n < 800 || n > 1200 {
			t.Errorf("address %d comes first %d times of 3000", i, n)
		}
	}
	many := make([]candidate, 0, 100)
	for i := range 100 {
		many = append(many, candidate{Target: proxy.Target{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 5060)}})
	}
	if n := len((&Locator{seed: newSeed()}).arrange(many)); n != maxTargets {
		t.Errorf("%d targets", n)
	}
}

// Nobody is asked, and nothing waits, while the answer is known.
func BenchmarkKnown(b *testing.B) {
	l := New(Config{ResolvConf: "/dev/null", Hosts: "/dev/null"})
	defer l.Close()
	for q, a := range map[question]records{
		{"srv.example", typeNAPTR}:    {},
		{"_sip._udp.srv.example", 33}: {srv: []srv{{1, 1, 5060, "a.srv.example"}, {1, 2, 5060, "b.srv.example"}}},
		{"_sip._tcp.srv.example", 33}: {},
		{"a.srv.example", 1}:          {a: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		{"b.srv.example", 1}:          {a: []netip.Addr{netip.MustParseAddr("192.0.2.2")}},
	} {
		l.resolver.cache[q] = entry{records: a, expires: time.Now().Add(time.Hour)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if list, ok := l.Locate(proxy.Server{Host: "srv.example"}, nil); !ok || len(list) != 2 {
			b.Fatal(list, ok)
		}
	}
}
