package registrar

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
)

// hashed is an independent way to a digest.
func hashed(algorithm, text string) string {
	if algorithm == "SHA-256" {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// TestDigestOfRFC has the example of RFC 7616 section 3.9.1.
func TestDigestOfRFC(t *testing.T) {
	const common = `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html",
       nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001,
       cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth,
       opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", `
	r := New(Config{Realm: "http-auth@example.org", Password: "Circle of Life"}, quiet())
	for _, rest := range []string{
		`response="8ca523f5e9506fed4657c9700eebdbec", algorithm=MD5`,
		`response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1", algorithm=SHA-256`,
		`response="753927FA0E85D155564E2E272A28D1802CA10DAF4496794697CF8DB5856CB6C1", algorithm="sha-256"`,
	} {
		var c credentials
		if !c.parse([]byte(common + rest)) {
			t.Fatalf("not parsed: %s", rest)
		}
		if count, right := r.auth.verify(&c, []byte("GET")); !right || count != 1 {
			t.Errorf("refused: %s", rest)
		}
		if _, right := r.auth.verify(&c, []byte("PUT")); right {
			t.Errorf("accepted for another method: %s", rest)
		}
	}
}

// client is a phone that knows a password.
type client struct {
	user, password, realm string
	algorithm             string
	nc                    int
	old                   bool // RFC 2069
	nonce                 string
}

// authorization is a header's value.
func (c *client) authorization() string {
	ha1 := hashed(c.algorithm, c.user+":"+c.realm+":"+c.password)
	ha2 := hashed(c.algorithm, "REGISTER:sip:foo.bar.org")
	head := fmt.Sprintf(`Digest username="%s",realm="%s",nonce="%s",uri="sip:foo.bar.org",algorithm=%s`, c.user, c.realm, c.nonce, c.algorithm)
	if c.old {
		return strings.TrimSuffix(head, ",algorithm=MD5") + `,response="` + hashed(c.algorithm, ha1+":"+c.nonce+":"+ha2) + `"`
	}
	c.nc++
	nc := fmt.Sprintf("%08x", c.nc)
	return head + fmt.Sprintf(`,cnonce="0a4f113b",qop=auth,nc=%s,response="%s"`, nc, hashed(c.algorithm, ha1+":"+c.nonce+":"+nc+":0a4f113b:auth:"+ha2))
}

// challenge takes the nonce of a challenge, and returns whether it says stale.
func (c *client) challenge(t testing.TB, a proxy.Answer, name string) (stale bool) {
	t.Helper()
	for _, h := range header(a, name) {
		if !strings.HasSuffix(strings.TrimSuffix(h, ", stale=true"), "algorithm="+c.algorithm) {
			continue
		}
		_, rest, _ := strings.Cut(h, `nonce="`)
		c.nonce, _, _ = strings.Cut(rest, `"`)
		c.nc = 0
		return strings.HasSuffix(h, ", stale=true")
	}
	t.Fatalf("no challenge for %s in %q", c.algorithm, a.Headers)
	return false
}

var cseq int // grows over all tests, which do not run at the same time

func (c *client) register(t testing.TB, r *Registrar, from transport.Hop, want int) proxy.Answer {
	t.Helper()
	cseq++
	return send(t, r, from, register(c.user, cseq, "Contact: <sip:"+c.user+"@10.0.0.10>", "Authorization: "+c.authorization()), want)
}

func TestAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, algorithm := range []string{"MD5", "SHA-256"} {
			r := New(Config{Realm: "home", Password: "secret", DefaultExpires: time.Hour}, quiet())
			c := &client{user: "john", password: "secret", realm: "home", algorithm: algorithm}
			a := send(t, r, udp(phone), register("john", 1, "Contact: <sip:john@10.0.0.10>"), 401)
			list := header(a, "WWW-Authenticate")
			if len(list) != 2 || !strings.Contains(list[0], "SHA-256") || !strings.Contains(list[1], "MD5") {
				t.Errorf("challenges: %q", list)
			}
			if c.challenge(t, a, "WWW-Authenticate") || !a.Challenge {
				t.Error("the first challenge says stale, or is a failure")
			}
			wantContacts(t, r, "sip:john@foo.bar.org")
			c.register(t, r, udp(phone), 200)
			wantContacts(t, r, "sip:john@foo.bar.org", "sip:john@10.0.0.10")
			c.register(t, r, udp(phone), 200) // the next count
			c.nc--
			if a := c.register(t, r, udp(phone), 401); !c.challenge(t, a, "WWW-Authenticate") {
				t.Error("the same count again is not answered with stale")
			}
			c.register(t, r, udp(phone), 200)

			time.Sleep(nonceLife + time.Second)
			if a := c.register(t, r, udp(phone), 401); !c.challenge(t, a, "WWW-Authenticate") || !a.Challenge {
				t.Error("an old nonce is not answered with stale")
			}
			c.register(t, r, udp(phone), 200)
			// A nonce is good for the host that it was given to.
			if a := c.register(t, r, udp("10.0.0.11:5060"), 401); !c.challenge(t, a, "WWW-Authenticate") {
				t.Error("another host's nonce is not answered with stale")
			}
			// After a restart of the daemon, too, nobody is asked for his password.
			c.challenge(t, send(t, r, udp(phone), register("john", 1), 401), "WWW-Authenticate")
			r = New(Config{Realm: "home", Password: "secret"}, quiet())
			if a := c.register(t, r, udp(phone), 401); !c.challenge(t, a, "WWW-Authenticate") {
				t.Error("the nonce of another process is not answered with stale")
			}

			c.password = "wrong"
			if a := c.register(t, r, udp(phone), 401); c.challenge(t, a, "WWW-Authenticate") || a.Challenge {
				t.Error("a wrong password is answered with stale, or is no failure")
			}
			wantContacts(t, r, "sip:john@foo.bar.org")
			if s := r.Stats(); s.WrongDigests != 1 || s.StaleNonces != 1 || s.Challenged != 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestOldDigest has phones that know nothing of qop (RFC 2069).
func TestOldDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Realm: "home", Password: "secret"}, quiet())
		c := &client{user: "john", password: "secret", realm: "home", algorithm: "MD5", old: true}
		c.challenge(t, send(t, r, udp(phone), register("john", 1), 401), "WWW-Authenticate")
		c.register(t, r, udp(phone), 200)
		c.register(t, r, udp(phone), 200) // as a proxied one comes twice, for the registrar behind
		time.Sleep(nonceLifeOld + time.Second)
		if a := c.register(t, r, udp(phone), 401); !c.challenge(t, a, "WWW-Authenticate") {
			t.Error("not stale")
		}
		c.register(t, r, udp(phone), 200)
		// What was used with counts is not used without.
		c.old = false
		c.challenge(t, send(t, r, udp(phone), register("john", 1), 401), "WWW-Authenticate")
		c.register(t, r, udp(phone), 200)
		c.old = true
		c.register(t, r, udp(phone), 401)
	})
}

