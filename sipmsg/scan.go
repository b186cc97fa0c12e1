package sipmsg

import "bytes"

// What a character may be, as bits of class.
const (
	token = 1 << iota // part of a token: names, methods (RFC 3261 section 25.1)
	space             // linear white space
	alpha
	scheme  // part of a URI scheme (RFC 3986 section 3.1)
	endName // ends the name of a parameter
	endHost // ends the host and port of a URI
)

// class tells what each character may be.
var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9':
			t[c] = token | scheme
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
			t[c] = token | alpha | scheme
		}
	}
	for _, c := range "-.!%*_+`'~" {
		t[c] |= token
	}
	for _, c := range "+-." {
		t[c] |= scheme
	}
	// Within the value of a header, line ends occur as part of a fold only,
	// so they are white space too (RFC 3261 section 7.3.1).
	for _, c := range " \t\r\n" {
		t[c] |= space | endName | endHost
	}
	t[';'] |= endName | endHost
	t['='] |= endName
	t['?'] |= endHost
	return t
}()

func isSpace(c byte) bool  { return class[c]&space != 0 }
func isLetter(c byte) bool { return class[c]&alpha != 0 }
func isScheme(c byte) bool { return class[c]&scheme != 0 }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// EqualFold reports whether b equals want without regard to case. The letters
// of want are lower-case ASCII.
func EqualFold(b []byte, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i := range b {
		if lower(b[i]) != want[i] {
			return false
		}
	}
	return true
}

// equalName is EqualFold for names that consist of letters and "-" and are
// compared with a token, where one bit is all that tells the cases apart.
func equalName(b []byte, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i := range b {
		if b[i]|0x20 != want[i] {
			return false
		}
	}
	return true
}

// hasPrefixFold reports whether b begins with want, without regard to case.
func hasPrefixFold(b []byte, want string) bool {
	return len(b) >= len(want) && EqualFold(b[:len(want)], want)
}

// skipSpace returns the first position in b[i:hi] that is not white space.
func skipSpace(b []byte, i, hi int32) int32 {
	for j, c := range b[i:hi] {
		if class[c]&space == 0 {
			return i + int32(j)
		}
	}
	return hi
}

// skipToken returns the first position in b[i:hi] that is not part of a token.
func skipToken(b []byte, i, hi int32) int32 {
	for j, c := range b[i:hi] {
		if class[c]&token == 0 {
			return i + int32(j)
		}
	}
	return hi
}

// skipWord returns the first position in b[i:hi] that is white space.
func skipWord(b []byte, i, hi int32) int32 {
	for j, c := range b[i:hi] {
		if class[c]&space != 0 {
			return i + int32(j)
		}
	}
	return hi
}

// trim narrows [lo, hi) by the white space at its ends.
func trim(b []byte, lo, hi int32) Span {
	lo = skipSpace(b, lo, hi)
	for hi > lo && isSpace(b[hi-1]) {
		hi--
	}
	return Span{lo, hi}
}

// skipQuoted returns the position after the quoted string that begins at i,
// or false if its closing quote is not within b[i:hi].
func skipQuoted(b []byte, i, hi int32) (int32, bool) {
	b = b[:hi]
	for k := int(i) + 1; k < len(b); k++ {
		switch b[k] {
		case '\\':
			k++
		case '"':
			return int32(k) + 1, true
		}
	}
	return hi, false
}

// index returns the position of the first c in b[lo:hi], or -1.
func index(b []byte, lo, hi int32, c byte) int32 {
	if i := bytes.IndexByte(b[lo:hi], c); i >= 0 {
		return lo + int32(i)
	}
	return -1
}

// number reads an unsigned decimal number that is all of b. A value beyond
// limit becomes limit. It is false if b is empty or not all digits.
func number(b []byte, limit uint64) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		if n = n*10 + uint64(c-'0'); n > limit {
			n = limit // small enough for ten times as much
		}
	}
	return n, true
}

// portNumber reads a port, 1 to 65535, or returns 0.
func portNumber(b []byte) int {
	n, ok := number(b, 1<<16)
	if !ok || n >= 1<<16 {
		return 0
	}
	return int(n)
}

// containsFold reports whether want occurs in b, without regard to case.
func containsFold(b []byte, want string) bool {
	for i := 0; i+len(want) <= len(b); i++ {
		if EqualFold(b[i:i+len(want)], want) {
			return true
		}
	}
	return false
}
