package locate

import (
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sipnatd/internal/proxy"
)

func newSeed() maphash.Seed { return maphash.MakeSeed() }

// pbx asks for addresses only.
var pbx = proxy.Server{Host: "pbx.example", Port: 5060}

func TestTruncated(t *testing.T) {
	s := serve(t, zone{})
	var lines []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("300 192.0.2.%d", i))
	}
	s.set("pbx.example A", strings.Join(lines, "\n"))
	s.answers(func(q query) ([][]byte, bool) {
		if q.tcp {
			return nil, false
		}
		return [][]byte{pack(t, dnsmessage.Message{
			Header:    dnsmessage.Header{ID: q.id, Response: true, Truncated: true, RecursionAvailable: true},
			Questions: []dnsmessage.Question{q.question},
			Answers:   recordsOf(t, "pbx.example", "A", "300 198.51.100.1"), // the rest is missing
		})}, true
	})
	l, _ := locator(t, Config{}, s)
	list, _ := find(t, l, pbx)
	if len(list) != maxTargets || strings.Contains(strings.Join(list, " "), "198.51") {
		t.Errorf("found %v", list)
	}
	if q := s.queries(); len(q) != 2 || q[0].tcp || !q[1].tcp {
		t.Errorf("%+v", q)
	}
}

// A server that does not know EDNS is asked without it.
func TestWithoutEDNS(t *testing.T) {
	s := serve(t, zone{"pbx.example A": "300 192.0.2.1"})
	s.answers(func(q query) ([][]byte, bool) {
		if !q.edns {
			return nil, false
		}
		return [][]byte{pack(t, dnsmessage.Message{Header: dnsmessage.Header{ID: q.id, Response: true, RCode: dnsmessage.RCodeFormatError}})}, true
	})
	l, _ := locator(t, Config{}, s)
	list, _ := find(t, l, pbx)
	equal(t, list, "UDP 192.0.2.1:5060")
}

func TestSecondServer(t *testing.T) {
	refuse := func(code dnsmessage.RCode, available bool) func(query) ([][]byte, bool) {
		return func(q query) ([][]byte, bool) {
			return [][]byte{pack(t, dnsmessage.Message{
				Header:    dnsmessage.Header{ID: q.id, Response: true, RCode: code, RecursionAvailable: available},
				Questions: []dnsmessage.Question{q.question},
			})}, true
		}
	}
	for _, x := range []struct {
		name   string
		answer func(query) ([][]byte, bool)
	}{
		{"silent", func(query) ([][]byte, bool) { return nil, true }},
		{"fails", refuse(dnsmessage.RCodeServerFailure, true)},
		{"refuses", refuse(dnsmessage.RCodeRefused, true)},
		{"refers to others", refuse(dnsmessage.RCodeSuccess, false)},
		{"talks nonsense", func(query) ([][]byte, bool) { return [][]byte{[]byte("nonsense")}, true }},
	} {
		t.Run(x.name, func(t *testing.T) {
			bad, good := serve(t, zone{}), serve(t, zone{"pbx.example A": "300 192.0.2.1", "x.example A": "300 192.0.2.2"})
			bad.answers(x.answer)
			l, _ := locator(t, Config{Timeout: 300 * time.Millisecond}, bad, good)
			list, _ := find(t, l, pbx)
			equal(t, list, "UDP 192.0.2.1:5060")
			// The next question goes to the one that answers.
			list, _ = find(t, l, proxy.Server{Host: "x.example", Port: 5060})
			equal(t, list, "UDP 192.0.2.2:5060")
			if n := bad.asked("x.example A"); n != 0 {
				t.Errorf("the bad server was asked %d times", n)
			}
		})
	}
	t.Run("closed port", func(t *testing.T) {
		bad, good := serve(t, zone{}), serve(t, zone{"pbx.example A": "300 192.0.2.1"})
		bad.udp.Close()
		l, _ := locator(t, Config{}, bad, good) // ICMP is faster than the timeout
		list, _ := find(t, l, pbx)
		equal(t, list, "UDP 192.0.2.1:5060")
	})
}

