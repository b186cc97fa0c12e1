package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestBaresipCall: two real phones register with Kamailio, with authentication,
// one inside, one outside; they call each other, audio runs both ways.
func TestBaresipCall(t *testing.T) {
	t.Parallel()
	for _, inward := range []bool{false, true} {
		name := map[bool]string{false: "out", true: "in"}[inward]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}})
			l.StartDaemon()
			k := l.Outside[0].Kamailio(lab.KamailioOptions{Auth: true, RecordRoute: true})
			alice := l.Phones[0].Baresip(lab.BaresipOptions{User: "alice", Registrar: k.Addr, Answer: inward})
			bob := l.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: k.Addr, Answer: !inward})
			caller, called := alice, bob
			if inward {
				caller, called = bob, alice
			}
			caller.Dial(called.AOR)
			called.WaitEvent("CALL_ESTABLISHED")
			caller.WaitEvent("CALL_ESTABLISHED")
			l.AudioBothWays(25)
			caller.Hangup()
			called.WaitEvent("CALL_CLOSED")
			l.WaitClosed()
		})
	}
}