// TestProxyAuthentication has a REGISTER that goes on to a provider.
func TestProxyAuthentication(t *testing.T) {
	r := New(Config{Realm: "home", Password: "secret"}, quiet())
	c := &client{user: "john", password: "secret", realm: "home", algorithm: "MD5"}
	a := r.Authenticate(index(t, register("john", 1)), udp(phone))
	if a.Status != 407 {
		t.Fatalf("status %d", a.Status)
	}
	c.challenge(t, a, "Proxy-Authenticate")
	both := []string{`Authorization: Digest username="john", realm="provider", nonce="1", uri="sip:provider.example", response="00"`,
		`Proxy-Authorization: Digest username="john", realm="elsewhere", nonce="1", uri="sip:provider.example", response="00"`}
	if a := r.Authenticate(index(t, register("john", 1, append(both, "Proxy-Authorization: "+c.authorization())...)), udp(phone)); a.Status != 0 {
		t.Errorf("status %d", a.Status)
	}
	if a := r.Authenticate(index(t, register("john", 1, "Authorization: "+c.authorization())), udp(phone)); a.Status != 407 {
		t.Errorf("status %d for the wrong header", a.Status)
	}
	if s := r.Stats(); s.WrongDigests != 0 {
		t.Errorf("%+v", s)
	}
	r.Configure(Config{})
	if a := r.Authenticate(index(t, register("john", 1)), udp(phone)); a.Status != 0 {
		t.Errorf("status %d without a realm", a.Status)
	}
}

