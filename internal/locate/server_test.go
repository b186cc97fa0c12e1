package locate

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sipnatd/internal/proxy"
)

// zone is what a DNS server knows: records in the form of master files by "name type",
// as "300 192.0.2.1". "SOA 300" in the place of records says for how long there are
// none, "NX 300" that the name does not exist.
type zone map[string]string

// query is one that a server has got.
type query struct {
	id       uint16
	from     netip.AddrPort
	name     string
	tcp      bool
	edns     bool
	question dnsmessage.Question
}

// server is a DNS server on the loopback interface.
type server struct {
	t   *testing.T
	udp *net.UDPConn
	tcp net.Listener

	mu   sync.Mutex
	zone zone
	got  []query
	// answer, if any, goes before the zone. It returns the messages to send, or false.
	answer func(q query) ([][]byte, bool)
}

func serve(t *testing.T, z zone) *server {
	t.Helper()
	s := &server{t: t, zone: z}
	var err error
	for range 20 { // the same port for both may be taken
		s.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if s.tcp, err = net.Listen("tcp4", s.udp.LocalAddr().String()); err == nil {
			break
		}
		s.udp.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.udp.Close(); s.tcp.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := s.udp.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, msg := range s.reply(b[:n], from, false) {
				s.udp.WriteToUDPAddrPort(msg, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := s.tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 2)
				if _, err := io.ReadFull(conn, b); err != nil {
					return
				}
				b = make([]byte, binary.BigEndian.Uint16(b))
				if _, err := io.ReadFull(conn, b); err != nil {
					return
				}
				for _, msg := range s.reply(b, conn.RemoteAddr().(*net.TCPAddr).AddrPort(), true) {
					conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(msg))))
					conn.Write(msg)
				}
			}()
		}
	}()
	return s
}

func (s *server) addr() netip.AddrPort { return s.udp.LocalAddr().(*net.UDPAddr).AddrPort() }

// asked returns how often a question has come.
func (s *server) asked(key string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.got {
		if q.name+" "+typeName(q.question.Type) == key {
			n++
		}
	}
	return n
}

// queries returns what has come.
func (s *server) queries() []query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// set changes the zone.
func (s *server) set(key, records string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[key] = records
}

// answers has a function answer.
func (s *server) answers(f func(query) ([][]byte, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *server) reply(b []byte, from netip.AddrPort, tcp bool) [][]byte {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil || len(m.Questions) != 1 || !m.RecursionDesired {
		s.t.Errorf("a query that is none: %v: %v", m.GoString(), err)
		return nil
	}
	q := query{id: m.ID, from: from, name: nameOf(m.Questions[0].Name), tcp: tcp, edns: len(m.Additionals) == 1, question: m.Questions[0]}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, q)
	if s.answer != nil {
		if list, ok := s.answer(q); ok {
			return list
		}
	}
	return [][]byte{s.fromZone(q)}
}

// fromZone answers as a recursive server does.
func (s *server) fromZone(q query) []byte {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.id, Response: true, RecursionDesired: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q.question},
	}
	name := q.name
	for range 3 {
		if alias, ok := s.zone[name+" CNAME"]; ok {
			m.Answers = append(m.Answers, recordsOf(s.t, name, "CNAME", alias)...)
			name = strings.Fields(alias)[1]
			continue
		}
		break
	}
	text, ok := s.zone[name+" "+typeName(q.question.Type)]
	kind, rest, _ := strings.Cut(text, " ")
	switch {
	case !ok || kind == "SOA" || kind == "NX":
		if kind == "NX" {
			m.RCode = dnsmessage.RCodeNameError
		}
		if ok {
			ttl, _ := strconv.Atoi(rest)
			m.Authorities = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("example."), Class: dnsmessage.ClassINET, TTL: 86400},
				Body:   &dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns.example."), MBox: dnsmessage.MustNewName("m.example."), MinTTL: uint32(ttl)},
			}}
		}
	case kind == "FAIL":
		m.RCode = dnsmessage.RCodeServerFailure
	default:
		m.Answers = append(m.Answers, recordsOf(s.t, name, typeName(q.question.Type), text)...)
	}
	return pack(s.t, m)
}

func pack(t *testing.T, m dnsmessage.Message) []byte {
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// recordsOf makes records of lines such as "300 192.0.2.1".
func recordsOf(t *testing.T, owner, kind, text string) (list []dnsmessage.Resource) {
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		number := func(i int) uint16 {
			n, err := strconv.ParseUint(f[i], 10, 16)
			if err != nil {
				t.Error(err)
			}
			return uint16(n)
		}
		name := func(s string) dnsmessage.Name { return dnsmessage.MustNewName(strings.TrimSuffix(s, ".") + ".") }
		ttl, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			t.Error(err)
		}
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name(owner), Class: dnsmessage.ClassINET, TTL: uint32(ttl)}}
		switch kind {
		case "A":
			r.Body = &dnsmessage.AResource{A: netip.MustParseAddr(f[1]).As4()}
		case "CNAME":
			r.Body = &dnsmessage.CNAMEResource{CNAME: name(f[1])}
		case "SRV":
			r.Body = &dnsmessage.SRVResource{Priority: number(1), Weight: number(2), Port: number(3), Target: name(f[4])}
		case "NAPTR":
			data := binary.BigEndian.AppendUint16(nil, number(1))
			data = binary.BigEndian.AppendUint16(data, number(2))
			for _, s := range f[3:6] {
				s = strings.Trim(s, `"`)
				data = append(append(data, byte(len(s))), s...)
			}
			for _, s := range strings.Split(strings.TrimSuffix(f[6], "."), ".") {
				if s != "" {
					data = append(append(data, byte(len(s))), s...)
				}
			}
			r.Body = &dnsmessage.UnknownResource{Type: typeNAPTR, Data: append(data, 0)}
		default:
			t.Errorf("no records of type %s here", kind)
		}
		list = append(list, r)
	}
	return list
}

// clock is a time that goes only when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// locator returns a Locator that asks the servers, without files, with a clock.
func locator(t *testing.T, cfg Config, servers ...*server) (*Locator, *clock) {
	t.Helper()
	for _, s := range servers {
		cfg.Servers = append(cfg.Servers, s.addr())
	}
	none := filepath.Join(t.TempDir(), "none")
	if cfg.Hosts == "" {
		cfg.Hosts = none
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = none
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 20 * time.Second // of a server that is to answer
	}
	c := &clock{now: time.Now()}
	l := New(cfg)
	l.now, l.resolver.now, l.resolver.files.now = c.Now, c.Now, c.Now
	t.Cleanup(l.Close)
	return l, c
}

// find locates a server and waits for the answer. now tells that it came at once.
func find(t *testing.T, l *Locator, s proxy.Server) (list []string, now bool) {
	t.Helper()
	done := make(chan []proxy.Target, 2)
	targets, now := l.Locate(s, func(list []proxy.Target) { done <- list })
	if !now {
		select {
		case targets = <-done:
		case <-time.After(30 * time.Second):
			t.Fatal("no answer")
		}
	}
	for _, target := range targets {
		list = append(list, fmt.Sprint(target.Kind, " ", target.Addr))
	}
	return list, now
}

// equal fails the test if the targets are not those of a text, which names them in
// their order.
func equal(t *testing.T, got []string, want string) {
	t.Helper()
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("found %q, not %q", text, want)
	}
}

func host(name string) proxy.Server { return proxy.Server{Host: name} }
