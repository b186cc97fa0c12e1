package e2e

import (
	"net/netip"
	"testing"

	"sipnatd/internal/lab"
)

// throughProxy is where phones are told to send everything.
const throughProxy = "sip:10.0.0.1"

// insideSIP is where scripted ones send it.
var insideSIP = netip.AddrPortFrom(lab.InsideAddr, 5060)

// proxied is a lab whose daemon is the proxy of the phones inside. On a firewall
// without a daemon there is none.
func proxied(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	l := lab.New(t, o)
	if !l.NAT() {
		t.Skip("without a daemon there is no proxy")
	}
	return l
}

// converse has one phone call another, at an address, talk and hang up. The called
// phone answers by itself.
func converse(l *lab.Lab, from, to *lab.Baresip, address string) {
	l.T.Helper()
	connect(l, from, to, address)
	hangUp(l, from, to)
}

// connect has one phone call another and waits until audio runs both ways.
func connect(l *lab.Lab, from, to *lab.Baresip, address string) {
	l.T.Helper()
	from.Mark()
	to.Mark()
	inside, wire := l.Inside.Mark(), l.Wire.Mark()
	from.Dial(address)
	to.WaitEvent("CALL_ESTABLISHED")
	from.WaitEvent("CALL_ESTABLISHED")
	l.AudioBothWaysSince(inside, wire, 25)
}

// hangUp ends a call, and waits until nothing of it is left in the kernel.
func hangUp(l *lab.Lab, who, other *lab.Baresip) {
	l.T.Helper()
	who.Hangup()
	other.WaitEvent("CALL_CLOSED")
	l.WaitClosed()
}
