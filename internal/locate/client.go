package locate

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// maxDatagram is the size of answers over UDP, in bytes.
const maxDatagram = 1232

// client asks DNS servers.
type client struct {
	files   *files
	queries atomic.Uint64
	refused atomic.Uint64
	last    atomic.Uint32 // index of the server that has answered last
}

// exchange asks the servers one after the other, first the one that has answered last,
// until one does.
func (c *client) exchange(ctx context.Context, q question) (r reply, err error) {
	conf := c.files.resolv()
	first := int(c.last.Load())
	err = errNoAnswer
	for range conf.attempts {
		for i := range conf.servers {
			i = (first + i) % len(conf.servers)
			r, err = c.ask(ctx, conf.servers[i], q, conf.timeout)
			if err == nil {
				c.last.Store(uint32(i))
				return r, nil
			}
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
		}
	}
	return r, err
}

// ask puts a question to one server, over UDP and, where the answer is too long for
// that, over TCP.
func (c *client) ask(ctx context.Context, server netip.AddrPort, q question, timeout time.Duration) (r reply, err error) {
	limited := func(network string, edns bool) (reply, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return c.try(ctx, network, server, q, edns)
	}
	r, err = limited("udp", true)
	if errors.Is(err, errFormat) {
		r, err = limited("udp", false)
	}
	if errors.Is(err, errTooLong) {
		r, err = limited("tcp", false)
	}
	return r, err
}

// try sends one query and waits for its answer. Every query has a socket of its own, at
// a port that the kernel chooses at random, and takes nothing from anybody but the
// server: with the id these are the 32 bits that RFC 5452 asks for.
func (c *client) try(ctx context.Context, network string, server netip.AddrPort, q question, edns bool) (r reply, err error) {
	var random [2]byte
	rand.Read(random[:])
	id := binary.BigEndian.Uint16(random[:])
	query, err := newQuery(id, q, edns)
	if err != nil {
		return r, err
	}
	c.queries.Add(1)
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return r, noAnswer(server, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "udp" {
		query = query[2:]
	}
	if _, err := conn.Write(query); err != nil {
		return r, noAnswer(server, err)
	}
	b := make([]byte, maxDatagram)
	for {
		if network == "udp" {
			n, err := conn.Read(b[:cap(b)])
			if err != nil {
				return r, noAnswer(server, err)
			}
			b = b[:n]
		} else if b, err = readStream(conn); err != nil {
			return r, noAnswer(server, err)
		}
		r, err = readReply(b, id, q)
		switch {
		case !errors.Is(err, errNotOurs):
			if err != nil && !errors.Is(err, errFormat) && !errors.Is(err, errTooLong) {
				err = fmt.Errorf("%s: %w", server, err)
			}
			return r, err
		case network != "udp":
			return r, fmt.Errorf("%s: %w", server, err)
		}
		c.refused.Add(1) // the true one may still come
	}
}

// readStream reads one message, which its length precedes (RFC 1035 section 4.2.2).
func readStream(conn net.Conn) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, b)
	return b, err
}

func noAnswer(server netip.AddrPort, err error) error {
	return fmt.Errorf("%w: %s: %w", errNoAnswer, server, err)
}
