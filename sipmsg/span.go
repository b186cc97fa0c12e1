package sipmsg

// Span is a half-open range of bytes, [Lo, Hi), of the datagram that was
// indexed. The zero Span stands for a part that is absent; a part that is
// present but empty has Lo == Hi and is not zero.
type Span struct{ Lo, Hi int32 }

// Empty reports whether the span holds no byte: the part is absent or empty.
func (s Span) Empty() bool { return s.Lo >= s.Hi }

// Len is the number of bytes in the span.
func (s Span) Len() int { return int(s.Hi - s.Lo) }

// of returns the bytes of b that the span covers.
func (s Span) of(b []byte) []byte { return b[s.Lo:s.Hi] }
