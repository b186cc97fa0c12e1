package proxy

import (
	"bytes"

	"sipnatd/sipmsg"
)

// answersTo reports whether credentials (RFC 7616 section 3.4) are for a realm. It reads
// them as leniently as the registrar, which accepts a realm without quotes: whatever
// counts as the answer to our challenge must not go on.
func answersTo(value []byte, realm string) bool {
	const blanks = " \t\r\n"
	_, rest := paramValue(bytes.TrimLeft(value, blanks)) // the scheme
	for len(rest) > 0 {
		name, after, ok := bytes.Cut(rest, []byte{'='})
		if !ok {
			return false
		}
		var text []byte
		text, rest = paramValue(bytes.TrimLeft(after, blanks))
		if sipmsg.EqualFold(bytes.Trim(name, blanks+","), "realm") && string(text) == realm {
			return true
		}
	}
	return false
}

// paramValue takes a parameter's value, without quotes and escapes, from the front.
func paramValue(b []byte) (value, rest []byte) {
	if len(b) == 0 || b[0] != '"' {
		if i := bytes.IndexAny(b, ", \t\r\n"); i >= 0 {
			return b[:i], b[i:]
		}
		return b, nil
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return value, b[i+1:]
		case '\\':
			if i++; i == len(b) {
				return value, nil
			}
		}
		value = append(value, b[i])
	}
	return value, nil
}
