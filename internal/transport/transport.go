package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/sipmsg"
)

// Why Send or a connection came to nothing, besides the errors of the kernel. A
// stream that is not SIP ends with a [sipmsg.Reason].
var (
	ErrNoSocket     = errors.New("transport: not a listen address")
	ErrNoConnection = errors.New("transport: the connection is closed")
	ErrRemote       = errors.New("transport: not an IPv4 address and port")
	ErrBusy         = errors.New("transport: the peer does not keep up, its queue is full")
	ErrStalled      = errors.New("transport: the peer takes nothing")
	ErrSlow         = errors.New("transport: half a message has come, and no more in time")
	ErrCut          = errors.New("transport: closed within a message")
	ErrEvicted      = errors.New("transport: too many connections, closed for a newer one")
)

// What the transport holds for its peers, besides the limits of Config.
const (
	// maxQueue is what may wait for one peer, in bytes, and maxQueued for all.
	maxQueue  = 128 << 10
	maxQueued = 8 << 20
	// maxBuffered is what halves of messages beyond smallBuffer may take, in
	// bytes of all connections.
	maxBuffered = 8 << 20
)

// Config is what a Transport is made with.
type Config struct {
	// Listen are the addresses of the UDP sockets and TCP listeners. Not the
	// unspecified address, and no port 0.
	Listen []netip.AddrPort

	// TCPTimeout ends a connection that is silent in both directions. 0: 300 s.
	TCPTimeout time.Duration
	// TCPConnectTimeout is how long a connection may take to be made. 0: 500 ms.
	TCPConnectTimeout time.Duration
	// TCPKeepalive is how often a silent connection is sent a ping of RFC 5626
	// section 4.4.1, two empty lines, which keeps firewalls between open. 0: never.
	TCPKeepalive time.Duration
	// MessageTimeout is how long a message may take from its first byte to its
	// last. 0: 16 s.
	MessageTimeout time.Duration
	// WriteTimeout ends a connection whose peer takes nothing. For this time, too,
	// a peer that has sent a message and closed its side gets answers. 0: 32 s, the
	// life of a transaction (RFC 3261 section 17.1.2.2).
	WriteTimeout time.Duration

	// MaxConnections and MaxPerHost limit the TCP connections in all and of one
	// remote address. A new one beyond that takes the place of an old one: of one
	// that has brought no message yet, of the host with the most, the one that was
	// silent for the longest. Those that have come in by one interface are three
	// quarters of MaxConnections at most: hosts outside, however many, do not take the
	// places of phones inside. 0: 2048, and a quarter of MaxConnections.
	MaxConnections, MaxPerHost int

	// SIPDSCP is the code point that packets are marked with, 0 to 63.
	SIPDSCP uint8

	// Logger is told of what the administrator should know, and at debug level
	// of connections; nil means slog.Default().
	Logger *slog.Logger
}