// TestBothAnswers has a phone that answers each of the challenges, as some do.
func TestBothAnswers(t *testing.T) {
	r := New(Config{Realm: "home", Password: "secret"}, quiet())
	md5 := &client{user: "john", password: "secret", realm: "home", algorithm: "MD5"}
	sha := &client{user: "john", password: "secret", realm: "home", algorithm: "SHA-256"}
	a := send(t, r, udp(phone), register("john", 1), 401)
	md5.challenge(t, a, "WWW-Authenticate")
	sha.challenge(t, a, "WWW-Authenticate")
	send(t, r, udp(phone), register("john", 2, "Authorization: "+sha.authorization(), "Authorization: "+md5.authorization()), 200)
	send(t, r, udp(phone), register("john", 3, "Authorization: "+strings.Replace(sha.authorization(), "SHA-256", "SHA-512-256", 1), "Authorization: "+md5.authorization()), 200)
}

// TestOffers has phones that give up when they see an algorithm that they do not know.
func TestOffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Realm: "home", Password: "secret"}, quiet())
		challenge := func(user, host string, want ...string) proxy.Answer {
			t.Helper()
			a := send(t, r, udp(host), register(user, 1), 401)
			var got []string
			for _, h := range header(a, "WWW-Authenticate") {
				_, name, _ := strings.Cut(h, "algorithm=")
				got = append(got, strings.TrimSuffix(name, ", stale=true"))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s is offered %q, want %q", user, got, want)
			}
			return a
		}
		challenge("old", phone, "SHA-256", "MD5")
		time.Sleep(time.Second)
		challenge("old", phone, "SHA-256", "MD5")
		time.Sleep(30 * time.Second)
		a := challenge("old", phone, "MD5")
		challenge("old", "10.0.0.11:5060", "SHA-256", "MD5")
		challenge("new", phone, "SHA-256", "MD5")

		old := &client{user: "old", password: "secret", realm: "home", algorithm: "MD5"}
		old.challenge(t, a, "WWW-Authenticate")
		old.register(t, r, udp(phone), 200)
		time.Sleep(time.Hour)
		a = old.register(t, r, udp(phone), 401)
		if got := header(a, "WWW-Authenticate"); len(got) != 1 || !old.challenge(t, a, "WWW-Authenticate") {
			t.Errorf("for an old nonce: %q", got)
		}
		challenge("old", phone, "MD5") // it was started again

		// Who answers is not taken for old.
		for _, algorithm := range []string{"SHA-256", "MD5"} {
			able := &client{user: algorithm, password: "secret", realm: "home", algorithm: algorithm}
			for range 3 {
				able.challenge(t, challenge(algorithm, phone, "SHA-256", "MD5"), "WWW-Authenticate")
				able.register(t, r, udp(phone), 200)
				time.Sleep(time.Hour)
			}
			able.password = "wrong"
			if got := header(able.register(t, r, udp(phone), 401), "WWW-Authenticate"); len(got) != 2 {
				t.Errorf("for a wrong password: %q", got)
			}
		}
		time.Sleep(2 * offerLife)
		challenge("old", phone, "SHA-256", "MD5")

		for i := range maxOffers {
			challenge(fmt.Sprint(i), phone, "SHA-256", "MD5")
		}
		if len(r.auth.offers) > maxOffers {
			t.Errorf("%d offers are remembered", len(r.auth.offers))
		}
		time.Sleep(time.Minute)
		r.Configure(Config{Realm: "home", Password: "secret", Algorithms: []string{"sha-256"}})
		challenge("old", phone, "SHA-256")
		challenge("old", phone, "SHA-256")
		old.register(t, r, udp(phone), 401)
		r.Configure(Config{Realm: "home", Password: "secret", Algorithms: []string{"MD5", "SHA-256"}})
		challenge("another", phone, "MD5", "SHA-256")
	})
}

