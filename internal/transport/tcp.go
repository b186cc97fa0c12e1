package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// loopbackIndex is the index of the loopback interface, in every namespace.
const loopbackIndex = 1

// acceptPause is how long an accept that failed, for want of file descriptors for
// instance, is not tried again.
const acceptPause = 100 * time.Millisecond

// acceptTold is how often it is told that connections are not accepted.
const acceptTold = 10 * time.Minute

// streamBuffer is the size of the kernel's buffers of a TCP socket, so that it
// does not make them megabytes for a peer that reads nothing.
const streamBuffer = 64 << 10

// listenTCP binds a listener. It has SO_REUSEADDR, as all of net's have: the
// connections of a daemon that has ended do not keep the next one away.
func (t *Transport) listenTCP(a netip.AddrPort) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: control(func(fd int) error {
		return errors.Join(t.setStream(fd), unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1))
	})}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", a.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// setStream sets the options of listeners, from which the connections that they
// accept have them, and of connections that are made.
func (t *Transport) setStream(fd int) error {
	return errors.Join(
		setDSCP(fd, uint8(t.dscp.Load())),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, streamBuffer),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, streamBuffer),
		// What the peer does not acknowledge, or has no window for.
		unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_USER_TIMEOUT, int(t.cfg.WriteTimeout.Milliseconds())),
	)
}

// accept takes connections until the listener is closed.
func (t *Transport) accept(l *net.TCPListener) {
	var told time.Time
	for {
		tcp, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, unix.ECONNABORTED):
			continue // reset before it was accepted
		case err != nil:
			if time.Since(told) >= acceptTold {
				t.log.Warn("cannot accept TCP connections", "listen", l.Addr(), "error", err)
				told = time.Now()
			}
			time.Sleep(acceptPause)
			continue
		}
		t.accepted(tcp)
	}
}

// accepted serves a connection that the other side has made.
func (t *Transport) accepted(tcp *net.TCPConn) {
	c := t.newConn(endpointOf(tcp.LocalAddr()), endpointOf(tcp.RemoteAddr()))
	if err := c.use(tcp); err != nil {
		tcp.Close()
		return
	}
	c.ifindex = acceptedBy(c.raw)
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		tcp.Close()
		return
	}
	victim := t.add(c)
	t.wg.Go(c.serve)
	t.mu.Unlock()
	t.counters.accepted.Add(1)
	t.evict(victim)
}

func endpointOf(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// sendTCP sends a message over the connection of a hop.
func (t *Transport) sendTCP(h Hop, msg []byte) error {
	c, err := t.connection(h)
	if err != nil {
		return err
	}
	err = c.send(msg)
	if err != ErrNoConnection || h.Conn != 0 {
		return err
	}
	// It has just ended. Another one will do.
	t.mu.Lock()
	t.remove(c)
	t.mu.Unlock()
	if c, err = t.connection(h); err != nil {
		return err
	}
	return c.send(msg)
}

// connection returns the connection that a hop goes over. If it has to be made
// first, messages wait in its queue.
func (t *Transport) connection(h Hop) (*conn, error) {
	if h.Conn != 0 {
		t.mu.RLock()
		defer t.mu.RUnlock()
		if c := t.conns[h.Conn]; c != nil {
			return c, nil
		}
		return nil, ErrNoConnection
	}
	local, err := t.source(h)
	if err != nil {
		return nil, err
	}
	key := peer{local, h.Remote}
	t.mu.RLock()
	c := t.peers[key]
	t.mu.RUnlock()
	if c != nil {
		return c, nil
	}

	t.mu.Lock()
	if c := t.peers[key]; c != nil {
		t.mu.Unlock()
		return c, nil
	}
	if t.closed || t.at(local) == nil {
		t.mu.Unlock()
		return nil, ErrNoSocket
	}
	c = t.newConn(netip.AddrPortFrom(local, 0), h.Remote)
	ctx, cancel := context.WithTimeout(context.Background(), t.cfg.TCPConnectTimeout)
	c.cancel = cancel
	victim := t.add(c)
	t.wg.Go(func() { c.dial(ctx) })
	t.mu.Unlock()
	t.evict(victim)
	return c, nil
}

// add takes a new connection among the others, and returns one that has to go for
// it, or nil. The caller holds mu.
func (t *Transport) add(c *conn) (victim *conn) {
	host := c.remote.Addr()
	switch {
	case t.hosts[host] >= t.cfg.MaxPerHost:
		victim = t.worst(func(o *conn) bool { return o.remote.Addr() == host })
	case c.ifindex > loopbackIndex && t.ifaces[c.ifindex] >= max(t.cfg.MaxConnections-t.cfg.MaxConnections/4, 1):
		victim = t.worst(func(o *conn) bool { return o.ifindex == c.ifindex })
	case len(t.conns) >= t.cfg.MaxConnections:
		victim = t.worst(func(*conn) bool { return true })
	}
	if victim != nil {
		t.remove(victim)
	}
	t.lastConn++
	c.id = t.lastConn
	t.conns[c.id] = c
	t.peers[c.peer()] = c
	t.hosts[host]++
	t.ifaces[c.ifindex]++
	return victim
}

// worst returns the connection that can best be spared. One that has brought no
// message may be a scanner's; a host with many can spare one rather than a phone
// with its only one; and what was silent for long is forgotten by its peer, too.
// The caller holds mu.
func (t *Transport) worst(among func(*conn) bool) (worst *conn) {
	worse := func(a, b *conn) bool {
		if x, y := a.proven.Load(), b.proven.Load(); x != y {
			return y
		}
		if x, y := t.hosts[a.remote.Addr()], t.hosts[b.remote.Addr()]; x != y {
			return x > y
		}
		return a.last.Load() < b.last.Load()
	}
	for _, c := range t.conns {
		if among(c) && (worst == nil || worse(c, worst)) {
			worst = c
		}
	}
	return worst
}

// evict closes a connection that add has chosen.
func (t *Transport) evict(c *conn) {
	if c == nil {
		return
	}
	if t.counters.evicted.Add(1) == 1 {
		t.log.Warn("too many TCP connections: old ones are closed for new ones", "max", t.cfg.MaxConnections, "max_per_host", t.cfg.MaxPerHost, "host", c.remote.Addr())
	}
	c.end(ErrEvicted)
}

// remove forgets a connection. The caller holds mu.
func (t *Transport) remove(c *conn) {
	if t.conns[c.id] != c {
		return
	}
	delete(t.conns, c.id)
	t.unlink(c)
	host := c.remote.Addr()
	if t.hosts[host]--; t.hosts[host] == 0 {
		delete(t.hosts, host)
	}
	if t.ifaces[c.ifindex]--; t.ifaces[c.ifindex] == 0 {
		delete(t.ifaces, c.ifindex)
	}
}

// unlink keeps requests from using a connection. The caller holds mu.
func (t *Transport) unlink(c *conn) {
	if t.peers[c.peer()] == c {
		delete(t.peers, c.peer())
	}
}
