package join

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sipnatd/nat"
)

// The phone, the firewall and the provider of these tests are addresses of the
// loopback interface. What the kernel's redirect does, the tests of the whole do.
var (
	phoneHost    = netip.MustParseAddr("127.0.0.10")
	publicHost   = netip.MustParseAddr("127.0.0.1")
	providerHost = netip.MustParseAddr("127.0.0.20")
)

// kernel is one that does all that it is asked for.
type kernel struct {
	mu      sync.Mutex
	streams []nat.Change
}

func (k *kernel) Apply(changes []nat.Change) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range changes {
		if c.Verb == nat.OpenStream {
			k.streams = append(k.streams, c)
		}
	}
	return nil
}
func (*kernel) Translation(_, _ netip.AddrPort) (netip.AddrPort, bool, bool) {
	return netip.AddrPort{}, false, false
}
func (*kernel) Owner(netip.AddrPort) (netip.AddrPort, bool) { return netip.AddrPort{}, false }
func (*kernel) Traffic(netip.AddrPort) (in, out uint64)     { return 0, 0 }
func (k *kernel) opened() int                               { k.mu.Lock(); defer k.mu.Unlock(); return len(k.streams) }

// networks has the phone inside and the provider outside.
type networks struct{}

func (networks) Inside(a netip.Addr) bool    { return a == phoneHost }
func (networks) Elsewhere(a netip.Addr) bool { return a == phoneHost }
func (networks) Own(a netip.Addr) bool       { return a == publicHost }

// border is the same for a Join.
type border struct{ networks }

func (networks) isOutside(a netip.Addr) bool { return a == providerHost }

func (b border) Outside(a netip.Addr) (netip.Addr, bool) { return publicHost, b.isOutside(a) }

// surroundings is the same for the engine.
type surroundings struct{ networks }

func (s surroundings) Outside(a netip.Addr) bool { return s.isOutside(a) }

// world is a Join between a listener that takes the redirect's place and a provider.
type world struct {
	t        *testing.T
	join     *Join
	kernel   *kernel
	engine   *nat.Engine
	front    *net.TCPListener // what the phone is led to
	provider *net.TCPListener
	log      *syncBuffer
	redirect atomic.Pointer[func(*net.TCPConn) (netip.AddrPort, error)] // where the phone wanted to go
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newWorld(t *testing.T, limits Limits) *world {
	t.Helper()
	w := &world{t: t, kernel: new(kernel), log: new(syncBuffer)}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.engine = nat.New(nat.Config{Networks: surroundings{}}, w.kernel, time.Now, rand.NewPCG(1, 2), log)
	w.join = New(Config{Engine: w.engine, Networks: border{}, Limits: limits, Logger: log})
	w.front, w.provider = w.listen("127.0.0.2"), w.listen(providerHost.String())
	w.wants(func(*net.TCPConn) (netip.AddrPort, error) { return addrPort(w.provider.Addr()), nil })
	w.join.destination = func(c *net.TCPConn) (netip.AddrPort, error) { return (*w.redirect.Load())(c) }
	w.join.listeners["front"] = listener{TCPListener: w.front}
	w.join.running.Go(func() { w.join.accept(w.front) })
	t.Cleanup(func() {
		w.join.Close()
		if _, now := w.engine.Stats(); now.Bindings != 0 {
			t.Errorf("%d bindings are left", now.Bindings)
		}
		if s := w.join.Stats(); s.Open != 0 || len(w.join.hosts) != 0 || len(w.join.pairs) != 0 {
			t.Errorf("left: %+v, %d hosts, %d pairs", s, len(w.join.hosts), len(w.join.pairs))
		}
	})
	return w
}

func (w *world) wants(to func(*net.TCPConn) (netip.AddrPort, error)) { w.redirect.Store(&to) }

func (w *world) listen(host string) *net.TCPListener {
	l, err := net.Listen("tcp4", host+":0")
	must(w.t, err)
	w.t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// wait bounds what these tests wait for. Nothing comes near it that works.
const wait = 10 * time.Second

// dial connects the phone.
func (w *world) dial() (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: phoneHost.AsSlice()}}
	c, err := d.Dial("tcp4", w.front.Addr().String())
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(wait))
	return c.(*net.TCPConn), nil
}

// connect connects the phone and the provider.
func (w *world) connect() (phone, far *net.TCPConn) {
	phone, err := w.dial()
	must(w.t, err)
	w.provider.SetDeadline(time.Now().Add(wait))
	far, err = w.provider.AcceptTCP()
	must(w.t, err)
	w.t.Cleanup(func() { far.Close() })
	far.SetDeadline(time.Now().Add(wait))
	return phone, far
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	must(t, err)
}

