package e2e

import (
	"net/netip"
	"testing"

	"sipnatd/internal/lab"
)

// branch is one of the phones that a call rings at: a To tag and media of its own.
type branch struct {
	*side
	to lab.Mod
}

// branches are bob's phones at home and elsewhere, which answer through him.
func (d *duo) branches() (a, b branch) {
	of := func(host *lab.Host, tag string) branch {
		s := &side{Agent: d.bob.Agent, rtp: host.RTP(6100)}
		return branch{s, lab.With("To", d.bob.dialog.Invite.Get("To")+";tag="+tag)}
	}
	return of(d.Outside[1], "a"), of(d.Outside[2], "b")
}

// ring has the branch answer the INVITE, and tells alice's view of its dialog.
func (d *duo) ring(b branch, code int) (alice *side) {
	d.T.Helper()
	b.learn(d.bob.dialog.Invite)
	m := d.bob.Reply(d.bob.dialog.Invite, code, b.to, b.sdp())
	tag := lab.Tag(m.Get("To"))
	m = d.alice.dialog.Recv(lab.Status(code, "INVITE"), func(m *lab.Message) bool { return lab.Tag(m.Get("To")) == tag })
	alice = &side{Agent: d.alice.Agent, rtp: d.alice.rtp, dialog: d.alice.dialog.Fork(m)}
	alice.learn(m)
	b.dialog = d.bob.Accept(d.bob.dialog.Invite)
	b.dialog.Local = m.Get("To")
	return alice
}

var farHosts = lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20", "192.0.2.30"}}

// TestForkedAnswers: two phones of the called ring, with media at different
// hosts, and both are heard. The one that answers goes on alone. Late messages
// of the other change nothing.
func TestForkedAnswers(t *testing.T) {
	t.Parallel()
	d := newDuo(t, true, farHosts)
	d.invite(d.alice.sdp())
	a, b := d.branches()
	toA, toB := d.ring(a, 183), d.ring(b, 183)
	d.Talk(toA.party(), a.party())
	d.Talk(toB.party(), b.party())
	d.Talk(toA.party(), a.party())

	toB = d.ring(b, 200)
	toB.dialog.Ack()
	b.dialog.Recv(lab.Request("ACK"))
	d.Talk(toB.party(), b.party())
	d.CheckSilent(a.rtp.Socket, a.peer.RTP)

	d.bob.Reply(d.bob.dialog.Invite, 183, a.to, a.sdp(), lab.With("Server", "late"))
	d.alice.dialog.Recv(lab.Status(183, "INVITE"))
	d.Talk(toB.party(), b.party())
	d.CheckSilent(a.rtp.Socket, a.peer.RTP)

	d.bye(toB, b.side)
	d.WaitClosed()
	d.CheckSilent(b.rtp.Socket, b.peer.RTP)
}

// TestForkedTwiceAnswered: both phones answer at the same moment. The caller
// acknowledges both and ends one (RFC 3261 section 13.2.2.4); the other one
// goes on, whichever it is.
func TestForkedTwiceAnswered(t *testing.T) {
	t.Parallel()
	d := newDuo(t, true, farHosts)
	for _, first := range []bool{true, false} {
		name := "the second goes on"
		if first {
			name = "the first goes on"
		}
		d.step(name, func() {
			d.invite(d.alice.sdp())
			a, b := d.branches()
			d.ring(a, 183)
			var alice [2]*side
			phones := [2]branch{a, b}
			for i, p := range phones {
				alice[i] = d.ring(p, 200)
				alice[i].dialog.Ack()
				p.dialog.Recv(lab.Request("ACK"))
			}
			stay, leave := 1, 0
			if first {
				stay, leave = 0, 1
			}
			d.bye(alice[leave], phones[leave].side)
			d.Talk(alice[stay].party(), phones[stay].party())
			d.CheckSilent(phones[leave].rtp.Socket, phones[leave].peer.RTP)
			d.bye(alice[stay], phones[stay].side)
			d.WaitClosed()
			d.CheckSilent(phones[stay].rtp.Socket, phones[stay].peer.RTP)
		})
	}
}

