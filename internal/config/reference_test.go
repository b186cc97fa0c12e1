package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write contrib/sipnatd.conf")

func reference(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// contrib/sipnatd.conf is the reference; -update writes it.
func TestReferenceFile(t *testing.T) {
	path := filepath.Join("..", "..", "contrib", "sipnatd.conf")
	want := reference(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not the reference (%v); go test ./internal/config -update writes it", path, err)
	}
}

// keyLine is a line of the reference that sets something, without its '#'.
var keyLine = regexp.MustCompile(`(?m)^#(\w+ =.*)$`)

// The reference sets nothing as it is, and everything to its default with every
// key.
func TestReferenceIsTheDefault(t *testing.T) {
	text := reference(t)
	if c := parse(t, text); !alike(c, Default()) || len(c.Warnings) > 0 {
		t.Errorf("as it is: %+v", c)
	}
	all := parse(t, keyLine.ReplaceAllString(text, "$1"))
	if !alike(all, Default()) {
		t.Errorf("with every key: %+v", all)
	}
	for _, w := range all.Warnings {
		if !strings.Contains(w, " has no effect: ") {
			t.Error(w)
		}
	}
	if got := len(keyLine.FindAllString(text, -1)); got != len(settings) {
		t.Errorf("%d keys, and %d settings", got, len(settings))
	}
}

// The reference says of every setting what it does, its range, unit and default,
// and whether it can be reloaded, in the setting's own paragraph; lines fit a
// terminal.
func TestReferenceIsComplete(t *testing.T) {
	text := reference(t)
	for line := range strings.Lines(text) {
		if len(line) > textWidth+1 && strings.ContainsRune(line, ' ') && !keyLine.MatchString(line) {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
	for _, s := range settings {
		end := strings.Index(text, "\n#"+strings.TrimSpace(s.Name+" = "+s.Default)+"\n")
		if end < 0 {
			t.Errorf("%s is not there with its default", s.Name)
			continue
		}
		paragraph := text[strings.LastIndex(text[:end], "\n\n"):end]
		paragraph = strings.Join(strings.Fields(strings.ReplaceAll(paragraph, "\n#", " ")), " ")
		says := []string{s.Help, "Values: " + s.Accepts(), s.Unit}
		if s.Effect == NoEffect {
			says = append(says, s.Fate)
		}
		for _, words := range says {
			if !strings.Contains(paragraph, words) {
				t.Errorf("%s: it does not say %q: %s", s.Name, words, paragraph)
			}
		}
		if strings.Contains(paragraph, "next start") == s.Reload && s.Effect != NoEffect {
			t.Errorf("%s: whether it is reloaded: %s", s.Name, paragraph)
		}
		if strings.Contains(paragraph, "many times") != s.Repeated {
			t.Errorf("%s: whether it is repeated: %s", s.Name, paragraph)
		}
	}
}

// The ranges are those that are kept: the ends are accepted, and what is beyond is
// refused with the end as the nearest.
func TestRanges(t *testing.T) {
	for _, s := range settings {
		switch s.Kind {
		case Port, Ports, Number, Seconds, Milliseconds:
		default:
			continue
		}
		for _, n := range []int{s.Min, s.Max} {
			c := Default()
			if _, err := s.set(c, strconv.Itoa(n)); err != nil {
				t.Errorf("%s = %d: %v", s.Name, n, err)
			}
			if got := s.texts(c); len(got) != 1 || got[0] != strconv.Itoa(n) {
				t.Errorf("%s = %d is %q", s.Name, n, got)
			}
		}
		for _, beyond := range [][2]int{{s.Min - 1, s.Min}, {s.Max + 1, s.Max}} {
			_, err := s.set(Default(), strconv.Itoa(beyond[0]))
			if err == nil || !strings.HasSuffix(err.Error(), "the nearest is "+strconv.Itoa(beyond[1])) {
				t.Errorf("%s = %d: %v", s.Name, beyond[0], err)
			}
		}
	}
}
