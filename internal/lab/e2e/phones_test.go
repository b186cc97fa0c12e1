package e2e

import (
	"os"
	"testing"

	"sipnatd/internal/lab"
)

// pair is two real phones that are registered with Kamailio, alice inside and
// bob outside, each on a network of its own.
type pair struct {
	*lab.Lab
	alice, bob *lab.Baresip
}

// newPair starts the phones with the same options; bob answers in any case.
func newPair(t *testing.T, fw lab.Firewall, phone lab.BaresipOptions, registrar lab.KamailioOptions) *pair {
	l := lab.New(t, lab.Options{Firewall: fw, Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartDaemon()
	k := l.Outside[0].Kamailio(registrar)
	phone.Registrar = k.Addr
	a, b := phone, phone
	a.User, b.User = "alice", "bob"
	b.Port, b.Answer = 0, true
	return &pair{l, l.Phones[0].Baresip(a), l.Outside[1].Baresip(b)}
}

// connect lets alice call bob and waits until audio runs both ways.
func (p *pair) connect() {
	p.T.Helper()
	p.alice.Dial(p.bob.AOR)
	p.bob.WaitEvent("CALL_ESTABLISHED")
	p.alice.WaitEvent("CALL_ESTABLISHED")
	p.AudioBothWays(25)
}

// hangUp lets alice end the call and waits until everything is closed.
func (p *pair) hangUp() {
	p.T.Helper()
	p.alice.Hangup()
	p.bob.WaitEvent("CALL_CLOSED")
	p.WaitClosed()
}

// TestBaresipCalls: two real phones register with Kamailio, with
// authentication, and call each other in many ways; audio runs both ways.
func TestBaresipCalls(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		phone     lab.BaresipOptions
		registrar lab.KamailioOptions
	}{
		{"record-route", lab.BaresipOptions{}, lab.KamailioOptions{Auth: true, RecordRoute: true}},
		{"direct dialog", lab.BaresipOptions{}, lab.KamailioOptions{Auth: true}},
		{"registrar on another port", lab.BaresipOptions{}, lab.KamailioOptions{Port: 5080, RecordRoute: true}},
		{"phone on another port", lab.BaresipOptions{Port: 5070}, lab.KamailioOptions{Auth: true}},
		{"rtcp-mux", lab.BaresipOptions{RTCPMux: true}, lab.KamailioOptions{RecordRoute: true}},
		{"ICE", lab.BaresipOptions{ICE: true}, lab.KamailioOptions{RecordRoute: true}},
		{"video", lab.BaresipOptions{Video: true}, lab.KamailioOptions{RecordRoute: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.registrar.Port != 0 && os.Getenv("SIPNATD_LAB") == "egress" {
				t.Skip("this firewall lets no SIP out but to port 5060")
			}
			p := newPair(t, lab.Firewall{}, c.phone, c.registrar)
			p.connect()
			p.hangUp()
		})
	}
}

// baresipCallsOut: the inside phone calls, and both the call and its end are
// challenged.
func baresipCallsOut(t *testing.T, fw lab.Firewall) {
	p := newPair(t, fw, lab.BaresipOptions{}, lab.KamailioOptions{Auth: true, AuthCalls: true, RecordRoute: true})
	p.connect()
	p.hangUp()
}

// baresipIsCalled: the inside phone is called, and hangs up itself.
func baresipIsCalled(t *testing.T, fw lab.Firewall) {
	p := newPair(t, fw, lab.BaresipOptions{Answer: true}, lab.KamailioOptions{Auth: true, RecordRoute: true})
	p.bob.Dial(p.alice.AOR)
	p.alice.WaitEvent("CALL_ESTABLISHED")
	p.bob.WaitEvent("CALL_ESTABLISHED")
	p.AudioBothWays(25)
	p.hangUp()
}

// baresipHolds: the inside phone holds the call and takes it back; audio
// runs both ways again, through the same endpoints.
func baresipHolds(t *testing.T, fw lab.Firewall) {
	p := newPair(t, fw, lab.BaresipOptions{}, lab.KamailioOptions{RecordRoute: true})
	p.connect()
	mark := p.Inside.Mark()
	p.alice.Hold()
	p.Inside.WaitSIP(mark, lab.Status(200, "INVITE"))
	mark = p.Inside.Mark()
	p.alice.Resume()
	p.Inside.WaitSIP(mark, lab.Status(200, "INVITE"))
	p.AudioBothWaysSince(p.Inside.Mark(), p.Wire.Mark(), 25)
	p.hangUp()
}
