package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// agentCallsOut: a phone registers, calls out, both talk, the phone hangs up.
func agentCallsOut(t *testing.T, fw lab.Firewall) {
	l := lab.New(t, lab.Options{Firewall: fw})
	l.StartDaemon()
	alice := l.Phones[0].Agent("alice", 5060)
	bob := l.Outside[0].Agent("bob", 5060)
	aliceRTP, bobRTP := l.Phones[0].RTP(4000), l.Outside[0].RTP(6000)

	seen, _ := alice.Register(bob, 3600)
	l.CheckPublic("the registered Contact", lab.HostPortOf(seen.Get("Contact")), l.Phones[0])

	out := alice.Invite("sip:bob@203.0.113.10", lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
	in := bob.RecvInvite()
	in.Reply(180)
	out.Expect(180)
	offer := in.Invite.Media()[0]
	l.CheckPublic("the offered RTP", offer.RTP, l.Phones[0])

	in.Reply(200, lab.WithSDP(lab.Audio(bob.Addr.Addr(), 6000)))
	answer := out.Expect(200).Media()[0]
	out.Ack()
	in.ExpectRequest("ACK")
	l.Talk(lab.Party{RTP: aliceRTP, Peer: answer}, lab.Party{RTP: bobRTP, Peer: offer})

	out.Send("BYE")
	in.AnswerBye()
	out.Expect(200)
	l.WaitClosed()
	l.CheckSilent(bobRTP.Socket, offer.RTP)
}

// agentIsCalled: a registered phone is called, both talk, the caller hangs up.
func agentIsCalled(t *testing.T, fw lab.Firewall) {
	l := lab.New(t, lab.Options{Firewall: fw})
	l.StartDaemon()
	alice := l.Phones[0].Agent("alice", 5060)
	bob := l.Outside[0].Agent("bob", 5060)
	aliceRTP, bobRTP := l.Phones[0].RTP(4000), l.Outside[0].RTP(6000)

	seen, _ := alice.Register(bob, 3600)
	contact := lab.URIOf(seen.Get("Contact"))

	out := bob.Invite(contact, lab.WithSDP(lab.Audio(bob.Addr.Addr(), 6000)))
	in := alice.RecvInvite()
	if got := in.Invite.RequestURI(); got != lab.URIOf(alice.Contact) {
		t.Errorf("the phone is called as %s, its Contact is %s", got, alice.Contact)
	}
	offer := in.Invite.Media()[0]
	in.Reply(200, lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
	answer := out.Expect(200).Media()[0]
	l.CheckPublic("the answered RTP", answer.RTP, l.Phones[0])
	out.Ack()
	in.ExpectRequest("ACK")
	l.Talk(lab.Party{RTP: aliceRTP, Peer: offer}, lab.Party{RTP: bobRTP, Peer: answer})

	out.Send("BYE")
	in.AnswerBye()
	out.Expect(200)
	l.WaitClosed()
	l.CheckSilent(bobRTP.Socket, answer.RTP)
}

// agentsAtKamailio: two inside agents on port 5060 register with a real
// registrar, which stays in the dialog; one is called from outside.
func agentsAtKamailio(t *testing.T, fw lab.Firewall) {
	l := lab.New(t, lab.Options{Firewall: fw, Phones: 2, Outside: []string{"203.0.113.10", "192.0.2.30"}})
	l.StartDaemon()
	k := l.Outside[0].Kamailio(lab.KamailioOptions{RecordRoute: true})
	alice, carol := l.Phones[0].Agent("alice", 5060), l.Phones[1].Agent("carol", 5060)
	bob := l.Outside[1].Agent("bob", 5060)
	for _, a := range []*lab.Agent{alice, carol, bob} {
		a.RegisterWith(k.Addr, 3600)
	}
	for _, called := range []*lab.Agent{alice, carol} {
		rtp, far := called.Host.RTP(4000), bob.Host.RTP(6000)
		out := bob.Invite("sip:"+called.User+"@203.0.113.10", lab.WithSDP(lab.Audio(bob.Addr.Addr(), far.Port())))
		in := called.RecvInvite()
		offer := in.Invite.Media()[0]
		in.Reply(200, lab.WithSDP(lab.Audio(called.Addr.Addr(), rtp.Port())))
		answer := out.Expect(200).Media()[0]
		out.Ack()
		in.ExpectRequest("ACK")
		l.Talk(lab.Party{RTP: rtp, Peer: offer}, lab.Party{RTP: far, Peer: answer})
		in.Send("BYE")
		out.AnswerBye()
		in.Expect(200)
		l.WaitClosed()
		far.Close()
		far.RTCP.Close()
	}
}

// TestChallengedInvite: the first INVITE and the BYE are challenged, and sent
// again in the same dialog attempt with the next CSeq.
func TestChallengedInvite(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{})
	l.StartDaemon()
	alice, bob := l.Phones[0].Agent("alice", 5060), l.Outside[0].Agent("bob", 5060)
	aliceRTP, bobRTP := l.Phones[0].RTP(4000), l.Outside[0].RTP(6000)
	alice.Register(bob, 3600)

	challenge := lab.With("Proxy-Authenticate", `Digest realm="lab", nonce="1"`)
	credentials := lab.With("Proxy-Authorization", `Digest username="alice", realm="lab", nonce="1", uri="sip:bob", response="0"`)
	out := alice.Invite("sip:bob@203.0.113.10", lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
	bob.RecvInvite().Reply(407, challenge)
	out.AckFailure(out.Expect(407))
	out.Send("INVITE", credentials, lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
	in := bob.RecvInvite(lab.CSeq(2))
	offer := in.Invite.Media()[0]
	in.Reply(180)
	in.Reply(200, lab.WithSDP(lab.Audio(bob.Addr.Addr(), 6000)))
	answer := out.Expect(200).Media()[0]
	out.Ack()
	in.Recv(lab.Request("ACK"), lab.CSeq(2))
	l.Talk(lab.Party{RTP: aliceRTP, Peer: answer}, lab.Party{RTP: bobRTP, Peer: offer})

	out.Send("BYE")
	in.ExpectRequest("BYE")
	in.Reply(407, challenge)
	out.Expect(407)
	out.Send("BYE", credentials)
	in.AnswerBye()
	out.Expect(200)
	l.WaitClosed()
	l.CheckSilent(bobRTP.Socket, offer.RTP)
}
