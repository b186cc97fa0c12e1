package registrar

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// change is what a REGISTER wants of one contact.
type change struct {
	uri, params []byte // of the message
	q           int16
	lifetime    time.Duration // 0: it is removed
	hop         transport.Hop
	old         *binding // nil: there is none yet
}

// Register implements [proxy.Registrar]: the steps of RFC 3261 section 10.3, of which
// the proxy has done the first. Either all of a request is carried out or nothing.
func (r *Registrar) Register(m *sipmsg.Message, from transport.Hop) proxy.Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := requirements(m); a.Status != 0 { // step 2
		return a
	}
	name, answer := r.authenticate(m, from, &r.auth.registrar) // step 3
	if answer.Status != 0 {
		return answer
	}
	of := user(m.Raw, m.To.URI) // step 5
	if m.To.URI.Scheme != sipmsg.SchemeSIP || len(of) == 0 || !r.own(m) {
		return proxy.Answer{Status: 404}
	}
	if len(of) > maxName {
		return proxy.Answer{Status: 400, Reason: "User Too Long"}
	}
	if sender := user(m.Raw, m.From.URI); !bytes.Equal(of, sender) {
		return proxy.Answer{Status: 403, Reason: "Third-Party Registration"}
	}
	if !r.auth.mayBind(name, of) { // step 4
		return proxy.Answer{Status: 403}
	}
	now := r.now()
	a := r.aors[string(of)]
	if a != nil {
		r.expire(a, now)
	}
	if answer = r.judge(m, from, a); answer.Status != 0 {
		return answer
	}
	if answer = r.makeRoom(a, from); answer.Status != 0 {
		r.stats.Full++
		return answer
	}
	r.carryOut(m, of, now)
	r.stats.Registered++
	r.log.Debug("registered", "user", printable(of), "contacts", len(r.changes), "hop", from)
	return r.accept(m, of, now)
}

// requirements refuses what the request requires, of which there is nothing here
// (section 8.2.2.3).
func requirements(m *sipmsg.Message) proxy.Answer {
	var lines []byte
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrRequire && h.Value.Lo < h.Value.Hi {
			lines = append(append(append(lines, "Unsupported: "...), m.Bytes(h.Value)...), "\r\n"...)
		}
	}
	if lines == nil {
		return proxy.Answer{}
	}
	return proxy.Answer{Status: 420, Headers: lines}
}

// own reports whether the address-of-record is one of ours.
func (r *Registrar) own(m *sipmsg.Message) bool {
	if r.cfg.Own == nil {
		return true
	}
	return r.cfg.Own(strings.ToLower(string(m.Bytes(m.To.URI.Host))), m.To.URI.PortNum)
}

// judge reads the contacts into r.changes (steps 6 and 7).
func (r *Registrar) judge(m *sipmsg.Message, from transport.Hop, a *aor) proxy.Answer {
	clear(r.changes)
	r.changes = r.changes[:0]
	contacts, star := 0, false
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := m.Addresses(h); ; {
			c, ok := it.Next()
			if !ok {
				break
			}
			if contacts++; c.Star {
				star = true
				continue
			}
			if answer := r.judgeContact(m, c, from, a); answer.Status != 0 {
				return answer
			}
		}
	}
	if star {
		if contacts > 1 || m.Expires != 0 {
			return proxy.Answer{Status: 400, Reason: "A Contact Of * Goes Alone With Expires 0"}
		}
		if a != nil {
			for _, b := range a.bindings {
				r.changes = append(r.changes, change{old: b})
			}
		}
	}
	for _, c := range r.changes {
		if b := c.old; b != nil && bytes.Equal(b.callID(), m.Bytes(m.CallID)) && m.CSeq <= b.cseq {
			return proxy.Answer{Status: 500, Reason: "CSeq Out Of Order"}
		}
	}
	return proxy.Answer{}
}

