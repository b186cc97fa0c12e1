package transport

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/sipmsg"
)

// server is a peer that is connected to.
type server struct {
	*net.TCPListener
	addr netip.AddrPort
}

func listenTCP(t testing.TB) server {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return server{l.(*net.TCPListener), endpointOf(l.Addr())}
}

func (s server) accept(t testing.TB) phone {
	t.Helper()
	s.SetDeadline(time.Now().Add(patience))
	c, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return phone{t, c}
}

// TestTCP has answers and requests use the connection that a phone has made.
func TestTCP(t *testing.T) {
	r := newRecorder()
	listen := []netip.AddrPort{free(t, "127.0.0.1"), free(t, "127.0.0.2")}
	tr := open(t, Config{Listen: listen}, r)
	for _, a := range listen {
		p := dialTCP(t, a)
		p.send(message("alice", 100))
		got := r.next(t)
		if want := (Hop{Kind: TCP, Local: a, Remote: p.local(), Conn: got.Conn, Interface: loopback(t)}); got.Hop != want || got.Conn == 0 || string(got.Data) != message("alice", 100) {
			t.Errorf("arrived: %v %q, want %v", got.Hop, got.Data, want)
		}
		answer, request := message("answer", 3), message("request", 4)
		if err := tr.Send(got.Hop, []byte(answer)); err != nil {
			t.Fatal(err)
		}
		// Any port of that address is as good.
		if err := tr.Send(Hop{Kind: TCP, Local: netip.AddrPortFrom(a.Addr(), 0), Remote: p.local()}, []byte(request)); err != nil {
			t.Fatal(err)
		}
		p.expect(answer + request)
	}
	if s := tr.Stats(); s.Accepted != 2 || s.Dialled != 0 || s.TCPIn != 2 || s.TCPOut != 4 || s.Connections != 2 {
		t.Errorf("%+v", s)
	}
}

// TestTCPDial makes a connection from the given address, uses it for what follows,
// in both directions, and makes another one when it is closed.
func TestTCPDial(t *testing.T) {
	r := newRecorder()
	local := free(t, "127.0.0.2")
	tr := open(t, Config{Listen: []netip.AddrPort{free(t, "127.0.0.1"), local}}, r)
	s := listenTCP(t)
	to := Hop{Kind: TCP, Local: netip.AddrPortFrom(local.Addr(), 0), Remote: s.addr}
	var hop Hop
	for round := range uint64(2) {
		for _, name := range []string{"a", "b", "c"} {
			if err := tr.Send(to, []byte(message(name, 10))); err != nil {
				t.Fatal(err)
			}
		}
		p := s.accept(t)
		p.expect(message("a", 10) + message("b", 10) + message("c", 10))
		if remote := endpointOf(p.RemoteAddr()); remote.Addr() != local.Addr() {
			t.Errorf("from %v, want %v", remote, local)
		}
		p.send(message("answer", 0))
		got := r.next(t)
		if got.Local != endpointOf(p.RemoteAddr()) || got.Remote != s.addr || got.Conn == hop.Conn || got.Interface != 0 {
			t.Errorf("arrived: %v", got.Hop)
		}
		hop = got.Hop
		if st := tr.Stats(); st.Dialled != round+1 || st.Connections != 1 {
			t.Errorf("%+v", st)
		}
		p.Conn.(*net.TCPConn).SetLinger(0)
		p.Close()
		r.failure(t, syscall.ECONNRESET)
		if err := tr.Send(hop, []byte("x")); err != ErrNoConnection {
			t.Errorf("over a closed connection: %v", err)
		}
	}
}