func wantRead(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if err != nil || string(got) != want {
		t.Fatalf("read %v:\n%q\nwant\n%q", err, got[:n], want)
	}
}

func wantReset(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v, want a reset", err)
	}
}

// wantRefused connects the phone and has the connection reset.
func (w *world) wantRefused() {
	w.t.Helper()
	c, err := w.dial()
	if err == nil {
		_, err = io.Copy(io.Discard, c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		w.t.Errorf("the connection ends with %v, want a reset", err)
	}
}

// invite is a call of the phone at an endpoint, with as long a User-Agent as wanted.
func invite(phone netip.AddrPort, branch int, agent string) string {
	body := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]v\r\ns=-\r\nc=IN IP4 %[1]v\r\nt=0 0\r\nm=audio %[2]d RTP/AVP 8\r\n", phone.Addr(), 4000)
	return fmt.Sprintf("INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP %[1]v;branch=z9hG4bK%[2]d\r\n"+
		"From: <sip:alice@example.org>;tag=a\r\nTo: <sip:bob@example.org>\r\nCall-ID: c%[2]d\r\nCSeq: 1 INVITE\r\n"+
		"Contact: <sip:alice@%[3]v:5060;transport=tcp>\r\nUser-Agent: %[4]s\r\n"+
		"Content-Type: application/sdp\r\nContent-Length: %[5]d\r\n\r\n%[6]s", phone, branch, phone.Addr(), agent, len(body), body)
}

// left is the same as the provider must see it.
func left(t testing.TB, w *world, text string, phone, public netip.AddrPort) string {
	t.Helper()
	w.kernel.mu.Lock()
	port := w.kernel.streams[0].Public.Port()
	w.kernel.mu.Unlock()
	_, body, _ := strings.Cut(text, "\r\n\r\n")
	out := strings.NewReplacer(phone.String(), public.String(), phone.Addr().String()+":5060", public.String(),
		phone.Addr().String(), public.Addr().String(), "m=audio 4000", fmt.Sprint("m=audio ", port)).Replace(text)
	head, changed, _ := strings.Cut(out, "\r\n\r\n")
	return strings.Replace(head, fmt.Sprint("Content-Length: ", len(body)), fmt.Sprint("Content-Length: ", len(changed)), 1) + "\r\n\r\n" + changed
}

// TestCuts: messages go through however the stream is cut: two of them with a
// keep-alive between, cut in two at every byte, and byte by byte.
func TestCuts(t *testing.T) {
	w := newWorld(t, Limits{})
	phone, far := w.connect()
	from, public := addrPort(phone.LocalAddr()), addrPort(far.RemoteAddr())
	one, two := invite(from, 1, "x"), invite(from, 2, "x")
	stream := one + "\r\n\r\n" + two
	send(t, phone, stream)
	first := make([]byte, 1)
	_, err := io.ReadFull(far, first) // then the stream's port is known
	must(t, err)
	want := left(t, w, one, from, public) + "\r\n\r\n" + left(t, w, two, from, public)
	wantRead(t, far, want[1:])

	// From here on the pieces are handed over as reads would bring them, so that it is
	// sure where they are cut.
	var p *pair
	w.join.mu.Lock()
	for p = range w.join.pairs {
	}
	w.join.mu.Unlock()
	d := &direction{pair: p, outbound: true, src: p.phone, dst: p.far,
		packet: nat.Packet{Outbound: true, Stream: true, Src: p.from, Dst: p.to, Public: p.public.Addr(), PublicPort: p.public.Port()}}
	for cut := range len(stream) {
		for _, piece := range []string{stream[:cut], stream[cut:]} {
			d.buf = append(d.buf, piece...)
			must(t, d.pass())
		}
		if len(d.buf) != 0 {
			t.Fatalf("cut at %d: %d bytes are left", cut, len(d.buf))
		}
		wantRead(t, far, want)
	}
	for i := range stream {
		d.buf = append(d.buf, stream[i])
		must(t, d.pass())
	}
	wantRead(t, far, want)
	if n := w.kernel.opened(); n != 2 {
		t.Errorf("%d streams were opened, want 2", n)
	}

	// And back.
	answer := strings.Replace(strings.Replace(want[:strings.Index(want, "\r\n\r\n")+4], "INVITE sip:bob@example.org SIP/2.0", "SIP/2.0 180 Ringing", 1), "Content-Length: ", "Content-Length: 0\r\nX: ", 1)
	send(t, far, answer)
	restored := strings.NewReplacer(public.String()+";branch", from.String()+";branch", public.String(), phoneHost.String()+":5060").Replace(answer)
	wantRead(t, phone, restored)
}

