package e2e

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// party is one end of a call with any number of m-lines.
type party struct {
	*lab.Agent
	dialog    *lab.Dialog
	has, told []lab.Media // its own m-lines as it wrote them, and the other's as they arrived
}

// conversation is alice inside, who is registered with bob outside, and a call
// between the two.
type conversation struct {
	*lab.Lab
	daemon     *lab.Daemon
	alice, bob *party
	contact    string // where bob reaches alice

	sockets   map[netip.AddrPort]*lab.Socket
	announced map[netip.AddrPort]bool // every address that bob was ever told
}

func newConversation(t *testing.T, opt lab.Options, config ...string) *conversation {
	l := lab.New(t, opt)
	c := &conversation{
		Lab:       l,
		daemon:    l.StartDaemon(config...),
		alice:     &party{Agent: l.Phones[0].Agent("alice", 5060)},
		bob:       &party{Agent: l.Outside[0].Agent("bob", 5060)},
		sockets:   make(map[netip.AddrPort]*lab.Socket),
		announced: make(map[netip.AddrPort]bool),
	}
	seen, _ := c.alice.Register(c.bob.Agent, 3600)
	c.contact = lab.URIOf(seen.Get("Contact"))
	return c
}

// ways are who calls: alice, then bob.
func (c *conversation) ways() [2][2]*party { return [2][2]*party{{c.alice, c.bob}, {c.bob, c.alice}} }

// negotiate sends an offer and its answer, in a call or to begin one. The mods
// are for both messages.
func (c *conversation) negotiate(from, to *party, offer, answer string, mods ...lab.Mod) {
	c.T.Helper()
	mods = append([]lab.Mod{lab.WithSDP(offer)}, mods...)
	if from.dialog == nil {
		uri := "sip:bob@" + c.bob.Addr.String()
		if from == c.bob {
			uri = c.contact
		}
		from.dialog = from.Invite(uri, mods...)
		to.dialog = to.RecvInvite(lab.CallID(from.dialog.CallID))
	} else {
		from.dialog.Send("INVITE", mods...)
		to.dialog.Recv(lab.Request("INVITE"), lab.CSeq(from.dialog.Seq))
	}
	from.has, to.has = lab.ParseSDP(offer), lab.ParseSDP(answer)
	to.told = to.dialog.Got.Media()
	c.measure(to.dialog.Got)
	to.dialog.Reply(200, append([]lab.Mod{lab.WithSDP(answer)}, mods[1:]...)...)
	answered := from.dialog.Expect(200)
	c.measure(answered)
	from.told = answered.Media()
	from.dialog.Ack()
	to.dialog.Recv(lab.Request("ACK"), lab.CSeq(from.dialog.Seq))
	if len(from.told) != len(to.has) || len(to.told) != len(from.has) {
		c.T.Fatalf("m-lines: sent %d, arrived %d; answered %d, arrived %d",
			len(from.has), len(to.told), len(to.has), len(from.told))
	}
	for _, m := range c.bob.told {
		if m.RTP.Port() != 0 {
			c.announced[m.RTP] = true
			if c.NAT() {
				c.CheckPublic(m.Kind, m.RTP, c.alice.Host)
			}
		}
	}
}

// measure checks that a received message has the length it says, if it does.
func (c *conversation) measure(m *lab.Message) {
	c.T.Helper()
	if said := m.Get("Content-Length"); said != "" && said != strconv.Itoa(len(m.Body)) {
		c.T.Errorf("Content-Length %s, the body of %q has %d bytes", said, m.Start, len(m.Body))
	}
}

// at is the socket on an endpoint of one of the lab's hosts.
func (c *conversation) at(ep netip.AddrPort) *lab.Socket {
	c.T.Helper()
	if s := c.sockets[ep]; s != nil {
		return s
	}
	for _, h := range append(c.Phones[:len(c.Phones):len(c.Phones)], c.Outside...) {
		if h.Addr == ep.Addr() {
			c.sockets[ep] = h.Socket(int(ep.Port()))
			return c.sockets[ep]
		}
	}
	c.T.Fatalf("no host has %v", ep)
	return nil
}

// talk sends RTP and RTCP both ways on every m-line that both have: each must
// arrive, and from where the receiver was told that the sender is.
func (c *conversation) talk() {
	c.T.Helper()
	lines := 0
	for i, a := range c.alice.has {
		b, toAlice, toBob := c.bob.has[i], c.alice.told[i], c.bob.told[i]
		if a.RTP.Port() == 0 || b.RTP.Port() == 0 || a.Kind == "message" {
			continue
		}
		lines++
		c.both(c.at(a.RTP), toAlice.RTP, c.at(b.RTP), toBob.RTP, (*lab.Socket).SendRTP)
		if a.Kind == "audio" || a.Kind == "video" {
			c.announced[toBob.RTCP] = true
			c.both(c.at(a.RTCP), toAlice.RTCP, c.at(b.RTCP), toBob.RTCP,
				func(s *lab.Socket, to netip.AddrPort, n int) {
					for range n {
						s.SendRTCP(to)
					}
				})
		}
	}
	if lines == 0 {
		c.T.Errorf("the call has no media")
	}
}

// both sends from a to where it believes b to be, and back.
func (c *conversation) both(a *lab.Socket, toA netip.AddrPort, b *lab.Socket, toB netip.AddrPort, send func(*lab.Socket, netip.AddrPort, int)) {
	c.T.Helper()
	c.oneWay(a, toA, b, toB, send)
	c.oneWay(b, toB, a, toA, send)
}

func (c *conversation) oneWay(from *lab.Socket, to netip.AddrPort, at *lab.Socket, as netip.AddrPort, send func(*lab.Socket, netip.AddrPort, int)) {
	c.T.Helper()
	at.Forget()
	const packets = 3
	send(from, to, packets)
	at.Expect(as, packets) // all, so that none is taken for the next sender's
	for heard := range at.Heard() {
		if heard != as {
			c.T.Errorf("%v hears %v as %v, it was told %v", at.Addr, from.Addr, heard, as)
		}
	}
}

// hangUp ends the call; nothing of it may remain, and no port that bob was told
// lets anything in.
func (c *conversation) hangUp(from, to *party) {
	c.T.Helper()
	from.dialog.Send("BYE")
	to.dialog.AnswerBye()
	from.dialog.Expect(200)
	from.dialog, to.dialog = nil, nil
	c.WaitClosed()
	c.silent(c.announced)
	clear(c.announced)
}

// silent checks that none of the endpoints lets bob's packets in.
func (c *conversation) silent(endpoints map[netip.AddrPort]bool) {
	c.T.Helper()
	probe := c.at(c.bob.Host.At(6999))
	for ep := range endpoints {
		c.CheckSilent(probe, ep)
	}
}

// sdp is a session description of the party; about replaces parts of it: old,
// new, old, new ...
func (p *party) sdp(lines []lab.Line, about ...string) string {
	return strings.NewReplacer(about...).Replace(lab.SDP(p.Addr.Addr(), lines...))
}

// warned waits until the daemon's log has all of the words in one line.
func (c *conversation) warned(words ...string) {
	c.T.Helper()
	if !c.NAT() {
		return
	}
	said := func() bool {
		for _, line := range strings.Split(c.daemon.Log(), "\n") {
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return true
			}
		}
		return false
	}
	if !c.Until(lab.Moment(), said) {
		c.T.Errorf("the daemon says nothing of %q:\n%s", words, c.daemon.Log())
	}
}
