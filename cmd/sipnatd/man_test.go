package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sipnatd/internal/config"
)

var update = flag.Bool("update", false, "write what is generated from the program into man and docs")

// generated is the part of a document between two marks, which must be as the
// program has it; -update makes it so.
func generated(t *testing.T, name, begin, end, want string) {
	t.Helper()
	text := document(t, name)
	before, rest, found := strings.Cut(text, begin+"\n")
	got, after, closed := strings.Cut(rest, end+"\n")
	switch {
	case !found || !closed:
		t.Fatalf("%s: there is no part between %q and %q", name, begin, end)
	case got == want:
	case *update:
		must(t, os.WriteFile(filepath.Join(top, name), []byte(before+begin+"\n"+want+end+"\n"+after), 0o644))
	default:
		t.Errorf("%s is not what the program says; go test ./cmd/sipnatd -update writes it:\n%s", name, want)
	}
}

// The settings of sipnatd.conf(5) are those of the program.
func TestManualSettings(t *testing.T) {
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, s := range config.Settings() {
		fmt.Fprintf(&b, ".It Ic %s\n%s", s.Name, roff(s.Help))
		b.WriteString(".br\n" + roff("Values: "+s.Accepts()+"."))
		if s.Default != "" {
			b.WriteString(roff("Default: " + strings.TrimSpace(s.Default+" "+s.Unit) + "."))
		}
		if !s.Reload {
			b.WriteString("A change takes effect with the next start.\n")
		}
	}
	b.WriteString(".El\n")
	generated(t, "man/sipnatd.conf.5", `.\" begin settings`, `.\" end settings`, b.String())
}

// roff is text for a manual, a line for each sentence.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, " -", ` \-`).Replace(text)
	var b strings.Builder
	for sentence := range strings.SplitSeq(text, ". ") {
		if strings.HasPrefix(sentence, ".") || strings.HasPrefix(sentence, "'") {
			sentence = `\&` + sentence
		}
		b.WriteString(strings.TrimSuffix(sentence, ".") + ".\n")
	}
	return b.String()
}

// The manuals are well-formed, for both programs that show manuals.
func TestManualFormat(t *testing.T) {
	for _, page := range []string{"man/sipnatd.8", "man/sipnatd.conf.5"} {
		path := filepath.Join(top, page)
		for _, tool := range [][]string{
			{"mandoc", "-T", "lint", "-W", "warning", path},
			{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path},
		} {
			if _, err := exec.LookPath(tool[0]); err != nil {
				if os.Getenv("SIPNATD_CI") == "1" {
					t.Errorf("%s is missing", tool[0])
				}
				t.Logf("not looked at with %s, which is missing", tool[0])
				continue
			}
			cmd := exec.Command(tool[0], tool[1:]...)
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if tool[0] == "mandoc" {
				errs.Write(out)
			}
			if err != nil || errs.Len() > 0 {
				t.Errorf("%s: %s: %v\n%s", page, tool[0], err, errs.String())
			}
		}
	}
}