// TestForeign: what does not begin as SIP passes as it is, and nothing in it is
// taken for SIP, wherever a segment begins and whoever sends it.
func TestForeign(t *testing.T) {
	for name, begin := range map[string]string{
		"HTTP":                        "POST / HTTP/1.1\r\nHost: example.org:5060\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n",
		"TLS":                         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"TURN":                        "\x00\x03\x00\x10\x21\x12\xa4\x42\r\n\r\n",
		"a message without a length":  "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP x\r\nCall-ID: 1\r\n\r\n",
		"a message that is too large": "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP x\r\nContent-Length: 66000\r\n\r\n",
		"a header that is too large":  "INVITE sip:bob@example.org SIP/2.0\r\nX: " + strings.Repeat("x", 66000),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Limits{})
			phone, far := w.connect()
			from := addrPort(phone.LocalAddr())
			attack := invite(from, 1, "x")
			send(t, phone, begin)
			wantRead(t, far, begin)
			send(t, phone, attack) // a segment of its own
			wantRead(t, far, attack)
			back := strings.Replace(attack, "INVITE", "UPDATE", 2)
			send(t, far, back)
			wantRead(t, phone, back)
			if s, now := w.engine.Stats(); w.kernel.opened() != 0 || s.Messages != 0 || now != (nat.Counts{}) {
				t.Errorf("%d streams, %+v, %+v", w.kernel.opened(), s, now)
			}
			if s := w.join.Stats(); s.Foreign != 1 || !strings.Contains(w.log.String(), "pass") {
				t.Errorf("%+v, log:\n%s", s, w.log)
			}
		})
	}
}

// TestForeignLater: after something that is not SIP, what looks like it is not
// looked at any more, but what came before was.
func TestForeignLater(t *testing.T) {
	w := newWorld(t, Limits{})
	phone, far := w.connect()
	from, public := addrPort(phone.LocalAddr()), addrPort(far.RemoteAddr())
	one, two := invite(from, 1, "x"), invite(from, 2, "x")
	send(t, phone, one+"GET / HTTP/1.1\r\n\r\n"+two)
	first := make([]byte, 1)
	_, err := io.ReadFull(far, first)
	must(t, err)
	wantRead(t, far, left(t, w, one, from, public)[1:]+"GET / HTTP/1.1\r\n\r\n"+two)
}

// TestHalfClose: the end of one direction is passed on with what came before it,
// and the other direction goes on.
func TestHalfClose(t *testing.T) {
	w := newWorld(t, Limits{})
	phone, far := w.connect()
	half := "INVITE sip:bob@example.org SIP/2.0\r\nVia:"
	send(t, phone, half)
	must(t, phone.CloseWrite())
	wantRead(t, far, half)
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the phone's end arrives as %v", err)
	}
	answer := "SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
	send(t, far, answer)
	wantRead(t, phone, answer)
	must(t, far.CloseWrite())
	if _, err := phone.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the provider's end arrives as %v", err)
	}
}

// TestReset: a reset of one connection resets the other one.
func TestReset(t *testing.T) {
	for _, outbound := range []bool{true, false} {
		w := newWorld(t, Limits{})
		phone, far := w.connect()
		if !outbound {
			phone, far = far, phone
		}
		phone.SetLinger(0)
		phone.Close()
		wantReset(t, far)
	}
}

// TestSlow: who does not read stops who sends, and loses nothing; after a while
// both are reset.
func TestSlow(t *testing.T) {
	fill := func(t *testing.T, w *world) (phone, far *net.TCPConn, sent int) {
		phone, far = w.connect()
		message := "OPTIONS sip:x SIP/2.0\r\nX: " + strings.Repeat("x", 60000) + "\r\nContent-Length: 0\r\n\r\n"
		const most = 64 << 20
		phone.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			n, err := io.WriteString(phone, message)
			sent += n
			if err != nil {
				return phone, far, sent
			}
			if sent > most {
				t.Fatal("nothing stops the sender")
			}
		}
	}
	t.Run("waits", func(t *testing.T) {
		w := newWorld(t, Limits{})
		phone, far, sent := fill(t, w)
		must(t, phone.CloseWrite())
		got, err := io.Copy(io.Discard, far)
		if err != nil || got != int64(sent) {
			t.Errorf("%d bytes of %d arrived: %v", got, sent, err)
		}
	})
	t.Run("ends", func(t *testing.T) {
		w := newWorld(t, Limits{Write: 500 * time.Millisecond})
		phone, _, _ := fill(t, w)
		wantReset(t, phone)
	})
}

