package transport

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sipnatd/sipmsg"
)

// TestUDP has an answer leave from the address that the request came to, as the
// connected socket of the phone demands.
func TestUDP(t *testing.T) {
	r := newRecorder()
	listen := []netip.AddrPort{free(t, "127.0.0.1"), free(t, "127.0.0.2")}
	tr := open(t, Config{Listen: listen}, r)
	for _, a := range listen {
		p := dialUDP(t, a)
		p.send("request")
		got := r.next(t)
		if want := (Hop{Kind: UDP, Local: a, Remote: p.local(), Interface: loopback(t)}); got.Hop != want || string(got.Data) != "request" {
			t.Errorf("arrived: %v %q, want %v", got.Hop, got.Data, want)
		}
		if err := tr.Send(got.Hop, []byte("answer")); err != nil {
			t.Fatal(err)
		}
		p.expect("answer")

		// By the address alone.
		if err := tr.Send(Hop{Kind: UDP, Local: netip.AddrPortFrom(a.Addr(), 0), Remote: p.local()}, []byte("again")); err != nil {
			t.Fatal(err)
		}
		p.expect("again")
	}
	if s := tr.Stats(); s.UDPIn != 2 || s.UDPOut != 4 {
		t.Errorf("%+v", s)
	}
}

// TestUDPRoute sends without a local address.
func TestUDPRoute(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	p := dialUDP(t, tr.cfg.Listen[0])
	if err := tr.Send(Hop{Remote: p.local()}, []byte("request")); err != nil {
		t.Fatal(err)
	}
	p.expect("request")
	if a, err := tr.Route(netip.MustParseAddr("127.0.0.9")); err != nil || !a.IsLoopback() {
		t.Errorf("%v, %v", a, err)
	}
}

