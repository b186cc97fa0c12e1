package sipmsg

import "bytes"

// Header is one header line with its continuation lines.
type Header struct {
	Kind  Kind
	Line  Span // all of it: name, colon, value, folds and the line end
	Name  Span // as written
	Value Span // without the white space around it; folds within are kept
}

// headers walks over the header lines of a message or of a body part.
type headers struct {
	b       []byte
	pos, hi int32
	crlf    int // lines so far that end with CR LF
}

// next reads the header at pos. It is done, without one, at the empty line
// that ends the headers, and then stands behind it.
func (s *headers) next() (h Header, done bool, err Reason) {
	b, pos, hi := s.b, s.pos, s.hi
	if pos >= hi {
		return h, false, ErrTruncated
	}
	i := skipToken(b, pos, hi)
	if i == pos {
		switch {
		case b[pos] == '\n':
			s.pos++
			return h, true, 0
		case b[pos] == '\r' && pos+1 < hi && b[pos+1] == '\n':
			s.pos += 2
			s.crlf++
			return h, true, 0
		}
		return h, false, ErrHeader
	}
	h.Name = Span{pos, i}
	for i < hi && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	if i >= hi {
		return h, false, ErrTruncated
	}
	if b[i] != ':' {
		return h, false, ErrHeader
	}
	value := i + 1
	for i = value; ; {
		n := bytes.IndexByte(b[i:hi], '\n')
		if n < 0 {
			return h, false, ErrTruncated
		}
		i += int32(n) + 1
		if b[i-2] == '\r' {
			s.crlf++
		}
		if i >= hi || (b[i] != ' ' && b[i] != '\t') {
			break
		}
	}
	s.pos = i
	h.Line = Span{pos, i}
	h.Kind = kindOf(h.Name.of(b))
	h.Value = trim(b, value, i)
	return h, false, 0
}
