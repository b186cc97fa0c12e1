package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// sippCalls: ten calls at once from one inside endpoint, with RTP echoed.
func sippCalls(t *testing.T, fw lab.Firewall) {
	l := lab.New(t, lab.Options{Firewall: fw})
	l.StartDaemon()
	l.Outside[0].SIPp(lab.SIPpOptions{Scenario: "uas", Calls: 10, Media: 6000})
	uac := l.Phones[0].SIPp(lab.SIPpOptions{
		Scenario: "uac", Calls: 10, Rate: 50, Media: 20000, Remote: l.Outside[0].At(5060),
	})
	uac.WaitCalls(lab.Moment() * 2)
	l.AudioBothWays(10)
	l.WaitClosed()
}