// judgeContact appends a contact to r.changes.
func (r *Registrar) judgeContact(m *sipmsg.Message, c sipmsg.Address, from transport.Hop, a *aor) proxy.Answer {
	if c.URI.Scheme == sipmsg.SchemeNone {
		return proxy.Answer{Status: 400, Reason: "Bad Contact"}
	}
	if c.URI.Scheme != sipmsg.SchemeSIP {
		return proxy.Answer{Status: 416}
	}
	uri := m.Bytes(c.URI.All)
	if badURI(uri) {
		return proxy.Answer{Status: 400, Reason: "Bad Contact"}
	}
	if len(uri)+int(c.Params.Hi-c.Params.Lo)+int(m.CallID.Hi-m.CallID.Lo) > maxContact {
		return proxy.Answer{Status: 400, Reason: "Contact Too Long"}
	}
	if len(r.changes) >= r.cfg.Limits.PerAOR {
		r.stats.Full++
		return proxy.Answer{Status: 403, Reason: "Too Many Contacts"}
	}
	for _, other := range r.changes {
		if equalURI(other.uri, uri) {
			return proxy.Answer{Status: 400, Reason: "Contact Named Twice"}
		}
	}
	lifetime := r.lifetime(m, c)
	if lifetime > 0 && lifetime < r.cfg.MinExpires {
		least := strconv.AppendInt([]byte("Min-Expires: "), int64(r.cfg.MinExpires/time.Second), 10)
		return proxy.Answer{Status: 423, Headers: append(least, "\r\n"...)}
	}
	hop := reach(m.Raw, c.URI, from)
	r.changes = append(r.changes, change{
		uri: uri, params: contactParams(m, c), q: quality(m, c),
		lifetime: min(lifetime, r.cfg.MaxExpires),
		hop:      hop,
		old:      find(a, uri, from, lifetime == 0),
	})
	return proxy.Answer{}
}

// find returns the binding of a contact. Phones behind different routers may have the
// same contact: whence they register tells them apart. But any device of a user may
// remove what is bound to him.
func find(a *aor, uri []byte, from transport.Hop, removal bool) *binding {
	if a == nil {
		return nil
	}
	var elsewhere *binding
	for _, b := range a.bindings {
		if equalURI(b.uri(), uri) {
			if b.hop.Remote.Addr() == from.Remote.Addr() {
				return b
			}
			elsewhere = b
		}
	}
	if removal {
		return elsewhere
	}
	return nil
}

// lifetime returns for how long a contact wants to be bound: by its expires parameter,
// by the Expires header, or else by default. What is not a number counts as nothing.
func (r *Registrar) lifetime(m *sipmsg.Message, c sipmsg.Address) time.Duration {
	if v, ok := m.Param(c.Params, "expires"); ok {
		if n, ok := seconds(m.Bytes(v)); ok {
			return n
		}
		return r.cfg.DefaultExpires
	}
	if m.Expires >= 0 {
		return time.Duration(min(m.Expires, 1<<32-1)) * time.Second
	}
	return r.cfg.DefaultExpires
}

// seconds reads delta-seconds, of which there are at most 2**32-1 (RFC 3261 section
// 20.19).
func seconds(text []byte) (time.Duration, bool) {
	text = bytes.Trim(text, `"`)
	if len(text) == 0 || len(text) > 64 {
		return 0, false
	}
	n := uint64(0)
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+uint64(c-'0'), 1<<32-1)
	}
	return time.Duration(n) * time.Second, true
}

// quality reads the q parameter (section 25.1: qvalue).
func quality(m *sipmsg.Message, c sipmsg.Address) int16 {
	v, ok := m.Param(c.Params, "q")
	if !ok {
		return noQ
	}
	f, err := strconv.ParseFloat(string(m.Bytes(v)), 64)
	if err != nil || !(f >= 0 && f <= 1) {
		return noQ
	}
	return int16(f*1000 + 0.5)
}

// contactParams returns the header parameters that a contact gets back as they came,
// which are all but expires and q.
func contactParams(m *sipmsg.Message, c sipmsg.Address) []byte {
	var kept []byte
	for text := m.Bytes(c.Params); len(text) > 0; {
		n := 1 + paramLen(text[1:])
		name, _, _ := bytes.Cut(text[1:n], []byte{'='})
		if name = bytes.TrimSpace(name); len(name) > 0 && !sipmsg.EqualFold(name, "expires") && !sipmsg.EqualFold(name, "q") {
			kept = append(kept, text[:n]...)
		}
		text = text[n:]
	}
	for i, b := range kept {
		if b < ' ' {
			kept[i] = ' ' // a line may have been folded
		}
	}
	return kept
}

