package sipmsg

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"strconv"
)

var (
	// ErrOverlap is returned by Splice when two edits touch the same bytes.
	ErrOverlap = errors.New("sipmsg: edits overlap")
	// ErrSpan is returned by Splice when a span is not within the message.
	ErrSpan = errors.New("sipmsg: edit outside of the message")
)

// Edits collects replacements of spans of one message and applies them all
// at once. It is meant to be reused: Reset begins anew and keeps the memory.
type Edits struct {
	raw  []byte
	list []edit
	text []byte // the new bytes of all edits, one after another
}

// edit replaces the bytes at span by text[lo:hi].
type edit struct {
	span   Span
	lo, hi int32
}

// Reset forgets all edits and begins a new set for raw, which is not copied.
func (e *Edits) Reset(raw []byte) {
	e.raw = raw
	e.list = e.list[:0]
	e.text = e.text[:0]
}

// Len is the number of edits.
func (e *Edits) Len() int { return len(e.list) }

// All yields the edits, each with the span that it replaces and what it puts there,
// in the order in which they were given, or that of their places after Splice.
func (e *Edits) All() iter.Seq2[Span, []byte] {
	return func(yield func(Span, []byte) bool) {
		for _, c := range e.list {
			if !yield(c.span, e.text[c.lo:c.hi]) {
				return
			}
		}
	}
}

// Replace puts a copy of with in place of the bytes at s. An s that is empty
// but present inserts; several insertions at one place keep their order and
// come before a replacement that begins there. An absent s, the zero Span, is
// ignored, so that an optional part needs no question. Edits may be given in
// any order.
func (e *Edits) Replace(s Span, with []byte) {
	if s == (Span{}) {
		return
	}
	lo := int32(len(e.text))
	e.text = append(e.text, with...)
	e.list = append(e.list, edit{s, lo, int32(len(e.text))})
}

// FixContentLength makes Content-Length say how long the body of m will be.
// Call it once, after all edits of the body. It does nothing if the header is
// absent or right already.
func (e *Edits) FixContentLength(m *Message) {
	if m.ContentLength == (Span{}) {
		return
	}
	size := m.Body.Len()
	for _, c := range e.list {
		if c.span.Lo >= m.Body.Lo && c.span.Hi <= m.Body.Hi {
			size += int(c.hi-c.lo) - c.span.Len()
		}
	}
	if size == m.Body.Len() {
		return
	}
	lo := int32(len(e.text))
	e.text = strconv.AppendInt(e.text, int64(size), 10)
	for _, h := range m.Headers {
		if h.Kind == HdrContentLength { // agreeing duplicates are legal
			e.list = append(e.list, edit{h.Value, lo, int32(len(e.text))})
		}
	}
}

// Splice writes the edited message to dst[:0], which must not overlap the
// original, and returns it. Without edits the bytes are those of the original.
func (e *Edits) Splice(dst []byte) ([]byte, error) {
	e.sort()
	dst = dst[:0]
	pos := int32(0)
	for _, c := range e.list {
		if c.span.Lo < 0 || c.span.Hi < c.span.Lo || int(c.span.Hi) > len(e.raw) {
			return dst, ErrSpan
		}
		if c.span.Lo < pos {
			return dst, ErrOverlap
		}
		dst = append(dst, e.raw[pos:c.span.Lo]...)
		dst = append(dst, e.text[c.lo:c.hi]...)
		pos = c.span.Hi
	}
	return append(dst, e.raw[pos:]...), nil
}

// fewEdits are sorted by insertion, which suits a list that is nearly in order.
const fewEdits = 64

// sort brings the edits into the order of their places; those at one place keep
// theirs.
func (e *Edits) sort() {
	if len(e.list) > fewEdits {
		slices.SortStableFunc(e.list, byPlace)
		return
	}
	for i := 1; i < len(e.list); i++ {
		c := e.list[i]
		place := c.place()
		j := i
		for ; j > 0 && e.list[j-1].place() > place; j-- {
			e.list[j] = e.list[j-1]
		}
		if j < i {
			e.list[j] = c
		}
	}
}

// place orders edits by where they begin, then by where they end.
func (c *edit) place() uint64 { return uint64(uint32(c.span.Lo))<<32 | uint64(uint32(c.span.Hi)) }

func byPlace(a, b edit) int { return cmp.Compare(a.place(), b.place()) }
