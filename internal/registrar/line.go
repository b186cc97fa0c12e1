package registrar

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// lineIdle is how long a token is remembered that is not part of a registration: as
// long as a call may last in which nobody says anything.
const lineIdle = 24 * time.Hour

// line is a phone's contact that has a token, which stands for it outside.
type line struct {
	name     string // its URI and phone: key of lines.byKey
	token    string
	uri      []byte
	hop      transport.Hop
	used     time.Duration // last time: Registrar.now
	accounts []account
	index    int           // in lines.list
	key      uint64        // of its record in the journal; 0: it has none
	saved    time.Duration // when that was written
}

// account is a registration of a line at an outside registrar.
type account struct {
	user, host string // the address-of-record
	expires    time.Duration
	at         netip.Addr // the registrar; not valid where it is not known any more
}

// lines are all tokens.
type lines struct {
	secret   [16]byte
	list     []*line
	byKey    map[string]*line
	byToken  map[string]*line
	accounts int // of all

	byUser map[string][]*line // that have an account, by its user and that of the contact
	cursor int
	buf    []byte
}

func (l *lines) init() {
	_, _ = rand.Read(l.secret[:]) // never fails
	l.byKey = make(map[string]*line)
	l.byToken = make(map[string]*line)
	l.byUser = make(map[string][]*line)
}

// appendKey appends what a token stands for: the URI, and where it is reached. A phone
// connects from another port each time.
func appendKey(dst, uri []byte, hop transport.Hop) []byte {
	dst = append(append(dst, uri...), 0, byte(hop.Kind))
	addr := hop.Remote.Addr().As16()
	dst = append(dst, addr[:]...)
	if hop.Kind == transport.TCP {
		return dst
	}
	port := hop.Remote.Port()
	return append(dst, byte(port>>8), byte(port))
}

// tokenAlphabet has digits and lower-case letters: some servers change the case of
// parameters.
var tokenAlphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// token returns the token of a key. It can be computed again after a restart, so that
// what a provider has been told stays right even if the phone itself was forgotten;
// but not by anybody outside.
func (l *lines) token(key []byte) string {
	mac := hmac.New(sha256.New, l.secret[:])
	mac.Write(key)
	return tokenAlphabet.EncodeToString(mac.Sum(nil)[:10])
}

// Line implements [proxy.Registrar].
func (r *Registrar) Line(uri []byte, phone transport.Hop) (token string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.line(uri, phone); l != nil {
		return l.token, true
	}
	return "", false
}

// line returns the line of a contact, which is made if it is new and there is room.
func (r *Registrar) line(uri []byte, phone transport.Hop) *line {
	s := &r.lines
	phone = reach(uri, sipmsg.ParseURI(uri), phone)
	s.buf = appendKey(s.buf[:0], uri, phone)
	now := r.now()
	if l := s.byKey[string(s.buf)]; l != nil {
		moved := l.hop != phone
		l.used, l.hop = now, phone
		if moved || now-l.saved > saveEvery {
			r.saveLine(l)
		}
		return l
	}
	addr := phone.Remote.Addr()
	if badURI(uri) {
		return nil // it is going to be a Request-URI
	}
	if len(uri) > maxContact || r.hostOf(addr).lines >= r.cfg.Limits.PerHost && !r.forgetLine(addr) || len(s.list) >= r.cfg.Limits.Total {
		r.stats.Full++
		r.tidy(addr)
		return nil
	}
	l := &line{name: string(s.buf), token: s.token(s.buf), hop: phone, used: now}
	if s.byToken[l.token] != nil {
		return nil // of 2**80 tokens
	}
	l.uri = []byte(l.name)[:len(uri):len(uri)]
	r.addLine(l)
	return l
}

func (r *Registrar) addLine(l *line) {
	s := &r.lines
	l.index = len(s.list)
	s.list = append(s.list, l)
	s.byKey[l.name], s.byToken[l.token] = l, l
	r.hostOf(l.hop.Remote.Addr()).lines++
	r.changed++
	r.saveLine(l)
}

