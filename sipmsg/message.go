package sipmsg

import (
	"bytes"
	"math"
)

const (
	// MaxSize is the size of the largest message, in bytes: that of the
	// largest UDP datagram.
	MaxSize = 65535
	// MaxHeaders is the greatest number of headers in a message. It bounds
	// memory and time; real messages have less than a tenth of it.
	MaxHeaders = 1000
)

// Message is the index of one SIP message. It is meant to be reused.
type Message struct {
	Raw []byte // the datagram given to Index, not copied, never changed

	Request    bool
	Method     Method // of a request
	MethodName Span   // of a request, as written
	RequestURI URI    // of a request
	Status     int    // of a response, 100 to 699

	Headers []Header // in order; valid until the next Index

	Via      Via // the topmost one
	ViaCount int // Via values in all

	From, To       Address
	FromTag, ToTag Span // empty if there is none
	CallID         Span
	CSeq           uint32
	CSeqMethod     Method
	CSeqMethodName Span

	ContentType     Span // the value with its parameters; absent if there is no such header
	ContentEncoding Span
	ContentLength   Span // the digits; absent if there is no such header

	Expires        int // Expires header in seconds; -1 if absent or not a number
	SessionExpires int // Session-Expires header in seconds; -1 if absent or not a number

	// Body is Content-Length bytes after the headers, or all of the rest
	// without that header (RFC 3261 section 18.3). Excess bytes are not part
	// of it.
	Body Span
}

// Bytes returns the bytes of a span. They alias Raw.
func (m *Message) Bytes(s Span) []byte { return m.Raw[s.Lo:s.Hi] }

// Index reads the message in b, which must be complete and begin at its first
// byte, leading line ends aside. The error, if any, is a [Reason]; the fields
// then have no meaning. Nothing is allocated once m.Headers is large enough.
func (m *Message) Index(b []byte) error {
	if r := m.index(b); r != 0 {
		return r
	}
	return nil
}

func (m *Message) index(b []byte) Reason {
	list := m.Headers[:0] // apart, so that the message is cleared in place
	*m = Message{}
	m.Raw, m.Headers, m.Expires, m.SessionExpires = b, list, -1, -1
	if len(b) > MaxSize {
		return ErrSize
	}
	n := int32(len(b))
	var pos int32
	for pos < n && (b[pos] == '\r' || b[pos] == '\n') {
		pos++
	}
	if onlyPadding(b[pos:]) {
		return ErrKeepAlive
	}
	pos, r := m.startLine(pos, n)
	if r != 0 {
		return r
	}
	lines := headers{b: b, pos: pos, hi: n}
	for {
		h, done, r := lines.next()
		if r != 0 {
			return r
		}
		if done {
			break
		}
		if len(m.Headers) == MaxHeaders {
			return ErrSize
		}
		m.Headers = append(m.Headers, h)
		if r := m.header(h); r != 0 {
			return r
		}
	}
	// Some take a lone CR for a line end: they would see other headers than
	// we do.
	if bytes.Count(b[pos:lines.pos], []byte{'\r'}) != lines.crlf {
		return ErrHeader
	}
	return m.complete(lines.pos, n)
}

// onlyPadding reports whether b holds nothing that could be a message.
func onlyPadding(b []byte) bool {
	for _, c := range b {
		if !isSpace(c) && c != 0 {
			return false
		}
	}
	return true
}

// startLine reads the request or status line at pos and returns the position
// after it.
func (m *Message) startLine(pos, hi int32) (int32, Reason) {
	b := m.Raw
	end := index(b, pos, hi, '\n')
	next := end + 1
	if end < 0 {
		end, next = hi, hi
	}
	if end > pos && b[end-1] == '\r' {
		end--
	}
	line := b[pos:end]
	if bytes.HasPrefix(line, []byte("SIP/")) {
		return next, m.statusLine(line)
	}
	return next, m.requestLine(pos, end)
}

// statusLine reads "SIP/2.0 200 OK". The reason phrase may be missing, with
// the space before it.
func (m *Message) statusLine(line []byte) Reason {
	const version = "SIP/2.0 "
	if !bytes.HasPrefix(line, []byte(version)) {
		return ErrVersion
	}
	code := line[len(version):]
	if len(code) < 3 || (len(code) > 3 && code[3] != ' ') || hasControl(code) {
		return ErrStartLine
	}
	n, ok := number(code[:3], 999)
	if !ok || n < 100 || n > 699 {
		return ErrStartLine
	}
	m.Status = int(n)
	return 0
}

// requestLine reads "INVITE sip:bob@example.com SIP/2.0". More than one space
// between the three words, and spaces after them, are tolerated.
func (m *Message) requestLine(lo, hi int32) Reason {
	b := m.Raw
	for hi > lo && b[hi-1] == ' ' {
		hi--
	}
	sp := bytes.LastIndexByte(b[lo:hi], ' ')
	if sp < 0 {
		return ErrNotSIP
	}
	version := b[lo+int32(sp)+1 : hi]
	if !bytes.HasPrefix(version, []byte("SIP/")) {
		return ErrNotSIP
	}
	if string(version) != "SIP/2.0" {
		return ErrVersion
	}
	hi = lo + int32(sp)
	if hasControl(b[lo:hi]) {
		return ErrStartLine
	}
	i := skipToken(b, lo, hi)
	m.MethodName = Span{lo, i}
	if m.MethodName.Empty() || i >= hi || b[i] != ' ' {
		return ErrStartLine
	}
	uri := trim(b, i, hi)
	if index(b, uri.Lo, uri.Hi, ' ') >= 0 {
		return ErrStartLine
	}
	if uri.Len() > 2 && b[uri.Lo] == '<' && b[uri.Hi-1] == '>' {
		uri = Span{uri.Lo + 1, uri.Hi - 1}
	}
	m.RequestURI = parseURI(b, uri.Lo, uri.Hi)
	if m.RequestURI.Scheme == SchemeNone {
		return ErrStartLine
	}
	m.Request = true
	m.Method = methodOf(m.MethodName.of(b))
	return 0
}