func TestSendRefused(t *testing.T) {
	tr := open(t, Config{}, newRecorder())
	local, remote := tr.cfg.Listen[0], netip.MustParseAddrPort("127.0.0.1:9")
	for _, c := range []struct {
		name string
		hop  Hop
		size int
		want error
	}{
		{"no remote address", Hop{Local: local}, 1, ErrRemote},
		{"remote port 0", Hop{Local: local, Remote: netip.MustParseAddrPort("127.0.0.1:0")}, 1, ErrRemote},
		{"IPv6", Hop{Local: local, Remote: netip.MustParseAddrPort("[2001:db8::1]:5060")}, 1, ErrRemote},
		{"no socket with this port", Hop{Local: netip.AddrPortFrom(local.Addr(), 1), Remote: remote}, 1, ErrNoSocket},
		{"no socket with this address", Hop{Local: netip.MustParseAddrPort("127.0.0.77:0"), Remote: remote}, 1, ErrNoSocket},
		{"TCP from another address", Hop{Kind: TCP, Local: netip.MustParseAddrPort("127.0.0.77:0"), Remote: remote}, 1, ErrNoSocket},
		{"a connection that is none", Hop{Kind: TCP, Local: local, Remote: remote, Conn: 77}, 1, ErrNoConnection},
		{"too large", Hop{Local: local, Remote: remote}, sipmsg.MaxSize + 1, syscall.EMSGSIZE},
		{"too large for a datagram", Hop{Local: local, Remote: remote}, sipmsg.MaxSize, syscall.EMSGSIZE},
		{"too large for TCP", Hop{Kind: TCP, Local: local, Remote: remote}, sipmsg.MaxSize + 1, syscall.EMSGSIZE},
	} {
		if err := tr.Send(c.hop, make([]byte, c.size)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestUDPKeepAlive(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	p := dialUDP(t, tr.cfg.Listen[0])
	for _, text := range []string{"", "\r\n\r\n", "\x00\x00\x00\x00", " "} {
		p.send(text)
	}
	p.send("request")
	if got := r.next(t); string(got.Data) != "request" {
		t.Errorf("arrived: %q", got.Data)
	}
	r.quiet(t)
	if s := tr.Stats(); s.KeepAlives != 4 || s.UDPIn != 1 {
		t.Errorf("%+v", s)
	}
}

// TestUDPLarge sends the largest datagram in both directions.
func TestUDPLarge(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	p := dialUDP(t, tr.cfg.Listen[0])
	large := strings.Repeat("x", 65507)
	p.send(large)
	got := r.next(t)
	if string(got.Data) != large {
		t.Fatalf("%d bytes", len(got.Data))
	}
	if err := tr.Send(got.Hop, got.Data); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	if n, err := p.Read(buf); err != nil || string(buf[:n]) != large {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

// TestUDPUnreachable sends to closed ports and an open one in turn: each failure
// names the closed port, and nothing else is lost or blamed.
func TestUDPUnreachable(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{}, r)
	local := tr.cfg.Listen[0]
	p := dialUDP(t, local)
	closed := map[netip.AddrPort]bool{free(t, "127.0.0.3"): true, free(t, "127.0.0.4"): true}
	const rounds = 20
	for range rounds {
		for remote := range closed {
			if err := tr.Send(Hop{Kind: UDP, Local: local, Remote: remote}, []byte("lost")); err != nil {
				t.Fatal(err)
			}
			if err := tr.Send(Hop{Kind: UDP, Local: local, Remote: p.local()}, []byte("kept")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range rounds * len(closed) {
		p.expect("kept")
	}
	// The kernel limits ICMP errors to one destination, not to loopback.
	for range rounds * len(closed) {
		h := r.failure(t, syscall.ECONNREFUSED)
		if h.Kind != UDP || h.Local != local || !closed[h.Remote] {
			t.Fatalf("failed: %v", h)
		}
	}
	p.send("request")
	r.next(t)
	r.quiet(t)
}

func TestOpenFails(t *testing.T) {
	taken := free(t, "127.0.0.1")
	l, err := net.Listen("tcp4", taken.String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good := free(t, "127.0.0.2")
	if _, err := Open(Config{Listen: []netip.AddrPort{good, taken}}, newRecorder()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("%v", err)
	}
	for _, bad := range []string{"0.0.0.0:5060", "127.0.0.1:0", "[::1]:5060"} {
		if _, err := Open(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(bad)}}, newRecorder()); !errors.Is(err, ErrRemote) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	// Nothing is held.
	open(t, Config{Listen: []netip.AddrPort{good}}, newRecorder())
}

// TestUDPExclusive: no second process can take our datagrams.
func TestUDPExclusive(t *testing.T) {
	tr := open(t, Config{}, newRecorder())
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	a := tr.cfg.Listen[0]
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}); err != unix.EADDRINUSE {
		t.Fatalf("%v", err)
	}
}

// TestSetListen changes the other addresses while a phone sends to one that stays:
// nothing is lost.
func TestSetListen(t *testing.T) {
	r := newRecorder()
	stays, goes := free(t, "127.0.0.1"), free(t, "127.0.0.2")
	tr := open(t, Config{Listen: []netip.AddrPort{stays, goes}}, r)
	p, c := dialUDP(t, stays), dialTCP(t, stays)

	const packets = 1000
	var sender sync.WaitGroup
	tcp := message("tcp", 10)
	sender.Go(func() {
		for range packets {
			p.send("udp")
			c.send(tcp)
		}
	})
	for range 50 {
		for _, listen := range [][]netip.AddrPort{{stays}, {stays, goes}} {
			if err := tr.SetListen(listen); err != nil {
				t.Fatal(err)
			}
		}
	}
	sender.Wait()
	for range 2 * packets {
		r.next(t)
	}
	r.quiet(t)

	// What goes is gone, with its connections.
	there := dialTCP(t, goes)
	there.send(tcp)
	hop := r.next(t).Hop
	if err := tr.SetListen([]netip.AddrPort{stays}); err != nil {
		t.Fatal(err)
	}
	there.ended()
	if err := tr.Send(hop, []byte(tcp)); err != ErrNoConnection {
		t.Errorf("%v", err)
	}
	if err := tr.Send(Hop{Kind: UDP, Local: goes, Remote: p.local()}, []byte("x")); err != ErrNoSocket {
		t.Errorf("%v", err)
	}
	if _, err := net.Dial("tcp4", goes.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}

	// An address that cannot be had does not keep the others away, and is tried
	// again.
	l, err := net.Listen("tcp4", goes.String())
	if err != nil {
		t.Fatal(err)
	}
	new := free(t, "127.0.0.3")
	all := []netip.AddrPort{stays, goes, new}
	if err := tr.SetListen(all); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v", err)
	}
	dialTCP(t, new).send(tcp)
	r.next(t)
	l.Close()
	if err := tr.SetListen(all); err != nil {
		t.Error(err)
	}
	dialUDP(t, goes).send("udp")
	r.next(t)
}

// TestBeforeRun: what comes between Open and Run is not lost.
func TestBeforeRun(t *testing.T) {
	r := newRecorder()
	listen := free(t, "127.0.0.1")
	tr, err := Open(Config{Listen: []netip.AddrPort{listen}}, r)
	if err != nil {
		t.Fatal(err)
	}
	dialUDP(t, listen).send("udp")
	dialTCP(t, listen).send(message("tcp", 0))
	done := make(chan struct{})
	go func() { defer close(done); tr.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	r.next(t)
	r.next(t)
}

func TestDSCP(t *testing.T) {
	r := newRecorder()
	tr := open(t, Config{SIPDSCP: 24}, r)
	checkDSCP(t, tr, r, 24)
	for _, dscp := range []uint8{46, 0} {
		if err := tr.SetDSCP(dscp); err != nil {
			t.Error(err)
		}
		checkDSCP(t, tr, r, dscp)
	}
}

// checkDSCP looks at a datagram and at connections that are made now.
func checkDSCP(t *testing.T, tr *Transport, r *recorder, dscp uint8) {
	t.Helper()
	local := tr.cfg.Listen[0]

	fd := dialUDP(t, local)
	raw, err := fd.Conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVTOS, 1) })
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Send(Hop{Kind: UDP, Local: local, Remote: fd.local()}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, 64)
	_, n, _, _, err := fd.Conn.(*net.UDPConn).ReadMsgUDP(make([]byte, 1), oob)
	if err != nil {
		t.Fatal(err)
	}
	ms, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(ms) != 1 || ms[0].Data[0] != dscp<<2 {
		t.Errorf("UDP: %v, %v", ms, err)
	}

	// Connections that are accepted and made.
	dialTCP(t, local).send(message("a", 0))
	accepted := r.next(t).Hop
	made := listenTCP(t)
	if err := tr.Send(Hop{Kind: TCP, Local: local, Remote: made.addr}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	made.accept(t).expect("x")
	for _, h := range []Hop{accepted, {Kind: TCP, Local: local, Remote: made.addr}} {
		c, err := tr.connection(h)
		if err != nil {
			t.Fatal(err)
		}
		var tos int
		c.raw.Control(func(fd uintptr) { tos, err = unix.GetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TOS) })
		if err != nil || tos != int(dscp)<<2 {
			t.Errorf("%v: TOS %d, %v", h, tos, err)
		}
	}
}

// TestPanic: a message that makes the handler panic is the only one lost.
func TestPanic(t *testing.T) {
	r := newRecorder()
	got := make(chan string, 1)
	r.answer = func(a Arrival) {
		if bytes.HasPrefix(a.Data, []byte("MESSAGE sip:bad")) {
			panic("as it is meant to")
		}
		got <- string(a.Data)
	}
	tr := open(t, Config{}, r)
	for _, p := range []phone{dialUDP(t, tr.cfg.Listen[0]), dialTCP(t, tr.cfg.Listen[0])} {
		p.send(message("bad", 0))
		p.send(message("good", 0))
		if text := <-got; text != message("good", 0) {
			t.Errorf("%q", text)
		}
	}
	if s := tr.Stats(); s.Panics != 2 {
		t.Errorf("%+v", s)
	}
}

// BenchmarkUDP is a message in and an answer out, of 500 bytes each.
func BenchmarkUDP(b *testing.B) {
	r := newRecorder()
	var tr *Transport
	r.answer = func(a Arrival) {
		if err := tr.Send(a.Hop, a.Data); err != nil {
			b.Error(err)
		}
	}
	tr = open(b, Config{}, r)
	p := dialUDP(b, tr.cfg.Listen[0])
	msg, buf := make([]byte, 500), make([]byte, 500)
	for i := range msg {
		msg[i] = 'x'
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := p.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
