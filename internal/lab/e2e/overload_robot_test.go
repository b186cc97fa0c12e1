package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// Timers of a client (RFC 3261 section 17.1).
const (
	timerT1 = 500 * time.Millisecond
	timerT2 = 4 * time.Second
	timerF  = 64 * timerT1
)

// robot is a user agent that answers by itself and repeats what is not answered.
type robot struct {
	lab.Agent
	conn *net.UDPConn

	mu      sync.Mutex
	waiting map[string]chan *lab.Message
	media   map[string]int // port that an offer is answered with, by the user that is called
}

func newRobot(h *lab.Host, user string, port int) *robot {
	r := &robot{
		Agent:   lab.Agent{Host: h, Addr: h.At(port), User: user, Contact: fmt.Sprintf("<sip:%s@%v>", user, h.At(port))},
		waiting: make(map[string]chan *lab.Message), media: make(map[string]int),
	}
	return r
}

func (r *robot) start(t *testing.T) {
	t.Helper()
	var err error
	if r.conn, err = r.Host.ListenUDP(r.Addr); err != nil {
		t.Fatal(err)
	}
	if err := r.conn.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.conn.Close() })
	go r.read()
}

func transactionOf(m *lab.Message) string { return m.CallID() + " " + m.Get("CSeq") }

func (r *robot) read() {
	buf := make([]byte, 65536)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if strings.Contains(err.Error(), "closed") {
				return
			}
			continue // an ICMP error
		}
		m, err := lab.ParseMessage(slices.Clone(buf[:n]))
		if err != nil || strings.Contains(m.Get("From"), "flood@") {
			continue
		}
		m.From = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		switch {
		case !m.Request():
			r.mu.Lock()
			c := r.waiting[transactionOf(m)]
			r.mu.Unlock()
			if c != nil && m.Status() >= 200 {
				select {
				case c <- m:
				default: // a repetition
				}
			}
		case m.Method() != "ACK":
			a := r.Response(m, 200)
			if m.Method() == "INVITE" {
				port := 0
				fmt.Sscanf(m.RequestURI(), "sip:media%d@", &port)
				a.WithSDP(lab.Audio(r.Addr.Addr(), port))
				a.Set("Contact", fmt.Sprintf("<sip:media%d@%v>", port, r.Addr))
			}
			if m.Method() == "REGISTER" {
				a.Add("Contact", m.Get("Contact")+";expires=3600")
			}
			r.conn.WriteToUDPAddrPort([]byte(a.String()), lab.ReplyTo(m))
		}
	}
}

// do sends a request until it has a final response.
func (r *robot) do(m *lab.Message, to netip.AddrPort) (answer *lab.Message, took time.Duration, err error) {
	c := make(chan *lab.Message, 1)
	key := transactionOf(m)
	r.mu.Lock()
	r.waiting[key] = c
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.waiting, key)
		r.mu.Unlock()
	}()
	begin := time.Now()
	end := time.After(timerF)
	for wait := timerT1; ; wait = min(2*wait, timerT2) {
		if _, err := r.conn.WriteToUDPAddrPort([]byte(m.String()), to); err != nil {
			return nil, 0, err
		}
		select {
		case answer = <-c:
			took = time.Since(begin)
			if answer.Status() != 200 {
				err = fmt.Errorf("%s", answer.Start)
			}
			return answer, took, err
		case <-end:
			return nil, timerF, fmt.Errorf("%s has no answer within %v", m.Start, timerF)
		case <-time.After(wait):
		}
	}
}

func (r *robot) register(t *testing.T, registrar netip.AddrPort) {
	t.Helper()
	m := r.Request("REGISTER", "sip:"+registrar.Addr().String()).Set("Expires", "3600")
	if _, _, err := r.do(m, registrar); err != nil {
		t.Fatal(err)
	}
}

func (r *robot) options(to netip.AddrPort) (took time.Duration, err error) {
	_, took, err = r.do(r.Request("OPTIONS", "sip:"+to.String()), to)
	return took, err
}

// talk is a call from inside in which RTP runs both ways.
type talk struct {
	caller, called *robot
	dialog         *lab.Dialog
	offer          string
	inside, far    *lab.RTP
	stop           []func()
}

func newTalk(t *testing.T, l *lab.Lab, caller, called *robot, inside, far int) *talk {
	t.Helper()
	c := &talk{
		caller: caller, called: called, offer: lab.Audio(caller.Addr.Addr(), inside),
		inside: caller.Host.RTP(inside), far: called.Host.RTP(far),
	}
	m := caller.Request("INVITE", fmt.Sprintf("sip:media%d@%v", far, called.Addr)).WithSDP(c.offer)
	answer, _, err := caller.do(m, caller.NextHop(m))
	if err != nil {
		t.Fatal(err)
	}
	c.dialog = &lab.Dialog{
		Agent: &caller.Agent, CallID: m.CallID(), Local: m.Get("From"), Remote: answer.Get("To"),
		Target: lab.URIOf(answer.Get("Contact")), Routes: answer.All("Record-Route"), Seq: m.CSeq(), Invite: m,
	}
	c.ack()
	// The far party has been told the public endpoint.
	offered := l.Wire.SIP(lab.Request("INVITE"), lab.CallID(m.CallID()))[0].SIP.Media()[0].RTP
	c.stop = []func(){
		c.inside.Stream(answer.Media()[0].RTP, 20*time.Millisecond),
		c.far.Stream(offered, 20*time.Millisecond),
	}
	for _, s := range []*lab.RTP{c.inside, c.far} {
		if err := s.Await(netip.AddrPort{}, 1, lab.Moment()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *talk) ack() {
	m := c.dialog.Build("ACK").Set("CSeq", fmt.Sprintf("%d ACK", c.dialog.Seq))
	c.caller.conn.WriteToUDPAddrPort([]byte(m.String()), c.caller.NextHop(m))
}

// again renews the offer.
func (c *talk) again() (took time.Duration, err error) {
	m := c.dialog.Build("INVITE").WithSDP(c.offer)
	_, took, err = c.caller.do(m, c.caller.NextHop(m))
	c.ack()
	return took, err
}

func (c *talk) bye() (took time.Duration, err error) {
	c.check(nil)
	m := c.dialog.Build("BYE")
	_, took, err = c.caller.do(m, c.caller.NextHop(m))
	return took, err
}

// check ends the media, and counts it packet by packet.
func (c *talk) check(t *testing.T) {
	for _, stop := range c.stop {
		stop()
	}
	c.stop = nil
	if t == nil {
		return
	}
	t.Helper()
	for _, s := range []*lab.RTP{c.inside, c.far} {
		var numbers []int
		for _, d := range s.Received() {
			numbers = append(numbers, int(binary.BigEndian.Uint16(d.Payload[2:])))
		}
		slices.Sort(numbers)
		if lost := numbers[len(numbers)-1] - numbers[0] + 1 - len(numbers); lost != 0 {
			t.Errorf("%s %v: %d of %d packets of media are lost", s.Host.Name, s.Addr, lost, len(numbers)+lost)
		}
	}
}