// TestForkFails: all phones of the called ring with early media, and none answers.
func TestForkFails(t *testing.T) {
	t.Parallel()
	d := newDuo(t, true, farHosts)
	d.invite(d.alice.sdp())
	a, b := d.branches()
	toA, toB := d.ring(a, 183), d.ring(b, 183)
	d.Talk(toA.party(), a.party())
	d.Talk(toB.party(), b.party())
	d.bob.Reply(d.bob.dialog.Invite, 486, a.to)
	d.alice.dialog.AckFailure(d.alice.dialog.Recv(lab.Status(486, "INVITE")))
	d.WaitClosed()
	d.CheckSilent(b.rtp.Socket, b.peer.RTP)
}

// TestForkInside: a real Kamailio rings two inside phones of one user, on the
// same port of two hosts. Both have early media; one answers, the other is
// cancelled and its port closed, while the first one talks.
func TestForkInside(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Phones: 2, Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartDaemon()
	k := l.Outside[0].Kamailio(lab.KamailioOptions{RecordRoute: true})
	bob := &side{Agent: l.Outside[1].Agent("bob", 5060), rtp: l.Outside[1].RTP(6000)}
	bob.Proxy = k.Addr
	var phones, bobs [2]*side
	for i, h := range l.Phones {
		phones[i] = &side{Agent: h.Agent("alice", 5060), rtp: h.RTP(4000)}
		phones[i].RegisterWith(k.Addr, 3600)
	}
	bob.dialog = bob.Invite("sip:alice@203.0.113.10", bob.sdp())
	var announced [2]netip.AddrPort
	for i, p := range phones {
		p.dialog = p.RecvInvite()
		p.dialog.Local = p.dialog.Invite.Get("To") + ";tag=" + p.Host.Name
		p.learn(p.dialog.Invite)
		p.dialog.Reply(183, lab.With("To", p.dialog.Local), p.sdp())
		m := bob.dialog.Recv(lab.Status(183, "INVITE"))
		bobs[i] = &side{Agent: bob.Agent, rtp: bob.rtp, dialog: bob.dialog.Fork(m)}
		bobs[i].learn(m)
		announced[i] = bobs[i].peer.RTP
		l.Talk(p.party(), bobs[i].party())
	}
	winner, loser := phones[0], phones[1]
	winner.dialog.Reply(200, lab.With("To", winner.dialog.Local), winner.sdp())
	bob.dialog.Recv(lab.Status(200, "INVITE"))
	bobs[0].dialog.Ack()
	winner.dialog.ExpectRequest("ACK")

	loser.dialog.ExpectRequest("CANCEL")
	loser.dialog.Reply(200)
	loser.Reply(loser.dialog.Invite, 487, lab.With("To", loser.dialog.Local))
	loser.dialog.ExpectRequest("ACK")
	if l.NAT() && !l.Until(lab.CloseTime, func() bool { return len(l.Streams()) == 2 }) {
		t.Errorf("the cancelled branch stays open: %v", l.Streams())
	}
	l.CheckSilent(bob.rtp.Socket, announced[1])
	l.Talk(winner.party(), bobs[0].party())

	winner.dialog.Send("BYE")
	bobs[0].dialog.AnswerBye()
	winner.dialog.Expect(200)
	l.WaitClosed()
	l.CheckSilent(bob.rtp.Socket, announced[0])
}

// TestForkToRealPhones: two real phones of one user ring inside, one answers.
func TestForkToRealPhones(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Phones: 2, Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartDaemon()
	k := l.Outside[0].Kamailio(lab.KamailioOptions{RecordRoute: true})
	ringing := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: k.Addr})
	answering := l.Phones[1].Baresip(lab.BaresipOptions{Registrar: k.Addr})
	bob := l.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: k.Addr})
	bob.Dial("sip:alice@203.0.113.10")
	ringing.WaitEvent("CALL_INCOMING")
	answering.WaitEvent("CALL_INCOMING")
	answering.Accept()
	ringing.WaitEvent("CALL_CLOSED")
	l.AudioBothWays(25)
	bob.Hangup()
	answering.WaitEvent("CALL_CLOSED")
	l.WaitClosed()
}
