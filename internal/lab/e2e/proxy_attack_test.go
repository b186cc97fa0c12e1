package e2e

import (
	"fmt"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyClosed: nobody outside gets anything of the proxy but calls to phones that
// are registered.
func TestProxyClosed(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT), Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartProxy(append(readmePorts, "host_outbound = 203.0.113.1")...)
	john := l.Phones[0].Agent("johndoe", 5060)
	john.Proxy, john.Domain = insideSIP, "203.0.113.1"
	mallory, victim := l.Outside[0].Agent("mallory", 5060), l.Outside[1].Agent("victim", 5060)
	firewall := l.FW.At(5060)
	mallory.Proxy, mallory.Domain = firewall, "203.0.113.1"
	if answer := john.Do(john.Request("REGISTER", "sip:203.0.113.1")); answer.Status() != 200 {
		t.Fatalf("the phone cannot register: %s", answer.Start)
	}

	// Not even with the help of a phone.
	roamer := john.Request("REGISTER", "sip:203.0.113.1")
	answer := john.Do(roamer, lab.With("To", "<sip:roamer@203.0.113.1>"), lab.With("Contact", "<sip:victim@198.51.100.20>"))
	if answer.Status() < 400 {
		t.Errorf("a phone registers somebody outside: %s", answer.Start)
	}
	inside := l.Inside.Mark()
	for name, c := range map[string]struct {
		method, uri string
		mod         lab.Mod
		status      int
	}{
		"it registers":                      {"REGISTER", "sip:203.0.113.1", nil, 403},
		"it registers somebody else":        {"REGISTER", "sip:203.0.113.1", lab.With("To", "<sip:johndoe@203.0.113.1>"), 403},
		"it registers at another registrar": {"REGISTER", "sip:198.51.100.20", nil, 403},
		"it calls somebody outside":         {"MESSAGE", "sip:victim@198.51.100.20", nil, 403},
		"it asks somebody outside":          {"OPTIONS", "sip:victim@198.51.100.20", nil, 403},
		"its Route leads outside":           {"MESSAGE", "sip:johndoe@203.0.113.1", lab.With("Route", "<sip:203.0.113.1;lr>, <sip:198.51.100.20;lr>"), 403},
		"its Route leads inside":            {"MESSAGE", "sip:johndoe@203.0.113.1", lab.With("Route", "<sip:203.0.113.1;lr>, <sip:10.0.0.10:5060;lr>"), 403},
		"it calls who is outside":           {"MESSAGE", "sip:roamer@203.0.113.1", nil, 404},
		"it calls an inside address":        {"MESSAGE", "sip:johndoe@10.0.0.10:5060", lab.With("To", "<sip:johndoe@203.0.113.1>"), 403},
		"it knows no user":                  {"MESSAGE", "sip:nobody@203.0.113.1", nil, 404},
		"it guesses a token":                {"BYE", "sip:johndoe@203.0.113.1;line=0", lab.With("To", "<sip:johndoe@203.0.113.1>;tag=1"), 481},
		"the target is ours by a parameter": {"MESSAGE", "sip:johndoe@203.0.113.1;maddr=198.51.100.20", nil, 403},
		"too many hops":                     {"MESSAGE", "sip:johndoe@203.0.113.1", lab.With("Max-Forwards", "0"), 483},
		"an extension that nobody has":      {"MESSAGE", "sip:johndoe@203.0.113.1", lab.With("Proxy-Require", "magic"), 420},
		"another scheme":                    {"MESSAGE", "tel:+15551234", nil, 416},
	} {
		m := mallory.Request(c.method, c.uri)
		if c.mod != nil {
			c.mod(m)
		}
		mallory.Send(firewall, m)
		answer := mallory.Recv(lab.CallID(m.CallID()), func(m *lab.Message) bool { return m.Status() >= 200 })
		if answer.Status() != c.status {
			t.Errorf("%s: %s, not %d", name, answer.Start, c.status)
		}
	}
	for _, p := range l.Inside.Since(inside) {
		if p.SIP != nil {
			t.Errorf("it comes through: %v", p)
		}
	}
	if ms := victim.Pending(); len(ms) > 0 {
		t.Errorf("the proxy has sent %s to a stranger", ms[0].Start)
	}

	// It answers what anybody may ask.
	options := mallory.Request("OPTIONS", "sip:203.0.113.1")
	if answer := mallory.Do(options); answer.Status() != 200 || !answer.Has("Allow") {
		t.Errorf("OPTIONS: %s", answer.Start)
	}
	// And a call to the phone comes through, so that there was something to lose.
	call := mallory.Invite("sip:johndoe@203.0.113.1")
	john.RecvInvite().Reply(486)
	call.Expect(486)
}

