package sipmsg

import "bytes"

// params walks over ";name=value;name" parameters.
type params struct {
	b         []byte
	pos, hi   int32
	openQuote bool // a quote that never closes was seen: quotes mean nothing
}

// param is one parameter.
type param struct {
	all   Span // from the semicolon to the end of the value
	name  Span
	value Span // quotes included; empty but not zero after a bare "="
	flag  bool // there is no "="
}

// next returns the next parameter. Empty ones (";;") are skipped.
func (p *params) next() (param, bool) {
	b := p.b[:p.hi]
	for i := int(p.pos); i < len(b); {
		start := i
		if b[i] == ';' {
			i++
		}
		for i < len(b) && isSpace(b[i]) {
			i++
		}
		lo := i
		for i < len(b) && class[b[i]]&endName == 0 {
			i++
		}
		q := param{name: Span{int32(lo), int32(i)}, flag: true}
		end := int32(i)
		for i < len(b) && isSpace(b[i]) {
			i++
		}
		if i < len(b) && b[i] == '=' {
			q.flag = false
			q.value = p.valueAt(i + 1)
			i = int(p.pos)
			end = q.value.Hi
		}
		for i < len(b) && b[i] != ';' {
			i++
		}
		p.pos = int32(i)
		if !q.name.Empty() {
			q.all = Span{int32(start), end}
			return q, true
		}
	}
	return param{}, false
}

// valueAt reads the value at i and leaves p.pos at the semicolon after it.
func (p *params) valueAt(i int) Span {
	b := p.b[:p.hi]
	lo := int32(i)
	end := len(b)
	if n := bytes.IndexByte(b[i:], ';'); n >= 0 {
		end = i + n
	}
	if p.openQuote || bytes.IndexByte(b[i:end], '"') < 0 {
		p.pos = int32(end)
		return trim(b, lo, p.pos)
	}
	for i < len(b) && b[i] != ';' {
		if b[i] == '"' && !p.openQuote {
			if j, ok := skipQuoted(b, int32(i), p.hi); ok {
				i = int(j)
				continue
			}
			p.openQuote = true
		}
		i++
	}
	p.pos = int32(i)
	return trim(b, lo, p.pos)
}

// Param finds a parameter in the parameters of a URI, an address or a Via.
// The name is compared without regard to case and must be given in lower case.
// The value is as written, quotes included; of a parameter without a value it
// is empty. The first of several wins.
func (m *Message) Param(in Span, name string) (value Span, ok bool) { return Param(m.Raw, in, name) }

// Param is [Message.Param] for parameters in b, such as those of [ParseURI].
func Param(b []byte, in Span, name string) (value Span, ok bool) {
	p := params{b: b, pos: in.Lo, hi: in.Hi}
	for {
		q, ok := p.next()
		if !ok {
			return Span{}, false
		}
		if EqualFold(q.name.of(b), name) {
			if q.flag {
				return Span{q.all.Hi, q.all.Hi}, true
			}
			return q.value, true
		}
	}
}
