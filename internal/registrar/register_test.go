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
	"sipnatd/sipmsg"
)

const phone = "10.0.0.10:5060"

// TestRegister follows RFC 3261 section 10.3: add, refresh, fetch, remove.
func TestRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{}, quiet())
		a := send(t, r, udp(phone), register("john", 1, "Contact: <sip:john@10.0.0.10>;expires=600"), 200)
		if got := header(a, "Contact"); !slices.Equal(got, []string{"<sip:john@10.0.0.10>;expires=600"}) {
			t.Errorf("Contact: %q", got)
		}
		if got := header(a, "Expires"); !slices.Equal(got, []string{"600"}) {
			t.Errorf("Expires: %q", got)
		}
		if got := header(a, "Date"); len(got) != 1 || !strings.HasSuffix(got[0], " GMT") {
			t.Errorf("Date: %q", got)
		}
		time.Sleep(100 * time.Second)
		a = send(t, r, udp(phone), register("john", 2), 200) // fetches
		if got := header(a, "Contact"); !slices.Equal(got, []string{"<sip:john@10.0.0.10>;expires=500"}) {
			t.Errorf("fetched Contact: %q", got)
		}
		send(t, r, udp(phone), register("john", 3, "Contact: <sip:john@10.0.0.10>;expires=600"), 200)
		time.Sleep(599 * time.Second)
		wantContacts(t, r, "sip:john@foo.bar.org", "sip:john@10.0.0.10")
		wantContacts(t, r, "sip:john:secret@10.0.0.1:5060;transport=tcp", "sip:john@10.0.0.10")
		wantContacts(t, r, "sip:%6aohn@foo.bar.org", "sip:john@10.0.0.10")
		wantContacts(t, r, "sip:John@foo.bar.org")
		wantContacts(t, r, "sip:foo.bar.org")
		time.Sleep(time.Second)
		wantContacts(t, r, "sip:john@foo.bar.org")
		if _, known := r.Contacts([]byte("sip:john@foo.bar.org")); known {
			t.Error("an expired registration is known")
		}
		send(t, r, udp(phone), register("john", 4, "Contact: <sip:john@10.0.0.10>"), 200)
		a = send(t, r, udp(phone), register("john", 5, "Contact: <sip:john@10.0.0.10>;expires=0"), 200)
		if got := header(a, "Contact"); got != nil {
			t.Errorf("Contact after removal: %q", got)
		}
		if s := r.Stats(); s.Contacts != 0 || s.Addresses != 0 || len(r.hosts) != 0 {
			t.Errorf("left after removal: %+v, %d hosts", s, len(r.hosts))
		}
	})
}

// TestExpires has lifetimes from the contact's parameter, the header, and neither.
func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			lines []string
			want  string
		}{
			{[]string{"Contact: <sip:a@10.0.0.10>"}, "1800"},
			{[]string{"Contact: <sip:a@10.0.0.10>", "Expires: 120"}, "120"},
			{[]string{"Contact: <sip:a@10.0.0.10>;expires=90", "Expires: 120"}, "90"},
			{[]string{`Contact: <sip:a@10.0.0.10>;Expires="90"`, "Expires: 120"}, "90"},
			{[]string{"Contact: <sip:a@10.0.0.10>;expires=soon", "Expires: 120"}, "1800"}, // section 20.19
			{[]string{"Contact: <sip:a@10.0.0.10>", "Expires: soon"}, "1800"},
			{[]string{"Contact: <sip:a@10.0.0.10>;expires=99999999999999999999"}, "7200"},
			{[]string{"Contact: <sip:a@10.0.0.10>;expires=-1"}, "1800"},
			{[]string{"Contact: <sip:a@10.0.0.10>;expires=30"}, "30"},
			{[]string{"Contact: <sip:a@10.0.0.10>", "Expires: 4294967296"}, "7200"},
		} {
			r := New(Config{DefaultExpires: 30 * time.Minute, MaxExpires: 2 * time.Hour}, quiet())
			a := send(t, r, udp(phone), register("a", 1, c.lines...), 200)
			if got := header(a, "Contact"); len(got) != 1 || got[0] != "<sip:a@10.0.0.10>;expires="+c.want {
				t.Errorf("%q: %q, want %s", c.lines, got, c.want)
			}
		}
		r := New(Config{MinExpires: time.Minute}, quiet())
		a := send(t, r, udp(phone), register("a", 1, "Contact: <sip:a@10.0.0.10>, <sip:b@10.0.0.10>;expires=59"), 423)
		if got := header(a, "Min-Expires"); !slices.Equal(got, []string{"60"}) {
			t.Errorf("Min-Expires: %q", got)
		}
		wantContacts(t, r, "sip:a@foo.bar.org") // all or nothing
	})
}