// TestUnacceptable has credentials that are right but for one thing.
func TestUnacceptable(t *testing.T) {
	for _, c := range [][2]string{
		{"algorithm=MD5", "algorithm=SHA-512-256"},
		{"algorithm=MD5", "algorithm=MD5-sess"},
		{"algorithm=MD5", "algorithm=SHA-256"},
		{"qop=auth", "qop=auth-int"},
		{"nc=00000001", "nc=1"},
		{"nc=00000001", "nc=00000000"},
		{"nc=00000001", "nc=0000000g"},
		{",nc=00000001", ""},
		{`,cnonce="0a4f113b"`, ""},
		{`cnonce="0a4f113b"`, `cnonce=""`},
		{`,uri="sip:foo.bar.org"`, ""},
		{`uri="sip:foo.bar.org"`, `uri="sip:bar.foo.org"`},
		{`username="john",`, ""},
		{`username="john"`, `username=""`},
		{`username="john"`, `username="john",username="john"`},
		{`realm="home"`, `realm="Home"`},
		{`realm="home",`, ""},
		{"Digest ", "Basic "},
		{"Digest ", "Digest"},
		{`response="`, `response="0`},
		{`"0a4f113b"`, `"0a4f113b`},
	} {
		r := New(Config{Realm: "home", Password: "secret"}, quiet())
		phoneOf := &client{user: "john", password: "secret", realm: "home", algorithm: "MD5"}
		phoneOf.challenge(t, send(t, r, udp(phone), register("john", 1), 401), "WWW-Authenticate")
		text := phoneOf.authorization()
		changed := strings.Replace(text, c[0], c[1], 1)
		if changed == text {
			t.Fatal(c)
		}
		a := send(t, r, udp(phone), register("john", 1, "Authorization: "+changed), 401)
		if phoneOf.challenge(t, a, "WWW-Authenticate") {
			t.Errorf("%s for %s: stale", c[1], c[0])
		}
		// The nonce has not been used up by what was wrong.
		send(t, r, udp(phone), register("john", 1, "Authorization: "+text), 200)
	}
}