// TestProxyPasswords: a phone that does not know its password is told so as RFC 3261
// section 22 and RFC 8760 have it, and gets in as soon as it does.
func TestProxyPasswords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		uri    string
	}{
		"our registrar":      {401, "sip:203.0.113.1"},
		"through to another": {407, "sip:203.0.113.10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := proxied(t, lab.Options{})
			l.StartProxy("proxy_auth_realm = lab", "proxy_auth_passwd = secret")
			registrar := l.Outside[0].Agent("registrar", 5060)
			domain := strings.TrimPrefix(c.uri, "sip:")
			phone := l.Phones[0].Agent("johndoe", 5060)
			phone.Proxy, phone.Domain = insideSIP, domain
			for range 3 {
				answer := phone.Do(phone.Request("REGISTER", c.uri))
				var algorithms []string
				for _, challenge := range answer.Challenges() {
					algorithms = append(algorithms, lab.AuthParam(challenge, "algorithm"))
				}
				if got := fmt.Sprint(algorithms); answer.Status() != c.status || !strings.Contains(got, "SHA-256") || !strings.Contains(got, "MD5") {
					t.Fatalf("without a password: %s, %v", answer.Start, answer.Challenges())
				}
				for i := range algorithms {
					wrong := phone.Do(phone.Request("REGISTER", c.uri), lab.WithDigest(answer, i, "johndoe", "wrong"))
					if s := wrong.Status(); s != c.status && s != 403 {
						t.Errorf("with a wrong password: %s", wrong.Start)
					}
				}
			}
			if ms := registrar.Pending(); len(ms) > 0 {
				t.Errorf("the other registrar gets %s", ms[0].Start)
			}
			for i := range 2 { // each algorithm
				refusal := phone.Do(phone.Request("REGISTER", c.uri))
				m := phone.Request("REGISTER", c.uri)
				phone.Send(phone.Proxy, m, lab.WithDigest(refusal, i, "johndoe", "secret"))
				if c.status == 407 {
					seen := registrar.Recv(lab.Request("REGISTER"))
					if seen.Has("Proxy-Authorization") {
						t.Errorf("our own challenge's answer goes on: %s", seen.Get("Proxy-Authorization"))
					}
					registrar.Reply(seen, 200, lab.With("Contact", seen.Get("Contact")))
				}
				phone.Recv(lab.Status(200, "REGISTER"), lab.CallID(m.CallID()))
			}
		})
	}
}

// TestProxyAccess: hosts_allow_reg says who registers, hosts_deny_sip who is not heard.
func TestProxyAccess(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{
		Firewall: readmeFirewall(t, lab.IPTablesNFT), Phones: 3, Outside: []string{"203.0.113.10", "198.51.100.20"},
	})
	l.StartProxy("host_outbound = 203.0.113.1", "hosts_allow_reg = 10.0.0.10/32", "hosts_deny_sip = 10.0.0.12/32,198.51.100.20/32")
	var phones []*lab.Agent
	for _, h := range l.Phones {
		phone := h.Agent("johndoe", 5060)
		phone.Proxy, phone.Domain = insideSIP, "203.0.113.1"
		phones = append(phones, phone)
	}
	if answer := phones[0].Do(phones[0].Request("REGISTER", "sip:203.0.113.1")); answer.Status() != 200 {
		t.Errorf("who may register: %s", answer.Start)
	}
	if answer := phones[1].Do(phones[1].Request("REGISTER", "sip:203.0.113.1")); answer.Status() != 403 {
		t.Errorf("who may not register: %s", answer.Start)
	}
	denied, other := l.Outside[1].Agent("denied", 5060), l.Outside[0].Agent("other", 5060)
	phones[2].Begin("OPTIONS", "sip:203.0.113.1")
	denied.Begin("OPTIONS", "sip:203.0.113.1")
	if answer := other.Do(other.Request("OPTIONS", "sip:203.0.113.1")); answer.Status() != 200 {
		t.Errorf("who is not denied: %s", answer.Start)
	}
	for _, a := range []*lab.Agent{phones[2], denied} {
		for _, m := range a.Pending() {
			if m.Status() != 403 {
				t.Errorf("%s, who is denied, is told %s", a.User, m.Start)
			}
		}
	}
}
