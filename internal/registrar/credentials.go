package registrar

import (
	"bytes"

	"sipnatd/sipmsg"
)

// credentials are those of an Authorization or Proxy-Authorization header (RFC 7616
// section 3.4), without quotes and escapes. What is absent is nil.
type credentials struct {
	username, realm, nonce, uri, response []byte
	algorithm, cnonce, qop, nc            []byte
}

// parse reads the value of a header. It is lenient in what may be quoted, and refuses
// what could be understood in two ways. ok is false, too, for another scheme.
func (c *credentials) parse(value []byte) (ok bool) {
	*c = credentials{}
	scheme, rest := word(value)
	if !sipmsg.EqualFold(scheme, "digest") || len(rest) == 0 || !isBlank(rest[0]) {
		return false
	}
	for {
		for len(rest) > 0 && (isBlank(rest[0]) || rest[0] == ',') {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return true
		}
		var name, v []byte
		name, rest = word(rest)
		rest = bytes.TrimLeft(rest, blanks)
		if len(name) == 0 || len(rest) == 0 || rest[0] != '=' {
			return false
		}
		rest = bytes.TrimLeft(rest[1:], blanks)
		if len(rest) > 0 && rest[0] == '"' {
			if v, rest, ok = unquote(rest); !ok {
				return false
			}
		} else if v, rest = word(rest); len(v) == 0 {
			return false
		}
		rest = bytes.TrimLeft(rest, blanks)
		if len(rest) > 0 && rest[0] != ',' {
			return false
		}
		field := c.field(name)
		if field == nil {
			continue
		}
		if *field != nil {
			return false
		}
		*field = v
	}
}

// field returns where the parameter of a name belongs, nil if it does not matter.
func (c *credentials) field(name []byte) *[]byte {
	for _, f := range [...]struct {
		name  string
		field *[]byte
	}{
		{"username", &c.username}, {"realm", &c.realm}, {"nonce", &c.nonce}, {"uri", &c.uri},
		{"response", &c.response}, {"algorithm", &c.algorithm}, {"cnonce", &c.cnonce},
		{"qop", &c.qop}, {"nc", &c.nc},
	} {
		if sipmsg.EqualFold(name, f.name) {
			return f.field
		}
	}
	return nil
}

// blanks is linear white space; header lines may be folded.
const blanks = " \t\r\n"

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// word takes what stands before a blank, a comma, an equals sign or a quote. A URI
// without its quotes is one, too, but for what it has of these.
func word(b []byte) (word, rest []byte) {
	if i := bytes.IndexAny(b, blanks+",=\""); i >= 0 {
		return b[:i:i], b[i:]
	}
	return b[:len(b):len(b)], nil
}

// unquote takes the quoted string that b begins with, and what its escapes stand for.
func unquote(b []byte) (text, rest []byte, ok bool) {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			if text == nil {
				text = b[1:i:i]
			}
			return text, b[i+1:], true
		case '\\':
			if i+1 == len(b) {
				return nil, nil, false
			}
			if text == nil {
				text = append(make([]byte, 0, len(b)), b[1:i]...)
			}
			i++
			text = append(text, b[i])
		default:
			if text != nil {
				text = append(text, b[i])
			}
		}
	}
	return nil, nil, false
}
