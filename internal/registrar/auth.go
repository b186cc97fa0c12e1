package registrar

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// algorithm is one of RFC 8760.
type algorithm struct {
	name string
	new  func() hash.Hash
}

// The algorithms that are known.
const (
	algSHA256 = iota
	algMD5
	algorithms
)

// digest is a hash value in hexadecimal digits.
type digest []byte

// role is how the proxy authenticates: as registrar, or as proxy (RFC 3261 sections
// 22.2 and 22.3).
type role struct {
	status      int
	challenge   string
	credentials sipmsg.Kind
}

// authenticator knows passwords.
type authenticator struct {
	log              *slog.Logger
	known            [algorithms]algorithm
	registrar, proxy role

	reading sync.Mutex // held for the file
	file    passwordFile

	realm   string
	oneOnly string            // password of all where there is no file
	secrets map[string]secret // of users, from the file; nil: there is none
	nobody  secret            // stands for users that do not exist
	offered []int             // algorithms, in order
	offers  offers
	nonces  nonces
	warned  time.Duration // last time: Registrar.now
}

// secret is a user's password, hashed: H(A1) of RFC 7616 section 3.4.2.
type secret [algorithms]digest

func (a *authenticator) init(log *slog.Logger) {
	a.log = log
	a.offers = make(offers)
	a.known = [algorithms]algorithm{
		algSHA256: {"SHA-256", sha256.New},
		algMD5:    {"MD5", md5.New},
	}
	a.registrar = role{401, "WWW-Authenticate", sipmsg.HdrAuthorization}
	a.proxy = role{407, "Proxy-Authenticate", sipmsg.HdrProxyAuthorization}
	a.warned = -warnEvery
	a.nonces.init()
	a.nobody = a.hash("", "", rand.Text())
}

// sum is the hash of texts with colons between them.
func (g *algorithm) sum(texts ...[]byte) digest {
	h := g.new()
	for i, t := range texts {
		if i > 0 {
			h.Write([]byte{':'})
		}
		h.Write(t)
	}
	return hex.AppendEncode(nil, h.Sum(nil))
}

func (a *authenticator) hash(user, realm, password string) (s secret) {
	for i := range a.known {
		s[i] = a.known[i].sum([]byte(user), []byte(realm), []byte(password))
	}
	return s
}

// passwordFile is what the secrets were read from.
type passwordFile struct {
	realm, name string
	info        os.FileInfo
	problem     string // that it could not be read for, and that has been reported
}

// same reports whether it is the same file, and not changed.
func (f *passwordFile) same(g *passwordFile) bool {
	if f.realm != g.realm || f.name != g.name || f.problem != g.problem {
		return false
	}
	if f.info == nil || g.info == nil {
		return f.info == nil && g.info == nil
	}
	return os.SameFile(f.info, g.info) && f.info.ModTime().Equal(g.info.ModTime()) && f.info.Size() == g.info.Size() &&
		f.info.Mode() == g.info.Mode()
}

// read returns the secrets that the password file has, nil if they are those that were
// read before, or if there are none.
func (a *authenticator) read(cfg *Config) map[string]secret {
	a.reading.Lock()
	defer a.reading.Unlock()
	if cfg.Realm == "" || cfg.PasswordFile == "" {
		a.file = passwordFile{}
		return nil
	}
	file := passwordFile{realm: cfg.Realm, name: cfg.PasswordFile}
	info, err := os.Stat(file.name)
	if file.info = info; err == nil && file.same(&a.file) {
		return nil
	}
	var passwords map[string]string
	if err == nil {
		passwords, err = readPasswords(file.name, a.log)
	}
	if err != nil {
		file.problem = err.Error()
		if !file.same(&a.file) {
			a.log.Error("proxy_auth_pwfile can not be read: nobody can register but with the passwords that were read before",
				"file", file.name, "error", err, "remedy", fmt.Sprintf("the file must be there, and user %d must be able to read it", os.Geteuid()))
		}
		a.file = file
		return nil
	}
	a.file = file
	secrets := make(map[string]secret, len(passwords))
	for name, password := range passwords {
		secrets[name] = a.hash(name, cfg.Realm, password)
	}
	return secrets
}

// set puts a configuration in force, with the secrets that read has returned for it.
// Those of another realm are of no use.
func (a *authenticator) set(cfg *Config, secrets map[string]secret) {
	if secrets != nil || cfg.PasswordFile == "" || cfg.Realm != a.realm {
		a.secrets = secrets
	}
	a.realm, a.oneOnly = cfg.Realm, cfg.Password
	a.offered = []int{algSHA256, algMD5}
	if cfg.Algorithms != nil {
		a.offered = nil
		for _, name := range cfg.Algorithms {
			if n := a.algorithm([]byte(name)); n >= 0 {
				a.offered = append(a.offered, n)
			}
		}
	}
	if cfg.PasswordFile != "" {
		a.oneOnly = ""
		if a.secrets == nil {
			a.secrets = map[string]secret{}
		}
	}
}

// knows reports whether a user has a password of his own.
func (a *authenticator) knows(name []byte) bool {
	_, ok := a.secrets[string(name)]
	return ok
}

// mayBind reports whether an authenticated user may register an address-of-record.
// What no user is named like may have any, as a password for all phones of a room.
func (a *authenticator) mayBind(name, aor []byte) bool {
	return a.realm == "" || string(name) == string(aor) || !a.knows(aor)
}