// TestTCPFraming cuts a stream of messages of all sorts at any byte.
func TestTCPFraming(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	var stream strings.Builder
	var want []string
	for i, n := range []int{0, 1, 10, 5000, smallBuffer, 0, 60000, 3, 20000} {
		m := message(strings.Repeat("u", i+1), n)
		if i%2 == 1 { // LF only
			head, body, _ := strings.Cut(m, "\r\n\r\n")
			m = strings.ReplaceAll(head, "\r\n", "\n") + "\n\n" + body
		}
		stream.WriteString(strings.Repeat("\r\n", i%2) + m)
		want = append(want, m)
	}
	all := stream.String()
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []func() int{
		func() int { return len(all) },
		func() int { return 1 + random.IntN(3000) },
		func() int { return smallBuffer },
		func() int { return 997 },
	} {
		p := dialTCP(t, tr.cfg.Listen[0])
		for rest := all; rest != ""; {
			n := min(size(), len(rest))
			p.send(rest[:n])
			rest = rest[n:]
		}
		for i, m := range want {
			if got := r.next(t); string(got.Data) != m {
				t.Fatalf("message %d has %d bytes, want %d", i, len(got.Data), len(m))
			}
		}
	}
	// Byte by byte, a message each in a segment of its own.
	p := dialTCP(t, tr.cfg.Listen[0])
	for _, c := range []byte(message("slow", 5) + message("slower", 0)) {
		p.send(string(c))
	}
	r.next(t)
	if got := r.next(t); string(got.Data) != message("slower", 0) {
		t.Errorf("%q", got.Data)
	}
	r.quiet(t)
	eventually(t, "buffers are kept", func() bool { return tr.Stats().Buffered == 0 })
}

func TestTCPPing(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	p := dialTCP(t, tr.cfg.Listen[0])
	for _, ping := range []string{"\r\n\r\n", message("a", 2) + "\r\n\r\n", "\r\n\r\n" + message("b", 0)} {
		p.send(ping)
		p.expect("\r\n")
	}
	// In two segments.
	p.send("\r\n")
	time.Sleep(10 * time.Millisecond)
	p.send("\r\n")
	p.expect("\r\n")
	// A single one is no ping.
	p.send("\r\n" + message("c", 0))
	for range 3 {
		r.next(t)
	}
	tr.Send(Hop{Kind: TCP, Remote: p.local(), Local: tr.cfg.Listen[0]}, []byte("end"))
	p.expect("end")
}

func TestLineEnds(t *testing.T) {
	s := new(stream)
	for _, c := range []struct {
		ends string
		at   time.Duration
		ours bool // we have sent a ping
		want int
	}{
		{"\r\n\r\n", 0, false, 1},
		{"\r\n", time.Second, false, 0},
		{"\r\n", time.Second, false, 1},
		{"\r\n", 2 * time.Second, false, 0}, // a phone's own way of keeping alive
		{"\r\n", 30 * time.Second, false, 0},
		{"\r\n", 60 * time.Second, false, 0},
		{"\r\n", 90 * time.Second, true, 0}, // our answer
		{"\r\n\r\n", 91 * time.Second, false, 1},
		{"\r\n\r\n\r\n", 92 * time.Second, true, 1}, // both
		{"\r\n\r\n", 93 * time.Second, true, 1},     // its ping crosses ours
		{"\r\n", 93 * time.Second, false, 0},        // and this is the answer
		{"\r\n\r\n", 94 * time.Second, false, 1},
	} {
		s.pong = s.pong || c.ours
		if got := s.lineEnds([]byte(c.ends), c.at); got != c.want {
			t.Errorf("%q at %v: %d pings, want %d", c.ends, c.at, got, c.want)
		}
	}
}

// TestTCPKeepalive: we send pings, which keep the connection for ever.
func TestTCPKeepalive(t *testing.T) {
	tr := open(t, Config{TCPKeepalive: 20 * time.Millisecond, TCPTimeout: 100 * time.Millisecond}, newRecorder())
	p := dialTCP(t, tr.cfg.Listen[0])
	for range 10 {
		p.expect("\r\n\r\n")
		p.send("\r\n")
	}
}

// TestTCPSilence: what is silent in both directions is closed.
func TestTCPSilence(t *testing.T) {
	const timeout = 200 * time.Millisecond
	r := newRecorder()
	tr := open(t, Config{TCPTimeout: timeout}, r)
	p := dialTCP(t, tr.cfg.Listen[0])
	p.send(message("a", 0))
	hop := r.next(t).Hop
	last := time.Now()
	for range 6 { // what we send is no silence
		time.Sleep(timeout / 4)
		before := time.Now()
		if err := tr.Send(hop, []byte("x")); err != nil {
			if before.Sub(last) < timeout {
				t.Fatal(err)
			}
			break // the machine was busy for that long
		}
		last = before
		p.expect("x")
	}
	p.ended()
	if d := time.Since(last); d < timeout {
		t.Errorf("closed after %v", d)
	}
	eventually(t, "not forgotten", func() bool { return tr.Stats().Connections == 0 })
	r.quiet(t) // an end in order
}

