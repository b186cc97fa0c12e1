package sipmsg

import "bytes"

const (
	maxNesting = 4  // multipart within multipart; real messages have one level
	maxParts   = 16 // session descriptions taken from one message
)

// SDPBodies appends to dst the session descriptions that the body holds: all
// of it if it is application/sdp, or such parts of a multipart body (RFC 2046
// section 5.1), at most four levels deep. What is encoded or compressed is not
// ours to read and is left out.
func (m *Message) SDPBodies(dst []Span) []Span {
	if m.Body.Empty() {
		return dst
	}
	e := entity{body: m.Body, contentType: m.ContentType, encoded: encoded(m.ContentEncoding.of(m.Raw))}
	return e.sdp(m.Raw, dst, len(dst)+maxParts, maxNesting)
}

// entity is a body, or a part of one, with what its headers say about it.
type entity struct {
	body        Span
	contentType Span
	encoded     bool
}

// sdp appends the session descriptions of e to dst, up to limit spans.
func (e entity) sdp(b []byte, dst []Span, limit, depth int) []Span {
	if e.encoded || len(dst) >= limit {
		return dst
	}
	ct := e.contentType
	i := ct.Lo
	for i < ct.Hi && b[i] != ';' {
		i++
	}
	params := Span{i, ct.Hi}
	switch t := trim(b, ct.Lo, i).of(b); {
	case EqualFold(t, "application/sdp"):
		if e.body.Empty() {
			return dst
		}
		return append(dst, e.body)
	case hasPrefixFold(t, "multipart/") && depth > 0:
		if boundary := boundary(b, params); len(boundary) > 0 {
			return e.parts(b, boundary, dst, limit, depth-1)
		}
	}
	return dst
}

// boundary returns the delimiter of a multipart body without quotes.
func boundary(b []byte, in Span) []byte {
	p := params{b: b, pos: in.Lo, hi: in.Hi}
	for {
		q, ok := p.next()
		if !ok {
			return nil
		}
		if !EqualFold(q.name.of(b), "boundary") {
			continue
		}
		v := q.value.of(b)
		if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
			v = v[1 : len(v)-1]
		}
		return v
	}
}

// parts takes the multipart body e apart. Preamble and epilogue are skipped;
// a last part that no delimiter ends goes to the end of the body.
func (e entity) parts(b, boundary []byte, dst []Span, limit, depth int) []Span {
	start := int32(-1) // of the current part
	for pos := e.body.Lo; pos < e.body.Hi; {
		line := pos
		next := index(b, pos, e.body.Hi, '\n') + 1
		if next == 0 {
			next = e.body.Hi
		}
		pos = next
		delimiter, last := delimiterLine(b[line:next], boundary)
		if !delimiter {
			continue
		}
		if start >= 0 {
			dst = part(b, Span{start, dropEOL(b, start, line)}).sdp(b, dst, limit, depth)
		}
		if last {
			return dst
		}
		start = next
	}
	if start >= 0 {
		dst = part(b, Span{start, e.body.Hi}).sdp(b, dst, limit, depth)
	}
	return dst
}

// delimiterLine reports whether line is a delimiter, and whether it is the
// closing one.
func delimiterLine(line, boundary []byte) (delimiter, last bool) {
	if len(line) < 2+len(boundary) || line[0] != '-' || line[1] != '-' || !bytes.HasPrefix(line[2:], boundary) {
		return false, false
	}
	line = line[2+len(boundary):]
	if len(line) >= 2 && line[0] == '-' && line[1] == '-' {
		line, last = line[2:], true
	}
	for _, c := range line {
		if !isSpace(c) {
			return false, false
		}
	}
	return true, last
}

// dropEOL returns hi without the line end before it, which belongs to the
// delimiter that follows.
func dropEOL(b []byte, lo, hi int32) int32 {
	if hi > lo && b[hi-1] == '\n' {
		hi--
		if hi > lo && b[hi-1] == '\r' {
			hi--
		}
	}
	return hi
}

// part reads the headers of the body part that fills s.
func part(b []byte, s Span) entity {
	var e entity
	for lines := (headers{b: b, pos: s.Lo, hi: s.Hi}); ; {
		if lines.pos >= s.Hi { // headers only
			e.body = Span{s.Hi, s.Hi}
			return e
		}
		h, done, err := lines.next()
		if err != 0 {
			return entity{}
		}
		if done {
			e.body = Span{lines.pos, s.Hi}
			return e
		}
		switch h.Kind {
		case HdrContentType:
			e.contentType = h.Value
		case HdrContentEncoding:
			e.encoded = e.encoded || encoded(h.Value.of(b))
		case HdrOther:
			if EqualFold(h.Name.of(b), "content-transfer-encoding") {
				e.encoded = e.encoded || transferEncoded(h.Value.of(b))
			}
		}
	}
}

// encoded reports whether a Content-Encoding changes the bytes.
func encoded(v []byte) bool { return len(v) > 0 && !EqualFold(v, "identity") }

// transferEncoded reports whether a Content-Transfer-Encoding changes the
// bytes (RFC 2045 section 6.2).
func transferEncoded(v []byte) bool {
	return len(v) > 0 && !EqualFold(v, "binary") && !EqualFold(v, "8bit") && !EqualFold(v, "7bit")
}
