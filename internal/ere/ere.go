// Package ere matches the extended regular expressions of POSIX (IEEE 1003.1, section
// 9.4), as regcomp(3) does with REG_EXTENDED and REG_ICASE: without regard to case, the
// leftmost match and of those the longest one. The patterns of siproxd's configuration
// are such; what package regexp makes of a text with escapes is something else.
//
// A dot and a negated bracket match every character that they do not name, line ends
// too. Beyond POSIX there are \w, \W, \s and \S. Back-references in a pattern and the
// words of other dialects, such as \b, are refused.
package ere

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Pattern is a compiled expression. It may be used by several goroutines.
type Pattern struct{ re *regexp.Regexp }

// Compile reads an expression.
func Compile(text string) (*Pattern, error) {
	text, err := translate(text)
	if err != nil {
		return nil, err
	}
	// Package regexp knows no POSIX without regard to case, but its parser does.
	parsed, err := syntax.Parse(text, syntax.POSIX|syntax.FoldCase|syntax.OneLine|syntax.DotNL|syntax.ClassNL)
	if e, ok := err.(*syntax.Error); ok && e.Expr == text {
		return nil, errors.New(string(e.Code))
	} else if ok {
		return nil, fmt.Errorf("%s: %s", e.Code, e.Expr)
	}
	re, err := regexp.Compile(parsed.String())
	if err != nil {
		return nil, err
	}
	re.Longest()
	return &Pattern{re}, nil
}

// Match reports whether the pattern matches somewhere in a text.
func (p *Pattern) Match(text []byte) bool { return p.re.Match(text) }

// Replace returns text with its match replaced, where \1 to \9 in the replacement stand
// for the groups. As in siproxd, an expression without groups replaces all matches, any
// other one the first only. ok is false if there is no match.
func (p *Pattern) Replace(text []byte, with string) (out []byte, ok bool) {
	number := -1
	if p.re.NumSubexp() > 0 {
		number = 1
	}
	from := 0
	for _, m := range p.re.FindAllSubmatchIndex(text, number) {
		out = append(out, text[from:m[0]]...)
		out = expand(out, text, m, with)
		from, ok = m[1], true
	}
	return append(out, text[from:]...), ok
}

// expand appends a replacement for a match, of which m has where its groups begin and
// end.
func expand(out, text []byte, m []int, with string) []byte {
	for with != "" {
		n, ok := group(with)
		if !ok {
			out, with = append(out, with[0]), with[1:]
			continue
		}
		if m[2*n] >= 0 {
			out = append(out, text[m[2*n]:m[2*n+1]]...)
		}
		with = with[2:]
	}
	return out
}

// group returns the number of the group that a replacement begins with.
func group(with string) (n int, ok bool) {
	if len(with) < 2 || with[0] != '\\' || with[1] < '1' || with[1] > '9' {
		return 0, false
	}
	return int(with[1] - '0'), true
}

// CheckReplacement tells if a replacement names a group that the pattern does not have.
func (p *Pattern) CheckReplacement(with string) error {
	for i := range with {
		if n, ok := group(with[i:]); ok && n > p.re.NumSubexp() {
			return fmt.Errorf("\\%d: the pattern has %d groups", n, p.re.NumSubexp())
		}
	}
	return nil
}

// translate writes an expression of POSIX as one of package regexp: they differ in
// backslashes and in what is special in brackets.
func translate(text string) (string, error) {
	var out strings.Builder
	for text != "" {
		n, as := 1, text[:1]
		switch text[0] {
		case '[':
			var err error
			if n, as, err = bracket(text); err != nil {
				return "", err
			}
		case '{':
			interval, _, closed := strings.Cut(text[1:], "}")
			if !closed || interval == "" || interval[0] == ',' || strings.Trim(interval, "0123456789,") != "" {
				return "", errors.New("an interval is needed behind {")
			}
		case '\\':
			if len(text) == 1 {
				return "", errors.New("a backslash is the last character")
			}
			n, as = 2, text[:2]
			switch c := text[1]; {
			case c == 'w':
				as = "[[:alnum:]_]"
			case c == 'W':
				as = "[^[:alnum:]_]"
			case c == 's':
				as = "[[:space:]]"
			case c == 'S':
				as = "[^[:space:]]"
			case c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '<' || c == '>':
				return "", fmt.Errorf("\\%c is not understood", c)
			}
		}
		out.WriteString(as)
		text = text[n:]
	}
	return out.String(), nil
}

// bracket returns the length of the bracket expression that a text begins with (section
// 9.3.5), and its translation: a backslash is like any other character in it.
func bracket(text string) (n int, as string, err error) {
	n = 1
	if strings.HasPrefix(text[n:], "^") {
		n++
	}
	first := n
	for ; n < len(text); n++ {
		switch rest := text[n:]; {
		case rest[0] == ']' && n > first:
			return n + 1, strings.ReplaceAll(text[:n+1], `\`, `\\`), nil
		case strings.HasPrefix(rest, "[."), strings.HasPrefix(rest, "[="):
			return 0, "", errors.New("collating elements and equivalence classes are not understood")
		case strings.HasPrefix(rest, "[:"):
			end := strings.Index(rest, ":]")
			if end < 0 {
				return 0, "", errors.New("a character class is not closed")
			}
			n += end + 1
		}
	}
	return 0, "", errors.New("a bracket is not closed")
}