func (r *Registrar) removeLine(l *line) {
	s := &r.lines
	s.unlist(l)
	s.accounts -= len(l.accounts)
	l.accounts = nil
	delete(s.byKey, l.name)
	delete(s.byToken, l.token)
	last := len(s.list) - 1
	s.list[l.index] = s.list[last]
	s.list[l.index].index = l.index
	s.list[last] = nil
	s.list = s.list[:last]
	l.index = gone
	r.strike(&l.key)
	addr := l.hop.Remote.Addr()
	r.hostOf(addr).lines--
	r.tidy(addr)
}

// forgetLine makes room for another line of a host that has as many as it may have,
// and loses the one that it has not used for the longest time.
func (r *Registrar) forgetLine(host netip.Addr) bool {
	var oldest *line
	for _, l := range r.lines.list {
		if len(l.accounts) == 0 && l.hop.Remote.Addr() == host && (oldest == nil || l.used < oldest.used) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	r.removeLine(oldest)
	return true
}

// Phone implements [proxy.Registrar].
func (r *Registrar) Phone(token []byte) (proxy.Contact, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lines.find(token)
	if l == nil {
		return proxy.Contact{}, false
	}
	l.used = r.now()
	return l.contact(), true
}

// find finds a token, in capital letters, too.
func (s *lines) find(token []byte) *line {
	if l := s.byToken[string(token)]; l != nil {
		return l
	}
	if len(token) > 64 {
		return nil
	}
	return s.byToken[strings.ToLower(string(token))]
}

func (l *line) contact() proxy.Contact { return proxy.Contact{URI: l.uri, Hop: l.hop, Q: 1000} }

// Lines implements [proxy.Registrar].
func (r *Registrar) Lines(user []byte, from netip.Addr) (list []proxy.Contact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	var others []proxy.Contact
	for _, l := range r.lines.byUser[string(plainUser(user))] {
		switch {
		case slices.ContainsFunc(l.accounts, func(a account) bool { return a.expires > now && a.at == from }):
			list = append(list, l.contact())
		case slices.ContainsFunc(l.accounts, func(a account) bool { return a.expires > now }):
			others = append(others, l.contact())
		}
	}
	if len(list) == 0 {
		return others
	}
	return list
}

// list and unlist note by which users a line is found.
func (s *lines) enlist(l *line) {
	for _, name := range l.users() {
		s.byUser[name] = append(s.byUser[name], l)
	}
}

func (s *lines) unlist(l *line) {
	for _, name := range l.users() {
		rest := slices.DeleteFunc(s.byUser[name], func(other *line) bool { return other == l })
		if s.byUser[name] = rest; len(rest) == 0 {
			delete(s.byUser, name)
		}
	}
}

// users returns the user parts of a line's accounts and, if there are any, of its
// contact.
func (l *line) users() (names []string) {
	if len(l.accounts) == 0 {
		return nil
	}
	if own := user(l.uri, sipmsg.ParseURI(l.uri)); len(own) > 0 {
		names = append(names, string(own))
	}
	for _, a := range l.accounts {
		if a.user != "" && !slices.Contains(names, a.user) {
			names = append(names, a.user)
		}
	}
	return names
}

// maxAccounts bounds the accounts of one contact.
const maxAccounts = 64

// Registered implements [proxy.Registrar].
func (r *Registrar) Registered(request, response *sipmsg.Message, phone transport.Hop, registrar netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	aor := account{
		user: string(user(request.Raw, request.To.URI)),
		host: strings.ToLower(string(request.Bytes(request.To.URI.Host))),
		at:   registrar,
	}
	if len(aor.user) > maxName || len(aor.host) > maxName {
		return
	}
	now := r.now()
	for _, h := range request.Headers {
		if h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := request.Addresses(h); ; {
			c, ok := it.Next()
			if !ok {
				break
			}
			if c.Star {
				r.leaveAll(aor, phone)
				continue
			}
			if c.URI.Scheme != sipmsg.SchemeSIP {
				continue
			}
			l := r.line(request.Bytes(c.URI.All), phone)
			if l == nil {
				continue
			}
			aor.expires = now + r.granted(request, c, response, l.token)
			r.account(l, aor, now)
		}
	}
}

// account notes until when a line is registered as an address-of-record.
func (r *Registrar) account(l *line, of account, now time.Duration) {
	r.changed++
	i := slices.IndexFunc(l.accounts, func(a account) bool { return a.user == of.user && a.host == of.host })
	switch {
	case i >= 0 && of.expires > now:
		l.accounts[i].expires, l.accounts[i].at = of.expires, of.at
	case i >= 0:
		r.lines.unlist(l)
		l.accounts = slices.Delete(l.accounts, i, i+1)
		r.lines.accounts--
		r.lines.enlist(l)
	case of.expires > now && len(l.accounts) < maxAccounts && r.lines.accounts < r.cfg.Limits.Total:
		r.lines.unlist(l)
		r.lines.accounts++
		l.accounts = append(l.accounts, of)
		r.lines.enlist(l)
	}
	r.saveLine(l)
}

// leaveAll ends the registrations of an address-of-record that a host has.
func (r *Registrar) leaveAll(of account, phone transport.Hop) {
	for _, l := range slices.Clone(r.lines.byUser[of.user]) {
		if l.hop.Remote.Addr() == phone.Remote.Addr() {
			r.account(l, of, 0)
		}
	}
}

// granted returns for how long a registrar has bound a contact: what its answer says
// where it lists the token, or else the user of the contact; 0 if it does not list the
// contact though it lists others.
func (r *Registrar) granted(request *sipmsg.Message, contact sipmsg.Address, response *sipmsg.Message, token string) time.Duration {
	asked := r.asked(request, contact)
	if asked == 0 {
		return 0
	}
	var other sipmsg.Address
	listed, similar := false, false
	for _, h := range response.Headers {
		if h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := response.Addresses(h); ; {
			c, ok := it.Next()
			if !ok {
				break
			}
			listed = true
			if v, ok := response.Param(c.URI.Params, "line"); ok && sipmsg.EqualFold(response.Bytes(v), token) {
				return r.told(response, c, asked)
			}
			if bytes.Equal(user(response.Raw, c.URI), user(request.Raw, contact.URI)) {
				other, similar = c, true
			}
		}
	}
	switch {
	case similar:
		return r.told(response, other, asked)
	case listed:
		return 0
	}
	return r.told(response, sipmsg.Address{}, asked)
}

// asked returns for how long a contact of a request wants to be bound.
func (r *Registrar) asked(m *sipmsg.Message, c sipmsg.Address) time.Duration {
	return min(r.told(m, c, r.cfg.DefaultExpires), 1<<32*time.Second)
}

// told returns the lifetime that a message names for a contact, else otherwise.
func (r *Registrar) told(m *sipmsg.Message, c sipmsg.Address, otherwise time.Duration) time.Duration {
	if v, ok := m.Param(c.Params, "expires"); ok {
		if n, ok := seconds(m.Bytes(v)); ok {
			return n
		}
		return otherwise
	}
	if m.Expires >= 0 {
		return time.Duration(min(m.Expires, 1<<32-1)) * time.Second
	}
	return otherwise
}

// sweepLines looks at the next part of the lines.
func (r *Registrar) sweepLines(now time.Duration) {
	s := &r.lines
	for n := part(len(s.list)); n > 0 && len(s.list) > 0; n-- {
		if s.cursor--; s.cursor < 0 || s.cursor >= len(s.list) {
			s.cursor = len(s.list) - 1
		}
		l := s.list[s.cursor]
		if slices.ContainsFunc(l.accounts, func(a account) bool { return a.expires <= now }) {
			s.unlist(l)
			had := len(l.accounts)
			l.accounts = slices.DeleteFunc(l.accounts, func(a account) bool { return a.expires <= now })
			s.accounts -= had - len(l.accounts)
			s.enlist(l)
		}
		if len(l.accounts) == 0 && now-l.used > lineIdle {
			r.removeLine(l)
		}
	}
}
