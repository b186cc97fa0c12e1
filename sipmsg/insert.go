package sipmsg

// Insert puts lines, whole header lines, in front of the header h.
func (e *Edits) Insert(h Header, lines []byte) {
	e.Replace(Span{h.Line.Lo, h.Line.Lo}, lines)
}

// Remove takes the header h away, with its line end.
func (e *Edits) Remove(h Header) { e.Replace(h.Line, nil) }

// RemoveFirst takes values away from the front of the comma-separated header h: all
// before the position next, or the whole header where next is 0.
func (e *Edits) RemoveFirst(h Header, next int32) {
	if next == 0 {
		e.Remove(h)
		return
	}
	e.Replace(Span{h.Value.Lo, next}, nil)
}

// Find returns the first header of a kind.
func (m *Message) Find(k Kind) (h Header, ok bool) {
	for _, h := range m.Headers {
		if h.Kind == k {
			return h, true
		}
	}
	return Header{}, false
}
