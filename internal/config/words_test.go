package config

import (
	"slices"
	"testing"
)

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"", nil}, {" # none", nil}, {"a#b # c", []string{"a#b"}}, {"a,b c\t,d", []string{"a", "b", "c", "d"}},
		{`"a b" 'c,d'`, []string{"a b", "c,d"}}, {`''`, []string{""}}, {"a'b", []string{"a'b"}},
	} {
		if got, err := words(tt.text); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("words(%q) = %q, %v; want %q", tt.text, got, err, tt.want)
		}
	}
}

func TestLine(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""}, {"# none", ""}, {" a b  # c", "a b"}, {"a#b", "a#b"}, {`"a # b" # c`, "a # b"},
		{`"a" b`, `"a" b`}, {`'tis`, `'tis`}, {`"`, `"`}, {"a\t#b", "a"},
	} {
		if got := line(tt.text); got != tt.want {
			t.Errorf("line(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

// A value in quotes is the value when it is read.
func TestInQuotes(t *testing.T) {
	for _, value := range []string{"", "a", "a b", " a", "a ", "a # b", "#", `"`, `"a"`, "'a'", `"a" #`, "a,b", ",", "a\u00a0"} {
		if got := line(lineInQuotes(value)); got != value {
			t.Errorf("%q: in a line it is %q", value, got)
		}
		if got, err := words(wordInQuotes(value)); value != "" && (err != nil || len(got) != 1 || got[0] != value) {
			t.Errorf("%q: as a word it is %q, %v", value, got, err)
		}
	}
}