// What exists not is remembered for as long as its zone says.
func TestNegative(t *testing.T) {
	for _, x := range []struct {
		record string
		holds  time.Duration
	}{
		{"NX 60", 60 * time.Second},
		{"SOA 60", 60 * time.Second},
		{"SOA 0", minTTL},
		{"NX 86400", maxNegative},
		{"", minTTL}, // without SOA
	} {
		t.Run(x.record, func(t *testing.T) {
			s := serve(t, zone{})
			if x.record != "" {
				s.set("pbx.example A", x.record)
			}
			l, c := locator(t, Config{}, s)
			list, _ := find(t, l, pbx)
			equal(t, list, "")
			s.set("pbx.example A", "300 192.0.2.1")
			c.pass(x.holds - time.Second)
			list, now := find(t, l, pbx)
			equal(t, list, "")
			if !now || s.asked("pbx.example A") != 1 {
				t.Error("asked too early")
			}
			c.pass(time.Second)
			list, _ = find(t, l, pbx)
			equal(t, list, "UDP 192.0.2.1:5060")
		})
	}
}

func TestTTL(t *testing.T) {
	for ttl, holds := range map[string]time.Duration{
		"0":          minTTL,
		"60":         time.Minute,
		"2147483647": maxTTL,
		"4294967295": minTTL, // RFC 2181 section 8: as 0
	} {
		t.Run(ttl, func(t *testing.T) {
			s := serve(t, zone{"pbx.example A": ttl + " 192.0.2.1"})
			l, c := locator(t, Config{}, s)
			find(t, l, pbx)
			s.set("pbx.example A", "300 192.0.2.2")
			c.pass(holds - time.Second)
			list, _ := find(t, l, pbx)
			equal(t, list, "UDP 192.0.2.1:5060")
			c.pass(time.Second)
			list, _ = find(t, l, pbx)
			equal(t, list, "UDP 192.0.2.2:5060")
		})
	}
	t.Run("the least of a chain", func(t *testing.T) {
		s := serve(t, zone{"pbx.example CNAME": "60 real.example", "real.example A": "300 192.0.2.1\n30 192.0.2.2"})
		l, c := locator(t, Config{}, s)
		find(t, l, pbx)
		c.pass(29 * time.Second)
		if _, now := find(t, l, pbx); !now {
			t.Error("forgotten too early")
		}
		c.pass(time.Second)
		if _, now := find(t, l, pbx); now {
			t.Error("not forgotten")
		}
	})
}

func TestAliases(t *testing.T) {
	s := serve(t, zone{
		"pbx.example CNAME": "300 b.example", "b.example CNAME": "300 c.example", "c.example A": "300 192.0.2.1",
		"loop.example CNAME": "300 pool.example", "pool.example CNAME": "300 loop.example",
		"self.example CNAME": "300 self.example",
		"gone.example CNAME": "300 nowhere.example", "nowhere.example A": "NX 300",
	})
	l, _ := locator(t, Config{Attempts: 1}, s)
	list, _ := find(t, l, pbx)
	equal(t, list, "UDP 192.0.2.1:5060")
	if n := len(s.queries()); n != 1 {
		t.Errorf("%d queries", n)
	}
	for _, name := range []string{"loop.example", "self.example", "gone.example"} {
		list, _ = find(t, l, proxy.Server{Host: name, Port: 5060})
		equal(t, list, "")
	}
	t.Run("one by one", func(t *testing.T) {
		for length, want := range map[int]string{5: "UDP 192.0.2.1:5060", maxChain - 1: "UDP 192.0.2.1:5060", maxChain: "", 100: ""} {
			s := serve(t, zone{})
			s.answers(func(q query) ([][]byte, bool) {
				m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.id, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q.question}}
				n := 0
				fmt.Sscanf(q.name, "a%d.example", &n)
				if n == length {
					m.Answers = recordsOf(t, q.name, "A", "300 192.0.2.1")
				} else {
					m.Answers = recordsOf(t, q.name, "CNAME", fmt.Sprintf("300 a%d.example", n+1))
				}
				return [][]byte{pack(t, m)}, true
			})
			l, _ := locator(t, Config{Attempts: 1}, s)
			list, _ := find(t, l, proxy.Server{Host: "a0.example", Port: 5060})
			equal(t, list, want)
			if n := len(s.queries()); n > maxChain {
				t.Errorf("%d queries", n)
			}
		}
	})
}

