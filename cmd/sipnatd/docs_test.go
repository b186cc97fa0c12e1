package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// top is the repository's directory.
const top = "../.."

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	must(t, err)
	return string(text)
}

// What the documents link to is there.
func TestDocumentLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, name := range []string{"README.md", "CHANGELOG.md", "docs/design.md", "docs/troubleshooting.md"} {
		for _, m := range link.FindAllStringSubmatch(document(t, name), -1) {
			if _, err := os.Stat(filepath.Join(top, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// sources is the text of every Go file whose name passes.
func sources(t *testing.T, passes func(name string) bool) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || !passes(path) {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	}))
	return all.String()
}

// The tests and test data that the table of standards names exist.
func TestStandards(t *testing.T) {
	_, table, found := strings.Cut(document(t, "README.md"), "\n## Standards\n")
	if !found {
		t.Fatal("the README has no section Standards")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	tests := sources(t, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	rows := 0
	for row := range strings.Lines(table) {
		columns := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
		if !strings.HasPrefix(columns[0], " [") {
			continue
		}
		if rows++; len(columns) != 4 {
			t.Fatalf("not four columns: %s", row)
		}
		for group := range strings.SplitSeq(columns[3], ";") {
			for name := range strings.SplitSeq(strings.ReplaceAll(group, " `nat/testdata` ", " nat/testdata/"), ",") {
				words := strings.Fields(name)
				name = words[len(words)-1]
				if strings.HasPrefix(group, " `nat/testdata`") {
					if _, err := os.Stat(filepath.Join(top, "nat/testdata", filepath.Base(name))); err != nil {
						t.Error(err)
					}
				} else if !strings.Contains(tests, "func "+name+"(") {
					t.Errorf("there is no test %s", name)
				}
			}
		}
	}
	if rows < 10 {
		t.Errorf("%d rows", rows)
	}
}

// The messages that docs/troubleshooting.md explains are those of the program.
func TestTroubleshooting(t *testing.T) {
	program := sources(t, func(name string) bool { return !strings.HasSuffix(name, "_test.go") })
	quoted := regexp.MustCompile("(?m)^\\| `([^`]+)` ")
	all := quoted.FindAllStringSubmatch(document(t, "docs/troubleshooting.md"), -1)
	if len(all) < 20 {
		t.Fatalf("%d messages", len(all))
	}
	for _, m := range all {
		if !strings.Contains(program, m[1]) {
			t.Errorf("the program does not say %q", m[1])
		}
	}
}
