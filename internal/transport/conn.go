package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/sipmsg"
)

// conn is a TCP connection. One goroutine owns it, makes it or was given it, and
// reads; who sends writes at once what the kernel takes, and leaves the rest to a
// goroutine that lives as long as there is some. So a connection that is silent
// costs a goroutine and no buffers.
type conn struct {
	t       *Transport
	id      uint64     // set by add
	from    netip.Addr // ours
	remote  netip.AddrPort
	ifindex int                // that it came in by, 0 if it is ours
	cancel  context.CancelFunc // of the dial; nil if the other side has connected

	last   atomic.Int64 // when a byte came or went last, since t.start
	proven atomic.Bool  // a message has come

	mu       sync.Mutex
	port     uint16       // ours; 0 until the connection is made
	tcp      *net.TCPConn // nil until then
	raw      syscall.RawConn
	closed   bool
	err      error // why it is closed
	used     bool  // somebody has sent on it
	queue    []byte
	flushing bool
	write    writing

	in stream // of the owner
}

// writing is a write that does not wait, reused so that it allocates nothing.
type writing struct {
	b   []byte
	n   int
	err error
	out func(fd uintptr) bool
}

func (t *Transport) newConn(local, remote netip.AddrPort) *conn {
	c := &conn{t: t, from: local.Addr(), port: local.Port(), remote: remote}
	c.touch()
	w := &c.write
	w.out = func(fd uintptr) bool {
		w.n, w.err = unix.SendmsgN(int(fd), w.b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return true // whatever came of it: nobody waits here
	}
	c.in.init()
	return c
}

func (c *conn) peer() peer { return peer{c.from, c.remote} }

func (c *conn) touch() { c.last.Store(int64(c.t.now())) }

// hop is the connection as the handler knows it.
func (c *conn) hop() Hop {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Hop{Kind: TCP, Local: netip.AddrPortFrom(c.from, c.port), Remote: c.remote, Conn: c.id, Interface: c.ifindex}
}

// use gives the connection its socket.
func (c *conn) use(tcp *net.TCPConn) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.err
	}
	c.tcp, c.raw, c.port = tcp, raw, endpointOf(tcp.LocalAddr()).Port()
	if len(c.queue) > 0 {
		c.flush()
	}
	return nil
}

// dial makes the connection and serves it.
func (c *conn) dial(ctx context.Context) {
	defer c.cancel()
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.from, 0)),
		Control: control(func(fd int) error {
			// The port is chosen by connect, which can use one for many peers.
			unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			return c.t.setStream(fd)
		}),
		KeepAlive: -1,
	}
	tcp, err := d.DialContext(ctx, "tcp4", c.remote.String())
	if err == nil {
		if err = c.use(tcp.(*net.TCPConn)); err != nil {
			tcp.Close()
		}
	}
	if err != nil {
		c.t.counters.dialFailed.Add(1)
		c.end(dialError(err))
		c.report()
		return
	}
	c.t.counters.dialled.Add(1)
	c.serve()
}

// dialError takes the wrapping off an error of net.Dialer.
func dialError(err error) error {
	if e := syscall.Errno(0); errors.As(err, &e) {
		return e
	}
	if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
		return os.ErrDeadlineExceeded
	}
	return err
}

// serve reads until the connection ends.
func (c *conn) serve() {
	c.end(c.read())
	c.in.release(c.t)
	c.report()
}

// end closes the connection. The first error counts; nil is an end in order.
func (c *conn) end(err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed, c.err = true, err
	c.t.queued.Add(-int64(len(c.queue)))
	c.queue = nil
	tcp := c.tcp
	c.mu.Unlock()

	c.t.mu.Lock()
	c.t.remove(c)
	c.t.mu.Unlock()
	if tcp != nil {
		tcp.Close()
	} else {
		c.cancel()
	}
}

// report tells whoever wants to know why the connection has ended. It is called
// by the owner, last.
func (c *conn) report() {
	c.mu.Lock()
	err, used := c.err, c.used
	c.mu.Unlock()
	if e := syscall.Errno(0); errors.As(err, &e) {
		err = e
	}
	var reason sipmsg.Reason
	switch {
	case errors.As(err, &reason):
		c.t.counters.refused.Add(1)
	case errors.Is(err, ErrSlow), errors.Is(err, ErrStalled):
		c.t.counters.timedOut.Add(1)
	}
	if err == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	c.t.log.Debug("a TCP connection has ended", "hop", c.hop(), "error", err)
	if used {
		c.t.failed(c.hop(), err)
	}
}

// send writes a message, or what the kernel does not take of it at once to the
// queue.
func (c *conn) send(msg []byte) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrNoConnection
	}
	c.used = true
	err := c.put(msg)
	c.mu.Unlock()
	switch {
	case err == nil:
		c.t.counters.tcpOut.Add(1)
		c.touch()
	case err == ErrBusy:
		c.t.counters.busy.Add(1)
	default:
		c.end(err) // outside the lock; the owner reports it
	}
	return err
}

