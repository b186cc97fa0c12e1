package e2e

import (
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyAccounts: a phone has an account of the same name with each of two
// providers, and another phone of that name has one with the second only. Each call
// reaches the phones that it is for, even by a provider that forgets the parameters of
// a Contact.
func TestProxyAccounts(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Phones: 2, Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartProxy("ua_string = PhoneSystem/1.0", "use_rport = 2")
	first, second := l.Outside[0].Agent("first", 5060), l.Outside[1].Agent("second", 5060)
	both, one := l.Phones[0].Agent("alice", 5060), l.Phones[1].Agent("alice", 5060)
	both.Proxy, one.Proxy = insideSIP, insideSIP

	contact := make(map[*lab.Agent]map[*lab.Agent]string) // by phone and provider
	register := func(phone, provider *lab.Agent) {
		phone.Domain = provider.Addr.Addr().String()
		m := phone.Request("REGISTER", "sip:"+phone.Domain)
		phone.Send(phone.Proxy, m)
		seen := provider.Recv(lab.Request("REGISTER"))
		if got := lab.URIOf(seen.Get("From")); got != "sip:alice@"+phone.Domain {
			t.Errorf("the account is %s", got)
		}
		if ua, via := seen.Get("User-Agent"), seen.All("Via"); ua != "PhoneSystem/1.0" || len(via) != 1 || !strings.Contains(via[0], ";rport") {
			t.Errorf("User-Agent %q, Via %q", ua, via)
		}
		if contact[phone] == nil {
			contact[phone] = make(map[*lab.Agent]string)
		}
		contact[phone][provider] = lab.URIOf(seen.Get("Contact"))
		provider.Reply(seen, 200, lab.With("Contact", seen.Get("Contact")+";expires=600"))
		answer := phone.Recv(lab.Status(200, "REGISTER"), lab.CallID(m.CallID()))
		if got := lab.URIOf(answer.Get("Contact")); got != lab.URIOf(phone.Contact) {
			t.Errorf("the phone is told of its Contact as %s", got)
		}
	}
	register(both, first)
	register(both, second)
	register(one, second)
	if contact[both][second] == contact[one][second] {
		t.Errorf("two phones have the same Contact %s", contact[one][second])
	}

	for _, c := range []struct {
		provider     *lab.Agent
		uri          string
		rings, other *lab.Agent
	}{
		{first, contact[both][first], both, one},
		{second, contact[both][second], both, one},
		{second, contact[one][second], one, both},
	} {
		call := c.provider.Invite(c.uri)
		in := c.rings.RecvInvite(lab.CallID(call.CallID))
		if got := in.Invite.RequestURI(); got != lab.URIOf(c.rings.Contact) {
			t.Errorf("%s rings as %s", c.uri, got)
		}
		in.Reply(486)
		call.AckFailure(call.Expect(486))
		if ms := c.other.Pending(lab.Request("INVITE")); len(ms) > 0 {
			t.Errorf("%s rings at the other phone, too", c.uri)
		}
	}

	// Without the token, those of that name ring whom this provider knows.
	for provider, phones := range map[*lab.Agent][]*lab.Agent{first: {both}, second: {both, one}} {
		call := provider.Invite("sip:alice@203.0.113.1")
		for _, phone := range phones {
			phone.RecvInvite(lab.CallID(call.CallID)).Reply(486)
		}
		call.AckFailure(call.Expect(486))
		if ms := one.Pending(lab.CallID(call.CallID), lab.Request("INVITE")); provider == first && len(ms) > 0 {
			t.Error("a provider calls a phone that is not registered with it")
		}
	}
}
