package e2e

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// side is one party of a call: its user agent, its media, and what it was told
// of the other one.
type side struct {
	*lab.Agent
	rtp    *lab.RTP
	dialog *lab.Dialog
	peer   lab.Media // where the other one receives
}

// sdp describes the party's media, with further attributes.
func (s *side) sdp(attrs ...string) lab.Mod {
	return lab.WithSDP(lab.Audio(s.rtp.Addr.Addr(), s.rtp.Port(), attrs...))
}

// learn takes in the session description of a message, if it has one.
func (s *side) learn(m *lab.Message) *lab.Message {
	if media := m.Media(); len(media) > 0 {
		s.peer = media[0]
	}
	return m
}

// recv waits for a message of the dialog and takes in what it says.
func (s *side) recv(filters ...lab.Filter) *lab.Message {
	return s.learn(s.dialog.Recv(filters...))
}

func (s *side) party() lab.Party { return lab.Party{RTP: s.rtp, Peer: s.peer} }

// duo is alice inside, who is registered with bob outside, and a call between
// the two.
type duo struct {
	*lab.Lab
	alice, bob     *side
	caller, called *side
	contact        string // where bob reaches alice
}

// newDuo starts a lab with them; alice calls if out, else bob does.
func newDuo(t *testing.T, out bool, opt lab.Options, config ...string) *duo {
	l := lab.New(t, opt)
	l.StartDaemon(config...)
	d := &duo{
		Lab:   l,
		alice: &side{Agent: l.Phones[0].Agent("alice", 5060), rtp: l.Phones[0].RTP(4000)},
		bob:   &side{Agent: l.Outside[0].Agent("bob", 5060), rtp: l.Outside[0].RTP(6000)},
	}
	seen, _ := d.alice.Register(d.bob.Agent, 3600)
	d.contact = lab.URIOf(seen.Get("Contact"))
	d.caller, d.called = d.alice, d.bob
	if !out {
		d.caller, d.called = d.bob, d.alice
	}
	return d
}

// again is another call between the two, with media of its own.
func (d *duo) again(alice, bob *lab.RTP) *duo {
	o := *d
	o.alice, o.bob = &side{Agent: d.alice.Agent, rtp: alice}, &side{Agent: d.bob.Agent, rtp: bob}
	o.caller, o.called = o.alice, o.bob
	if d.caller == d.bob {
		o.caller, o.called = o.bob, o.alice
	}
	return &o
}

// eachWay runs a scenario for a call out and for a call in, in a lab each.
func eachWay(t *testing.T, opt lab.Options, scenario func(d *duo)) {
	t.Parallel()
	for _, way := range []struct {
		name string
		out  bool
	}{{"out", true}, {"in", false}} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			scenario(newDuo(t, way.out, opt))
		})
	}
}

// step runs a part of the scenario as a test of its own in the same lab.
func (d *duo) step(name string, part func()) {
	whole, ok := d.T.(*testing.T)
	if !ok {
		panic("a step outside of a test")
	}
	whole.Run(name, func(t *testing.T) {
		d.T = t
		defer func() { d.T = whole }()
		part()
	})
}

// invite has the caller call, and waits until the called side rings.
func (d *duo) invite(mods ...lab.Mod) {
	d.T.Helper()
	uri := "sip:bob@" + d.bob.Addr.Addr().String()
	if d.caller == d.bob {
		uri = d.contact
	}
	d.caller.dialog = d.caller.Invite(uri, mods...)
	d.called.dialog = d.called.RecvInvite(lab.CallID(d.caller.dialog.CallID))
	d.called.learn(d.called.dialog.Invite)
}

// reply answers the INVITE, and waits for the answer to arrive.
func (d *duo) reply(code int, mods ...lab.Mod) *lab.Message {
	d.T.Helper()
	d.called.Reply(d.called.dialog.Invite, code, mods...)
	return d.caller.recv(lab.Status(code, "INVITE"))
}

// ack acknowledges a success.
func (d *duo) ack(mods ...lab.Mod) {
	d.T.Helper()
	seq := d.caller.dialog.Invite.CSeq()
	d.caller.dialog.Ack(mods...)
	d.called.recv(lab.Request("ACK"), lab.CSeq(seq))
}

