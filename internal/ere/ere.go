// Package ere matches the extended regular expressions of POSIX (IEEE 1003.1, section
// 9.4), as regcomp(3) does with REG_EXTENDED and REG_ICASE: without regard to case, the
// leftmost match and of those the longest one. It exists because the patterns of
// siproxd's configuration are such, and package regexp costs the daemon 280 kB.
//
// Texts are bytes. A dot and a negated bracket match every byte that they do not name,
// line ends too. Beyond POSIX there are \w, \W, \s and \S. Back-references in a pattern
// and the words of other dialects, such as \b, are refused.
//
// The time for a match grows with the product of the lengths of pattern and text, and
// never faster: there is no backtracking.
package ere

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of patterns.
const (
	MaxGroups = 9 // that a replacement can name
	maxRepeat = 255
	maxSize   = 4096 // instructions
)

// Pattern is a compiled expression. It may be used by several goroutines.
type Pattern struct {
	prog   []inst
	sets   []set
	groups int
}

// Match is where a pattern matches: Match[2n] and Match[2n+1] are the first byte of
// group n and the one after its last, -1 where it took no part. Group 0 is all of it.
type Match [2 * (MaxGroups + 1)]int32

// An inst is an instruction of the automaton.
type inst struct {
	op   opcode
	set  int // index of the bytes that match, for opSet
	x, y int // next instructions; for opSave x is the next one and y the place
}

type opcode uint8

const (
	opSet   opcode = iota // one byte of a set
	opSplit               // x, or else y
	opSave
	opBegin // of the text
	opEnd
	opJump
	opMatch
)

// Compile reads an expression.
func Compile(text string) (*Pattern, error) { return compile(text) }

// Find returns the leftmost longest match.
func (p *Pattern) Find(text []byte) (m Match, ok bool) { return p.find(text, 0) }

// Replace returns text with its match replaced, where \1 to \9 in the replacement stand
// for the groups. As in siproxd, an expression without groups replaces all matches, any
// other one the first only. ok is false if there is no match.
func (p *Pattern) Replace(text []byte, with string) (out []byte, ok bool) {
	from, last := 0, int32(-1) // last is the end of the match before
	for from <= len(text) {
		m, found := p.find(text, from)
		if !found {
			break
		}
		ok = true
		out = append(out, text[from:m[0]]...)
		if m[1] != last {
			out = p.expand(out, text, m, with)
		}
		from, last = int(m[1]), m[1]
		if m[0] == m[1] { // nothing was matched: go on behind the next byte
			if from < len(text) {
				out = append(out, text[from])
			}
			from++
		}
		if p.groups > 0 {
			break
		}
	}
	if from < len(text) {
		out = append(out, text[from:]...)
	}
	return out, ok
}

func (p *Pattern) expand(out, text []byte, m Match, with string) []byte {
	for i := 0; i < len(with); i++ {
		if with[i] == '\\' && i+1 < len(with) && with[i+1] >= '1' && with[i+1] <= '9' {
			i++
			if n := 2 * int(with[i]-'0'); m[n] >= 0 {
				out = append(out, text[m[n]:m[n+1]]...)
			}
			continue
		}
		out = append(out, with[i])
	}
	return out
}

// CheckReplacement tells if a replacement names a group that the pattern does not have.
func (p *Pattern) CheckReplacement(with string) error {
	for i := 0; i+1 < len(with); i++ {
		if with[i] == '\\' && with[i+1] >= '1' && with[i+1] <= '9' {
			if n := int(with[i+1] - '0'); n > p.groups {
				return fmt.Errorf("\\%d: the pattern has %d groups", n, p.groups)
			}
			i++
		}
	}
	return nil
}

var errOpen = errors.New("a parenthesis is not closed")

// A node is a part of an expression.
type node struct {
	kind     byte // 'c' set, '.' concatenation, '|', '*' repetition, '(' group, '^', '$'
	set      set
	subs     []*node
	min, max int // of a repetition; max -1: no end
	group    int
}

// set is a set of bytes.
type set [4]uint64

func (s *set) add(c byte)      { s[c>>6] |= 1 << (c & 63) }
func (s *set) has(c byte) bool { return s[c>>6]&(1<<(c&63)) != 0 }

func (s *set) addRange(lo, hi byte) {
	for c := int(lo); c <= int(hi); c++ {
		s.add(byte(c))
	}
}

// fold adds the letters of the other case.
func (s *set) fold() {
	for c := byte('a'); c <= 'z'; c++ {
		if s.has(c) || s.has(c-32) {
			s.add(c)
			s.add(c - 32)
		}
	}
}

func (s *set) negate() {
	for i := range s {
		s[i] = ^s[i]
	}
}

// parser reads an expression by recursive descent.
type parser struct {
	text   string
	groups int
	depth  int
}

// alternatives is the top of the grammar: branches with bars between them.
func (p *parser) alternatives() (*node, error) {
	if p.depth++; p.depth > 100 {
		return nil, errors.New("too many parentheses within each other")
	}
	defer func() { p.depth-- }()
	n := &node{kind: '|'}
	for {
		b, err := p.branch()
		if err != nil {
			return nil, err
		}
		n.subs = append(n.subs, b)
		if !strings.HasPrefix(p.text, "|") {
			return n, nil
		}
		p.text = p.text[1:]
	}
}

