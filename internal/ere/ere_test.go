package ere

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

var patterns = []string{
	"", "a", "abc", "a|b", "a|ab|abc", "(a|ab)(c|bcd)(d*)", "^a", "a$", "^$", "a*", "a+", "a?b", "a{2}", "a{2,}", "a{1,3}", "(ab){2}",
	"[abc]+", "[^abc]+", "[a-c]x", "[]a]+", "[^]a]", "[a-]", "[[:digit:]]+", "[[:alpha:][:digit:]]*", "^(sips?:)00", "^(sips?:)([0-9]{3,})",
	"^555123(10[0-9]|11[012])$", `\+49`, `a\.b`, `\w+@\w+`, `\s`, ".*", ".+x", "(a*)(b|abc)", "(a*)*", "(a|b)*c", "((a)|(b))+", "x|()", "annexb=no",
	"a**", "(a+|b){0,2}", "[[:space:]]$", "(^a)", "a|^b", "(a$)",
}

var texts = []string{
	"", "a", "b", "ab", "abc", "abcd", "aaa", "xaab", "ABC", "cab", "]a-", "12a", "sip:0041@x", "SIPS:00", "sip:12345@x", "555123100", "5551231101",
	"+49 a.b", "user@host", "a\nb", "annexb=no;annexb=no", "bca", "ababab", "xyz",
}

// Package regexp matches the same, and the same groups but for what has several ways.
func TestAgainstRegexp(t *testing.T) {
	for _, text := range patterns {
		p, err := Compile(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for _, s := range texts {
			compare(t, p, text, s)
		}
	}
}

func compare(t *testing.T, p *Pattern, text, s string) {
	t.Helper()
	syntax := strings.NewReplacer(`\w`, "[[:alnum:]_]", `\s`, "[[:space:]]", `\W`, "[^[:alnum:]_]", `\S`, "[^[:space:]]").Replace(text)
	re, err := regexp.Compile("(?is)" + syntax)
	if err != nil {
		return // such as a** there
	}
	re.Longest()
	want := re.FindStringSubmatchIndex(s)
	m, ok := p.Find([]byte(s))
	if ok != (want != nil) {
		t.Errorf("%q in %q: %v, not %v", text, s, ok, want)
		return
	}
	if !ok {
		return
	}
	if int(m[0]) != want[0] || int(m[1]) != want[1] {
		t.Errorf("%q in %q: %v, not %v", text, s, m[:2], want[:2])
	}
	for n := 2; n < len(want); n++ {
		if n < len(m) && (m[n] < 0) != (want[n] < 0) && !strings.ContainsAny(text, "*{+?") {
			t.Errorf("%q in %q: groups %v, not %v", text, s, m, want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, text := range []string{
		"(", ")", "a)", "(a", "[", "[a", "[^", "[z-a]", "[[:x:]]", "[[:alpha:", "[[.a.]]", "*", "+a", "a|*", "a{", "a{x}", "a{2,1}", "a{999}", "a{,2}",
		`\`, `\1`, `(a)\1`, `\b`, `\<a`, "(((((((((((a)))))))))))", "((a{255}){255}){255}", strings.Repeat("(", 1000), "{2}",
	} {
		if _, err := Compile(text); err == nil {
			t.Errorf("%.20q was accepted", text)
		}
	}
}

func TestReplace(t *testing.T) {
	for _, x := range []struct{ pattern, with, text, want string }{
		{"^(sips?:)00", `\1+`, "sip:0041441234567@example.org", "sip:+41441234567@example.org"},
		{"^(sips?:)([0-9]{3,})", `\10041\2`, "sip:123@example.org", "sip:0041123@example.org"},
		{"annexb=no", "annexb=yes", "x annexb=no; ANNEXB=NO y", "x annexb=yes; annexb=yes y"},
		{"(b)", `<\1>`, "abab", "a<b>ab"}, // with a group only the first
		{"b*", "-", "abc", "-a-c-"},
		{"(x)|a", `[\1]`, "a", "[]"},
		{"a", `\\0\`, "a", `\\0\`},
		{"^a", "b", "aaa", "baa"},
	} {
		p, err := Compile(x.pattern)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := p.Replace([]byte(x.text), x.with)
		if string(got) != x.want || !ok {
			t.Errorf("%q, %q in %q: %q, not %q", x.pattern, x.with, x.text, got, x.want)
		}
	}
	p, _ := Compile("(a)")
	if _, ok := p.Replace([]byte("xyz"), "b"); ok {
		t.Error("replaced without a match")
	}
	if p.CheckReplacement(`\1x\\`) != nil || p.CheckReplacement(`\2`) == nil {
		t.Error("groups of replacements")
	}
}

// A pattern that makes others take for ever.
func TestNoBacktracking(t *testing.T) {
	p, err := Compile("^(a+)+$")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Find(append(bytes.Repeat([]byte("a"), 65000), 'b')); ok {
		t.Error("matched")
	}
}

func FuzzPattern(f *testing.F) {
	for _, p := range patterns {
		f.Add(p, "abc sip:0041@example.org aab")
	}
	f.Fuzz(func(t *testing.T, text, s string) {
		p, err := Compile(text)
		if err != nil || len(s) > 100 || len(text) > 50 {
			return
		}
		p.Replace([]byte(s), `x\1`)
		for i := range len(text) + len(s) {
			if (text + s)[i] >= 0x80 {
				return // bytes here, characters there
			}
		}
		if !strings.ContainsAny(text, `\`) && !strings.Contains(text, "(?") && !strings.Contains(text, "]") && !strings.Contains(text, "{") {
			compare(t, p, text, s)
		}
	})
}
