package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sipnatd/internal/transport"
)

func tokenOf(t testing.TB, r *Registrar, uri string, from transport.Hop) string {
	t.Helper()
	token, ok := r.Line([]byte(uri), from)
	if !ok {
		t.Fatalf("no token for %s", uri)
	}
	return token
}

func TestLine(t *testing.T) {
	r := New(Config{}, quiet())
	one := tokenOf(t, r, "sip:john@10.0.0.10:5060", udp(phone))
	if len(one) != 16 || strings.Trim(one, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("token %q", one)
	}
	if tokenOf(t, r, "sip:john@10.0.0.10:5060", udp("10.0.0.10:1024")) != one {
		t.Error("another token when the phone sends from another port but listens at the same")
	}
	for _, c := range []struct{ uri, from string }{
		{"sip:john@10.0.0.10:5060;x", phone},
		{"sip:john@10.0.0.10:5061", phone},
		{"sip:john@10.0.0.10:5060", "10.0.0.11:5060"},
		{"sip:john@10.0.0.10:5060", "10.0.0.11:5061"},
	} {
		if tokenOf(t, r, c.uri, udp(c.from)) == one {
			t.Errorf("the same token for %s from %s", c.uri, c.from)
		}
	}
	// A connection is made from another port each time.
	wire := tokenOf(t, r, "sip:john@10.0.0.10:5060;transport=tcp", tcp("10.0.0.10:33000", 1))
	if tokenOf(t, r, "sip:john@10.0.0.10:5060;transport=tcp", tcp("10.0.0.10:33001", 2)) != wire {
		t.Error("another token for another connection")
	}
	c, ok := r.Phone([]byte(wire))
	if !ok || string(c.URI) != "sip:john@10.0.0.10:5060;transport=tcp" || c.Hop != tcp("10.0.0.10:33001", 2) {
		t.Errorf("phone: %+v %v", c, ok)
	}
	if _, ok = r.Phone([]byte(strings.ToUpper(wire))); !ok {
		t.Error("a token in capital letters is not found")
	}
	for _, unknown := range []string{"", "x", one[1:], strings.Repeat("a", 1000)} {
		if _, ok := r.Phone([]byte(unknown)); ok {
			t.Errorf("%q is found", unknown)
		}
	}
	other := New(Config{}, quiet())
	if tokenOf(t, other, "sip:john@10.0.0.10:5060", udp(phone)) == one {
		t.Error("tokens can be guessed")
	}
}

// answer is a registrar's answer to a REGISTER.
func answer(lines ...string) string {
	return "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bK1\r\n" +
		"From: <sip:john@provider.example>;tag=1\r\nTo: <sip:john@provider.example>;tag=2\r\n" +
		"Call-ID: call@10.0.0.10\r\nCSeq: 1 REGISTER\r\n" + joined(lines) + "\r\n"
}

// outside is a REGISTER for a provider.
func outside(lines ...string) string {
	return strings.ReplaceAll(register("john", 1, lines...), "foo.bar.org", "provider.example")
}

// TestRegistered has outside registrars grant what they do.
func TestRegistered(t *testing.T) {
	const contact = "<sip:j@10.0.0.10:5060>"
	for _, c := range []struct {
		name             string
		request, respond []string
		want             time.Duration // of the registration
	}{
		{"the contact's parameter", []string{"Contact: " + contact, "Expires: 3600"}, []string{"Contact: <sip:j@192.0.2.1;line=TOKEN>;expires=60", "Expires: 600"}, time.Minute},
		{"the header", []string{"Contact: " + contact + ";expires=3600"}, []string{"Contact: <sip:j@192.0.2.1;line=TOKEN>", "Expires: 600"}, 10 * time.Minute},
		{"neither", []string{"Contact: " + contact + ";expires=90"}, []string{"Contact: <sip:j@192.0.2.1;line=TOKEN>"}, 90 * time.Second},
		{"no wish", []string{"Contact: " + contact}, []string{"Contact: <sip:j@192.0.2.1;line=TOKEN>"}, time.Hour},
		{"no contact in the answer", []string{"Contact: " + contact, "Expires: 70"}, nil, 70 * time.Second},
		{"parameters are lost", []string{"Contact: " + contact}, []string{"Contact: <sip:j@192.0.2.1>;expires=80"}, 80 * time.Second},
		{"among others", []string{"Contact: " + contact}, []string{"Contact: <sip:j@198.51.100.1>;expires=80, <sip:j@192.0.2.1;line=TOKEN>;expires=85"}, 85 * time.Second},
		{"in capital letters", []string{"Contact: " + contact}, []string{"Contact: <sip:x@192.0.2.1;LINE=token>;expires=85"}, 85 * time.Second},
		{"it is not listed", []string{"Contact: " + contact}, []string{"Contact: <sip:x@198.51.100.1>;expires=80"}, 0},
		{"it leaves", []string{"Contact: " + contact + ";expires=0"}, []string{"Contact: <sip:j@198.51.100.1>;expires=80"}, 0},
		{"only the other one", []string{"Contact: <sip:y@10.0.0.10>"}, nil, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := New(Config{}, quiet())
			token := tokenOf(t, r, "sip:j@10.0.0.10:5060", udp(phone))
			text := strings.NewReplacer("TOKEN", token, "token", strings.ToUpper(token)).Replace(answer(c.respond...))
			r.Registered(index(t, outside(c.request...)), index(t, text), udp(phone), provider)
			found := func() bool {
				byContact, byUser := r.Lines([]byte("j"), provider), r.Lines([]byte("john"), provider)
				if len(byContact) > 1 || c.name != "only the other one" && len(byContact) != len(byUser) {
					t.Errorf("%s: %d phones by contact, %d by user", c.name, len(byContact), len(byUser))
				}
				return len(byContact) == 1
			}
			if c.want == 0 {
				if found() {
					t.Errorf("%s: registered", c.name)
				}
				return
			}
			time.Sleep(c.want - time.Second)
			if !found() {
				t.Errorf("%s: not registered", c.name)
			}
			time.Sleep(time.Second)
			if found() {
				t.Errorf("%s: still registered", c.name)
			}
			if _, ok := r.Phone([]byte(token)); !ok {
				t.Errorf("%s: the token has gone", c.name)
			}
		})
	}
}

