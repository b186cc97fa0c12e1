package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyLinphone: linphone registers through the firewall, calls and is called.
func TestProxyLinphone(t *testing.T) {
	t.Parallel()
	for name, tcp := range map[string]bool{"UDP": false, "TCP": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, provider, bob := provided(t, 1, lab.KamailioOptions{TCP: true})
			alice := l.Phones[0].Linphone(lab.LinphoneOptions{
				Registrar: provider.Addr, Outbound: throughProxy, TCP: tcp, Answer: true,
			})
			alice.Dial(bob.AOR)
			bob.WaitEvent("CALL_ESTABLISHED")
			alice.Talk()
			l.AudioBothWays(25)
			alice.Hangup()
			bob.WaitEvent("CALL_CLOSED")
			l.WaitClosed()

			alice.Mark()
			bob.Mark()
			inside, wire := l.Inside.Mark(), l.Wire.Mark()
			bob.Dial(alice.AOR)
			bob.WaitEvent("CALL_ESTABLISHED")
			alice.Talk()
			l.AudioBothWaysSince(inside, wire, 25)
			bob.Hangup()
			bob.WaitEvent("CALL_CLOSED")
			l.WaitClosed()
		})
	}
}

// TestProxyLinphonePassword: linphone registers at the firewall itself, with the better
// one of the two algorithms that it is offered, and is called from outside.
func TestProxyLinphonePassword(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT)})
	l.StartProxy("host_outbound = 203.0.113.1", "proxy_auth_realm = lab", "proxy_auth_passwd = secret")
	alice := l.Phones[0].Linphone(lab.LinphoneOptions{
		Domain: "203.0.113.1", Realm: "lab", Outbound: throughProxy, Answer: true,
	})
	l.Inside.WaitSIP(0, lab.Request("REGISTER"), func(m *lab.Message) bool {
		return lab.AuthParam(m.Get("Authorization"), "algorithm") == "SHA-256"
	})
	bob := l.Outside[0].Baresip(lab.BaresipOptions{User: "bob", NoReg: true, Answer: true})
	bob.Dial(alice.AOR)
	bob.WaitEvent("CALL_ESTABLISHED")
	alice.Talk()
	l.AudioBothWays(25)
	bob.Hangup()
	bob.WaitEvent("CALL_CLOSED")
	l.WaitClosed()
}
