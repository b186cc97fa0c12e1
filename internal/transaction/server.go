package transaction

import (
	"bytes"
	"container/list"
	"errors"
	"hash/maphash"
	"net/netip"
	"strconv"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// state is that of a transaction; not every kind of transaction has each.
type state uint8

const (
	calling    state = iota // sent, no response yet; of a server transaction: no final response yet
	proceeding              // provisional response seen
	accepted                // 2xx of an INVITE: more of them may follow (RFC 6026)
	completed               // final response seen
	confirmed               // ACK of a final response other than 2xx seen
	terminated
)

// Server is a server transaction: a request that has come, and its responses
// (RFC 3261 section 17.2).
type Server struct {
	layer  *Layer
	key    string
	from   transport.Hop
	raw    []byte
	size   int // bytes that it is charged with
	invite bool
	state  state
	last   []byte // response, nil before the first one
	alarm  alarm
	every  time.Duration // Timer G
	until  time.Time     // Timer H
	reply  transport.Hop // where responses go, once raw is not needed any more

	over, overHost *list.Element // of the layer's lists

	// Context is the user's.
	Context any
}

// From is where the request has come from.
func (s *Server) From() transport.Hop { return s.from }

// Raw is the request with received and rport in its topmost Via. It is the
// transaction's, and nil once that has had a final response.
func (s *Server) Raw() []byte { return s.raw }

// Open reports whether a final response may still be given.
func (s *Server) Open() bool { return s.state == calling || s.state == proceeding }

// Tag returns the To tag of the responses that are made here, the same for all of
// one request.
func (s *Server) Tag() string { return s.layer.tag(s.key) }

func (l *Layer) tag(key string) string {
	return strconv.FormatUint(maphash.String(l.seed, key), 36)
}

// serverKey writes the name of the transaction that the request in l.msg belongs to
// (section 17.2.3). A request from another host is never the same, although the RFC
// would have it: none may cancel or acknowledge what is not its own.
func (l *Layer) serverKey(from netip.Addr, method []byte) {
	m := &l.msg
	k := append(l.key[:0], method...)
	k = append(k, ' ')
	k = from.AppendTo(k)
	k = append(k, ' ')
	k = append(k, m.Bytes(m.Via.SentBy)...)
	branch := m.Bytes(m.Via.Branch)
	k = append(append(k, ' '), branch...)
	if !bytes.HasPrefix(branch, []byte(cookie)) { // RFC 2543
		for _, s := range []sipmsg.Span{m.RequestURI.All, m.FromTag, m.CallID} {
			k = append(append(k, ' '), m.Bytes(s)...)
		}
		k = strconv.AppendUint(append(k, ' '), uint64(m.CSeq), 10)
	}
	l.key = k
}

// request takes a request in.
func (l *Layer) request(a transport.Arrival) {
	m := &l.msg
	from := a.Remote.Addr()
	switch m.Method {
	case sipmsg.MethodAck:
		l.serverKey(from, []byte("INVITE"))
		if s := l.servers[string(l.key)]; s != nil && s.state != accepted {
			s.acknowledged()
			return
		}
		l.user.Ack(m, a.Hop)
		return
	case sipmsg.MethodCancel:
		l.serverKey(from, []byte("CANCEL"))
		if s := l.servers[string(l.key)]; s != nil {
			s.again()
			return
		}
		l.cancel(a)
		return
	}
	l.serverKey(from, m.Bytes(m.MethodName))
	if s := l.servers[string(l.key)]; s != nil {
		s.again()
		return
	}
	if s := l.newServer(a); s != nil {
		l.user.Request(s)
	}
}

// newServer begins the transaction named l.key for the request in l.msg, or returns
// nil where there is no room for it.
func (l *Layer) newServer(a transport.Arrival) *Server {
	from := a.Remote.Addr()
	// Twice: the response has most of it again.
	size, of := 2*len(a.Data)+openServer, l.hosts[from]
	servers, bytes := l.limits.Servers, l.limits.Bytes
	if l.limits.Stranger != nil && l.limits.Stranger(a.Hop) {
		servers, bytes = servers-servers/4, bytes-bytes/4
	}
	for len(l.servers) >= servers || of.requests >= l.limits.ServersPerHost || l.held+size > bytes || of.bytes+size > l.limits.Bytes/4 {
		alone := of.requests >= l.limits.ServersPerHost || of.bytes+size > l.limits.Bytes/4
		if !l.spare(from, alone) {
			l.stats.Refused++
			return nil
		}
		of = l.hosts[from]
	}
	l.stats.Requests++
	s := &Server{
		layer: l, key: string(l.key), from: a.Hop, invite: l.msg.Method == sipmsg.MethodInvite,
		raw: l.received(a), size: size,
	}
	l.servers[s.key] = s
	l.hosts[from] = load{of.requests + 1, of.bytes + size}
	l.held += size
	return s
}

// spare ends a transaction that has had its final response, and only answers
// repetitions: the host's own oldest one or, unless it is only the host that has too
// many, the oldest of all. A repetition is then a new request, as for a stateless server.
func (l *Layer) spare(host netip.Addr, alone bool) bool {
	e := l.over.Front()
	if own := l.overHost[host]; own != nil {
		e = own.Front()
	} else if alone {
		e = nil
	}
	if e == nil {
		return false
	}
	e.Value.(*Server).end()
	return true
}

// settle keeps what repetitions of a request are answered from, and nothing else.
func (s *Server) settle() {
	l, from := s.layer, s.from.Remote.Addr()
	s.reply = s.replyTo()
	s.raw, s.Context = nil, nil
	if cap(s.last) > len(s.last)+overhead {
		s.last = bytes.Clone(s.last)
	}
	size := len(s.last) + overhead
	of := l.hosts[from]
	l.hosts[from] = load{of.requests, of.bytes + size - s.size}
	l.held += size - s.size
	s.size = size
	if s.invite { // a repetition would ring again
		return
	}
	if l.overHost[from] == nil {
		l.overHost[from] = new(list.List)
	}
	s.over, s.overHost = l.over.PushBack(s), l.overHost[from].PushBack(s)
}

// received returns a copy of the request in l.msg whose topmost Via tells where it
// came from (section 18.2.1, RFC 3581 section 4).
func (l *Layer) received(a transport.Arrival) []byte {
	m, e := &l.msg, &l.edits
	via := m.Via
	e.Reset(m.Raw)
	host, ok := sipmsg.ParseAddr(m.Bytes(via.Host))
	same := ok && host == a.Remote.Addr()
	text := make([]byte, 0, 48)
	if via.HasRPort {
		text = sipmsg.AppendPort(append(text, ";rport="...), int(a.Remote.Port()))
		e.Replace(via.RPortParam, text)
	}
	switch {
	case !same || via.HasRPort:
		text = append(text[:0], ";received="...)
		text = a.Remote.Addr().AppendTo(text)
		if via.ReceivedParam.Empty() {
			e.Replace(sipmsg.Span{Lo: via.All.Hi, Hi: via.All.Hi}, text)
		} else {
			e.Replace(via.ReceivedParam, text)
		}
	default:
		e.Replace(via.ReceivedParam, nil) // the sender's own claim
	}
	out, err := e.Splice(make([]byte, 0, len(m.Raw)+48))
	if err != nil { // cannot be: the parameters lie apart
		return bytes.Clone(m.Raw)
	}
	return out
}

// cancel answers a CANCEL, and tells the user of it where its INVITE is open
// (sections 9.2 and 16.10).
func (l *Layer) cancel(a transport.Arrival) {
	c := l.newServer(a)
	if c == nil {
		return
	}
	l.serverKey(a.Remote.Addr(), []byte("INVITE"))
	s := l.servers[string(l.key)]
	opts := sipmsg.ResponseOptions{ToTag: c.Tag()}
	status := 481
	if s != nil {
		opts.ToTag = s.Tag()
		status = 200
	}
	var m sipmsg.Message
	if m.Index(c.raw) != nil {
		c.GiveUp()
		return
	}
	response := sipmsg.AppendResponse(nil, &m, status, "", opts)
	if s == nil {
		c.Refuse(response)
		return
	}
	c.Respond(status, response)
	if s.Open() {
		l.user.Cancelled(s, &m)
	}
}

// again answers a retransmission with the latest response.
func (s *Server) again() {
	s.layer.stats.Retransmissions++
	switch {
	case s.last == nil:
	case s.invite && (s.state == accepted || s.state == confirmed):
	default:
		s.transmit()
	}
}

// Respond sends a response, which becomes the transaction's. A second final one is
// ignored, except that all 2xx to an INVITE are sent.
func (s *Server) Respond(status int, response []byte) {
	switch {
	case s.state == terminated:
		return
	case !s.Open():
		if s.state == accepted && status >= 200 && status < 300 {
			s.last = response
			s.transmit()
			s.last = nil // its receiver's user asks for it again
		}
		return
	}
	s.last = response
	s.transmit()
	l := s.layer
	switch {
	case status < 200:
		s.state = proceeding
	case s.invite && status < 300:
		s.state, s.last = accepted, nil
		s.settle()
		s.alarm.set(l, Lifetime, s.end) // Timer L
	case s.invite:
		s.state = completed
		s.settle()
		s.until = time.Now().Add(Lifetime)
		s.every = T1
		if s.from.Kind == transport.TCP {
			s.every = Lifetime
		}
		s.alarm.set(l, s.every, s.resend)
	case s.from.Kind == transport.TCP:
		s.end() // Timer J is zero
	default:
		s.state = completed
		s.settle()
		s.alarm.set(l, Lifetime, s.end) // Timer J
	}
}

// Refuse sends a final response and forgets the request, as a stateless server does for
// a sender who may be anybody (RFC 3261 sections 8.2.7 and 26.3.2.4): a request with a
// forged source costs no memory, and brings one datagram upon its victim rather than all
// those of Timer G. The same request gets the same answer if it comes again.
func (s *Server) Refuse(response []byte) {
	if !s.Open() {
		return
	}
	s.last = response
	s.transmit()
	s.end()
}

// resend is Timer G, and Timer H at its end.
func (s *Server) resend() {
	left := time.Until(s.until)
	if left <= 0 {
		s.end()
		return
	}
	s.layer.stats.Resent++
	s.transmit()
	s.every = min(2*s.every, T2)
	s.alarm.set(s.layer, min(s.every, left), s.resend)
}

// acknowledged takes the ACK of a final response other than 2xx.
func (s *Server) acknowledged() {
	if s.state != completed {
		return
	}
	if s.from.Kind == transport.TCP {
		s.end() // Timer I is zero
		return
	}
	s.state, s.last = confirmed, nil
	s.alarm.set(s.layer, T4, s.end)
}

// GiveUp ends the transaction without a response, as a request other than INVITE
// ends that nobody answers: a 408 would come too late for its sender (RFC 4320
// section 4.2).
func (s *Server) GiveUp() { s.end() }

func (s *Server) end() {
	if s.state == terminated {
		return
	}
	s.state = terminated
	s.alarm.stop()
	s.raw, s.last, s.Context = nil, nil, nil
	l := s.layer
	delete(l.servers, s.key)
	from := s.from.Remote.Addr()
	l.held -= s.size
	of := l.hosts[from]
	l.hosts[from] = load{of.requests - 1, of.bytes - s.size}
	if of.requests <= 1 {
		delete(l.hosts, from)
	}
	if s.over != nil {
		l.over.Remove(s.over)
		own := l.overHost[from]
		if own.Remove(s.overHost); own.Len() == 0 {
			delete(l.overHost, from)
		}
		s.over, s.overHost = nil, nil
	}
}

// transmit sends the latest response back (section 18.2.2).
func (s *Server) transmit() {
	l := s.layer
	if s.from.Kind == transport.TCP {
		if s.from.Conn != 0 { // else it was an earlier process's
			err := l.send.Send(s.from, s.last)
			if err == nil || errors.Is(err, transport.ErrBusy) {
				return // a sender that does not read gets no second connection
			}
		}
		// Its connection is gone: to where the sender listens.
		to := s.replyTo()
		to.Conn = 0
		_ = l.send.Send(to, s.last) // the sender asks again, or gives up
		return
	}
	_ = l.send.Send(s.replyTo(), s.last)
}

// replyTo is where responses go: to the source where the sender asks for that
// (RFC 3581), else to the port that its Via names.
func (s *Server) replyTo() transport.Hop {
	if s.raw == nil {
		return s.reply
	}
	to := s.from
	var m sipmsg.Message
	if m.Index(s.raw) != nil {
		return to
	}
	if !m.Via.HasRPort || to.Kind == transport.TCP {
		port := m.Via.PortNum
		if port == 0 {
			port = 5060
		}
		to.Remote = netip.AddrPortFrom(to.Remote.Addr(), uint16(port))
	}
	return to
}
