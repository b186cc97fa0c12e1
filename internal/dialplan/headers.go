package dialplan

import (
	"bytes"
	"errors"
	"strings"

	"sipnatd/sipmsg"
)

// stripped is a header to remove, or one of its values.
type stripped struct {
	name, short string // in lower case; short is the compact form, if there is one
	value       string // empty: the whole header
}

// compact are the short names of headers (RFC 3261 section 7.3.3 and later ones).
var compact = map[string]string{
	"accept-contact": "a", "allow-events": "u", "call-id": "i", "contact": "m", "content-encoding": "e", "content-length": "l",
	"content-type": "c", "event": "o", "from": "f", "identity": "y", "refer-to": "r", "referred-by": "b", "reject-contact": "j",
	"request-disposition": "d", "session-expires": "x", "subject": "s", "supported": "k", "to": "t", "via": "v",
}

// needed are headers without which a message is none, or does not come back.
var needed = map[string]bool{
	"via": true, "from": true, "to": true, "call-id": true, "cseq": true, "contact": true, "route": true, "record-route": true,
	"max-forwards": true, "content-length": true, "content-type": true, "content-encoding": true,
}

func newStripped(text string) (s stripped, err error) {
	name, value, _ := strings.Cut(text, ":")
	s = stripped{name: strings.ToLower(strings.TrimSpace(name)), value: strings.TrimSpace(value)}
	for long, short := range compact {
		if s.name == short {
			s.name = long
		}
	}
	s.short = compact[s.name]
	switch {
	case s.name == "":
		return s, errors.New("no header is named")
	case needed[s.name]:
		return s, errors.New("a message can not do without this header")
	}
	return s, nil
}

func (s *stripped) is(name []byte) bool {
	return len(name) == len(s.name) && strings.EqualFold(string(name), s.name) ||
		len(name) == 1 && strings.EqualFold(string(name), s.short)
}

// stripHeaders removes headers, but for those that somebody else has changed already.
func (r *rules) stripHeaders(m *sipmsg.Message, e *sipmsg.Edits) {
	for _, h := range m.Headers {
		for i := range r.strip {
			if s := &r.strip[i]; !s.is(m.Bytes(h.Name)) || touched(e, h.Line) {
				continue
			} else if s.value == "" {
				e.Remove(h)
				break
			}
			if rest, found := r.withoutValues(m.Bytes(h.Value), m.Bytes(h.Name)); found && len(rest) == 0 {
				e.Remove(h)
			} else if found {
				e.Replace(h.Value, rest)
			}
			break
		}
	}
}

// withoutValues returns the values of a header that are not to be removed.
func (r *rules) withoutValues(value, name []byte) (rest []byte, found bool) {
	removed := func(v []byte) bool {
		for i := range r.strip {
			if s := &r.strip[i]; s.is(name) && strings.EqualFold(s.value, string(v)) {
				return true
			}
		}
		return false
	}
	if removed(value) {
		return nil, true
	}
	for v := range bytes.SplitSeq(value, []byte{','}) {
		v = bytes.TrimSpace(v)
		if removed(v) {
			found = true
			continue
		}
		if len(rest) > 0 {
			rest = append(rest, ", "...)
		}
		rest = append(rest, v...)
	}
	return rest, found
}

// touched reports whether an edit concerns a place already.
func touched(e *sipmsg.Edits, s sipmsg.Span) bool {
	for at := range e.All() {
		if at.Lo < s.Hi && at.Hi > s.Lo {
			return true
		}
	}
	return false
}
