package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// provided is a lab with a provider outside, who asks everybody for a password, and
// its customer bob, who has a line of his own.
func provided(t *testing.T, phones int, k lab.KamailioOptions, config ...string) (*lab.Lab, *lab.Kamailio, *lab.Baresip) {
	t.Helper()
	l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT), Phones: phones, Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartProxy(append(readmePorts, config...)...)
	k.Auth, k.AuthCalls, k.RecordRoute = true, true, true
	provider := l.Outside[0].Kamailio(k)
	bob := l.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: provider.Addr, Answer: true, Frequency: 880})
	return l, provider, bob
}

// TestProxyTransports: a phone registers with its provider through the firewall, calls
// and is called; on each leg over the transport that it asks for there.
func TestProxyTransports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tcp        bool
		asks       string
		phone, far string
	}{
		"UDP":         {false, "udp", "UDP", "UDP"},
		"TCP":         {true, "tcp", "TCP", "TCP"},
		"UDP and TCP": {false, "tcp", "UDP", "TCP"},
		"TCP and UDP": {true, "udp", "TCP", "UDP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, provider, bob := provided(t, 1, lab.KamailioOptions{TCP: true})
			alice := l.Phones[0].Baresip(lab.BaresipOptions{
				Registrar: provider.Addr, Outbound: throughProxy, Answer: true, TCP: c.tcp, Asks: c.asks,
			})
			converse(l, alice, bob, bob.AOR)
			converse(l, bob, alice, alice.AOR)
			for capture, want := range map[*lab.Capture]string{l.Inside: c.phone, l.Wire: c.far} {
				for _, p := range capture.SIP() {
					if p.Over() != want {
						t.Errorf("%s, not over %s: %v", capture.Name, want, p)
					}
				}
			}
		})
	}
}

// TestProxyHold: a call is held and taken back, by either side.
func TestProxyHold(t *testing.T) {
	t.Parallel()
	l, provider, bob := provided(t, 1, lab.KamailioOptions{})
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: provider.Addr, Outbound: throughProxy})
	connect(l, alice, bob, bob.AOR)
	for _, who := range []*lab.Baresip{alice, bob} {
		for _, change := range []func(){who.Hold, who.Resume} {
			inside, wire := l.Inside.Mark(), l.Wire.Mark()
			change()
			l.Inside.WaitSIP(inside, lab.Status(200, "INVITE"))
			l.Wire.WaitSIP(wire, lab.Status(200, "INVITE"))
			l.Inside.WaitSIP(inside, lab.Request("ACK"))
		}
		l.AudioBothWaysSince(l.Inside.Mark(), l.Wire.Mark(), 25)
	}
	hangUp(l, bob, alice)
}

// TestProxyTransfer: the phone sends the other party on to somebody else, and is sent
// on itself.
func TestProxyTransfer(t *testing.T) {
	t.Parallel()
	l, provider, bob := provided(t, 2, lab.KamailioOptions{})
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: provider.Addr, Outbound: throughProxy})
	carol := l.Phones[1].Baresip(lab.BaresipOptions{User: "carol", Registrar: provider.Addr, Outbound: throughProxy, Answer: true})

	connect(l, alice, bob, bob.AOR)
	inside, wire := l.Inside.Mark(), l.Wire.Mark()
	alice.Transfer(carol.AOR)
	carol.WaitEvent("CALL_ESTABLISHED")
	l.AudioBothWaysSince(inside, wire, 25)
	if !heard(l, l.Phones[1], bob.Host) {
		t.Errorf("carol and bob do not hear each other:\n%s", l.Inside.MediaTable())
	}
	l.Inside.WaitSIP(inside, lab.Status(200, "NOTIFY"))
}

// heard reports whether media runs between two hosts on the inside.
func heard(l *lab.Lab, phone, far *lab.Host) bool {
	var there, back bool
	for path := range l.Inside.Media() {
		there = there || path.Src.Addr() == phone.Addr && path.Dst.Addr() == far.Addr
		back = back || path.Src.Addr() == far.Addr && path.Dst.Addr() == phone.Addr
	}
	return there && back
}

// TestProxySameAddress: two phones have the same address-of-record. Both ring, one
// answers and the other one stops.
func TestProxySameAddress(t *testing.T) {
	t.Parallel()
	for name, ours := range map[string]bool{"the provider's": false, "our own": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, provider, bob := provided(t, 2, lab.KamailioOptions{})
			phone := lab.BaresipOptions{Registrar: provider.Addr, Outbound: throughProxy}
			address := "sip:alice@203.0.113.10"
			if ours {
				phone.Registrar = l.Phones[0].At(0)
				phone.Domain = "203.0.113.1"
				address = "sip:alice@203.0.113.1"
			}
			one, other := l.Phones[0].Baresip(phone), l.Phones[1].Baresip(phone)
			bob.Dial(address)
			one.WaitEvent("CALL_INCOMING")
			other.WaitEvent("CALL_INCOMING")
			other.Accept()
			one.WaitEvent("CALL_CLOSED")
			bob.WaitEvent("CALL_ESTABLISHED")
			l.AudioBothWays(25)
			for path := range l.Inside.Media() {
				if path.Src.Addr() == one.Host.Addr || path.Dst.Addr() == one.Host.Addr {
					t.Errorf("media of the phone that did not answer: %v", path)
				}
			}
			hangUp(l, bob, other)
		})
	}
}

// TestProxyRegistrationEnds: a phone registers again by itself, and takes its
// registration back; then the provider does not reach it any more.
func TestProxyRegistrationEnds(t *testing.T) {
	t.Parallel()
	l, provider, bob := provided(t, 1, lab.KamailioOptions{})
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: provider.Addr, Outbound: throughProxy, Expires: 2, Answer: true})
	contacts := make(map[string]bool)
	for range 2 {
		mark := l.Wire.Mark()
		l.Wire.WaitSIP(mark, lab.Status(200, "REGISTER"))
	}
	for _, p := range l.Wire.SIP(lab.Request("REGISTER")) {
		contacts[lab.URIOf(p.SIP.Get("Contact"))] = true
	}
	if len(contacts) != 1 {
		t.Errorf("the phone is called different names in its registrations: %v", contacts)
	}
	converse(l, bob, alice, alice.AOR)

	mark := l.Inside.Mark()
	alice.Unregister()
	if p := l.Inside.WaitSIP(mark, lab.Status(200, "REGISTER")); p.SIP.Has("Contact") {
		t.Errorf("it is still registered: %s", p.SIP.Get("Contact"))
	}
	mark = l.Wire.Mark()
	bob.Mark()
	bob.Dial(alice.AOR)
	if e := bob.WaitEvent("CALL_CLOSED"); e.Param != "404 Not Found" {
		t.Errorf("the call ends with %q", e.Param)
	}
	for _, p := range l.Wire.Since(mark) {
		if p.SIP != nil && p.SIP.Method() == "INVITE" {
			t.Errorf("the provider calls the phone: %v", p)
		}
	}
}