func TestQ(t *testing.T) {
	r := New(Config{}, quiet())
	a := send(t, r, udp(phone), register("a", 1,
		"Contact: <sip:low@10.0.0.10>;q=0.1, <sip:none@10.0.0.10>", "m: <sip:mid@10.0.0.10>;Q=.55;x=1, sip:top@10.0.0.10;q=1.000",
		"Contact: <sip:bad@10.0.0.10>;q=7, <sip:nan@10.0.0.10>;q=NaN"), 200)
	wantContacts(t, r, "sip:a@foo.bar.org", "sip:none@10.0.0.10", "sip:top@10.0.0.10", "sip:bad@10.0.0.10", "sip:nan@10.0.0.10", "sip:mid@10.0.0.10", "sip:low@10.0.0.10")
	want := []string{"<sip:low@10.0.0.10>;q=0.100;expires=3600", "<sip:none@10.0.0.10>;expires=3600",
		"<sip:mid@10.0.0.10>;x=1;q=0.550;expires=3600", "<sip:top@10.0.0.10>;q=1.000;expires=3600",
		"<sip:bad@10.0.0.10>;expires=3600", "<sip:nan@10.0.0.10>;expires=3600"}
	if got := header(a, "Contact"); !slices.Equal(got, want) {
		t.Errorf("Contact: %q", got)
	}
	list, known := r.Contacts([]byte("sip:a@foo.bar.org"))
	if !known || list[4].Q != 550 || list[0].Q != 1000 {
		t.Errorf("preferences: %+v", list)
	}
}

func TestStar(t *testing.T) {
	r := New(Config{}, quiet())
	send(t, r, udp(phone), register("a", 1, "Contact: <sip:a@10.0.0.10>"), 200)
	send(t, r, udp("10.0.0.11:5060"), strings.Replace(register("a", 1, "Contact: <sip:a@10.0.0.11>"), "call@", "other@", 1), 200)
	for _, wrong := range [][]string{
		{"Contact: *"},
		{"Contact: *", "Expires: 1"},
		{"Contact: *", "Expires: none"},
		{"Contact: *", "Contact: <sip:a@10.0.0.10>", "Expires: 0"},
		{"Contact: *", "Contact: *", "Expires: 0"},
	} {
		send(t, r, udp(phone), register("a", 2, wrong...), 400)
	}
	wantContacts(t, r, "sip:a@foo.bar.org", "sip:a@10.0.0.10", "sip:a@10.0.0.11")
	send(t, r, udp(phone), register("a", 1, "Contact: *", "Expires: 0"), 500) // CSeq
	wantContacts(t, r, "sip:a@foo.bar.org", "sip:a@10.0.0.10", "sip:a@10.0.0.11")
	send(t, r, udp(phone), register("a", 2, "Contact: *", "Expires: 0"), 200)
	wantContacts(t, r, "sip:a@foo.bar.org")
	send(t, r, udp(phone), register("a", 3, "Contact: *", "Expires: 0"), 200) // again, of nothing
}

