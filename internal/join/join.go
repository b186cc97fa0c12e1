package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/nat"
)

// Networks knows the firewall's surroundings. It must be safe for concurrent use.
type Networks interface {
	// Outside returns the firewall's address towards a host that is reached through
	// an outside interface; ok is false for any other host.
	Outside(host netip.Addr) (public netip.Addr, ok bool)

	// Own reports whether an address is one of the firewall's.
	Own(netip.Addr) bool
}

// Config is what a Join needs.
type Config struct {
	Port     uint16 // local one, that connections are redirected to
	Engine   *nat.Engine
	Networks Networks
	DSCP     uint8 // code point that the connections get, 0 to 63; 0: none
	Limits   Limits
	Logger   *slog.Logger
}

// Stats counts connections.
type Stats struct {
	Open     int    // now
	Joined   uint64 // made so far
	Refused  uint64 // a limit forbade them, or they were not redirected
	Failed   uint64 // their far party could not be reached
	Foreign  uint64 // did not speak SIP, or not all the time
	Messages uint64
}

// Join joins redirected connections to such of its own.
type Join struct {
	port     uint16
	engine   *nat.Engine
	networks Networks
	dscp     atomic.Uint32
	limits   Limits
	log      *slog.Logger

	// destination returns where a redirected connection was going.
	destination func(*net.TCPConn) (netip.AddrPort, error)

	workers sync.Pool // of *nat.Worker
	running sync.WaitGroup
	context context.Context
	end     context.CancelFunc

	mu        sync.Mutex
	ended     bool
	listeners map[string]listener // by interface
	pairs     map[*pair]struct{}
	hosts     map[netip.Addr]int
	warned    map[warning]time.Time
	stats     Stats
}

// listener is that of one interface. A name can come to stand for another one.
type listener struct {
	*net.TCPListener
	index int
}

// New returns a Join that does not listen yet.
func New(cfg Config) *Join {
	ctx, end := context.WithCancel(context.Background())
	j := &Join{
		port: cfg.Port, engine: cfg.Engine, networks: cfg.Networks,
		limits: cfg.Limits.withDefaults(), log: cfg.Logger, destination: originalDestination,
		workers: sync.Pool{New: func() any { return cfg.Engine.NewWorker() }},
		context: ctx, end: end,
		listeners: make(map[string]listener),
		pairs:     make(map[*pair]struct{}),
		hosts:     make(map[netip.Addr]int),
		warned:    make(map[warning]time.Time),
	}
	j.SetDSCP(cfg.DSCP)
	return j
}

// SetDSCP gives connections that are made from now on another code point.
func (j *Join) SetDSCP(codePoint uint8) { j.dscp.Store(uint32(codePoint)) }

// Listen accepts what comes in by the interfaces that are named, and by no others.
// It is to be called again whenever they may have changed. Interfaces that do not
// exist are left out; an error says where else it is impossible to listen.
func (j *Join) Listen(interfaces []string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	wanted := make(map[string]int)
	for _, name := range interfaces {
		if i, err := net.InterfaceByName(name); err == nil && !j.ended {
			wanted[name] = i.Index
		}
	}
	for name, l := range j.listeners {
		if wanted[name] != l.index {
			l.Close()
			delete(j.listeners, name)
		}
	}
	var errs []error
	for name, index := range wanted {
		if _, ok := j.listeners[name]; ok {
			continue
		}
		l, err := j.listen(name)
		if errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sip_tcp_port: on interface %s: %w", name, err))
			continue
		}
		j.listeners[name] = listener{l, index}
		j.running.Go(func() { j.accept(l) })
	}
	return errors.Join(errs...)
}

func (j *Join) listen(name string) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return unix.BindToDevice(fd, name) })
	}}
	l, err := config.Listen(j.context, "tcp4", fmt.Sprintf(":%d", j.port))
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// control runs a function on a socket.
func control(c syscall.RawConn, f func(fd int) error) error {
	var refused error
	if err := c.Control(func(fd uintptr) { refused = f(int(fd)) }); err != nil {
		return err
	}
	return refused
}