// TestUsers has passwords in a file, as siproxd has them.
func TestUsers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "siproxd_passwd.cfg")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# user password\n\n  # another comment\njohn\tsecret and what follows\n \t mary   pass#word\r\nmary other\nbob\nroom sesame")
	var log journal
	r := New(Config{Realm: `my "home"`, PasswordFile: file, Password: "all"}, log.logger())
	login := func(user, password, aor string, want int) (challenge string) {
		t.Helper()
		c := &client{user: user, password: password, realm: `my \"home\"`, algorithm: "MD5"}
		c.challenge(t, send(t, r, udp(phone), register(aor, 1), 401), "WWW-Authenticate")
		text := c.authorization()
		// The digest is of the realm without escapes.
		c.realm = `my "home"`
		c.nc = 0
		_, response, _ := strings.Cut(c.authorization(), "response=")
		text = text[:strings.Index(text, "response=")] + "response=" + response
		cseq++
		a := send(t, r, udp(phone), register(aor, cseq, "Contact: <sip:x@10.0.0.10>", "Authorization: "+text), want)
		return string(a.Headers)
	}
	login("john", "secret", "john", 200)
	login("mary", "pass#word", "mary", 200)
	login("john", "all", "john", 401)
	wrong, unknown := login("john", "nothing", "john", 401), login("nobody", "nothing", "nobody", 401)
	if len(wrong) != len(unknown) {
		t.Errorf("a wrong password and an unknown user are told apart: %q, %q", wrong, unknown)
	}
	login("bob", "", "bob", 401)
	login("john", "secret", "mary", 403) // one user as another
	login("room", "sesame", "kitchen", 200)
	// What has not changed is not read again, as when an interface has come.
	r.Configure(Config{Realm: `my "home"`, PasswordFile: file})
	login("john", "secret", "john", 200)
	if log.count("line of proxy_auth_pwfile has no password", "line=7") != 1 || log.count("second password", "line=6") != 1 {
		t.Errorf("log: %s", log.String())
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "other") {
		t.Errorf("the log tells passwords: %s", log.String())
	}
	if _, known := r.Contacts([]byte("sip:room@foo.bar.org")); !known {
		t.Error("a user who has not registered is not known")
	}
	if _, known := r.Contacts([]byte("sip:bob@foo.bar.org")); known {
		t.Error("somebody without a password is known")
	}

	// Another password, and a reload.
	write("john changed\n")
	login("john", "secret", "john", 200)
	r.Configure(Config{Realm: `my "home"`, PasswordFile: file})
	login("john", "secret", "john", 401)
	login("john", "changed", "john", 200)
	// A file that is missing changes nothing.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.Configure(Config{Realm: `my "home"`, PasswordFile: file})
	}
	if log.count("proxy_auth_pwfile can not be read") != 1 {
		t.Errorf("log: %s", log.String())
	}
	login("john", "changed", "john", 200)
	// From the start it lets nobody in, whatever else is configured.
	r = New(Config{Realm: `my "home"`, PasswordFile: file, Password: "all"}, log.logger())
	login("john", "all", "john", 401)
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	r.Configure(Config{Realm: `my "home"`, PasswordFile: file})
	if log.count("not a regular file") != 1 {
		t.Errorf("log: %s", log.String())
	}
}