// withDefaults fills in what is 0.
func (c Config) withDefaults() Config {
	c.TCPTimeout = cmp.Or(c.TCPTimeout, 300*time.Second)
	c.TCPConnectTimeout = cmp.Or(c.TCPConnectTimeout, 500*time.Millisecond)
	c.MessageTimeout = cmp.Or(c.MessageTimeout, 16*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 32*time.Second)
	c.MaxConnections = cmp.Or(c.MaxConnections, 2048)
	c.MaxPerHost = cmp.Or(c.MaxPerHost, max(c.MaxConnections/4, 1))
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// Transport is a set of sockets. Its methods may be called by several goroutines.
type Transport struct {
	cfg      Config
	dscp     atomic.Uint32
	handler  Handler
	log      *slog.Logger
	counters counters
	start    time.Time // what the times of connections count from
	queued   atomic.Int64
	buffered atomic.Int64

	setting sync.Mutex // held by whoever opens and closes sockets, or sets their options

	mu        sync.RWMutex
	running   bool
	closed    bool
	wg        sync.WaitGroup // grows only while mu is held and it is not closed, or by a goroutine of its own
	endpoints map[netip.AddrPort]*endpoint
	conns     map[uint64]*conn
	peers     map[peer]*conn // what a request can use
	hosts     map[netip.Addr]int
	ifaces    map[int]int // connections by the interface that they came in by
	lastConn  uint64
}

// endpoint is what there is for a listen address.
type endpoint struct {
	udp *socket
	tcp *net.TCPListener
}

// peer is what a connection is looked for by.
type peer struct {
	local  netip.Addr
	remote netip.AddrPort
}

// Open binds the sockets. What comes waits in them until Run.
func Open(cfg Config, h Handler) (*Transport, error) {
	cfg = cfg.withDefaults()
	t := &Transport{
		cfg:       cfg,
		handler:   h,
		log:       cfg.Logger,
		start:     time.Now(),
		endpoints: map[netip.AddrPort]*endpoint{},
		conns:     map[uint64]*conn{},
		peers:     map[peer]*conn{},
		hosts:     map[netip.Addr]int{},
		ifaces:    map[int]int{},
	}
	t.dscp.Store(uint32(cfg.SIPDSCP))
	if err := t.SetListen(cfg.Listen); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Run serves until ctx is done, and then closes the transport. It can be called once.
// The error is nil.
func (t *Transport) Run(ctx context.Context) error {
	t.setting.Lock()
	t.mu.Lock()
	t.running = true
	for _, e := range t.endpoints {
		t.serve(e)
	}
	t.mu.Unlock()
	t.setting.Unlock()

	<-ctx.Done()
	t.Close()
	return nil
}

// serve starts what reads from an endpoint. The caller holds mu.
func (t *Transport) serve(e *endpoint) {
	t.wg.Go(e.udp.read)
	t.wg.Go(func() { t.accept(e.tcp) })
}

// Close closes everything, and returns when the Handler will not be called any more.
// It may be called again, and is not needed where Run has returned.
func (t *Transport) Close() {
	t.setting.Lock()
	defer t.setting.Unlock()
	t.mu.Lock()
	t.closed = true
	for _, e := range t.endpoints {
		e.close()
	}
	clear(t.endpoints)
	conns := t.list()
	t.mu.Unlock()
	for _, c := range conns {
		c.end(net.ErrClosed)
	}
	t.wg.Wait()
}

// list returns the connections. The caller holds mu.
func (t *Transport) list() []*conn {
	all := make([]*conn, 0, len(t.conns))
	for _, c := range t.conns {
		all = append(all, c)
	}
	return all
}

func (e *endpoint) close() {
	e.udp.conn.Close()
	e.tcp.Close()
}

// SetListen changes the listen addresses. The sockets of addresses that stay are
// not touched. Connections whose address is in none of them are closed. The error
// tells which addresses could not be had; the others are served, and the next
// call tries again.
func (t *Transport) SetListen(listen []netip.AddrPort) error {
	t.setting.Lock()
	defer t.setting.Unlock()

	addrs := map[netip.Addr]bool{}
	for _, a := range listen {
		addrs[a.Addr()] = true
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return net.ErrClosed
	}
	for a, e := range t.endpoints {
		if !slices.Contains(listen, a) {
			e.close()
			delete(t.endpoints, a)
		}
	}
	conns := slices.DeleteFunc(t.list(), func(c *conn) bool { return addrs[c.from] })
	t.mu.Unlock()
	for _, c := range conns {
		c.end(ErrNoSocket)
	}

	var errs []error
	for _, a := range listen {
		t.mu.RLock()
		_, exists := t.endpoints[a]
		t.mu.RUnlock()
		if exists {
			continue
		}
		e, err := t.listen(a)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.mu.Lock()
		t.endpoints[a] = e
		if t.running {
			t.serve(e)
		}
		t.mu.Unlock()
	}
	return errors.Join(errs...)
}

// SetDSCP has what the sockets send marked with another code point, and connections
// that are made from now on. The error is the first that the kernel gave.
func (t *Transport) SetDSCP(codePoint uint8) error {
	t.setting.Lock()
	defer t.setting.Unlock()
	t.dscp.Store(uint32(codePoint))
	t.mu.RLock()
	defer t.mu.RUnlock()
	var errs []error
	for _, e := range t.endpoints {
		errs = append(errs, markAll(codePoint, e.udp.conn, e.tcp))
	}
	return cmp.Or(errs...)
}

// listen opens the sockets of an address.
func (t *Transport) listen(a netip.AddrPort) (*endpoint, error) {
	if !isEndpoint(a) {
		return nil, fmt.Errorf("%w: %v", ErrRemote, a)
	}
	udp, err := t.listenUDP(a)
	if err != nil {
		return nil, err
	}
	tcp, err := t.listenTCP(a)
	if err != nil {
		udp.conn.Close()
		return nil, err
	}
	return &endpoint{udp: udp, tcp: tcp}, nil
}

func isEndpoint(a netip.AddrPort) bool {
	return a.Addr().Is4() && !a.Addr().IsUnspecified() && a.Port() != 0
}

// Send sends a message, which is the caller's again afterwards. It never waits
// for the network. A nil error means that the message is on its way or in a
// queue, not that it has arrived; see [Handler].
//
// A message may have any size that fits in a datagram: the kernel makes
// fragments of large ones, and RFC 3261 section 18.1.1, which asks for TCP above
// 1300 bytes, is the business of whoever chooses the hop.
func (t *Transport) Send(h Hop, msg []byte) error {
	if !isEndpoint(h.Remote) {
		return ErrRemote
	}
	if len(msg) > sipmsg.MaxSize {
		return syscall.EMSGSIZE
	}
	if h.Kind == TCP {
		return t.sendTCP(h, msg)
	}
	s, err := t.socket(h)
	if err != nil {
		return err
	}
	return s.send(h.Remote, msg)
}

// socket returns the UDP socket that a hop leaves from.
func (t *Transport) socket(h Hop) (*socket, error) {
	addr, err := t.source(h)
	if err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.endpoints[netip.AddrPortFrom(addr, h.Local.Port())]; e != nil {
		return e.udp, nil
	}
	if e := t.at(addr); e != nil && h.Local.Port() == 0 {
		return e.udp, nil
	}
	return nil, ErrNoSocket
}

// at returns the endpoint with this address that has the lowest port, or nil. The
// caller holds mu.
func (t *Transport) at(addr netip.Addr) (e *endpoint) {
	var port uint16
	for a, candidate := range t.endpoints {
		if a.Addr() == addr && (e == nil || a.Port() < port) {
			e, port = candidate, a.Port()
		}
	}
	return e
}

// source returns the address that a hop leaves from.
func (t *Transport) source(h Hop) (netip.Addr, error) {
	if a := h.Local.Addr(); a.IsValid() && !a.IsUnspecified() {
		return a, nil
	}
	return t.Route(h.Remote.Addr())
}

// Route returns the address that the kernel would send to remote from. It need
// not be a listen address.
func (t *Transport) Route(remote netip.Addr) (netip.Addr, error) {
	if !remote.Is4() {
		return netip.Addr{}, ErrRemote
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	// Connecting a datagram socket sends nothing; the port does not matter.
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: remote.As4()}); err != nil {
		return netip.Addr{}, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.Addr{}, err
	}
	in4, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return netip.Addr{}, ErrRemote
	}
	return netip.AddrFrom4(in4.Addr), nil
}

// arrived gives a message to the handler.
func (t *Transport) arrived(a Arrival) {
	defer t.recover(a.Hop)
	t.handler.Arrived(a)
}

// failed tells the handler of an error.
func (t *Transport) failed(h Hop, err error) {
	defer t.recover(h)
	t.handler.Failed(h, err)
}

// recover is deferred where the handler is called: a message that makes it panic
// must not take the service of all others down.
func (t *Transport) recover(h Hop) {
	if p := recover(); p != nil {
		t.counters.panics.Add(1)
		t.log.Error("panic over a message, which was dropped", "hop", h, "panic", p, "stack", string(debug.Stack()))
	}
}

// now is the time since Open.
func (t *Transport) now() time.Duration { return time.Since(t.start) }
