package sipmsg

// Header is one header line with its continuation lines.
type Header struct {
	Kind  Kind
	Line  Span // all of it: name, colon, value, folds and the line end
	Name  Span // as written
	Value Span // without the white space around it; folds within are kept
}

// nextHeader reads the header that begins at pos. It returns the position
// after it, or done with the position after the empty line that ends the
// headers.
func nextHeader(b []byte, pos, hi int32) (h Header, next int32, done bool, err Reason) {
	if pos >= hi {
		return h, pos, false, ErrTruncated
	}
	if b[pos] == '\n' {
		return h, pos + 1, true, 0
	}
	if b[pos] == '\r' && pos+1 < hi && b[pos+1] == '\n' {
		return h, pos + 2, true, 0
	}
	i := skipToken(b, pos, hi)
	h.Name = Span{pos, i}
	for i < hi && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	if i >= hi {
		return h, hi, false, ErrTruncated
	}
	if b[i] != ':' || h.Name.Empty() {
		return h, pos, false, ErrHeader
	}
	value := i + 1
	for i = value; ; {
		end := index(b, i, hi, '\n')
		if end < 0 {
			return h, hi, false, ErrTruncated
		}
		if cr := index(b, i, end, '\r'); cr >= 0 && cr != end-1 {
			return h, pos, false, ErrHeader
		}
		i = end + 1
		if i >= hi || (b[i] != ' ' && b[i] != '\t') {
			break
		}
	}
	h.Line = Span{pos, i}
	h.Kind = kindOf(h.Name.of(b))
	h.Value = trim(b, value, i)
	return h, i, false, 0
}
