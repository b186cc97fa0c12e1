package transaction

import (
	"bytes"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// ClientUser is told of what becomes of a request.
type ClientUser interface {
	// Response is given each response: every provisional one, the final one once, and
	// every 2xx to an INVITE. The message is valid during the call.
	Response(c *Client, m *sipmsg.Message, from transport.Hop)

	// Failed tells that there will be no final response: [ErrTimeout], or what the
	// transport says.
	Failed(c *Client, err error)
}

// Client is a client transaction: a request that is sent, and its responses
// (RFC 3261 section 17.1).
type Client struct {
	layer   *Layer
	user    ClientUser
	key     string
	hop     transport.Hop
	request []byte
	size    int // bytes that it is charged with
	invite  bool
	state   state
	alarm   alarm
	every   time.Duration // Timer A or E
	until   time.Time     // Timer B or F
	ack     []byte        // of a final response other than 2xx
	ending  bool          // a CANCEL was sent
	doubt   error         // the request is said not to have arrived
}

// Hop is where the request goes.
func (c *Client) Hop() transport.Hop { return c.hop }

// Request is what was sent. It is the transaction's, and nil once it is of no use.
func (c *Client) Request() []byte { return c.request }

// Open reports whether there may still be a final response.
func (c *Client) Open() bool { return c.state == calling || c.state == proceeding }

// Proceeding reports whether there was a provisional response and no final one.
func (c *Client) Proceeding() bool { return c.state == proceeding }

// clientKey names the transaction of a request and of its responses (section 17.1.3).
func clientKey(dst []byte, m *sipmsg.Message) []byte {
	dst = append(dst, m.Bytes(m.Via.Branch)...)
	return append(append(dst, ' '), m.Bytes(m.CSeqMethodName)...)
}

// Send sends a request, which becomes the transaction's, and hands what becomes of it
// to user. The branch of its topmost Via must be one that no other has, but for the same
// request that has had its answer before: responses are the later one's then. An ACK is
// not a transaction: give it to the Sender.
//
// An error means that there is no transaction. user is not called before Send returns.
func (l *Layer) Send(to transport.Hop, request []byte, user ClientUser) (*Client, error) {
	if len(l.clients) >= l.limits.Clients || l.sent+len(request)+openClient > l.limits.Bytes {
		return nil, ErrLimit
	}
	var m sipmsg.Message
	if err := m.Index(request); err != nil {
		return nil, err
	}
	if err := l.send.Send(to, request); err != nil {
		return nil, err
	}
	c := &Client{
		layer: l, user: user, key: string(clientKey(nil, &m)), hop: to, request: request,
		invite: m.Method == sipmsg.MethodInvite, until: time.Now().Add(Lifetime), every: T1,
	}
	c.size = len(request) + openClient
	l.clients[c.key] = c
	l.sent += c.size
	if to.Kind == transport.TCP {
		c.every = Lifetime // the transport sees to it that nothing is lost
	}
	c.alarm.set(l, c.every, c.resend)
	return c, nil
}

// resend is Timers A and E, and B and F at their end.
func (c *Client) resend() {
	left := time.Until(c.until)
	if left <= 0 {
		c.layer.stats.Timeouts++
		c.fail(ErrTimeout)
		return
	}
	if c.doubt != nil && c.state == calling {
		c.fail(c.doubt)
		return
	}
	c.layer.stats.Resent++
	if err := c.layer.send.Send(c.hop, c.request); err != nil {
		c.fail(err)
		return
	}
	switch {
	case c.invite:
		c.every *= 2
	case c.state == proceeding:
		c.every = T2
	default:
		c.every = min(2*c.every, T2)
	}
	c.alarm.set(c.layer, min(c.every, left), c.resend)
}

// response takes the response in l.msg in.
func (l *Layer) response(from transport.Hop) {
	m := &l.msg
	l.key = clientKey(l.key[:0], m)
	c := l.clients[string(l.key)]
	if c == nil {
		l.stats.Strays++
		return
	}
	switch {
	case c.Open():
		c.respond(m, from)
	case c.state == accepted && m.Status < 300 && m.Status >= 200:
		c.user.Response(c, m, from)
	case c.state == completed && c.invite && m.Status >= 300:
		l.stats.Retransmissions++
		_ = l.send.Send(c.hop, c.ack) // it will ask again
	default:
		l.stats.Retransmissions++
	}
}

// respond takes a response of an open transaction.
func (c *Client) respond(m *sipmsg.Message, from transport.Hop) {
	l := c.layer
	switch {
	case m.Status < 200:
		if c.state == calling {
			c.state = proceeding
			if c.invite { // it may ring as long as its user likes
				c.alarm.stop()
			}
		}
	case c.invite && m.Status < 300:
		c.state = accepted
		c.settle()
		c.alarm.set(l, Lifetime, c.end) // Timer M
	case c.invite:
		c.ack = appendAck(nil, c.request, m)
		_ = l.send.Send(c.hop, c.ack) // a lost one is asked for again
		c.state = completed
		c.settle()
		if c.hop.Kind == transport.TCP {
			c.end() // Timer D is zero
		} else {
			c.alarm.set(l, Lifetime, c.end)
		}
	default:
		c.state = completed
		c.settle()
		if c.hop.Kind == transport.TCP {
			c.end() // Timer K is zero
		} else {
			c.alarm.set(l, T4, c.end)
		}
	}
	c.user.Response(c, m, from)
}

// settle keeps what repetitions of the final response are told by, and nothing else.
func (c *Client) settle() {
	c.request = nil
	c.layer.sent += overhead - c.size
	c.size = overhead
}

func (c *Client) fail(err error) {
	c.end()
	c.user.Failed(c, err)
}

// GiveUp ends the transaction; its user hears nothing more of it.
func (c *Client) GiveUp() { c.end() }

func (c *Client) end() {
	if c.state == terminated {
		return
	}
	c.state = terminated
	c.alarm.stop()
	c.ack = nil
	if c.layer.clients[c.key] == c { // else the same request was sent once more
		delete(c.layer.clients, c.key)
	}
	c.layer.sent -= c.size
}

// Cancel sends a CANCEL of an INVITE, once, with extra header lines. It does nothing
// before there was a provisional response (section 9.1). If no final response follows
// in the time that one may take, the transaction fails.
func (c *Client) Cancel(extra []byte) {
	if c.state != proceeding || !c.invite || c.ending {
		return
	}
	c.ending = true
	cancel := appendFollowUp(nil, c.request, "CANCEL", nil, extra)
	// What becomes of the CANCEL itself is of no interest: the INVITE's response is.
	_, _ = c.layer.Send(c.hop, cancel, ignore{})
	c.alarm.set(c.layer, Lifetime, func() { c.fail(ErrTimeout) })
}

// ignore is the user of a CANCEL.
type ignore struct{}

func (ignore) Response(*Client, *sipmsg.Message, transport.Hop) {}
func (ignore) Failed(*Client, error)                            {}

// appendAck appends the ACK of a response to an INVITE other than 2xx (section
// 17.1.1.3).
func appendAck(dst, invite []byte, response *sipmsg.Message) []byte {
	to, _ := response.Find(sipmsg.HdrTo)
	return appendFollowUp(dst, invite, "ACK", response.Bytes(to.Value), nil)
}

// appendFollowUp appends the ACK or CANCEL of an INVITE: same Request-URI, topmost
// Via, From, To, Call-ID, CSeq number and Route. to is the value of To, nil for the
// request's own.
func appendFollowUp(dst, invite []byte, method string, to, extra []byte) []byte {
	var m sipmsg.Message
	if m.Index(invite) != nil { // it was when it was sent
		return nil
	}
	dst = append(dst, method...)
	dst = append(append(dst, ' '), m.Bytes(m.RequestURI.All)...)
	dst = append(dst, " SIP/2.0\r\nVia: "...)
	dst = append(append(dst, m.Bytes(m.Via.All)...), "\r\n"...)
	seen := false
	for _, h := range m.Headers {
		switch h.Kind {
		case sipmsg.HdrRoute, sipmsg.HdrFrom, sipmsg.HdrCallID:
			dst = append(dst, bytes.TrimRight(m.Bytes(h.Line), "\r\n")...)
		case sipmsg.HdrTo:
			value := to
			if value == nil {
				value = m.Bytes(h.Value)
			}
			dst = append(append(dst, "To: "...), value...)
		case sipmsg.HdrCSeq:
			if seen {
				continue
			}
			seen = true
			dst = append(dst, "CSeq: "...)
			dst = append(dst, m.Raw[h.Value.Lo:m.CSeqMethodName.Lo]...)
			dst = append(dst, method...)
		default:
			continue
		}
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "Max-Forwards: 70\r\n"...)
	dst = append(dst, extra...)
	return append(dst, "Content-Length: 0\r\n\r\n"...)
}