// Whoever does not see the query can not answer it.
func TestPoison(t *testing.T) {
	s := serve(t, zone{"pbx.example A": "300 192.0.2.1"})
	stranger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	s.answers(func(q query) ([][]byte, bool) {
		forged := func(change func(*dnsmessage.Message)) []byte {
			m := dnsmessage.Message{
				Header:    dnsmessage.Header{ID: q.id, Response: true, RecursionAvailable: true},
				Questions: []dnsmessage.Question{q.question},
				Answers:   recordsOf(t, "pbx.example", "A", "300 198.51.100.66"),
			}
			change(&m)
			return pack(t, m)
		}
		stranger.WriteToUDPAddrPort(forged(func(*dnsmessage.Message) {}), q.from)
		name := func(n string) dnsmessage.Name { return dnsmessage.MustNewName(n) }
		return [][]byte{
			{},
			[]byte("x"),
			forged(func(m *dnsmessage.Message) { m.ID++ }),
			forged(func(m *dnsmessage.Message) { m.Response = false }),
			forged(func(m *dnsmessage.Message) { m.OpCode = 4 }),
			forged(func(m *dnsmessage.Message) { m.Questions = nil }),
			forged(func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }),
			forged(func(m *dnsmessage.Message) { m.Questions[0].Name = name("pbx.example.org.") }),
			forged(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA }),
			forged(func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }),
			// The true one, with records that nobody has asked for.
			forged(func(m *dnsmessage.Message) {
				m.Answers = append(recordsOf(t, "other.example", "A", "300 198.51.100.66"), recordsOf(t, "pbx.example", "A", "300 192.0.2.1")...)
				m.Additionals = recordsOf(t, "pbx.example", "A", "300 198.51.100.66")
			}),
		}, true
	})
	l, _ := locator(t, Config{Attempts: 1}, s)
	list, _ := find(t, l, pbx)
	equal(t, list, "UDP 192.0.2.1:5060")
	if st := l.Stats(); st.Refused != 10 || st.Cached != 1 {
		t.Errorf("%+v", st)
	}
}

// Ids and ports are not to be foreseen.
func TestRandom(t *testing.T) {
	s := serve(t, zone{})
	l, _ := locator(t, Config{}, s)
	for i := range 64 {
		find(t, l, proxy.Server{Host: fmt.Sprintf("n%d.example", i), Port: 5060})
	}
	ids, ports, next := map[uint16]bool{}, map[uint16]bool{}, 0
	var last query
	for _, q := range s.queries() {
		ids[q.id], ports[q.from.Port()] = true, true
		if q.id == last.id+1 || q.from.Port() == last.from.Port()+1 {
			next++
		}
		last = q
	}
	if len(ids) < 60 || len(ports) < 55 || next > 5 {
		t.Errorf("64 queries: %d ids, %d ports, %d successors", len(ids), len(ports), next)
	}
}

// What was known is better than nothing, when nobody answers any more.
func TestStale(t *testing.T) {
	s := serve(t, zone{"pbx.example A": "60 192.0.2.1"})
	l, c := locator(t, Config{Attempts: 1}, s)
	find(t, l, pbx)
	s.set("pbx.example A", "FAIL")
	c.pass(time.Hour)
	list, now := find(t, l, pbx)
	equal(t, list, "UDP 192.0.2.1:5060")
	if now {
		t.Error("a stale answer without a try")
	}
	if _, now = find(t, l, pbx); !now {
		t.Error("asked again at once")
	}
	if st := l.Stats(); st.Stale != 1 || st.Failures != 1 {
		t.Errorf("%+v", st)
	}
	c.pass(failureTTL)
	s.set("pbx.example A", "60 192.0.2.2")
	list, _ = find(t, l, pbx)
	equal(t, list, "UDP 192.0.2.2:5060")
	// That it does not exist any more is an answer, too.
	c.pass(time.Hour)
	s.set("pbx.example A", "NX 60")
	list, _ = find(t, l, pbx)
	equal(t, list, "")
	// After a day nothing is known.
	c.pass(time.Hour)
	s.set("pbx.example A", "60 192.0.2.3")
	find(t, l, pbx)
	c.pass(2 * maxStale)
	s.set("pbx.example A", "FAIL")
	list, _ = find(t, l, pbx)
	equal(t, list, "")
}

// A forwarder that drops what it does not know costs its timeout once.
func TestNAPTRDropped(t *testing.T) {
	s := serve(t, zone{"_sip._udp.srv.example SRV": "300 1 1 5070 x.example", "x.example A": "300 192.0.2.1"})
	s.answers(func(q query) ([][]byte, bool) { return nil, q.question.Type == typeNAPTR })
	l, c := locator(t, Config{Timeout: 200 * time.Millisecond}, s)
	list, _ := find(t, l, host("srv.example"))
	equal(t, list, "UDP 192.0.2.1:5070")
	c.pass(failureTTLNAPTR - time.Second)
	find(t, l, host("srv.example"))
	if n := s.asked("srv.example NAPTR"); n != 2 { // attempts
		t.Errorf("asked %d times", n)
	}
}