// put writes or queues b. The caller holds mu.
func (c *conn) put(b []byte) error {
	if c.tcp != nil && !c.flushing {
		w := &c.write
		w.b = b
		err := c.raw.Write(w.out)
		w.b = nil
		switch {
		case err != nil:
			return err
		case w.err == nil && w.n == len(b):
			return nil
		case w.err == nil:
			b = b[w.n:]
		case w.err != unix.EAGAIN && w.err != unix.EINTR:
			return w.err
		}
		// What has begun must be ended, whatever the limits say: at most one
		// message of each connection.
		c.enqueue(b)
		c.flush()
		return nil
	}
	if len(c.queue)+len(b) > maxQueue || c.t.queued.Load()+int64(len(b)) > maxQueued {
		return ErrBusy
	}
	c.enqueue(b)
	return nil
}

// enqueue puts b in the queue. The caller holds mu.
func (c *conn) enqueue(b []byte) {
	c.queue = append(c.queue, b...)
	c.t.queued.Add(int64(len(b)))
}

// flush starts the goroutine that empties the queue. The caller holds mu, and the
// connection is neither closed nor being flushed.
func (c *conn) flush() {
	c.flushing = true
	c.t.wg.Go(func() {
		for {
			c.mu.Lock()
			b := c.queue
			c.queue = nil
			if len(b) == 0 || c.closed {
				c.flushing = false
				c.tcp.SetWriteDeadline(time.Time{})
				c.mu.Unlock()
				return
			}
			c.mu.Unlock()

			c.tcp.SetWriteDeadline(time.Now().Add(c.t.cfg.WriteTimeout))
			_, err := c.tcp.Write(b)
			c.t.queued.Add(-int64(len(b)))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = ErrStalled
			}
			if err != nil {
				c.end(err)
				continue // to the end
			}
			c.touch()
		}
	})
}

// read gives the messages that come to the handler until the stream ends, and
// returns why. The socket is there and does not change.
func (c *conn) read() error {
	s := &c.in
	for {
		c.tcp.SetReadDeadline(c.t.start.Add(c.deadline()))
		switch err := s.receive(c.raw); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if end, err := c.overdue(); end {
				return err
			}
		case err == io.EOF:
			if len(s.buf) > 0 {
				return ErrCut
			}
			if !c.halfClose() {
				return nil
			}
		case err != nil:
			return err
		default:
			c.touch()
			if err := c.take(); err != nil {
				return err
			}
		}
	}
}

// take gives the messages that are complete to the handler.
func (c *conn) take() error {
	s, t := &c.in, c.t
	pings := 0
	rest := s.buf
	for len(rest) > 0 {
		skip, n, err := s.framer.Next(rest)
		if err != nil {
			return err
		}
		pings += s.lineEnds(rest[:skip], t.now())
		rest = rest[skip:]
		if n == 0 {
			break
		}
		c.proven.Store(true)
		t.counters.tcpIn.Add(1)
		s.message = t.now()
		t.arrived(Arrival{c.hop(), rest[:n:n]})
		rest = rest[n:]
	}
	if pings > 0 {
		// One answer will do for all that came at once.
		t.counters.keepAlives.Add(uint64(pings))
		c.mu.Lock()
		if !c.closed {
			c.put([]byte("\r\n")) // whether it can be had is seen with the next message
		}
		c.mu.Unlock()
	}
	return s.keep(t, rest)
}

// deadline is the time, since t.start, of what is to be done next if nothing
// comes.
func (c *conn) deadline() time.Duration {
	cfg, s := &c.t.cfg, &c.in
	last := time.Duration(c.last.Load())
	if s.half {
		return s.closed + cfg.WriteTimeout
	}
	d := last + cfg.TCPTimeout
	if c.keepsAlive() {
		d = last + cfg.TCPKeepalive
	}
	if len(s.buf) > 0 {
		d = min(d, s.began+cfg.MessageTimeout)
	}
	return d
}

// keepsAlive reports whether pings are sent before the silence is too long.
func (c *conn) keepsAlive() bool {
	return c.t.cfg.TCPKeepalive > 0 && c.t.cfg.TCPKeepalive < c.t.cfg.TCPTimeout
}

// overdue does what is to be done because of the time. It ends the connection, or
// returns false.
func (c *conn) overdue() (end bool, err error) {
	cfg, s := &c.t.cfg, &c.in
	now := c.t.now()
	idle := now - time.Duration(c.last.Load())
	switch {
	case s.half:
		return now >= s.closed+cfg.WriteTimeout, nil
	case len(s.buf) > 0 && now >= s.began+cfg.MessageTimeout:
		return true, ErrSlow
	case c.keepsAlive() && idle >= cfg.TCPKeepalive:
		c.mu.Lock()
		if !c.closed {
			c.put([]byte("\r\n\r\n"))
		}
		c.mu.Unlock()
		s.pong = true
		c.touch()
	case idle >= cfg.TCPTimeout:
		return true, nil
	}
	return false, nil
}

// halfClose is called when the peer will send nothing more. If it has asked for
// something lately the connection stays for the answers: it may have closed one
// direction only. No request goes over it any more.
func (c *conn) halfClose() (stay bool) {
	s, t := &c.in, c.t
	now := t.now()
	if !c.proven.Load() || now-s.message > t.cfg.WriteTimeout {
		return false
	}
	s.half, s.closed = true, now
	t.mu.Lock()
	t.unlink(c)
	t.mu.Unlock()
	return true
}