func (p *parser) branch() (*node, error) {
	n := &node{kind: '.'}
	for p.text != "" && p.text[0] != '|' && p.text[0] != ')' {
		a, err := p.atom()
		if err != nil {
			return nil, err
		}
		for {
			lo, hi, ok, err := p.repetition()
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			a = &node{kind: '*', subs: []*node{a}, min: lo, max: hi}
		}
		n.subs = append(n.subs, a)
	}
	return n, nil
}

// repetition reads *, +, ? or an interval.
func (p *parser) repetition() (lo, hi int, ok bool, err error) {
	if p.text == "" {
		return 0, 0, false, nil
	}
	switch p.text[0] {
	case '*':
		lo, hi = 0, -1
	case '+':
		lo, hi = 1, -1
	case '?':
		lo, hi = 0, 1
	case '{':
		inner, rest, closed := strings.Cut(p.text[1:], "}")
		first, second, comma := strings.Cut(inner, ",")
		lo, ok = number(first)
		hi = lo
		if comma {
			if hi = -1; second != "" {
				var good bool
				hi, good = number(second)
				ok = ok && good && lo <= hi
			}
		}
		if !closed || !ok {
			return 0, 0, false, fmt.Errorf("{%s: not an interval such as {2,5}, of at most %d", inner, maxRepeat)
		}
		p.text = rest
		return lo, hi, true, nil
	default:
		return 0, 0, false, nil
	}
	p.text = p.text[1:]
	return lo, hi, true, nil
}

func number(s string) (n int, ok bool) {
	if s == "" || len(s) > 3 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n, n <= maxRepeat
}

// atom reads what a repetition can follow.
func (p *parser) atom() (*node, error) {
	c := p.text[0]
	p.text = p.text[1:]
	n := &node{kind: 'c'}
	switch c {
	case '(':
		p.groups++
		group := p.groups
		if group > MaxGroups {
			return nil, fmt.Errorf("more than %d groups", MaxGroups)
		}
		sub, err := p.alternatives()
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(p.text, ")") {
			return nil, errOpen
		}
		p.text = p.text[1:]
		return &node{kind: '(', subs: []*node{sub}, group: group}, nil
	case '^', '$':
		n.kind = c
	case '.':
		n.set.negate()
	case '[':
		if err := p.bracket(&n.set); err != nil {
			return nil, err
		}
	case '*', '+', '?', '{':
		return nil, fmt.Errorf("%c: there is nothing to repeat", c)
	case '\\':
		if p.text == "" {
			return nil, errors.New("a backslash stands at the end")
		}
		c = p.text[0]
		p.text = p.text[1:]
		switch {
		case c == 'w' || c == 'W':
			n.set.class("alnum")
			n.set.add('_')
		case c == 's' || c == 'S':
			n.set.class("space")
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("<>`'", c) >= 0:
			return nil, fmt.Errorf("\\%c: not known in extended regular expressions", c)
		default:
			n.set.add(c)
		}
		if c == 'W' || c == 'S' {
			n.set.negate()
		}
	default:
		n.set.add(c)
		n.set.fold()
	}
	return n, nil
}

// bracket reads a bracket expression, behind its "[" (section 9.3.5).
func (p *parser) bracket(s *set) error {
	open := errors.New("a bracket is not closed")
	negated := strings.HasPrefix(p.text, "^")
	if negated {
		p.text = p.text[1:]
	}
	for first := true; ; first = false {
		if p.text == "" {
			return open
		}
		if p.text[0] == ']' && !first {
			p.text = p.text[1:]
			break
		}
		if strings.HasPrefix(p.text, "[:") {
			name, rest, ok := strings.Cut(p.text[2:], ":]")
			if !ok {
				return open
			}
			if !s.class(name) {
				return fmt.Errorf("[:%s:]: no such class of characters", name)
			}
			p.text = rest
			continue
		}
		if strings.HasPrefix(p.text, "[.") || strings.HasPrefix(p.text, "[=") {
			return fmt.Errorf("%s: collating elements are not known", p.text[:2])
		}
		lo := p.text[0]
		hi := lo
		p.text = p.text[1:]
		if len(p.text) >= 2 && p.text[0] == '-' && p.text[1] != ']' {
			hi = p.text[1]
			p.text = p.text[2:]
			if hi < lo {
				return fmt.Errorf("%c-%c: the range has its end before its beginning", lo, hi)
			}
		}
		s.addRange(lo, hi)
	}
	s.fold()
	if negated {
		s.negate()
	}
	return nil
}

// class adds a class of characters, as in the C locale.
func (s *set) class(name string) bool {
	switch name {
	case "alpha":
		s.addRange('A', 'Z')
		s.addRange('a', 'z')
	case "upper":
		s.addRange('A', 'Z')
	case "lower":
		s.addRange('a', 'z')
	case "digit":
		s.addRange('0', '9')
	case "alnum":
		return s.class("alpha") && s.class("digit")
	case "xdigit":
		s.addRange('0', '9')
		s.addRange('A', 'F')
		s.addRange('a', 'f')
	case "space":
		s.addRange('\t', '\r')
		s.add(' ')
	case "blank":
		s.add(' ')
		s.add('\t')
	case "punct":
		s.addRange('!', '/')
		s.addRange(':', '@')
		s.addRange('[', '`')
		s.addRange('{', '~')
	case "print":
		s.addRange(' ', '~')
	case "graph":
		s.addRange('!', '~')
	case "cntrl":
		s.addRange(0, 31)
		s.add(127)
	default:
		return false
	}
	return true
}