// TestCredentials reads what phones write.
func TestCredentials(t *testing.T) {
	show := func(c credentials) string {
		return fmt.Sprintf("%s|%s|%s|%s|%s|%s|%s|%s|%s", c.username, c.realm, c.nonce, c.uri, c.response, c.algorithm, c.cnonce, c.qop, c.nc)
	}
	for _, c := range []struct{ text, want string }{
		{`Digest username="a",realm="b",nonce="c",uri="sip:d",response="e",algorithm=MD5,cnonce="f",qop=auth,nc=00000001`, "a|b|c|sip:d|e|MD5|f|auth|00000001"},
		{`digest  USERNAME = "a" ,, Realm="b, nonce=\"x\"" , qop="auth",nc="00000002",algorithm="SHA-256",`, `a|b, nonce="x"||||SHA-256||auth|00000002`},
		{"Digest username=\"a\\\\b\\c\",\r\n realm=\"\"", `a\bc||||||||`},
		{`Digest username=a,uri=sip:b;x@c,opaque="q\"",stale=FALSE`, "a|||sip:b;x@c|||||"},
		{`Digest uri="sip:a@b;x=1,2",nonce=abc==`, ""},
		{`Digest nonce="abc=="`, "||abc==||||||"},
		{`Digest x`, ""},
		{`Digest username`, ""},
		{`Digest username=`, ""},
		{`Digest username="`, ""},
		{`Digest username="\`, ""},
		{`Digest username="a" realm="b"`, ""},
		{`Digest username="a"x`, ""},
		{`Digest ="a"`, ""},
		{`Digest`, ""},
		{``, ""},
		{`Digest ,`, "||||||||"},
	} {
		var got credentials
		switch ok := got.parse([]byte(c.text)); {
		case ok != (c.want != ""):
			t.Errorf("%s: accepted %v", c.text, ok)
		case ok && show(got) != c.want:
			t.Errorf("%s: %s, want %s", c.text, show(got), c.want)
		}
	}
}

// FuzzCredentials has the parser agree with itself when it reads what it has read.
func FuzzCredentials(f *testing.F) {
	f.Add(`Digest username="a",realm="b\"\\",nonce="c",uri="sip:d",response="e",algorithm=MD5,cnonce="f",qop=auth,nc=00000001`)
	f.Add("Digest  a = b ,,\r\n username=\"\\x\", nc = 1")
	f.Add(`Digest username="`)
	f.Fuzz(func(t *testing.T, text string) {
		var c, again credentials
		if !c.parse([]byte(text)) {
			return
		}
		written := []byte("Digest ")
		for _, p := range []struct {
			name  string
			value []byte
		}{{"username", c.username}, {"realm", c.realm}, {"nonce", c.nonce}, {"uri", c.uri}, {"response", c.response},
			{"algorithm", c.algorithm}, {"cnonce", c.cnonce}, {"qop", c.qop}, {"nc", c.nc}} {
			if p.value != nil {
				written = append(appendQuoted(append(written, p.name+"="...), string(p.value)), ',')
			}
		}
		if !again.parse(written) {
			t.Fatalf("%q is not read, which was made of %q", written, text)
		}
		if fmt.Sprintf("%q", c) != fmt.Sprintf("%q", again) {
			t.Fatalf("%q is %q, %q is %q", text, c, written, again)
		}
	})
}

// TestNonces has more nonces used than are remembered.
func TestNonces(t *testing.T) {
	var n nonces
	n.init()
	host := udp(phone).Remote.Addr()
	first := n.append(nil, host, 1*time.Second)
	second := n.append(nil, host, 2*time.Second)
	unused := n.append(nil, host, 2*time.Second)
	take := func(nonce []byte, count uint32, want bool) {
		t.Helper()
		if n.take(nonce, count, host, 3*time.Second) != want {
			t.Errorf("count %d: want %v", count, want)
		}
	}
	take(first, 1, true)
	take(second, 1, true)
	take(second, 1, false)
	take(second, 5, true)
	take(second, 4, false)
	for range maxNonces {
		take(n.append(nil, host, 3*time.Second), 1, true)
	}
	if len(n.used) != maxNonces || len(n.order) != maxNonces {
		t.Errorf("%d and %d nonces are remembered", len(n.used), len(n.order))
	}
	take(first, 2, false)
	take(second, 6, false)
	take(unused, 1, false) // no younger than one that is forgotten
	take(n.append(nil, host, 4*time.Second), 1, true)
	for _, bad := range []string{"", "x", strings.Repeat("A", nonceText), strings.Repeat("?", nonceText), string(first) + "A"} {
		take([]byte(bad), 1, false)
	}
	n.take(n.append(nil, host, 2*nonceLife), 1, host, 2*nonceLife)
	if len(n.used) != 1 {
		t.Errorf("%d old nonces are remembered", len(n.used)-1)
	}
}

// FuzzPasswords reads files of passwords: what is read is words of the file, and reads
// the same when it is written.
func FuzzPasswords(f *testing.F) {
	f.Add([]byte("# users\njohn secret\n\tjane  x y\njohn again\nalone\n"))
	f.Add([]byte("a b\r\nc\u00a0d\x00 e\n"))
	name := filepath.Join(f.TempDir(), "passwords")
	read := func(t *testing.T, text []byte) map[string]string {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		passwords, err := readPasswords(name, quiet())
		if err != nil {
			t.Fatal(err)
		}
		return passwords
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		passwords := read(t, text)
		var again []byte
		for user, password := range passwords {
			again = fmt.Appendf(again, "%s %s\n", user, password)
		}
		if got := read(t, again); !maps.Equal(got, passwords) {
			t.Errorf("%q is %q, and written again %q", text, passwords, got)
		}
	})
}