// TestAccounts has a contact registered at two providers, and taken back.
func TestAccounts(t *testing.T) {
	r := New(Config{}, quiet())
	registered := func(user, host string, lines ...string) {
		t.Helper()
		text := strings.NewReplacer("john@", user+"@", "provider.example", host).Replace(outside(lines...))
		r.Registered(index(t, text), index(t, answer()), udp(phone), provider)
	}
	count := func(user string, want int) {
		t.Helper()
		if got := len(r.Lines([]byte(user), provider)); got != want {
			t.Errorf("%d phones of %s, want %d", got, user, want)
		}
	}
	registered("anna", "a.example", "Contact: <sip:x@10.0.0.10>")
	registered("bert", "b.example", "Contact: <sip:x@10.0.0.10>")
	registered("bert", "c.example", "Contact: <sip:x@10.0.0.10>")
	count("x", 1)
	count("x:password", 1)
	count("%78", 1)
	count("anna", 1)
	count("bert", 1)
	if s := r.Stats(); s.Outside != 3 || s.Lines != 1 {
		t.Errorf("%+v", s)
	}
	registered("anna", "a.example", "Contact: *", "Expires: 0")
	count("anna", 0)
	count("x", 1)
	registered("bert", "B.example", "Contact: <sip:x@10.0.0.10>;expires=0")
	count("bert", 1)
	r.Registered(index(t, strings.ReplaceAll(outside("Contact: *", "Expires: 0"), "provider", "other")), index(t, answer()), udp("10.0.0.99:5060"), provider)
	count("bert", 1)
	registered("bert", "c.example", "Contact: *", "Expires: 0")
	count("bert", 0)
	count("x", 0)
	if len(r.lines.byUser) != 0 {
		t.Errorf("left: %v", r.lines.byUser)
	}
}

// TestLineLimits has a host with more contacts than it may have.
func TestLineLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Limits: Limits{PerHost: 3, Total: 4}}, quiet())
		r.Registered(index(t, outside("Contact: <sip:0@10.0.0.10>")), index(t, answer()), udp(phone), provider)
		var tokens []string
		for i := range 4 {
			time.Sleep(time.Second)
			tokens = append(tokens, tokenOf(t, r, fmt.Sprintf("sip:%d@10.0.0.10", i), udp(phone)))
			if i == 2 {
				time.Sleep(time.Second)
				r.Phone([]byte(tokens[1])) // in use
			}
		}
		var known []bool
		for _, token := range tokens {
			_, ok := r.Phone([]byte(token))
			known = append(known, ok)
		}
		// The registered one stays, and the one that was used last.
		if !slices.Equal(known, []bool{true, true, false, true}) {
			t.Errorf("known: %v", known)
		}
		tokenOf(t, r, "sip:a@10.0.0.11", udp("10.0.0.11:5060"))
		if _, ok := r.Line([]byte("sip:b@10.0.0.12"), udp("10.0.0.12:5060")); ok {
			t.Error("there is room for a fifth one")
		}
		time.Sleep(lineIdle + time.Hour)
		r.mu.Lock()
		for range int(sweepRound / sweepEvery) {
			r.sweepLines(r.now())
		}
		r.mu.Unlock()
		if s := r.Stats(); s.Lines != 0 || len(r.lines.byKey) != 0 || len(r.lines.byToken) != 0 || len(r.lines.byUser) != 0 || len(r.hosts) != 0 {
			t.Errorf("left: %+v, %v", s, r.hosts)
		}
	})
}

// TestLinesOfRegistrar: a provider that loses the token reaches the phones that have
// registered with it, any other host all of that name.
func TestLinesOfRegistrar(t *testing.T) {
	r := New(Config{}, quiet())
	other := netip.MustParseAddr("198.51.100.20")
	r.Registered(index(t, outside("Contact: <sip:john@10.0.0.10>")), index(t, answer()), udp(phone), provider)
	r.Registered(index(t, outside("Contact: <sip:john@10.0.0.11>")), index(t, answer()), udp("10.0.0.11:5060"), other)
	for _, c := range []struct {
		from netip.Addr
		want int
	}{{provider, 1}, {other, 1}, {netip.MustParseAddr("203.0.113.99"), 2}} {
		if got := r.Lines([]byte("john"), c.from); len(got) != c.want {
			t.Errorf("%v finds %d phones, want %d", c.from, len(got), c.want)
		}
	}
}