func TestBounded(t *testing.T) {
	s := serve(t, zone{})
	l, c := locator(t, Config{CacheSize: 10}, s)
	for i := range 50 {
		find(t, l, proxy.Server{Host: fmt.Sprintf("n%d.example", i), Port: 5060})
	}
	if n := l.Stats().Cached; n != 10 {
		t.Errorf("%d answers are kept", n)
	}
	c.pass(maxNegative)
	find(t, l, pbx)
	if n := l.Stats().Cached; n != 1 {
		t.Errorf("%d answers are kept", n)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	s := serve(t, zone{
		"_sip._udp.pbx.example SRV":   "300 1 1 5099 x.example",
		"x.example A":                 "300 192.0.2.1",
		"phone.two.example A":         "300 192.0.2.2",
		"_sip._udp.home.example SRV":  "300 1 1 5070 inner.home.example",
		"_sip._udp.later.example SRV": "NX 300",
		"_sip._tcp.later.example SRV": "NX 300",
	})
	l, c := locator(t, Config{
		Hosts:      write("hosts", "# none\n10.0.0.5\tPBX.example pbx # ours\n::1 pbx.example\n10.0.0.6 pbx.example\n10.0.0.7 inner.home.example\n"),
		ResolvConf: write("resolv.conf", "search one.example two.example\n"),
	}, s)
	list, now := find(t, l, host("pbx.example"))
	if !now || len(list) != 2 {
		t.Errorf("%v, %v", list, now)
	}
	list, now = find(t, l, proxy.Server{Host: "pbx", Transport: "tcp"})
	if !now {
		t.Error("not at once")
	}
	equal(t, list, "TCP 10.0.0.5:5060")
	list, _ = find(t, l, host("phone"))
	equal(t, list, "UDP 192.0.2.2:5060")
	list, _ = find(t, l, host("home.example"))
	equal(t, list, "UDP 10.0.0.7:5070")

	list, _ = find(t, l, host("later.example"))
	equal(t, list, "")
	write("hosts", "10.0.0.8 pbx.example later.example\n")
	c.pass(recheck + time.Second)
	find(t, l, host("pbx.example")) // has the files looked at
	l.wait.Wait()
	list, _ = find(t, l, host("pbx.example"))
	equal(t, list, "UDP 10.0.0.8:5060")
	list, _ = find(t, l, host("later.example"))
	equal(t, list, "UDP 10.0.0.8:5060")
}

func TestResolvConf(t *testing.T) {
	ports := func(list ...string) (a []netip.AddrPort) {
		for _, s := range list {
			a = append(a, netip.MustParseAddrPort(s))
		}
		return a
	}
	for text, want := range map[string]resolvConf{
		"": {ports("127.0.0.1:53"), nil, 2 * time.Second, 2},
		"nameserver 192.0.2.1\nnameserver nonsense\nnameserver\n; comment\nnameserver 2001:db8::1 # x\nnameserver fe80::1%eth0\nnameserver 192.0.2.9": {ports("192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%eth0]:53"), nil, 2 * time.Second, 2},
		"domain a.example\nsearch B.example. c.example":    {ports("127.0.0.1:53"), []string{"b.example", "c.example"}, 2 * time.Second, 2},
		"options timeout:1 attempts:3 rotate\noptions x:y": {ports("127.0.0.1:53"), nil, time.Second, 3},
		"options timeout:100 attempts:0":                   {ports("127.0.0.1:53"), nil, 5 * time.Second, 2},
	} {
		if got := readResolvConf(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, not %+v", text, got, want)
		}
	}
}

// Whatever comes, an answer holds nothing but addresses of the name that was asked for.
func FuzzReply(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("pbx.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
	seed := func() {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed()
	m.Answers = []dnsmessage.Resource{
		{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("a.example.")}},
		{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("a.example."), Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}},
	}
	seed()
	q.Type = typeNAPTR
	m.Questions[0].Type = typeNAPTR
	m.Answers[1].Body = &dnsmessage.UnknownResource{Type: typeNAPTR, Data: []byte("\x00\x01\x00\x02\x01s\x07SIP+D2U\x00\x04_sip\x04_udp\x01x\x00")}
	seed()
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeSRV, typeNAPTR} {
			r, err := readReply(b, 1, question{"pbx.example", kind})
			if err != nil {
				continue
			}
			if r.alias != "" && (!r.empty() || !validName(r.alias)) {
				t.Errorf("%+v", r)
			}
			if len(r.a)+len(r.srv)+len(r.naptr) > maxRecords || r.ttl > 137*365*24*time.Hour {
				t.Errorf("%+v", r)
			}
		}
	})
}
