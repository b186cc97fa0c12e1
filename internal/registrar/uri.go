package registrar

import (
	"bytes"
	"strings"

	"sipnatd/sipmsg"
)

// equalURI compares two SIP URIs, each all of its bytes, by RFC 3261 section 19.1.4.
func equalURI(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	u, v := sipmsg.ParseURI(a), sipmsg.ParseURI(b)
	if u.Scheme != v.Scheme {
		return false
	}
	at := func(s sipmsg.Span) []byte { return a[s.Lo:s.Hi] }
	bt := func(s sipmsg.Span) []byte { return b[s.Lo:s.Hi] }
	return equalEscaped(at(u.User), bt(v.User)) &&
		bytes.EqualFold(at(u.Host), bt(v.Host)) &&
		bytes.Equal(at(u.Port), bt(v.Port)) &&
		matchParams(a, u.Params, b, v.Params) && matchParams(b, v.Params, a, u.Params) &&
		bytes.Equal(at(u.Headers), bt(v.Headers))
}

// matchParams reports whether the parameters of a that b has, too, are the same, and
// whether b has those of a that decide where or how a request is sent.
func matchParams(a []byte, in sipmsg.Span, b []byte, other sipmsg.Span) bool {
	for text := a[in.Lo:in.Hi]; len(text) > 0; {
		n := 1 + paramLen(text[1:])
		name, value, _ := bytes.Cut(text[1:n], []byte{'='})
		name, value = bytes.TrimSpace(name), bytes.TrimSpace(value)
		text = text[n:]
		if len(name) == 0 {
			continue
		}
		lower := strings.ToLower(string(name))
		theirs, ok := sipmsg.Param(b, other, lower)
		if !ok {
			switch lower {
			case "user", "ttl", "method", "maddr", "transport":
				return false
			}
			continue
		}
		if !equalEscaped(bytes.ToLower(value), bytes.ToLower(b[theirs.Lo:theirs.Hi])) {
			return false
		}
	}
	return true
}

// equalEscaped compares texts in which "%xx" stands for a byte (RFC 3986 section 2.1).
func equalEscaped(a, b []byte) bool {
	for len(a) > 0 && len(b) > 0 {
		var x, y byte
		x, a = nextUnescaped(a)
		y, b = nextUnescaped(b)
		if x != y {
			return false
		}
	}
	return len(a) == len(b)
}

// appendUnescaped appends text with the bytes that its escapes stand for.
func appendUnescaped(dst, text []byte) []byte {
	for len(text) > 0 {
		var c byte
		c, text = nextUnescaped(text)
		dst = append(dst, c)
	}
	return dst
}

// nextUnescaped returns the first byte and the rest. A percent sign that begins no
// escape stands for itself.
func nextUnescaped(text []byte) (byte, []byte) {
	if text[0] == '%' && len(text) >= 3 {
		hi, ok := hexDigit(text[1])
		lo, too := hexDigit(text[2])
		if ok && too {
			return hi<<4 | lo, text[3:]
		}
	}
	return text[0], text[1:]
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// badURI reports whether a URI has bytes that none has, and that would mean something
// else where it is written between angle brackets.
func badURI(uri []byte) bool {
	for _, c := range uri {
		if c <= ' ' || c == '<' || c == '>' || c == '"' || c == 0x7f {
			return true
		}
	}
	return false
}
