package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// recorder is a Handler that remembers, and answers if it is told to.
type recorder struct {
	arrived chan Arrival // with copies of the data
	failed  chan failure
	answer  func(a Arrival) // called instead of remembering, if not nil
}

type failure struct {
	Hop
	err error
}

func newRecorder() *recorder {
	return &recorder{arrived: make(chan Arrival, 4096), failed: make(chan failure, 4096)}
}

func (r *recorder) Arrived(a Arrival) {
	if r.answer != nil {
		r.answer(a)
		return
	}
	a.Data = bytes.Clone(a.Data)
	r.arrived <- a
}

func (r *recorder) Failed(h Hop, err error) { r.failed <- failure{h, err} }

// next returns the next arrival.
func (r *recorder) next(t testing.TB) Arrival {
	t.Helper()
	select {
	case a := <-r.arrived:
		return a
	case f := <-r.failed:
		t.Fatalf("failed: %v: %v", f.Hop, f.err)
	case <-time.After(patience):
		t.Fatal("nothing has arrived")
	}
	panic("not reached")
}

// failure returns the next failure, which must be of this kind.
func (r *recorder) failure(t testing.TB, want error) Hop {
	t.Helper()
	select {
	case f := <-r.failed:
		if !errors.Is(f.err, want) {
			t.Fatalf("failed with %v, want %v", f.err, want)
		}
		return f.Hop
	case <-time.After(patience):
		t.Fatalf("no failure, want %v", want)
	}
	panic("not reached")
}

// quiet asserts that nothing else was told.
func (r *recorder) quiet(t testing.TB) {
	t.Helper()
	if n, m := len(r.arrived), len(r.failed); n+m > 0 {
		t.Errorf("%d arrivals and %d failures too many", n, m)
	}
}

// open makes a Transport with an address of 127.0.0.0/8 for each port 0 in
// cfg.Listen, runs it until the end of the test, and asserts that nothing of it is
// left then.
func open(t testing.TB, cfg Config, h Handler) *Transport {
	t.Helper()
	if cfg.Listen == nil {
		cfg.Listen = []netip.AddrPort{free(t, "127.0.0.1")}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	tr, err := Open(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- tr.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Run does not return")
		}
		if left := goroutines(); left != "" {
			t.Errorf("left behind:\n%s", left)
		}
		if s := tr.Stats(); s.Connections != 0 || s.Queued != 0 || s.Buffered != 0 || len(tr.peers) != 0 || len(tr.hosts) != 0 {
			t.Errorf("left behind: %+v, %d peers, %d hosts", s, len(tr.peers), len(tr.hosts))
		}
	})
	return tr
}

// goroutines returns the stacks of goroutines that the package has started.
func goroutines() string {
	// Those that have called Done may not be gone yet.
	var left []string
	for range 100 {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left = nil
		for _, g := range strings.Split(string(buf), "\n\n") {
			if strings.Contains(g, "transport.(*Transport).") || strings.Contains(g, "transport.(*conn).") || strings.Contains(g, "transport.(*socket).") {
				left = append(left, g)
			}
		}
		if left == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return strings.Join(left, "\n\n")
}

// free returns an endpoint that was free for UDP and TCP a moment ago.
func free(t testing.TB, addr string) netip.AddrPort {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp4", addr+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		u, err := net.ListenPacket("udp4", l.Addr().String())
		if err == nil {
			u.Close()
			return endpointOf(l.Addr())
		}
	}
	t.Fatal("no free port")
	panic("not reached")
}

// loopback is the index of the interface that everything comes in by.
func loopback(t testing.TB) int {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return lo.Index
}

// message is a whole message with a body of n bytes.
func message(name string, n int) string {
	return fmt.Sprintf("MESSAGE sip:%s@example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1\r\nContent-Length: %d\r\n\r\n%s",
		name, n, strings.Repeat("x", n))
}

// phone is the other end of a UDP socket or a TCP connection.
type phone struct {
	t testing.TB
	net.Conn
}

func dialUDP(t testing.TB, to netip.AddrPort) phone { return dial(t, "udp4", to) }
func dialTCP(t testing.TB, to netip.AddrPort) phone { return dial(t, "tcp4", to) }

func dial(t testing.TB, network string, to netip.AddrPort) phone {
	t.Helper()
	c, err := net.DialTimeout(network, to.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return phone{t, c}
}

func (p phone) local() netip.AddrPort {
	return netip.MustParseAddrPort(p.LocalAddr().String())
}

func (p phone) send(text string) {
	p.t.Helper()
	if _, err := p.Write([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// expect reads this text and no more.
func (p phone) expect(text string) {
	p.t.Helper()
	buf := make([]byte, len(text))
	p.SetReadDeadline(time.Now().Add(patience))
	n, err := io.ReadFull(p, buf)
	if string(buf[:n]) != text {
		p.t.Fatalf("read %q, %v; want %q", buf[:n], err, text)
	}
}

// ended waits for the end of the connection, in order or not.
func (p phone) ended() {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(p)
	if e := net.Error(nil); len(b) > 0 || errors.As(err, &e) && e.Timeout() {
		p.t.Fatalf("not ended: %q, %v", b, err)
	}
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}
