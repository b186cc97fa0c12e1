package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// TestRegistrations: phones register with a real registrar, renew their
// registrations, and end them in each of the ways that there are. Bindings and
// their expectations come with the first, last as long as the registrations and
// go with the last.
func TestRegistrations(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Phones: 3})
	if !l.NAT() {
		t.Skip("there are no bindings")
	}
	l.StartDaemon()
	k := l.Outside[0].Kamailio(lab.KamailioOptions{})

	// A real phone, which renews its registration by itself.
	mark := l.Inside.Mark()
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: k.Addr, Expires: 2})
	const renewed = 3
	err := l.Inside.Wait(mark, lab.Moment(), func(ps []*lab.Packet) bool {
		n := 0
		for _, p := range ps {
			if p.SIP != nil && p.SIP.Method() == "REGISTER" && p.SIP.Status() == 200 {
				n++
			}
		}
		return n >= renewed
	})
	if err != nil {
		t.Errorf("the phone has not registered %d times: %v", renewed, err)
	}
	if got := publicOf(l, alice.Addr); got != netip.AddrPortFrom(lab.PublicAddr, 5060) {
		t.Errorf("the only phone on port 5060 has the public endpoint %v", got)
	}

	// Others, which tell for how long.
	phones := []*lab.Agent{l.Phones[1].Agent("carol", 5061), l.Phones[2].Agent("dave", 5062)}
	for _, phone := range phones {
		var before netip.AddrPort
		for _, seconds := range []int{1000, 2000} {
			phone.RegisterWith(k.Addr, seconds)
			public := publicOf(l, phone.Addr)
			if before.IsValid() && public != before {
				t.Errorf("%s was %v, and is %v after the refresh", phone.User, before, public)
			}
			before = public
			if !expected(l, public) {
				t.Errorf("nothing expects %v: %v", public, l.Expectations())
			}
			for set, key := range map[string]string{
				"bindings": public.String(), "publics": phone.Addr.String(), "signalling": phone.Addr.String(),
				"peers": k.Addr.Addr().String() + " . " + public.String(),
			} {
				if left := lease(l, set, key); left < seconds || left > seconds+300 {
					t.Errorf("%s, registered for %d s, is in %s for %d s", phone.User, seconds, set, left)
				}
			}
		}
	}

	var publics []netip.AddrPort
	for public := range l.Bindings() {
		publics = append(publics, public)
	}
	mark = l.Inside.Mark()
	alice.Command("uadel", alice.AOR)
	l.Inside.WaitSIP(mark, lab.Status(200, "REGISTER"))
	phones[0].RegisterWith(k.Addr, 0, lab.With("Contact", "*"))
	phones[1].RegisterWith(k.Addr, 3600, lab.With("Contact", phones[1].Contact+";expires=0"))
	// A binding stays for as long as a transaction may last, 64*T1 (RFC 3261
	// section 17.1.1.2).
	if !l.Until(lab.Patience(40*time.Second), func() bool { return len(l.Bindings()) == 0 }) {
		t.Fatalf("bindings have not ended: %v", l.Elements("bindings"))
	}
	for _, set := range []string{"publics", "signalling", "peers"} {
		if left := l.Elements(set); len(left) > 0 {
			t.Errorf("left in %s: %v", set, left)
		}
	}
	probe := l.Outside[0].Socket(5062)
	l.DeleteConntracks(func(f lab.Flow) bool { return !f.Anchor() })
	for _, public := range publics {
		if expected(l, public) {
			t.Errorf("%v is still expected: %v", public, l.Expectations())
		}
		l.CheckSilent(probe, public)
	}
}

// publicOf is the public endpoint of a phone's binding.
func publicOf(l *lab.Lab, inside netip.AddrPort) netip.AddrPort {
	for public, to := range l.Bindings() {
		if to == inside {
			return public
		}
	}
	return netip.AddrPort{}
}

// expected reports whether the firewall expects flows from anywhere to an endpoint.
func expected(l *lab.Lab, to netip.AddrPort) bool {
	return slices.ContainsFunc(l.Expectations(), func(e lab.Expectation) bool { return e.Dst == to })
}

// lease is how many seconds an element of a set has left, -1 if it is not there.
func lease(l *lab.Lab, set, key string) int {
	for _, e := range l.Elements(set) {
		if e.Key == key {
			return e.Expires
		}
	}
	return -1
}

// TestRegisterExpiresMax: registrars grant an hour, and phones read less: those that
// register through the firewall, through its proxy, and with the firewall itself. A
// reload changes that for the next answer.
func TestRegisterExpiresMax(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{})
	daemon := l.StartProxy("register_expires_max = 100")
	provider := l.Outside[0].Agent("provider", 5060)
	through, by, own := l.Phones[0].Agent("alice", 5060), l.Phones[0].Agent("bob", 5062), l.Phones[0].Agent("carol", 5064)
	granted := func(phone *lab.Agent, proxy netip.AddrPort, domain string) (contact, header string) {
		t.Helper()
		phone.Proxy, phone.Domain = proxy, domain
		m := phone.Request("REGISTER", "sip:"+domain)
		m.Set("Expires", "3600")
		phone.Send(proxy, m)
		if domain != "10.0.0.1" {
			seen := provider.Recv(lab.Request("REGISTER"), lab.CallID(m.CallID()))
			if got := seen.Get("Expires"); got != "3600" {
				t.Errorf("%s: the registrar is asked for %s", phone.User, got)
			}
			provider.Reply(seen, 200, func(r *lab.Message) {
				r.Add("Contact", "<sip:other@198.51.100.9>;expires=3000")
				r.Add("Contact", seen.Get("Contact")+";expires=3600")
				r.Add("Expires", "3600")
			})
		}
		answer := phone.Recv(lab.Status(200, "REGISTER"), lab.CallID(m.CallID()))
		for _, c := range answer.All("Contact") {
			uri, seconds, _ := strings.Cut(c, ";expires=")
			if strings.Contains(uri, "198.51.100.9") && seconds != "3000" {
				t.Errorf("%s: another's contact is granted %s", phone.User, seconds)
			} else if uri == phone.Contact {
				contact = seconds
			}
		}
		return contact, answer.Get("Expires")
	}
	check := func(want string) {
		t.Helper()
		for _, c := range []struct {
			phone  *lab.Agent
			proxy  netip.AddrPort
			domain string
		}{{through, provider.Addr, "203.0.113.10"}, {by, insideSIP, "203.0.113.10"}, {own, insideSIP, "10.0.0.1"}} {
			if contact, header := granted(c.phone, c.proxy, c.domain); contact != want || header != want {
				t.Errorf("%s reads %q in its Contact, and %q in Expires, want %s", c.phone.User, contact, header, want)
			}
		}
	}
	check("100")
	if left := lease(l, "signalling", through.Addr.String()); left < 3500 {
		t.Errorf("the binding lasts for %d s, the registrar has granted an hour", left)
	}
	configure(t, daemon, done, "register_expires_max = 20")
	check("20")
	configure(t, daemon, done)
	check("3600")
}
