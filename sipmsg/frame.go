package sipmsg

import "bytes"

// Framer finds the messages in a stream, such as a TCP connection (RFC 3261
// section 18.3). The zero value is ready for the beginning of a stream. It
// remembers how far it has looked, so that a message that comes byte by byte is
// still looked at once only.
//
// It asks for no more than what frames a message: a first line that is SIP's,
// header lines, and a Content-Length, which a stream must have (section 20.14).
// Those are judged as [Message.Index] does, since two readers that disagree about
// them would see different messages; the rest is left to Index.
type Framer struct {
	seen int // the bytes before are known to hold no end of the headers
	part framePart
	size int // of the message, once its headers are complete
}

// framePart is what is at Framer.seen.
type framePart uint8

const (
	inFirstWord framePart = iota
	inStartLine
	inHeaders
)

// Next finds the first message in b, which is what has come and was not taken
// yet. The first skip bytes are line ends between messages and not part of one
// (RFC 3261 section 7.5); they may be keep-alives (RFC 5626 section 4.4.1). The
// message is the n bytes after them. If n is 0 it is not complete yet.
//
// The caller takes skip+n bytes away, and calls again with the rest and what has
// come since. A message has MaxSize bytes at most, so with as many bytes as that
// it is either complete or refused.
//
// The error, if any, is a [Reason]. The next message cannot be found then.
func (f *Framer) Next(b []byte) (skip, n int, err error) {
	for skip < len(b) && f.seen == 0 && (b[skip] == '\r' || b[skip] == '\n') {
		skip++
	}
	b = b[skip:]
	if f.size == 0 {
		if r := f.head(b); r != 0 {
			return skip, 0, r
		}
		if f.size == 0 {
			return skip, 0, nil
		}
	}
	if f.size > len(b) {
		return skip, 0, nil
	}
	n = f.size
	*f = Framer{}
	return skip, n, nil
}

// head looks for the end of the headers and, if it is there, finds the size of
// the message. What it refuses it refuses however much of the stream is there
// already: the bytes are judged in order.
func (f *Framer) head(b []byte) Reason {
	hi := min(len(b), MaxSize)
	if f.part == inFirstWord && !f.firstWord(b[:hi]) {
		return ErrNotSIP
	}
	for f.seen < hi {
		i := bytes.IndexByte(b[f.seen:hi], '\n')
		if i < 0 {
			f.seen = hi
			break
		}
		i += f.seen
		if f.part == inStartLine && !isStartLine(b[:i]) {
			return ErrNotSIP
		}
		f.part = inHeaders
		next := i + 1
		if next < hi && b[next] == '\r' {
			next++
		}
		if next == hi {
			f.seen = i // whether the next line is empty is not known yet
			break
		}
		if b[next] == '\n' {
			return f.complete(b[:next+1])
		}
		f.seen = i + 1
	}
	if hi == MaxSize {
		return ErrSize
	}
	return 0
}

// complete finds the size of the message with this start line and headers.
func (f *Framer) complete(b []byte) Reason {
	start := bytes.IndexByte(b, '\n') + 1
	lines := headers{b: b, pos: int32(start), hi: int32(len(b))}
	var length Span
	body := uint64(0)
	for count := 0; ; count++ {
		h, done, r := lines.next()
		if r != 0 {
			return r
		}
		if done {
			break
		}
		if count == MaxHeaders {
			return ErrSize
		}
		if h.Kind != HdrContentLength {
			continue
		}
		n, ok := number(h.Value.of(b), MaxSize+1)
		if !ok {
			return ErrContentLength
		}
		if length.Lo != 0 && n != body {
			return ErrDuplicate
		}
		length, body = h.Value, n
	}
	if bytes.Count(b[start:], []byte{'\r'}) != lines.crlf {
		return ErrHeader
	}
	if length.Lo == 0 {
		return ErrNoContentLength
	}
	if uint64(len(b))+body > MaxSize {
		return ErrSize
	}
	f.size = len(b) + int(body)
	return 0
}

// firstWord reports whether b begins like a message, with "SIP/" or a method.
// Other protocols, such as TLS, are so told apart by their first bytes rather
// than after a silence.
func (f *Framer) firstWord(b []byte) bool {
	i := int(skipToken(b, int32(f.seen), int32(len(b))))
	if i == len(b) {
		return true
	}
	f.part = inStartLine
	return i > 0 && b[i] == ' ' || string(b[:i+1]) == "SIP/"
}

// isStartLine reports whether a complete line is one of SIP, of whatever version.
func isStartLine(line []byte) bool {
	if bytes.HasPrefix(line, []byte("SIP/")) {
		return true
	}
	line = bytes.TrimRight(line, " \r")
	return bytes.HasPrefix(line[bytes.LastIndexByte(line, ' ')+1:], []byte("SIP/"))
}