// paramLen returns where the first semicolon outside of quotes stands, or the length.
func paramLen(text []byte) int {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == '\\' && quoted:
			i++
		case text[i] == ';' && !quoted:
			return i
		}
	}
	return len(text)
}

// makeRoom refuses new contacts beyond the limits. A phone that has as many as it may
// have loses the one that ends first: it has forgotten it, as phones do whose address
// changes whenever they start.
func (r *Registrar) makeRoom(a *aor, from transport.Hop) proxy.Answer {
	more, fewer := 0, 0
	for _, c := range r.changes {
		switch {
		case c.old == nil && c.lifetime > 0:
			more++
		case c.old != nil && c.lifetime == 0:
			fewer++
		}
	}
	if more == 0 {
		return proxy.Answer{}
	}
	if a != nil {
		for n := len(a.bindings) + more - fewer - r.cfg.Limits.PerAOR; n > 0; n-- {
			b := r.oldest(a, from)
			if b == nil {
				return proxy.Answer{Status: 403, Reason: "Too Many Contacts"}
			}
			r.changes = append(r.changes, change{old: b})
			fewer++
		}
	}
	if h := r.hosts[from.Remote.Addr()]; h != nil && h.bindings+more-fewer > r.cfg.Limits.PerHost {
		return proxy.Answer{Status: 403, Reason: "Too Many Contacts"}
	}
	if len(r.bindings)+more-fewer > r.cfg.Limits.Total {
		return proxy.Answer{Status: 503, Reason: "Too Many Registrations", Headers: []byte("Retry-After: 60\r\n")}
	}
	return proxy.Answer{}
}

// oldest returns which binding of a host ends first, of those that the request does
// not speak of.
func (r *Registrar) oldest(a *aor, from transport.Hop) (first *binding) {
next:
	for _, b := range a.bindings {
		if b.hop.Remote.Addr() != from.Remote.Addr() || first != nil && first.expires <= b.expires {
			continue
		}
		for _, c := range r.changes {
			if c.old == b {
				continue next
			}
		}
		first = b
	}
	return first
}

// carryOut makes the changes, which nothing can hinder any more.
func (r *Registrar) carryOut(m *sipmsg.Message, of []byte, now time.Duration) {
	for _, c := range r.changes {
		r.changed++
		switch {
		case c.lifetime == 0:
			if c.old != nil {
				r.remove(c.old)
			}
			continue
		case c.old == nil:
			c.old = &binding{hop: c.hop}
			r.add(of, c.old)
		default:
			r.move(c.old, c.hop)
		}
		b := c.old
		b.setText(c.uri, c.params, m.Bytes(m.CallID))
		b.cseq, b.q, b.expires = m.CSeq, c.q, now+c.lifetime
		r.saveContact(b)
	}
}

// accept is the 200 with all bindings of the address-of-record (step 8).
func (r *Registrar) accept(m *sipmsg.Message, of []byte, now time.Duration) proxy.Answer {
	lines := make([]byte, 0, 256)
	if a := r.aors[string(of)]; a != nil {
		for _, b := range a.bindings {
			lines = append(append(append(lines, "Contact: <"...), b.uri()...), '>')
			lines = append(lines, b.params()...)
			if b.q != noQ {
				lines = fmt.Appendf(lines, ";q=%d.%03d", b.q/1000, b.q%1000)
			}
			lines = strconv.AppendInt(append(lines, ";expires="...), ceilSeconds(b.expires-now), 10)
			lines = append(lines, "\r\n"...)
		}
	}
	if len(r.changes) == 1 {
		// Not needed, but what phones read that do not look for their own contact.
		lines = strconv.AppendInt(append(lines, "Expires: "...), ceilSeconds(r.changes[0].lifetime), 10)
		lines = append(lines, "\r\n"...)
	}
	lines = append(lines, "Date: "...)
	lines = time.Now().UTC().AppendFormat(lines, "Mon, 02 Jan 2006 15:04:05 GMT\r\n")
	return proxy.Answer{Status: 200, Headers: lines}
}

// ceilSeconds rounds up, so that a lifetime is told as it was granted.
func ceilSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// printable is text of a message for the log, without what could disturb it.
func printable(b []byte) string {
	s := strconv.Quote(string(b))
	return s[1 : len(s)-1]
}
