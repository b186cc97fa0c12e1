package sipmsg

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
	b := p.b
	for p.pos < p.hi {
		start := p.pos
		i := start
		if b[i] == ';' {
			i++
		}
		i = skipSpace(b, i, p.hi)
		var q param
		q.name = Span{i, i}
		for i < p.hi && b[i] != ';' && b[i] != '=' && !isSpace(b[i]) {
			i++
		}
		q.name.Hi = i
		i = skipSpace(b, i, p.hi)
		q.flag = true
		end := q.name.Hi
		if i < p.hi && b[i] == '=' {
			q.flag = false
			i = skipSpace(b, i+1, p.hi)
			lo := i
			for i < p.hi && b[i] != ';' {
				if b[i] == '"' && !p.openQuote {
					if j, ok := skipQuoted(b, i, p.hi); ok {
						i = j
						continue
					}
					p.openQuote = true
				}
				i++
			}
			q.value = trim(b, lo, i)
			end = q.value.Hi
		} else {
			for i < p.hi && b[i] != ';' {
				i++
			}
		}
		p.pos = i
		if q.name.Empty() {
			continue
		}
		q.all = Span{start, end}
		return q, true
	}
	return param{}, false
}

// Param finds a parameter in the parameters of a URI, an address or a Via.
// The name is compared without regard to case and must be given in lower case.
// The value is as written, quotes included; of a parameter without a value it
// is empty. The first of several wins.
func (m *Message) Param(in Span, name string) (value Span, ok bool) {
	p := params{b: m.Raw, pos: in.Lo, hi: in.Hi}
	for {
		q, ok := p.next()
		if !ok {
			return Span{}, false
		}
		if equalFold(q.name.of(m.Raw), name) {
			if q.flag {
				return Span{q.all.Hi, q.all.Hi}, true
			}
			return q.value, true
		}
	}
}
