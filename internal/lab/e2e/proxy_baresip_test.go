package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyBaresip: a phone whose outbound proxy is the firewall registers with its
// provider, calls a phone outside and is called by it, with audio both ways.
func TestProxyBaresip(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartDaemon("mode = proxy")
	k := l.Outside[0].Kamailio(lab.KamailioOptions{Auth: true, RecordRoute: true})
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: k.Addr, Outbound: "sip:10.0.0.1", Answer: true})
	bob := l.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: k.Addr, Answer: true})
	for _, c := range []struct{ from, to *lab.Baresip }{{alice, bob}, {bob, alice}} {
		c.from.Mark()
		c.to.Mark()
		inside, wire := l.Inside.Mark(), l.Wire.Mark()
		c.from.Dial(c.to.AOR)
		c.to.WaitEvent("CALL_ESTABLISHED")
		c.from.WaitEvent("CALL_ESTABLISHED")
		l.AudioBothWaysSince(inside, wire, 25)
		c.from.Hangup()
		c.to.WaitEvent("CALL_CLOSED")
		l.WaitClosed()
	}
}
