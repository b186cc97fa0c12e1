package sipmsg

// Address is one name-addr or addr-spec, with the header parameters after it
// (RFC 3261 section 20.10).
type Address struct {
	All       Span // without the comma and the white space around it
	Display   Span // the display name as written, quotes included
	Bracketed bool // the URI stands in angle brackets
	URI       URI
	Params    Span // header parameters, from the first ";"
	Star      bool // "Contact: *"
}

// AddressIter walks over the addresses of a header. It is a value: a copy
// walks on its own.
type AddressIter struct{ values values }

// Addresses iterates over the addresses of h: all values of a comma-separated
// header, the only one of From, To, Reply-To, Refer-To and Referred-By.
func (m *Message) Addresses(h Header) AddressIter {
	return AddressIter{values{b: m.Raw, pos: h.Value.Lo, hi: h.Value.Hi, single: !h.Kind.list()}}
}

// Next returns the next address, or false after the last one. A value that
// holds no URI is returned with SchemeNone.
func (it *AddressIter) Next() (Address, bool) {
	v, ok := it.values.next()
	if !ok {
		return Address{}, false
	}
	return parseAddress(it.values.b, v), true
}

// values splits the value of a header at its commas.
type values struct {
	b         []byte
	pos, hi   int32
	single    bool // commas mean nothing
	openQuote bool // a quote that never closes was seen: quotes mean nothing
	openAngle bool // the same for "<"
}

// next returns the next value, trimmed. Empty ones are skipped.
func (v *values) next() (Span, bool) {
	b := v.b
	for v.pos < v.hi {
		lo := v.pos
		i := v.hi
		if !v.single {
			i = v.end()
		}
		v.pos = i + 1
		if s := trim(b, lo, i); !s.Empty() {
			return s, true
		}
	}
	return Span{}, false
}

// end returns the position of the comma that ends the value at v.pos.
func (v *values) end() int32 {
	b := v.b
	if index(b, v.pos, v.hi, ',') < 0 {
		return v.hi
	}
	i := v.pos
	for i < v.hi {
		switch b[i] {
		case ',':
			return i
		case '"':
			if !v.openQuote {
				if j, ok := skipQuoted(b, i, v.hi); ok {
					i = j
					continue
				}
				v.openQuote = true
			}
		case '<':
			if !v.openAngle {
				if j := index(b, i, v.hi, '>'); j >= 0 {
					i = j
				} else {
					v.openAngle = true
				}
			}
		}
		i++
	}
	return i
}

// parseAddress reads the address that fills s.
func parseAddress(b []byte, s Span) Address {
	a := Address{All: s}
	if s.Len() == 1 && b[s.Lo] == '*' {
		a.Star = true
		return a
	}
	lo, hi := s.Lo, s.Hi
	if open := findAngle(b, lo, hi); open >= 0 {
		a.Bracketed = true
		a.Display = trim(b, lo, open)
		end := index(b, open, hi, '>')
		rest := end + 1
		if end < 0 {
			end, rest = hi, hi
		}
		u := trim(b, open+1, end)
		a.URI = parseURI(b, u.Lo, u.Hi)
		if i := index(b, rest, hi, ';'); i >= 0 {
			a.Params = Span{i, hi}
		}
		return a
	}
	// Without brackets every parameter belongs to the header, not the URI.
	i := lo
	for i < hi && b[i] != ';' && !isSpace(b[i]) {
		i++
	}
	a.URI = parseURI(b, lo, i)
	if i = index(b, i, hi, ';'); i >= 0 {
		a.Params = Span{i, hi}
	}
	return a
}

// findAngle returns the position of the "<" that opens the URI, or -1. One
// within a quoted string is text; but where a quote is never closed, quotes
// mean nothing, so that no address escapes notice.
func findAngle(b []byte, lo, hi int32) int32 {
	b = b[:hi]
	openQuote := false
	for i := int(lo); i < len(b); i++ {
		switch b[i] {
		case '<':
			return int32(i)
		case '"':
			if openQuote {
				continue
			}
			if j, ok := skipQuoted(b, int32(i), hi); ok {
				i = int(j) - 1
			} else {
				openQuote = true
			}
		}
	}
	return -1
}