// accept serves connections until the listener is closed.
func (j *Join) accept(l *net.TCPListener) {
	const pause = 100 * time.Millisecond
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			j.running.Go(func() { j.serve(c) })
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of files: what waits is not lost
			j.warn("a TCP connection cannot be accepted", netip.Addr{}, "error", err)
			select {
			case <-j.context.Done():
			case <-time.After(pause):
			}
		}
	}
}

// Close ends all connections, and returns when they have ended.
func (j *Join) Close() {
	j.mu.Lock()
	j.ended = true
	j.end() // before connections are interrupted, so that none goes on
	for name, l := range j.listeners {
		l.Close()
		delete(j.listeners, name)
	}
	for p := range j.pairs {
		p.interrupt()
	}
	j.mu.Unlock()
	j.running.Wait()
}

// Withdraw ends the connections from outside addresses that the firewall has no
// more: nothing can come back there, and phones do not notice for long.
func (j *Join) Withdraw(gone func(public netip.Addr) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for p := range j.pairs {
		if gone(p.public.Addr()) {
			p.reset()
		}
	}
}

// Stats returns the counters.
func (j *Join) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stats
}

func (j *Join) count(counter *uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	*counter++
}

// serve joins one connection, and returns when it has ended.
func (j *Join) serve(phone *net.TCPConn) {
	defer phone.Close()
	from := addrPort(phone.RemoteAddr())
	to, public, ok := j.admit(phone)
	if !ok || !j.enter(from.Addr()) {
		phone.SetLinger(0)
		if ok {
			j.warn("a TCP connection is refused: too many are open", from.Addr(), "to", to)
		}
		return
	}
	defer j.leave(from.Addr())
	far, err := j.dial(to, public)
	if err != nil {
		j.count(&j.stats.Failed)
		j.log.Debug("no TCP connection to the far party", "from", from, "to", to, "error", err)
		phone.SetLinger(0)
		return
	}
	defer far.Close()
	j.count(&j.stats.Joined)
	j.prepare(phone)
	newPair(j, phone, far, from, to).run()
}

// admit reports where a connection goes, and from which address of the firewall,
// if it is one that is to be joined: one that was redirected, and goes outside.
// This is no relay that inside hosts can choose.
func (j *Join) admit(phone *net.TCPConn) (to netip.AddrPort, public netip.Addr, ok bool) {
	from := addrPort(phone.RemoteAddr())
	to, err := j.destination(phone)
	if err == nil && to != addrPort(phone.LocalAddr()) && !j.networks.Own(to.Addr()) {
		if public, ok = j.networks.Outside(to.Addr()); ok {
			return to, public, true
		}
	}
	j.count(&j.stats.Refused)
	j.warn("a TCP connection is refused: it was not redirected on its way outside", from.Addr(), "to", to)
	return to, public, false
}

// keepAlive finds out that a peer is gone, in two minutes.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}

// dial connects to the far party. The local port is chosen by a bind of its own:
// the kernel gives no other connection the same one, as it may where connect
// chooses, and the port names the connection in messages.
func (j *Join) dial(to netip.AddrPort, public netip.Addr) (*net.TCPConn, error) {
	d := net.Dialer{
		Timeout:   j.limits.Connect,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(public, 0)),
	}
	c, err := d.DialContext(j.context, "tcp4", to.String())
	if err != nil {
		return nil, err
	}
	far := c.(*net.TCPConn)
	j.prepare(far)
	return far, nil
}

// prepare sets what both connections need. What the kernel refuses of it is not
// needed so much that the phone should go without.
func (j *Join) prepare(c *net.TCPConn) {
	c.SetKeepAliveConfig(keepAlive)
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	control(raw, func(fd int) error {
		const dscpShift = 2
		if codePoint := j.dscp.Load(); codePoint != 0 {
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, int(codePoint)<<dscpShift)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(j.limits.Write.Milliseconds()))
	})
}

func addrPort(a net.Addr) netip.AddrPort {
	ep := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ep.Addr().Unmap(), ep.Port())
}