// fail answers the INVITE with a failure, which is acknowledged.
func (d *duo) fail(code int, mods ...lab.Mod) {
	d.T.Helper()
	d.caller.dialog.AckFailure(d.reply(code, mods...))
	d.called.recv(lab.Request("ACK"))
}

// connect makes the whole call, and both talk.
func (d *duo) connect() {
	d.T.Helper()
	d.invite(d.caller.sdp())
	d.reply(180)
	d.reply(200, d.called.sdp())
	d.ack()
	d.talk()
}

func (d *duo) talk() {
	d.T.Helper()
	d.Talk(d.alice.party(), d.bob.party())
}

// announced is where alice receives, as bob was told.
func (d *duo) announced() netip.AddrPort { return d.bob.peer.RTP }

// bye ends the call, and waits for the answer.
func (d *duo) bye(from, to *side) {
	d.T.Helper()
	from.dialog.Send("BYE")
	to.dialog.AnswerBye()
	from.dialog.Expect(200)
}

// hangUp ends the only call; nothing of it may remain.
func (d *duo) hangUp(from, to *side) {
	d.T.Helper()
	d.bye(from, to)
	d.closed()
}

// closed waits until no call is left in the kernel; the port that bob was told
// then answers nobody.
func (d *duo) closed() {
	d.T.Helper()
	d.WaitClosed()
	if d.announced().IsValid() {
		d.CheckSilent(d.bob.rtp.Socket, d.announced())
	}
}

// exchange sends an offer in a request, which a 200 answers.
func (d *duo) exchange(method string, from, to *side, offer, answer lab.Mod) {
	d.T.Helper()
	sent := from.dialog.Send(method, offer)
	to.recv(lab.Request(method))
	to.dialog.Reply(200, answer)
	from.learn(from.dialog.Expect(200))
	if method == "INVITE" {
		from.dialog.Ack()
		to.recv(lab.Request("ACK"), lab.CSeq(sent.CSeq()))
	}
}

// moves gives a side other media for a while.
func (s *side) moves(to *lab.RTP) (back func()) {
	old := s.rtp
	s.rtp = to
	return func() { s.rtp = old }
}

// streams are the public endpoints of open streams.
func (d *duo) streams() map[netip.AddrPort]bool {
	open := make(map[netip.AddrPort]bool)
	for public := range d.Streams() {
		open[public] = true
	}
	return open
}

// converse has both sides of a call send RTP in real time; the returned function
// ends that, and reports whether each has heard every packet of the other, from
// where it was told.
func (d *duo) converse() (stop func()) { return d.converseEvery(5 * time.Millisecond) }

// converseEvery is converse with a packet of RTP, each way, in an interval.
func (d *duo) converseEvery(interval time.Duration) (stop func()) {
	d.alice.rtp.Forget()
	d.bob.rtp.Forget()
	end := []func(){
		d.alice.rtp.Stream(d.alice.peer.RTP, interval),
		d.bob.rtp.Stream(d.bob.peer.RTP, interval),
	}
	return func() {
		d.T.Helper()
		for _, f := range end {
			f()
		}
		for _, s := range []*side{d.alice, d.bob} {
			// The kernel may change the order of two packets.
			heard := make(map[int]bool) // by sequence number, the first one being 0
			low, high := 0, -1
			received := s.rtp.Received()
			for _, p := range received {
				if p.From != s.peer.RTP {
					d.T.Errorf("%s hears %v, was told %v", s.User, p.From, s.peer.RTP)
				}
				n := int(int16(binary.BigEndian.Uint16(p.Payload[2:]) - binary.BigEndian.Uint16(received[0].Payload[2:])))
				heard[n] = true
				low, high = min(low, n), max(high, n)
			}
			if sent := high - low + 1; len(heard) < sent {
				d.T.Errorf("%s has missed %d packets of %d", s.User, sent-len(heard), sent)
			}
		}
	}
}

// audible waits until each side has heard some more of the other.
func (d *duo) audible() {
	d.T.Helper()
	for _, s := range []*side{d.alice, d.bob} {
		s.rtp.Expect(s.peer.RTP, len(s.rtp.Received())+20)
	}
}
