package e2e

import (
	"net/netip"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// TestMediaNineCalls: a trunk's calls share one five-tuple. All of them talk at
// the same time, and each ends by itself.
func TestMediaNineCalls(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	var calls []*conversation
	for i := range 9 {
		one := *c
		alice, bob := *c.alice, *c.bob
		one.alice, one.bob = &alice, &bob
		from, to := one.alice, one.bob
		if i%2 == 1 {
			from, to = to, from
		}
		text := map[*party]string{
			one.alice: alice.sdp([]lab.Line{{Port: 4000 + 2*i}}), one.bob: bob.sdp([]lab.Line{{Port: 6000 + 2*i}}),
		}
		one.negotiate(from, to, text[from], text[to])
		calls = append(calls, &one)
	}
	for range 2 {
		for _, one := range calls {
			one.talk()
		}
	}
	for i, one := range calls {
		from, to := one.bob, one.alice
		if i%3 == 1 {
			from, to = to, from
		}
		from.dialog.Send("BYE")
		to.dialog.AnswerBye()
		from.dialog.Expect(200)
		for _, rest := range calls[i+1:] {
			rest.talk()
		}
	}
	c.WaitClosed()
	c.silent(c.announced)
}

// TestMediaFiftyCalls: a PBX with fifty calls at once on one five-tuple. Media
// runs both ways in all of them, and all are closed at the end.
func TestMediaFiftyCalls(t *testing.T) {
	t.Parallel()
	const calls = 50
	l := lab.New(t, lab.Options{})
	l.StartDaemon()
	l.Outside[0].SIPp(lab.SIPpOptions{Scenario: "uas", Calls: calls, Media: 30000, PortPerCall: true})
	pbx := l.Phones[0].SIPp(lab.SIPpOptions{
		Scenario: "uac", Calls: calls, Rate: 200, Media: 20000, PortPerCall: true,
		Talk: lab.Patience(2 * time.Second), Remote: l.Outside[0].At(5060),
	})
	err := l.Inside.Wait(0, lab.Moment(), func([]*lab.Packet) bool { return len(callIDs(l.Inside, "ACK")) == calls })
	if err != nil {
		t.Fatalf("not all calls are answered: %v", err)
	}
	c := &conversation{Lab: l, sockets: make(map[netip.AddrPort]*lab.Socket), announced: make(map[netip.AddrPort]bool)}
	sdp := func(side *lab.Capture, id string, what lab.Filter) []lab.Media {
		return side.SIP(lab.CallID(id), what)[0].SIP.Media()
	}
	for id := range callIDs(l.Inside, "INVITE") {
		one := *c
		offer, answer := lab.Request("INVITE"), lab.Status(200, "INVITE")
		one.alice = &party{has: sdp(l.Inside, id, offer), told: sdp(l.Inside, id, answer)}
		one.bob = &party{has: sdp(l.Wire, id, answer), told: sdp(l.Wire, id, offer)}
		c.announced[one.bob.told[0].RTP] = true
		one.talk()
	}
	if n := len(c.announced); n != 2*calls { // RTP and RTCP
		t.Errorf("%d calls were told %d public ports", calls, n)
	}
	if n := len(l.Inside.SIP(lab.Request("BYE"))); n > 0 {
		t.Errorf("%d calls have ended before all of them had talked", n)
	}
	pbx.WaitCalls(2 * lab.Moment())
	l.WaitClosed()
	probe := l.Outside[0].Socket(6999)
	for ep := range c.announced {
		l.CheckSilent(probe, ep)
	}
}

// callIDs are the calls with a request of a method, however often it is sent.
func callIDs(side *lab.Capture, method string) map[string]bool {
	ids := make(map[string]bool)
	for _, p := range side.SIP(lab.Request(method)) {
		ids[p.SIP.CallID()] = true
	}
	return ids
}
