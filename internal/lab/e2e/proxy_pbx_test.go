package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyPBX: a PBX registers from one port for another one, is called without an
// offer, makes its own, changes the call, and sends a caller on to a phone of its own.
func TestProxyPBX(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Phones: 2})
	l.StartProxy()
	provider := l.Outside[0].Agent("provider", 5060)
	registrant, pbx := l.Phones[0].Agent("100", 5060), l.Phones[0].Agent("100", 5080)
	extension := l.Phones[1].Agent("200", 5060)
	registrant.Contact, pbx.Contact = "<sip:100@10.0.0.10:5080>", "<sip:100@10.0.0.10:5080>"
	registrant.Proxy, registrant.Domain = insideSIP, "203.0.113.10"

	m := registrant.Request("REGISTER", "sip:203.0.113.10")
	registrant.Send(insideSIP, m)
	seen := provider.Recv(lab.Request("REGISTER"))
	provider.Reply(seen, 200, lab.With("Contact", seen.Get("Contact")+";expires=600"))
	registrant.Recv(lab.Status(200, "REGISTER"))
	number := lab.URIOf(seen.Get("Contact"))

	// The offer comes in the answer.
	pbxRTP, providerRTP := l.Phones[0].RTP(4000), l.Outside[0].RTP(6000)
	call := provider.Invite(number)
	in := pbx.RecvInvite()
	in.Reply(180)
	call.Expect(180)
	in.Reply(200, lab.WithSDP(lab.Audio(pbx.Addr.Addr(), 4000)))
	offer := call.Expect(200).Media()[0]
	l.CheckPublic("the offered RTP", offer.RTP, l.Phones[0])
	call.Ack(lab.WithSDP(lab.Audio(provider.Addr.Addr(), 6000)))
	answer := in.ExpectRequest("ACK").Media()[0]
	l.Talk(lab.Party{RTP: pbxRTP, Peer: answer}, lab.Party{RTP: providerRTP, Peer: offer})

	// It moves the call to another port, and the provider ends it.
	moved := l.Phones[0].RTP(4100)
	in.Send("INVITE", lab.WithSDP(lab.Audio(pbx.Addr.Addr(), 4100)))
	call.ExpectRequest("INVITE")
	call.Reply(200, lab.WithSDP(lab.Audio(provider.Addr.Addr(), 6000)))
	answer = in.Expect(200).Media()[0]
	offer = call.Got.Media()[0]
	in.Ack()
	call.ExpectRequest("ACK")
	l.Talk(lab.Party{RTP: moved, Peer: answer}, lab.Party{RTP: providerRTP, Peer: offer})
	call.Send("BYE")
	in.AnswerBye()
	call.Expect(200)
	l.WaitClosed()

	// It redirects.
	call = provider.Invite(number)
	in = pbx.RecvInvite(lab.CallID(call.CallID))
	in.Reply(302, lab.With("Contact", "<sip:200@10.0.0.11:5060>"))
	elsewhere := call.Expect(302)
	call.AckFailure(elsewhere)
	again := provider.Invite(lab.URIOf(elsewhere.Get("Contact")))
	extension.RecvInvite(lab.CallID(again.CallID)).Reply(486)
	again.AckFailure(again.Expect(486))
	l.WaitClosed()
}
