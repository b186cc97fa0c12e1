package sipmsg

import "strconv"

// LimitExpires lowers what a registrar's answer grants to the contacts that are the
// sender's own to most seconds, so that it registers again that soon (RFC 3261
// sections 10.2.4 and 10.3). Nothing is raised, other contacts stay as they are, and
// so does what no longer is bound. A contact that names no lifetime has that of the
// Expires header, and without one whatever its owner likes: it gets a parameter.
//
// The Expires header, which some phones read in place of their contact, is lowered,
// too, unless the lifetime of another contact hangs on it.
func (e *Edits) LimitExpires(m *Message, most int, own func(Address) bool) {
	found, relied := false, false
	for _, h := range m.Headers {
		if h.Kind != HdrContact {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			v, named := m.Param(a.Params, "expires")
			if !own(a) {
				relied = relied || !named
				continue
			}
			found = true
			switch {
			case named && lifetime(m.Bytes(v)) > most:
				e.replaceNumber(v, "", most)
			case !named && (m.Expires < 0 || m.Expires > most):
				at := Span{a.All.Hi, a.All.Hi}
				e.replaceNumber(at, ";expires=", most)
			}
		}
	}
	if !found || relied || m.Expires <= most {
		return
	}
	for _, h := range m.Headers {
		if h.Kind == HdrExpires {
			e.replaceNumber(h.Value, "", most)
		}
	}
}

// replaceNumber puts a number, and a text before it, in the place of s.
func (e *Edits) replaceNumber(s Span, before string, n int) {
	lo := int32(len(e.text))
	e.text = append(e.text, before...)
	e.text = strconv.AppendInt(e.text, int64(n), 10)
	e.list = append(e.list, edit{s, lo, int32(len(e.text))})
}

// malformedExpires is what a lifetime counts for that is no number (RFC 3261 section
// 10.2.1.1).
const malformedExpires = 3600

// lifetime reads delta-seconds (RFC 3261 section 25.1), of whatever length.
func lifetime(text []byte) int {
	const longest = 1 << 30
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	if len(text) == 0 {
		return malformedExpires
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return malformedExpires
		}
		n = min(n*10+int(c-'0'), longest)
	}
	return n
}