// TestOrder has requests overtake each other (section 10.3, step 7).
func TestOrder(t *testing.T) {
	r := New(Config{}, quiet())
	send(t, r, udp(phone), register("a", 10, "Contact: <sip:a@10.0.0.10>;x=1"), 200)
	send(t, r, udp(phone), register("a", 9, "Contact: <sip:a@10.0.0.10>;expires=0"), 500)
	send(t, r, udp(phone), register("a", 10, "Contact: <sip:a@10.0.0.10>;expires=0"), 500)
	send(t, r, udp(phone), register("a", 9, "Contact: <sip:new@10.0.0.10>, <sip:a@10.0.0.10>"), 500)
	wantContacts(t, r, "sip:a@foo.bar.org", "sip:a@10.0.0.10")
	// Another Call-ID: the phone was started again.
	send(t, r, udp(phone), strings.Replace(register("a", 1, "Contact: <sip:a@10.0.0.10>;expires=0"), "call@", "again@", 1), 200)
	wantContacts(t, r, "sip:a@foo.bar.org")
}

// TestTwoPhones has two phones with the same address-of-record, and two with the same
// contact behind routers of their own.
func TestTwoPhones(t *testing.T) {
	r := New(Config{}, quiet())
	other := strings.NewReplacer("call@", "other@")
	send(t, r, udp(phone), register("a", 1, "Contact: <sip:a@192.168.1.2:5060>"), 200)
	send(t, r, udp("10.0.0.11:1024"), other.Replace(register("a", 1, "Contact: <sip:a@192.168.1.2:5060>")), 200)
	wantContacts(t, r, "sip:a@foo.bar.org", "sip:a@192.168.1.2:5060", "sip:a@192.168.1.2:5060")
	list, _ := r.Contacts([]byte("sip:a@foo.bar.org"))
	if list[0].Hop != udp(phone) || list[1].Hop != udp("10.0.0.11:1024") {
		t.Errorf("hops: %+v", list)
	}
	send(t, r, udp("10.0.0.11:1024"), other.Replace(register("a", 2, "Contact: <sip:a@192.168.1.2:5060>;expires=0")), 200)
	list, _ = r.Contacts([]byte("sip:a@foo.bar.org"))
	if len(list) != 1 || list[0].Hop != udp(phone) {
		t.Errorf("the wrong one was removed: %+v", list)
	}
	// A third device removes what it has fetched.
	send(t, r, udp("10.0.0.12:5060"), other.Replace(register("a", 1, "Contact: <sip:a@192.168.1.2:5060>;expires=0")), 200)
	wantContacts(t, r, "sip:a@foo.bar.org")
}

// TestSameContact has a phone write its contact in another way.
func TestSameContact(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		equal bool
	}{
		{"sip:a@foo.bar", "sip:a@foo.bar", true},
		{"sip:a@foo.bar", "SIP:a@FOO.bar", true},
		{"sip:a@foo.bar", "sip:A@foo.bar", false},
		{"sip:%61@foo.bar", "sip:a@foo.bar", true},
		{"sip:a%2@foo.bar", "sip:a%2@foo.bar", true},
		{"sip:a@foo.bar", "sip:a@foo.bar:5060", false},
		{"sip:a@foo.bar", "sips:a@foo.bar", false},
		{"sip:a@foo.bar;transport=udp", "sip:a@foo.bar", false},
		{"sip:a@foo.bar", "sip:a@foo.bar;transport=udp", false},
		{"sip:a@foo.bar;Transport=UDP", "sip:a@foo.bar;transport=udp", true},
		{"sip:a@foo.bar;lr;x=1", "sip:a@foo.bar;X=1", true},
		{"sip:a@foo.bar;x=1", "sip:a@foo.bar;x=2", false},
		{"sip:a@foo.bar;x=2", "sip:a@foo.bar;y=1;x=1", false},
		{"sip:a@foo.bar;ttl=1", "sip:a@foo.bar", false},
		{"sip:a@foo.bar;user=phone", "sip:a@foo.bar", false},
		{"sip:a@foo.bar;maddr=10.0.0.1", "sip:a@foo.bar", false},
		{"sip:a@foo.bar?subject=1", "sip:a@foo.bar", false},
		{"sip:a:b@foo.bar", "sip:a@foo.bar", false},
	} {
		if equalURI([]byte(c.a), []byte(c.b)) != c.equal || equalURI([]byte(c.b), []byte(c.a)) != c.equal {
			t.Errorf("%s and %s: equal should be %v", c.a, c.b, c.equal)
		}
	}
	r := New(Config{}, quiet())
	send(t, r, udp(phone), register("a", 1, "Contact: <sip:a@10.0.0.10;transport=udp;ob>"), 200)
	send(t, r, udp(phone), register("a", 2, "Contact: <sip:%61@10.0.0.10;transport=UDP>"), 200)
	wantContacts(t, r, "sip:a@foo.bar.org", "sip:%61@10.0.0.10;transport=UDP")
}

