package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyGRUU: a phone whose provider has given it a GRUU (RFC 5627) uses that as its
// Contact. What belongs to its call comes to it, though the Request-URI is the
// provider's, and to no other phone that has the same address-of-record.
func TestProxyGRUU(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Phones: 2})
	l.StartProxy()
	const gruu = "<sip:alice@203.0.113.10;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"
	provider := l.Outside[0].Agent("provider", 5060)
	phones := []*lab.Agent{l.Phones[0].Agent("alice", 5060), l.Phones[1].Agent("alice", 5060)}
	var contacts []string
	for _, phone := range phones {
		phone.Proxy, phone.Domain = insideSIP, "203.0.113.10"
		m := phone.Request("REGISTER", "sip:203.0.113.10")
		phone.Send(insideSIP, m)
		seen := provider.Recv(lab.Request("REGISTER"))
		provider.Reply(seen, 200, lab.With("Contact", seen.Get("Contact")+";expires=600"))
		phone.Recv(lab.Status(200, "REGISTER"), lab.CallID(m.CallID()))
		contacts = append(contacts, lab.URIOf(seen.Get("Contact")))
	}
	for i, phone := range phones {
		phone.Contact = gruu
		call := provider.Invite(contacts[i])
		in := phone.RecvInvite(lab.CallID(call.CallID))
		in.Reply(200, lab.WithSDP(lab.Audio(phone.Addr.Addr(), 4000)))
		call.Expect(200)
		call.Ack(lab.WithSDP(lab.Audio(provider.Addr.Addr(), 6000)))
		in.ExpectRequest("ACK")
		call.Send("BYE")
		in.AnswerBye()
		call.Expect(200)

		// And where the phone calls.
		out := phone.Invite("sip:provider@203.0.113.10", lab.WithSDP(lab.Audio(phone.Addr.Addr(), 4000)))
		answered := provider.RecvInvite(lab.CallID(out.CallID))
		answered.Reply(200, lab.WithSDP(lab.Audio(provider.Addr.Addr(), 6000)))
		out.Expect(200)
		out.Ack()
		answered.ExpectRequest("ACK")
		answered.Send("BYE")
		out.AnswerBye()
		answered.Expect(200)

		for _, m := range phones[1-i].Pending(lab.Request("")) {
			t.Errorf("another phone gets %s", m.Start)
		}
	}
	l.WaitClosed()
}
