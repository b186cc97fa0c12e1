package transaction

import (
	"container/list"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// The timers' bases (RFC 3261 section 17.1.1.1), and how long a transaction whose
// messages may be lost is remembered.
const (
	T1 = 500 * time.Millisecond
	T2 = 4 * time.Second
	T4 = 5 * time.Second

	Lifetime = 64 * T1 // of a transaction without answer: Timers B, D, F, H, J, L and M
)

// cookie begins the branches that identify a transaction (section 8.1.1.7).
const cookie = "z9hG4bK"

// Sender sends a message to a hop without waiting for it.
type Sender interface {
	Send(to transport.Hop, message []byte) error
}

// User is what the layer works for.
type User interface {
	// Request is given each new request other than ACK and CANCEL. It must be
	// answered by a final response or given up.
	Request(s *Server)

	// Cancelled tells that the INVITE of s, which has no final response yet, is not
	// wanted any more. The CANCEL has been answered; it is the layer's.
	Cancelled(s *Server, cancel *sipmsg.Message)

	// Ack is given each ACK that does not belong to a response of a transaction: that
	// of a 2xx. The message is valid during the call.
	Ack(m *sipmsg.Message, from transport.Hop)
}

// Limits bound what is remembered. Zero values are replaced by the defaults.
type Limits struct {
	Servers        int // in all; default 16384
	ServersPerHost int // requests of one address; default an eighth of Servers
	Clients        int // in all; default 32768

	// Bytes bounds what server transactions hold, and again what client transactions
	// do, in bytes of memory; default 16 MiB. One address may have a quarter of it.
	Bytes int

	// Stranger names those who must leave a quarter of the room for server
	// transactions to others, however many they are; nil: nobody.
	Stranger func(transport.Hop) bool
}

// Stats counts what has happened, and what there is.
type Stats struct {
	Requests        uint64 // new ones
	Retransmissions uint64 // of requests and responses, absorbed
	Resent          uint64 // messages sent again
	Strays          uint64 // responses that nobody waits for
	Timeouts        uint64 // client transactions without final response
	Refused         uint64 // requests over the limits, which were not answered
	NotSIP          [sipmsg.Reasons]uint64
	Servers         int // now
	Clients         int // now
}

// Layer holds the transactions.
type Layer struct {
	mu     sync.Locker
	send   Sender
	user   User
	limits Limits
	seed   maphash.Seed

	servers map[string]*Server
	clients map[string]*Client
	hosts   map[netip.Addr]load // server transactions by source

	held, sent int // bytes that server and client transactions are charged with

	over     list.List                 // server transactions that only wait for repetitions, the oldest first
	overHost map[netip.Addr]*list.List // the same, of each host

	msg   sipmsg.Message // of the message that is being handled
	edits sipmsg.Edits
	key   []byte
	stats Stats
}

// load is what the server transactions of one address amount to.
type load struct{ requests, bytes int }

// New returns a layer without transactions. mu is the lock that it shares with user.
func New(mu sync.Locker, send Sender, user User, limits Limits) *Layer {
	if limits.Servers == 0 {
		limits.Servers = 16384
	}
	if limits.ServersPerHost == 0 {
		limits.ServersPerHost = limits.Servers / 8
	}
	if limits.Clients == 0 {
		limits.Clients = 32768
	}
	if limits.Bytes == 0 {
		limits.Bytes = 16 << 20
	}
	return &Layer{
		mu: mu, send: send, user: user, limits: limits, seed: maphash.MakeSeed(),
		servers: make(map[string]*Server), clients: make(map[string]*Client), hosts: make(map[netip.Addr]load),
		overHost: make(map[netip.Addr]*list.List),
	}
}

// Stats returns the counters.
func (l *Layer) Stats() Stats {
	s := l.stats
	s.Servers, s.Clients = len(l.servers), len(l.clients)
	return s
}

// What a transaction is charged with besides its messages: its own data and its user's,
// and what is left of these when it has had its final response.
const (
	openServer = 4 << 10
	openClient = 2 << 10
	overhead   = 1 << 10
)

// Bytes is what all transactions are charged with.
func (l *Layer) Bytes() int { return l.held + l.sent }

// Arrived takes a message in. An error says why it is none; it was counted and has
// no further effect.
func (l *Layer) Arrived(a transport.Arrival) error {
	if err := l.msg.Index(a.Data); err != nil {
		reason, _ := err.(sipmsg.Reason) // Index returns no other errors
		l.stats.NotSIP[reason]++
		return err
	}
	if err := l.frame(&a); err != nil {
		return err
	}
	if l.msg.Request {
		l.request(a)
	} else {
		l.response(a.Hop)
	}
	return nil
}

// frame gives the message a Content-Length if it has none, and cuts off what is behind
// its body: from a datagram it may go on to a stream, where the next message would begin
// there (sections 18.3 and 20.14).
func (l *Layer) frame(a *transport.Arrival) error {
	m, e := &l.msg, &l.edits
	if int(m.Body.Hi) == len(m.Raw) && m.ContentLength != (sipmsg.Span{}) {
		return nil
	}
	e.Reset(m.Raw)
	e.Replace(sipmsg.Span{Lo: m.Body.Hi, Hi: int32(len(m.Raw))}, nil)
	if m.ContentLength == (sipmsg.Span{}) {
		end := m.Headers[len(m.Headers)-1].Line.Hi
		e.Replace(sipmsg.Span{Lo: end, Hi: end}, fmt.Appendf(nil, "Content-Length: %d\r\n", m.Body.Len()))
	}
	out, err := e.Splice(nil)
	if err != nil {
		return err
	}
	a.Data = out
	return l.msg.Index(out)
}

// Failed tells the client transactions whose request has had no answer that it did
// not reach the hop (section 18.4). What an ICMP error says, anybody can say who writes
// our address into it, since every request comes from the same port (RFC 5927 section
// 2): over UDP the answer has the time until the request would be sent again.
func (l *Layer) Failed(h transport.Hop, err error) {
	var list []*Client // the user may end others meanwhile
	for _, c := range l.clients {
		if c.state == calling && c.hop.Remote == h.Remote && c.hop.Kind == h.Kind {
			list = append(list, c)
		}
	}
	for _, c := range list {
		switch {
		case c.state != calling:
		case h.Kind == transport.UDP:
			c.doubt = err
		default:
			c.fail(err)
		}
	}
}

// ErrTimeout ends a client transaction that got no final response in time.
var ErrTimeout = errors.New("transaction: no response in time")

// ErrLimit refuses a client transaction: there are too many.
var ErrLimit = errors.New("transaction: too many transactions")

// alarm is a timer of a transaction: at most one runs at a time.
type alarm struct {
	timer  *time.Timer
	serial uint32
}

// set has f called with the lock held, unless the alarm is set anew or stopped before.
func (a *alarm) set(l *Layer, d time.Duration, f func()) {
	a.stop()
	serial := a.serial
	a.timer = time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if a.serial == serial {
			f()
		}
	})
}

func (a *alarm) stop() {
	a.serial++
	if a.timer != nil {
		a.timer.Stop()
	}
}
