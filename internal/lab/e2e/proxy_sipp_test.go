package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestProxySIPp: many calls a second from somebody who is no phone, to a phone that is
// registered at the firewall, and from inside to the Internet.
func TestProxySIPp(t *testing.T) {
	t.Parallel()
	for name, tcp := range map[string]bool{"UDP": false, "TCP": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const calls = 10
			l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT), Phones: 2})
			l.StartProxy("host_outbound = 203.0.113.1")
			l.Phones[0].SIPp(lab.SIPpOptions{Scenario: "uas", Calls: calls, Port: 5080, Media: 6000, TCP: tcp})
			registrant := l.Phones[0].Agent("service", 5060)
			registrant.Contact = "<sip:service@10.0.0.10:5080>"
			if tcp {
				registrant.Contact = "<sip:service@10.0.0.10:5080;transport=tcp>"
			}
			registrant.RegisterWith(insideSIP, 600)
			in := l.Outside[0].SIPp(lab.SIPpOptions{
				Scenario: "uac", Calls: calls, Rate: 20, Media: 20000, Remote: l.FW.At(5060), TCP: tcp,
			})
			in.WaitCalls(lab.Moment() * 2)
			l.AudioBothWays(10)
			l.WaitClosed()

			// The address that is called names no transport: it is called over UDP.
			l.Outside[0].SIPp(lab.SIPpOptions{Scenario: "uas", Calls: calls, Port: 5090, Media: 21000})
			inside, wire := l.Inside.Mark(), l.Wire.Mark()
			out := l.Phones[1].SIPp(lab.SIPpOptions{
				Scenario: "uac", Calls: calls, Rate: 20, Media: 22000, Remote: l.Outside[0].At(5090), TCP: tcp,
				Args: []string{"-rsa", insideSIP.String()}, // the outbound proxy
			})
			out.WaitCalls(lab.Moment() * 2)
			l.AudioBothWaysSince(inside, wire, 10)
			l.WaitClosed()
		})
	}
}
