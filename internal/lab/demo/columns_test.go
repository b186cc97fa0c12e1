package main

import (
	"strings"
	"testing"
)

func TestAlign(t *testing.T) {
	for _, c := range []struct{ left, right, want string }{
		{"a b c", "a b c", "a=a b=b c=c"},
		{"a b c", "a x c", "a=a b*x c=c"},
		{"a b b2 c", "a x c", "a=a b*x b2* c=c"},
		{"a c", "a x c", "a=a *x c=c"},
		{"a b", "x y", "a*x b*y"},
	} {
		var got []string
		for _, r := range align(strings.Fields(c.left), strings.Fields(c.right)) {
			mark := "="
			if r.changed {
				mark = "*"
			}
			got = append(got, r.left+mark+r.right)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q, %q: %s, want %s", c.left, c.right, s, c.want)
		}
	}
}

func TestWrap(t *testing.T) {
	got := wrap("0123456789", 8)
	if len(got) != 2 || got[0] != "01234567" || got[1] != "    89" {
		t.Errorf("%q", got)
	}
}