// TestTime: half a message, and silence, have their time.
func TestTime(t *testing.T) {
	t.Run("half a message", func(t *testing.T) {
		w := newWorld(t, Limits{Message: 100 * time.Millisecond})
		phone, far := w.connect()
		send(t, phone, "INVITE sip:x SIP/2.0\r\nVia:")
		wantReset(t, phone)
		wantReset(t, far)
	})
	t.Run("half a line", func(t *testing.T) { // of something else
		w := newWorld(t, Limits{Message: 100 * time.Millisecond})
		phone, far := w.connect()
		send(t, phone, "HELO")
		wantRead(t, far, "HELO")
		send(t, phone, " x\r\n")
		wantRead(t, far, " x\r\n")
	})
	t.Run("silence", func(t *testing.T) {
		w := newWorld(t, Limits{Silence: 100 * time.Millisecond})
		phone, _ := w.connect()
		wantReset(t, phone)
	})
	t.Run("one direction is silent", func(t *testing.T) {
		w := newWorld(t, Limits{Silence: 300 * time.Millisecond})
		phone, far := w.connect()
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			send(t, phone, "\r\n\r\n")
			wantRead(t, far, "\r\n\r\n")
		}
		send(t, far, "\r\n")
		wantRead(t, phone, "\r\n")
	})
	t.Run("half closed", func(t *testing.T) {
		w := newWorld(t, Limits{HalfClosed: 100 * time.Millisecond})
		phone, far := w.connect()
		must(t, phone.CloseWrite())
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the phone's end arrives as %v", err)
		}
		wantReset(t, phone)
	})
}

// TestRefused: a connection that is one too many, that was not redirected, or that
// goes elsewhere than outside, is reset.
func TestRefused(t *testing.T) {
	refused := func(t *testing.T, w *world) {
		t.Helper()
		w.wantRefused()
		if s := w.join.Stats(); s.Refused != 1 {
			t.Errorf("%+v", s)
		}
	}
	to := func(w *world, to netip.AddrPort) {
		w.wants(func(*net.TCPConn) (netip.AddrPort, error) { return to, nil })
	}
	t.Run("of one host", func(t *testing.T) {
		w := newWorld(t, Limits{PerHost: 1})
		w.connect()
		refused(t, w)
	})
	t.Run("in all", func(t *testing.T) {
		w := newWorld(t, Limits{Connections: 1})
		w.connect()
		refused(t, w)
	})
	t.Run("not redirected", func(t *testing.T) {
		w := newWorld(t, Limits{})
		to(w, addrPort(w.front.Addr()))
		refused(t, w)
	})
	t.Run("unknown to conntrack", func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.wants(originalDestination)
		refused(t, w)
	})
	t.Run("to the firewall", func(t *testing.T) {
		w := newWorld(t, Limits{})
		to(w, netip.AddrPortFrom(publicHost, 5060))
		refused(t, w)
	})
	t.Run("to an inside host", func(t *testing.T) {
		w := newWorld(t, Limits{})
		to(w, netip.AddrPortFrom(phoneHost, 5060))
		refused(t, w)
	})
	t.Run("nobody there", func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.provider.Close()
		w.wantRefused()
		if s := w.join.Stats(); s.Failed != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestEnd: connections end with the daemon, and with their public address.
func TestEnd(t *testing.T) {
	w := newWorld(t, Limits{})
	phone, far := w.connect()
	send(t, phone, "\r\n")
	wantRead(t, far, "\r\n") // it is joined
	w.join.Close()
	for _, c := range []net.Conn{phone, far} {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("it ends with %v", err)
		}
	}

	w = newWorld(t, Limits{})
	phone, far = w.connect()
	send(t, phone, "\r\n")
	wantRead(t, far, "\r\n") // it is joined
	w.join.Withdraw(func(a netip.Addr) bool { return a != publicHost })
	send(t, phone, "\r\n")
	wantRead(t, far, "\r\n")
	w.join.Withdraw(func(a netip.Addr) bool { return a == publicHost })
	wantReset(t, phone)
	wantReset(t, far)
}

// TestBuffers: a large message makes a buffer grow for as long as it takes.
func TestBuffers(t *testing.T) {
	w := newWorld(t, Limits{})
	phone, far := w.connect()
	from := addrPort(phone.LocalAddr())
	large := invite(from, 1, strings.Repeat("x", 60000))
	for range 3 {
		send(t, phone, large)
	}
	first := make([]byte, 1)
	_, err := io.ReadFull(far, first)
	must(t, err)
	want := left(t, w, large, from, addrPort(far.RemoteAddr()))
	wantRead(t, far, want[1:]+want+want)
}