// hasControl reports whether b holds a control character.
func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

// header takes what the message needs to know from one header.
func (m *Message) header(h Header) Reason {
	b := m.Raw
	switch h.Kind {
	case HdrVia:
		return m.via(h)
	case HdrFrom:
		if m.From.All.Lo != 0 {
			return m.duplicate(m.From.All, h.Value)
		}
		m.From = parseAddress(b, h.Value)
		m.FromTag, _ = m.Param(m.From.Params, "tag")
	case HdrTo:
		if m.To.All.Lo != 0 {
			return m.duplicate(m.To.All, h.Value)
		}
		m.To = parseAddress(b, h.Value)
		m.ToTag, _ = m.Param(m.To.Params, "tag")
	case HdrCallID:
		if m.CallID.Lo != 0 {
			return m.duplicate(m.CallID, h.Value)
		}
		m.CallID = h.Value
	case HdrCSeq:
		return m.cseq(h)
	case HdrContentType:
		if m.ContentType.Lo != 0 {
			return m.duplicate(m.ContentType, h.Value)
		}
		m.ContentType = h.Value
	case HdrContentEncoding:
		if !encoded(m.ContentEncoding.of(b)) { // a list: any coding counts
			m.ContentEncoding = h.Value
		}
	case HdrContentLength:
		return m.contentLength(h)
	case HdrExpires:
		if m.Expires < 0 {
			m.Expires = seconds(b, h.Value)
		}
	case HdrSessionExpires:
		if m.SessionExpires < 0 {
			m.SessionExpires = seconds(b, h.Value)
		}
	}
	return 0
}

// duplicate judges a second header of a kind that may occur once only: no
// harm if it repeats the first, but if it differs two readers would see two
// messages.
func (m *Message) duplicate(first, second Span) Reason {
	if !bytes.Equal(first.of(m.Raw), second.of(m.Raw)) {
		return ErrDuplicate
	}
	return 0
}

func (m *Message) via(h Header) Reason {
	it := m.Vias(h)
	for {
		v, ok := it.Next()
		if !ok {
			break
		}
		if m.ViaCount == 0 {
			m.Via = v
		}
		m.ViaCount++
	}
	if m.ViaCount == 0 {
		return ErrVia
	}
	return 0
}

// cseq reads "4711 INVITE".
func (m *Message) cseq(h Header) Reason {
	b := m.Raw
	i := h.Value.Lo
	for i < h.Value.Hi && isDigit(b[i]) {
		i++
	}
	n, ok := number(b[h.Value.Lo:i], math.MaxUint32+1)
	name := Span{skipSpace(b, i, h.Value.Hi), h.Value.Hi}
	if !ok || n > math.MaxUint32 || name.Lo == i || name.Empty() || skipToken(b, name.Lo, name.Hi) != name.Hi {
		return ErrCSeq
	}
	if !m.CSeqMethodName.Empty() {
		if m.CSeq != uint32(n) {
			return ErrDuplicate
		}
		return m.duplicate(m.CSeqMethodName, name)
	}
	m.CSeq = uint32(n)
	m.CSeqMethodName = name
	m.CSeqMethod = methodOf(name.of(b))
	return 0
}

func (m *Message) contentLength(h Header) Reason {
	n, ok := number(h.Value.of(m.Raw), MaxSize+1)
	if !ok {
		return ErrContentLength
	}
	if m.ContentLength.Lo != 0 {
		if first, _ := number(m.ContentLength.of(m.Raw), MaxSize+1); first != n {
			return ErrDuplicate
		}
		return 0
	}
	m.ContentLength = h.Value
	return 0
}

// seconds reads delta-seconds, which parameters may follow. A number beyond
// 2**31 - 1 becomes that. It is -1 if there is no number.
func seconds(b []byte, s Span) int {
	i := s.Lo
	for i < s.Hi && isDigit(b[i]) {
		i++
	}
	n, ok := number(b[s.Lo:i], math.MaxInt32)
	if !ok {
		return -1
	}
	return int(n)
}

// complete checks that nothing is missing and finds the body, which begins at
// pos.
func (m *Message) complete(pos, hi int32) Reason {
	switch {
	case m.ViaCount == 0:
		return ErrNoVia
	case m.From.All.Empty():
		return ErrNoFrom
	case m.To.All.Empty():
		return ErrNoTo
	case m.CallID.Empty():
		return ErrNoCallID
	case m.CSeqMethodName.Empty():
		return ErrNoCSeq
	case m.Request && !bytes.Equal(m.MethodName.of(m.Raw), m.CSeqMethodName.of(m.Raw)):
		return ErrCSeqMethod
	}
	m.Body = Span{pos, hi}
	if m.ContentLength.Lo != 0 {
		n, _ := number(m.ContentLength.of(m.Raw), MaxSize+1)
		if n > uint64(hi-pos) {
			return ErrShortBody
		}
		m.Body.Hi = pos + int32(n)
	}
	return 0
}
