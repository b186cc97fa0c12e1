package ere

import (
	"strings"
	"testing"
)

var patterns = []string{
	"", "a", "abc", "a|b", "a|ab|abc", "(a|ab)(c|bcd)(d*)", "^a", "a$", "^$", "a*", "a+", "a?b", "a{2}", "a{2,}", "a{1,3}", "(ab){2}",
	"[abc]+", "[^abc]+", "[a-c]x", "[]a]+", "[^]a]", "[a-]", "[[:digit:]]+", "[[:alpha:][:digit:]]*", "^(sips?:)00", "^(sips?:)([0-9]{3,})",
	"^555123(10[0-9]|11[012])$", `\+49`, `a\.b`, `\w+@\w+`, `\s`, ".*", ".+x", "(a*)(b|abc)", "(a*)*", "(a|b)*c", "((a)|(b))+", "x|()", "annexb=no",
	"a**", "(a+|b){0,2}", "[[:space:]]$", "(^a)", "a|^b", "(a$)",
}

func TestMatch(t *testing.T) {
	for _, x := range []struct{ pattern, text, want string }{
		{"a|ab|abc", "xabcd", "abc"}, // the longest
		{"(a|ab)(c|bcd)(d*)", "abcd", "abcd"},
		{"ABC", "xabc", "abc"},
		{"[A-C]+", "xabcx", "abc"},
		{"a.b", "a\nb", "a\nb"},
		{"a[^x]b", "a\nb", "a\nb"},
		{"^b", "a\nb", "-"},
		{"a$", "a\nb", "-"},
		{"[]a]+", "x]a]", "]a]"},
		{"[^]a]", "]ab", "b"},
		{`[\w]+`, `w\a`, `w\`}, // no more than a backslash
		{`[\]`, `\`, `\`},
		{"[[:digit:]a-]+", "x1-a", "1-a"},
		{`\w+@\w+`, "<user@host>", "user@host"},
		{`\S\s\W`, "a -", "a -"},
		{`\+49\.`, "+49.", "+49."},
		{"a{2,3}", "aaaa", "aaa"},
		{"a**", "aa", "aa"},
		{"^555123(10[0-9]|11[012])$", "555123112", "555123112"},
		{"^555123(10[0-9]|11[012])$", "555123113", "-"},
		{"^$", "", ""},
		{"\xff", "a\xffb", "-"}, // not UTF-8
	} {
		p, err := Compile(x.pattern)
		if err != nil {
			if x.want != "-" {
				t.Errorf("%q: %v", x.pattern, err)
			}
			continue
		}
		got := "-"
		if p.Match([]byte(x.text)) {
			got = string(p.re.Find([]byte(x.text)))
		}
		if got != x.want {
			t.Errorf("%q in %q: %q, not %q", x.pattern, x.text, got, x.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, text := range []string{
		"(", ")", "a)", "(a", "[", "[a", "[^", "[z-a]", "[[:x:]]", "[[:alpha:", "[[.a.]]", "*", "+a", "a|*", "a{", "a{x}", "a{2,1}", "a{9999}", "a{,2}",
		`\`, `\1`, `(a)\1`, `\b`, `\<a`, "((a{255}){255}){255}", strings.Repeat("(", 1000), "{2}",
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

func FuzzPattern(f *testing.F) {
	for _, p := range patterns {
		f.Add(p, "abc sip:0041@example.org aab")
	}
	f.Fuzz(func(t *testing.T, text, s string) {
		p, err := Compile(text)
		if err != nil || len(s) > 100 || len(text) > 50 {
			return
		}
		if p.CheckReplacement(`x\1`) == nil {
			p.Replace([]byte(s), `x\1`)
		}
	})
}
