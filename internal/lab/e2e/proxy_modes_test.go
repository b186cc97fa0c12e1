package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyBoth: one phone uses the firewall as its outbound proxy, another one of the
// same provider knows nothing of it. Both call and are called, and each other.
func TestProxyBoth(t *testing.T) {
	t.Parallel()
	l, provider, bob := provided(t, 2, lab.KamailioOptions{}, "mode = both")
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: provider.Addr, Outbound: throughProxy, Answer: true})
	carol := l.Phones[1].Baresip(lab.BaresipOptions{User: "carol", Registrar: provider.Addr, Answer: true})
	for _, phone := range []*lab.Baresip{alice, carol} {
		converse(l, phone, bob, bob.AOR)
		converse(l, bob, phone, phone.AOR)
	}
	for _, c := range [][2]*lab.Baresip{{alice, carol}, {carol, alice}} {
		talkInside(l, c[0], c[1], c[1].AOR)
	}
}

// TestProxyOnly: with the proxy mode alone, what a phone sends through the firewall is
// forwarded as it is.
func TestProxyOnly(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}, Leaky: true})
	l.StartProxy("mode = proxy")
	phone := l.Phones[0].Agent("alice", 5060)
	for _, c := range []struct {
		host    *lab.Host
		proxied bool
	}{{l.Outside[0], false}, {l.Outside[1], true}} {
		provider := c.host.Agent("provider", 5060)
		phone.Domain = provider.Addr.Addr().String()
		to := provider.Addr
		if c.proxied {
			to = insideSIP
		}
		phone.Send(to, phone.Request("REGISTER", "sip:"+phone.Domain))
		m := provider.Recv(lab.Request("REGISTER"))
		provider.Reply(m, 200)
		if got := m.Get("Contact"); strings.Contains(got, "10.0.0.10") == c.proxied {
			t.Errorf("by the proxy %t: Contact: %s", c.proxied, got)
		}
	}
}

// TestProxyInside: two phones of the firewall's own domain, and two of a provider that
// both use the proxy, talk without the firewall.
func TestProxyInside(t *testing.T) {
	t.Parallel()
	for name, domain := range map[string]string{"our domain": "203.0.113.1", "the provider's": "203.0.113.10"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, _, _ := provided(t, 2, lab.KamailioOptions{})
			phone := lab.BaresipOptions{Domain: domain, Outbound: throughProxy, Answer: true}
			alice := l.Phones[0].Baresip(phone)
			phone.User = "carol"
			carol := l.Phones[1].Baresip(phone)
			talkInside(l, alice, carol, carol.AOR)
			talkInside(l, carol, alice, alice.AOR)
		})
	}
}

// talkInside has an inside phone call another one. Each hears the other, and none of it
// passes the firewall.
func talkInside(l *lab.Lab, from, to *lab.Baresip, address string) {
	l.T.Helper()
	inside, wire := l.Inside.Mark(), l.Wire.Mark()
	from.Mark()
	to.Mark()
	from.Dial(address)
	for _, phone := range []*lab.Baresip{from, to} {
		phone.WaitEvent("CALL_ESTABLISHED")
		phone.WaitEvent("CALL_RTPESTAB")
	}
	from.Hangup()
	to.WaitEvent("CALL_CLOSED")
	l.WaitClosed()
	for _, c := range []*lab.Capture{l.Inside, l.Wire} {
		mark := inside
		if c == l.Wire {
			mark = wire
		}
		for _, p := range c.Since(mark) {
			if p.IsMedia() {
				l.T.Fatalf("media of a call between two inside phones passes the firewall: %v", p)
			}
		}
	}
}

// TestProxyMask: a phone knows the firewall by its inside address only and registers
// there, with a password of siproxd's file. The outside knows it by the name that the
// configuration gives the firewall, and calls it so.
func TestProxyMask(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT), Outside: []string{"203.0.113.10"}})
	dns := l.Outside[0].DNS("foo.bar.org A 203.0.113.1")
	l.FW.UseDNS(dns)
	passwords := filepath.Join(l.Dir, "siproxd_passwd.cfg")
	if err := os.WriteFile(passwords, []byte("# name password\njohndoe secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.StartProxy("host_outbound = foo.bar.org", "mask_host = 10.0.0.1", "masked_host = foo.bar.org",
		"proxy_auth_realm = Authentication_Realm", "proxy_auth_pwfile = "+passwords)
	// A phone that gives up for SHA-256, as this one, is offered MD5 alone when it tries
	// again. That it would do after half a minute.
	first := l.Phones[0].Agent("johndoe", 5070)
	first.Proxy, first.Domain = insideSIP, "10.0.0.1"
	if !l.Until(lab.Moment(), func() bool {
		answer := first.Do(first.Request("REGISTER", "sip:10.0.0.1"))
		return answer.Status() == 401 && len(answer.Challenges()) == 1
	}) {
		t.Error("MD5 is never offered alone")
	}
	john := l.Phones[0].Baresip(lab.BaresipOptions{User: "johndoe", Domain: "10.0.0.1", Outbound: throughProxy, Answer: true})
	bob := l.Outside[0].Agent("bob", 5060)
	john.Dial("sip:bob@203.0.113.10")
	in := bob.RecvInvite()
	if from := lab.URIOf(in.Invite.Get("From")); from != "sip:johndoe@foo.bar.org" {
		t.Errorf("it calls as %s", from)
	}
	in.Reply(486)
	john.WaitEvent("CALL_CLOSED")

	bob.Proxy, bob.Domain = l.FW.At(5060), "203.0.113.10"
	call := bob.Invite("sip:johndoe@foo.bar.org", lab.WithSDP(lab.Audio(bob.Addr.Addr(), 6000)))
	call.Expect(200)
	call.Ack()
	call.Bye()
	l.WaitClosed()
}

// TestProxyOutbound: what a phone sends to the outside goes to the proxy that the
// configuration names for its domain, or for all.
func TestProxyOutbound(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartProxy("outbound_proxy_host = 203.0.113.10", "outbound_proxy_port = 5080",
		"outbound_domain_name = other.example", "outbound_domain_host = 198.51.100.20", "outbound_domain_port = 5090")
	all, other := l.Outside[0].Agent("all", 5080), l.Outside[1].Agent("other", 5090)
	phone := l.Phones[0].Agent("alice", 5060)
	phone.Proxy = insideSIP
	for _, c := range []struct {
		domain string
		gets   *lab.Agent
	}{{"example.net", all}, {"other.example", other}} {
		phone.Domain = c.domain
		register := phone.Request("REGISTER", "sip:"+c.domain)
		phone.Send(insideSIP, register)
		c.gets.Reply(c.gets.Recv(lab.Request("REGISTER")), 200)
		phone.Recv(lab.Status(200, "REGISTER"), lab.CallID(register.CallID()))
		call := phone.Invite("sip:somebody@elsewhere.example", lab.WithSDP(lab.Audio(phone.Addr.Addr(), 4000)))
		in := c.gets.RecvInvite()
		if uri := in.Invite.RequestURI(); uri != "sip:somebody@elsewhere.example" {
			t.Errorf("it calls %s", uri)
		}
		in.Reply(603)
		call.AckFailure(call.Expect(603))
	}
	l.WaitClosed()
}