// secretOf returns a user's secret. Of one who does not exist it is one that nobody
// knows.
func (a *authenticator) secretOf(name []byte) secret {
	if a.secrets == nil && a.oneOnly != "" {
		return a.hash(string(name), a.realm, a.oneOnly)
	}
	if s, ok := a.secrets[string(name)]; ok {
		return s
	}
	return a.nobody
}

// Authenticate implements [proxy.Registrar].
func (r *Registrar) Authenticate(m *sipmsg.Message, from transport.Hop) proxy.Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, answer := r.authenticate(m, from, &r.auth.proxy)
	return answer
}

// warnEvery limits how often the log tells of failures.
const warnEvery = 10 * time.Second

// maxTried bounds the credentials of a request that are looked at: one for each challenge
// of an algorithm, and some that a phone may still send for older ones.
const maxTried = 8

// authenticate returns the user who has sent a request, or the challenge that he must
// meet. There is no user where nobody needs to authenticate.
//
// A wrong password is answered as a missing one, and an unknown user as a wrong
// password.
func (r *Registrar) authenticate(m *sipmsg.Message, from transport.Hop, as *role) (user []byte, refusal proxy.Answer) {
	a := &r.auth
	if a.realm == "" {
		return nil, proxy.Answer{}
	}
	now, host := r.now(), from.Remote.Addr()
	found, stale, tried := false, false, 0
	offered := a.offered
	var c credentials
	for _, h := range m.Headers {
		// There may be several of them, for other realms, or for each challenge.
		if h.Kind != as.credentials || !c.parse(m.Bytes(h.Value)) || string(c.realm) != a.realm {
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		found = true
		count, right := a.verify(&c, m.Bytes(m.MethodName))
		if !right {
			continue
		}
		if a.nonces.take(c.nonce, count, host, now) {
			a.offers.answered(host, plainUser(m.Bytes(m.To.URI.User)))
			return c.username, proxy.Answer{}
		}
		if !stale {
			offered = nil
		}
		// What it has used once it can use again.
		stale, offered = true, append(offered, a.algorithm(c.algorithm))
	}
	to := plainUser(m.Bytes(m.To.URI.User))
	if found {
		a.offers.answered(host, to)
	} else if len(offered) > 1 && slices.Contains(offered, algMD5) && a.offers.next(host, to, now) {
		offered = []int{algMD5}
	}
	switch {
	case stale:
		r.stats.StaleNonces++
	case found:
		r.stats.WrongDigests++
		if now-a.warned >= warnEvery {
			a.warned = now
			a.log.Warn("wrong user or password", "user", printable(c.username), "from", from.Remote, "failures", r.stats.WrongDigests)
		}
	default:
		r.stats.Challenged++
	}
	return nil, proxy.Answer{Status: as.status, Headers: a.challenge(as, offered, host, now, stale), Challenge: stale || !found}
}

// challenge returns the header lines that ask for credentials, one for each algorithm
// (RFC 7616 section 3.3, RFC 8760 section 2.3).
func (a *authenticator) challenge(as *role, offered []int, host netip.Addr, now time.Duration, stale bool) []byte {
	lines := make([]byte, 0, 320)
	nonce := a.nonces.append(make([]byte, 0, nonceText), host, now)
	for _, i := range offered {
		lines = append(append(lines, as.challenge...), ": Digest realm="...)
		lines = appendQuoted(lines, a.realm)
		lines = append(append(append(lines, `, nonce="`...), nonce...), '"')
		lines = append(append(lines, `, qop="auth", algorithm=`...), a.known[i].name...)
		if stale {
			lines = append(lines, ", stale=true"...)
		}
		lines = append(lines, "\r\n"...)
	}
	return lines
}

// appendQuoted appends a quoted string (RFC 3261 section 25.1).
func appendQuoted(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for _, c := range []byte(text) {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// verify reports whether the response is that of somebody who knows the password (RFC
// 7616 section 3.4.1, without qop that of RFC 2069 section 2.4), and for what count of
// the nonce it is; 0 without qop. It takes the same time for all users.
func (a *authenticator) verify(c *credentials, method []byte) (count uint32, right bool) {
	n := a.algorithm(c.algorithm)
	if !slices.Contains(a.offered, n) || c.username == nil || c.nonce == nil || c.uri == nil || c.response == nil {
		return 0, false
	}
	g := &a.known[n]
	ha1 := a.secretOf(c.username)[n]
	ha2 := g.sum(method, c.uri)
	var want digest
	switch {
	case c.qop == nil:
		want = g.sum(ha1, c.nonce, ha2)
	case sipmsg.EqualFold(c.qop, "auth") && len(c.nc) == 8 && len(c.cnonce) > 0:
		n, err := strconv.ParseUint(string(c.nc), 16, 32)
		if err != nil || n == 0 {
			return 0, false
		}
		count = uint32(n)
		want = g.sum(ha1, c.nonce, c.nc, c.cnonce, c.qop, ha2)
	default:
		return 0, false // auth-int is not offered
	}
	return count, subtle.ConstantTimeCompare([]byte(strings.ToLower(string(c.response))), want) == 1
}

// algorithm returns the index of an algorithm, -1 if it is not known. MD5 needs not be
// named.
func (a *authenticator) algorithm(name []byte) int {
	if name == nil {
		return algMD5
	}
	for i := range a.known {
		if strings.EqualFold(string(name), a.known[i].name) {
			return i
		}
	}
	return -1
}