// TestRefused has what is not carried out, and why.
func TestRefused(t *testing.T) {
	own := func(host string, port int) bool { return host == "foo.bar.org" && (port == 0 || port == 5060) }
	r := New(Config{Own: own}, quiet())
	ok := register("a", 1, "Contact: <sip:a@10.0.0.10>")
	for _, c := range []struct {
		name, from, to string
		want           int
	}{
		{"a foreign address-of-record", "To: <sip:a@foo.bar.org>", "To: <sip:a@provider.example>", 404},
		{"another port", "To: <sip:a@foo.bar.org>", "To: <sip:a@foo.bar.org:5070>", 404},
		{"no user", "To: <sip:a@foo.bar.org>", "To: <sip:foo.bar.org>", 404},
		{"a telephone", "To: <sip:a@foo.bar.org>", "To: <tel:+123>", 404},
		{"a third party", "From: <sip:a@", "From: <sip:b@", 403},
		{"what it requires", "CSeq", "Require: path\r\nCSeq", 420},
		{"a contact for mail", "<sip:a@10.0.0.10>", "<mailto:a@10.0.0.10>", 416},
		{"a contact with TLS", "<sip:a@10.0.0.10>", "<sips:a@10.0.0.10>", 416},
		{"no contact", "<sip:a@10.0.0.10>", "nobody", 400},
		{"an empty contact", "<sip:a@10.0.0.10>", "", 400},
		{"a contact twice", "<sip:a@10.0.0.10>", "<sip:a@10.0.0.10>, <sip:%61@10.0.0.10>;expires=0", 400},
		{"a contact in two lines", "<sip:a@10.0.0.10>", "<sip:a\r\n @10.0.0.10>", 400},
		{"a long contact", "<sip:a@10", "<sip:" + strings.Repeat("a", 5000) + "@10", 400},
		{"too many contacts", "<sip:a@10.0.0.10>", "<sip:0@10.0.0.10>" + many(16), 403},
	} {
		text := strings.Replace(ok, c.from, c.to, 1)
		if text == ok {
			t.Fatal(c.name)
		}
		if c.name == "an empty contact" {
			// Nothing is asked for.
			send(t, r, udp(phone), text, 200)
			continue
		}
		a := r.Register(index(t, text), udp(phone))
		if a.Status != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, a.Status, a.Reason, c.want)
		}
		if c.want == 420 && !slices.Equal(header(a, "Unsupported"), []string{"path"}) {
			t.Errorf("Unsupported: %q", header(a, "Unsupported"))
		}
	}
	if s := r.Stats(); s.Contacts != 0 {
		t.Errorf("%d contacts", s.Contacts)
	}
	send(t, r, udp(phone), strings.Replace(ok, "foo.bar.org>;tag", "FOO.bar.org>;tag", 1), 200)
}

func many(n int) (text string) {
	for i := range n {
		text += fmt.Sprintf(", <sip:%d@10.0.0.10>", i+1)
	}
	return text
}