// TestTCPHalfMessage: what comes too slowly ends, however often a byte comes.
func TestTCPHalfMessage(t *testing.T) {
	tr := open(t, Config{MessageTimeout: 100 * time.Millisecond}, newRecorder())
	p := dialTCP(t, tr.cfg.Listen[0])
	half := message("a", 1000)
	start := time.Now()
	for i := range half {
		if _, err := p.Write([]byte{half[i]}); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if d := time.Since(start); d > 4*time.Second { // all of it takes longer
		t.Errorf("lasted %v", d)
	}
	eventually(t, "not counted", func() bool { return tr.Stats().TimedOut == 1 })
}

// TestTCPMessageTimes: each message has its own time, though there is half a
// message at any time.
func TestTCPMessageTimes(t *testing.T) {
	const timeout = time.Second
	r := newRecorder()
	tr := open(t, Config{MessageTimeout: timeout}, r)
	p := dialTCP(t, tr.cfg.Listen[0])
	whole := message("a", 0)
	p.send(whole[:10])
	for start := time.Now(); time.Since(start) < timeout*5/4; {
		time.Sleep(timeout / 10)
		p.send(whole[10:] + whole[:10])
		r.next(t)
	}
}

func TestTCPNotSIP(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", sipmsg.ErrNotSIP},
		{"HTTP", "POST / HTTP/1.1\r\n", sipmsg.ErrNotSIP},
		{"no Content-Length", "BYE sip:a SIP/2.0\r\nTo: a\r\n\r\n", sipmsg.ErrNoContentLength},
		{"negative", "BYE sip:a SIP/2.0\r\nl: -1\r\n\r\n", sipmsg.ErrContentLength},
		{"twice", "BYE sip:a SIP/2.0\r\nl: 1\r\nl: 2\r\n\r\n", sipmsg.ErrDuplicate},
		{"huge", "BYE sip:a SIP/2.0\r\nl: 4294967295\r\n\r\n", sipmsg.ErrSize},
		{"no end", "BYE sip:a SIP/2.0\r\nx: " + strings.Repeat("x", sipmsg.MaxSize), sipmsg.ErrSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRecorder()
			tr := open(t, Config{}, r)
			p := dialTCP(t, tr.cfg.Listen[0])
			p.send(message("good", 0))
			hop := r.next(t).Hop
			if err := tr.Send(hop, []byte("answer")); err != nil {
				t.Fatal(err)
			}
			p.expect("answer")
			p.Write([]byte(c.text)) // may be reset meanwhile
			if got := r.failure(t, c.want); got != hop {
				t.Errorf("failed: %v, want %v", got, hop)
			}
			p.ended()
			if s := tr.Stats(); s.Refused != 1 || s.Connections != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestTCPHalfClose: a peer that has closed its side gets its answer, but no
// request.
func TestTCPHalfClose(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{WriteTimeout: time.Second}, r)
	p := dialTCP(t, tr.cfg.Listen[0])
	p.send(message("a", 0))
	if err := p.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	hop := r.next(t).Hop
	eventually(t, "a request would use it", func() bool {
		tr.mu.RLock()
		defer tr.mu.RUnlock()
		return len(tr.peers) == 0
	})
	if err := tr.Send(hop, []byte("answer")); err != nil {
		t.Fatal(err)
	}
	p.expect("answer")
	p.ended() // after a while
	eventually(t, "not forgotten", func() bool { return tr.Stats().Connections == 0 })
}

// TestTCPGone: who has asked for nothing is owed nothing, and of who has, it is
// noticed that nobody is there for the answer.
func TestTCPGone(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{WriteTimeout: time.Hour}, r)
	p := dialTCP(t, tr.cfg.Listen[0])
	p.Close()
	p = dialTCP(t, tr.cfg.Listen[0])
	p.send(message("a", 0))
	hop := r.next(t).Hop
	p.Close()
	tr.Send(hop, []byte("answer")) // is answered by a reset
	eventually(t, "not forgotten", func() bool { return tr.Stats().Connections == 0 })
}

// TestTCPCut: a stream that ends within a message.
func TestTCPCut(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	p := dialTCP(t, tr.cfg.Listen[0])
	p.send(message("a", 0) + message("b", 10)[:50])
	hop := r.next(t).Hop
	tr.Send(hop, []byte("answer"))
	p.Conn.(*net.TCPConn).CloseWrite()
	r.failure(t, ErrCut)
}

func TestTCPRefused(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	closed := free(t, "127.0.0.9")
	to := Hop{Kind: TCP, Local: tr.cfg.Listen[0], Remote: closed}
	for range 3 {
		if err := tr.Send(to, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if h := r.failure(t, syscall.ECONNREFUSED); h.Remote != closed || h.Local.Addr() != to.Local.Addr() || h.Kind != TCP {
			t.Errorf("failed: %v", h)
		}
	}
	if s := tr.Stats(); s.DialFailed != 3 || s.Connections != 0 {
		t.Errorf("%+v", s)
	}
}

// blackHole returns an endpoint that answers no SYN: a listener whose queue is
// full.
func blackHole(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	a := free(t, "127.0.0.8")
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	dialTCP(t, a) // a queue of length 0 has space for one
	return a
}

func TestTCPConnectTimeout(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{TCPConnectTimeout: 300 * time.Millisecond}, r)
	to := Hop{Kind: TCP, Local: tr.cfg.Listen[0], Remote: blackHole(t)}
	large := make([]byte, sipmsg.MaxSize)
	for range maxQueue / len(large) {
		if err := tr.Send(to, large); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.Send(to, large); err != ErrBusy {
		t.Errorf("beyond the queue: %v", err)
	}
	r.failure(t, os.ErrDeadlineExceeded)
	r.quiet(t) // once for all
}

// TestTCPShutdown ends while a connection is being made.
func TestTCPShutdown(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{TCPConnectTimeout: time.Hour}, r)
	if err := tr.Send(Hop{Kind: TCP, Local: tr.cfg.Listen[0], Remote: blackHole(t)}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	dialTCP(t, tr.cfg.Listen[0]).send(message("a", 100)[:20])
}

// TestTCPNeverReads: a peer that reads nothing is not waited for, has a bounded
// queue, and is given up.
func TestTCPNeverReads(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{WriteTimeout: 200 * time.Millisecond}, r)
	p := dialTCP(t, tr.cfg.Listen[0])
	p.send(message("a", 0))
	hop := r.next(t).Hop
	msg := make([]byte, 10000)
	sent, start := 0, time.Now()
	var err error
	for err == nil && sent < 100<<20 {
		if err = tr.Send(hop, msg); err == nil {
			sent += len(msg)
		}
	}
	if err != ErrBusy {
		t.Fatalf("after %d bytes: %v", sent, err)
	}
	t.Logf("%d bytes were taken in %v", sent, time.Since(start))
	if s := tr.Stats(); s.Queued > 2*maxQueue || s.Busy == 0 {
		t.Errorf("%+v", s)
	}
	h := r.failure(t, ErrStalled)
	if h != hop {
		t.Errorf("failed: %v", h)
	}
	if s := tr.Stats(); s.Queued != 0 || s.TimedOut != 1 {
		t.Errorf("%+v", s)
	}
}

// TestTCPSlowReader: a peer that reads late gets everything, in order and whole.
func TestTCPSlowReader(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	p := dialTCP(t, tr.cfg.Listen[0])
	p.send(message("a", 0))
	hop := r.next(t).Hop
	var want strings.Builder
	for i := 0; ; i++ {
		m := message(strings.Repeat("u", i%100), 1000+i)
		if err := tr.Send(hop, []byte(m)); err == ErrBusy {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		want.WriteString(m)
	}
	if tr.Stats().Queued == 0 {
		t.Error("nothing waits")
	}
	p.expect(want.String())
	eventually(t, "something is still queued", func() bool { return tr.Stats().Queued == 0 })
	if err := tr.Send(hop, []byte("on we go")); err != nil {
		t.Fatal(err)
	}
	p.expect("on we go")
}

// TestTCPLimits: a host, and all together, have no more connections than they may,
// and it is the right ones that go.
func TestTCPLimits(t *testing.T) {
	r := newRecorder()
	listen := free(t, "127.0.0.1")
	tr := open(t, Config{Listen: []netip.AddrPort{listen}, MaxConnections: 6, MaxPerHost: 3}, r)
	from := func(addr string, name string) phone {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
		c, err := d.Dial("tcp4", listen.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		p := phone{t, c}
		if name != "" {
			p.send(message(name, 0))
			r.next(t)
		}
		return p
	}
	alive := func(p phone) {
		t.Helper()
		p.send("\r\n\r\n")
		p.expect("\r\n")
	}
	// Of one host: the one that has brought nothing, then the oldest.
	a1 := from("127.0.0.2", "a1")
	a2 := from("127.0.0.2", "")
	eventually(t, "not accepted", func() bool { return tr.Stats().Accepted == 2 })
	a3 := from("127.0.0.2", "a3")
	a4 := from("127.0.0.2", "a4")
	a2.ended()
	alive(a1) // is now the last that was heard of
	a5 := from("127.0.0.2", "a5")
	a3.ended()
	// In all: a host with one only keeps it.
	b := from("127.0.0.3", "b")
	c := from("127.0.0.4", "c")
	d := from("127.0.0.5", "d")
	alive(a1)
	e := from("127.0.0.6", "e")
	a4.ended()
	for _, p := range []phone{a1, a5, b, c, d, e} {
		alive(p)
	}
	if s := tr.Stats(); s.Connections != 6 || s.Evicted != 3 {
		t.Errorf("%+v", s)
	}
}

// TestTCPRestart: a daemon that follows another one at once gets its address,
// though connections of the first still linger.
// TestTCPInterfaces: any number of hosts outside, each with one good connection, leave
// room for phones whose connections are silent for longer.
func TestTCPInterfaces(t *testing.T) {
	tr := &Transport{
		cfg: Config{MaxConnections: 100}.withDefaults(), start: time.Now(),
		conns: map[uint64]*conn{}, peers: map[peer]*conn{}, hosts: map[netip.Addr]int{}, ifaces: map[int]int{},
	}
	come := func(n, ifindex int, network byte) {
		for i := range n {
			host := netip.AddrFrom4([4]byte{network, 0, byte(i >> 8), byte(i)})
			c := tr.newConn(netip.MustParseAddrPort("10.0.0.1:5060"), netip.AddrPortFrom(host, 40000))
			c.ifindex = ifindex
			c.proven.Store(true)
			tr.add(c)
		}
	}
	const inside, outside = 2, 3
	come(20, inside, 10)
	come(1000, outside, 100)
	if tr.ifaces[inside] != 20 || tr.ifaces[outside] != 75 {
		t.Errorf("connections by interface: %v", tr.ifaces)
	}
	come(1000, inside, 11)
	if len(tr.conns) != 100 || tr.ifaces[inside]+tr.ifaces[outside] != 100 || len(tr.hosts) != 100 {
		t.Errorf("%d connections of %d hosts, by interface: %v", len(tr.conns), len(tr.hosts), tr.ifaces)
	}
}

func TestTCPRestart(t *testing.T) {
	listen := free(t, "127.0.0.1")
	for range 3 {
		t.Run("", func(t *testing.T) {
			r := newRecorder()
			open(t, Config{Listen: []netip.AddrPort{listen}}, r)
			dialTCP(t, listen).send(message("a", 0))
			r.next(t)
		})
	}
}

// BenchmarkTCP is a message in and an answer out, of 500 bytes each.
func BenchmarkTCP(b *testing.B) {
	r := newRecorder()
	var tr *Transport
	r.answer = func(a Arrival) {
		if err := tr.Send(a.Hop, a.Data); err != nil {
			b.Error(err)
		}
	}
	tr = open(b, Config{}, r)
	p := dialTCP(b, tr.cfg.Listen[0])
	msg := []byte(message("a", 400))
	buf := make([]byte, len(msg))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(p, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func TestKind(t *testing.T) {
	for k, want := range map[Kind]string{UDP: "UDP", TCP: "TCP", 7: "Kind(7)"} {
		if k.String() != want {
			t.Errorf("%q, want %q", k, want)
		}
	}
	h := Hop{Kind: TCP, Local: netip.MustParseAddrPort("192.0.2.1:5060"), Remote: netip.MustParseAddrPort("192.0.2.2:1"), Conn: 3}
	if want := "TCP 192.0.2.1:5060 192.0.2.2:1 #3"; h.String() != want {
		t.Errorf("%q, want %q", h, want)
	}
	if errors.Is(ErrSlow, ErrStalled) {
		t.Error("errors are not told apart")
	}
}
