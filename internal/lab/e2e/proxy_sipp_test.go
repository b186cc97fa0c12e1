package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestProxySIPp: many calls a second from somebody who is no phone, to a phone that is
// registered at the firewall, and from inside to the Internet.
func TestProxySIPp(t *testing.T) {
	t.Parallel()
	const calls = 10
	l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT), Phones: 2})
	l.StartDaemon("host_outbound = 203.0.113.1")
	l.Phones[0].SIPp(lab.SIPpOptions{Scenario: "uas", Calls: calls, Port: 5080, Media: 6000})
	registrant := l.Phones[0].Agent("service", 5060)
	registrant.Contact = "<sip:service@10.0.0.10:5080>"
	registrant.Proxy, registrant.Domain = insideSIP, "203.0.113.1"
	if answer := registrant.Do(registrant.Request("REGISTER", "sip:203.0.113.1")); answer.Status() != 200 {
		t.Fatalf("REGISTER: %s", answer.Start)
	}
	in := l.Outside[0].SIPp(lab.SIPpOptions{Scenario: "uac", Calls: calls, Rate: 20, Media: 20000, Remote: l.FW.At(5060)})
	in.WaitCalls(lab.Moment() * 2)
	l.AudioBothWays(10)
	l.WaitClosed()

	l.Outside[0].SIPp(lab.SIPpOptions{Scenario: "uas", Calls: calls, Port: 5090, Media: 21000})
	inside, wire := l.Inside.Mark(), l.Wire.Mark()
	out := l.Phones[1].SIPp(lab.SIPpOptions{
		Scenario: "uac", Calls: calls, Rate: 20, Media: 22000, Remote: l.Outside[0].At(5090),
		Args: []string{"-rsa", insideSIP.String()}, // the outbound proxy
	})
	out.WaitCalls(lab.Moment() * 2)
	l.AudioBothWaysSince(inside, wire, 10)
	l.WaitClosed()
}