// TestParams has a contact come back with its parameters, in one line.
func TestParams(t *testing.T) {
	r := New(Config{}, quiet())
	a := send(t, r, udp(phone), register("a", 1,
		"Contact: \"John; \\\"Doe\" <sip:a@10.0.0.10>;expires=60;+sip.instance=\"<urn:uuid:1;q=3>\"\r\n ;reg-id=1;q=0.5;flag"), 200)
	want := "<sip:a@10.0.0.10>;+sip.instance=\"<urn:uuid:1;q=3>\"   ;reg-id=1;flag;q=0.500;expires=60"
	if got := header(a, "Contact"); len(got) != 1 || got[0] != want {
		t.Errorf("Contact: %q, want %q", got, want)
	}
	if err := index(t, "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n"+string(a.Headers)+"\r\n"); err == nil {
		t.Error("not a message")
	}
}

// TestLimits has more contacts than an address-of-record, a host, and all may have.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Limits: Limits{PerAOR: 3, PerHost: 5, Total: 8}}, quiet())
		bind := func(host, user string, port, want int) {
			t.Helper()
			time.Sleep(time.Second)
			text := register(user, 1, fmt.Sprintf("Contact: <sip:%s@10.0.0.%s:%d>;expires=60", user, host, port))
			send(t, r, udp("10.0.0."+host+":5060"), strings.Replace(text, "call@", fmt.Sprintf("%d@", port), 1), want)
		}
		for i := range 4 {
			bind("10", "a", 5060+i, 200)
		}
		// The phone's oldest contact has made room.
		wantContacts(t, r, "sip:a@foo.bar.org", "sip:a@10.0.0.10:5061", "sip:a@10.0.0.10:5062", "sip:a@10.0.0.10:5063")
		bind("11", "a", 5060, 403) // not another phone's
		bind("10", "b", 5060, 200)
		bind("10", "c", 5060, 200)
		bind("10", "d", 5060, 403)
		bind("11", "e", 5060, 200)
		bind("12", "f", 5060, 200)
		bind("13", "g", 5060, 200)
		bind("14", "h", 5060, 503)
		bind("13", "g", 5060+1000, 503)
		if s := r.Stats(); s.Contacts != 8 || s.Full != 4 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Minute)
		r.mu.Lock()
		for range int(sweepRound / sweepEvery) {
			r.sweepBindings(r.now())
		}
		r.mu.Unlock()
		bind("14", "h", 5060, 200)
		if s := r.Stats(); s.Contacts != 1 || len(r.hosts) != 1 || len(r.aors) != 1 {
			t.Errorf("%+v, %d hosts, %d addresses", s, len(r.hosts), len(r.aors))
		}
	})
}

// TestReach says where phones are.
func TestReach(t *testing.T) {
	tcpTo := udp("10.0.0.10:5070")
	tcpTo.Kind = transport.TCP
	tcpTo.Local = netip.MustParseAddrPort("10.0.0.1:0")
	for _, c := range []struct {
		uri        string
		from, want transport.Hop
	}{
		{"sip:a@10.0.0.10", udp("10.0.0.10:1024"), udp("10.0.0.10:5060")},
		{"sip:a@10.0.0.10:5062", udp("10.0.0.10:1024"), udp("10.0.0.10:5062")},
		{"sip:a@10.0.0.10:0", udp("10.0.0.10:1024"), udp("10.0.0.10:1024")},
		{"sip:a@192.168.1.2:5062", udp("10.0.0.10:1024"), udp("10.0.0.10:1024")}, // behind a router
		{"sip:a@phone.lan", udp("10.0.0.10:1024"), udp("10.0.0.10:1024")},
		{"sip:a@10.0.0.10:5070;transport=TCP", udp("10.0.0.10:1024"), tcpTo},
		{"sip:a@10.0.0.10:5070;transport=tcp", tcp("10.0.0.10:33000", 7), tcp("10.0.0.10:33000", 7)},
	} {
		if got := reach([]byte(c.uri), sipmsg.ParseURI([]byte(c.uri)), c.from); got != c.want {
			t.Errorf("%s from %s: %s, want %s", c.uri, c.from, got, c.want)
		}
	}
}
