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
