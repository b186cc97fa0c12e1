package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The table of settings in the README has those that most administrators may want
// to change, and says of each what the program says of it.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Configuration\n")
	if !found {
		t.Fatal("the README has no section Configuration")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var got, want []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	for _, s := range Settings() {
		if s.Essential {
			want = append(want, tableRow(s))
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("the table should be\n\n%s\n", w)
	}
}

func tableRow(s Setting) string {
	value := s.Default
	if value != "" {
		value = "`" + strings.TrimSpace(value+" "+s.Unit) + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |", s.Name, value, s.Accepts(), s.Help)
}

// The README's example is a configuration without errors and warnings.
func TestReadmeExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(text), "\n```ini\n")
	if !found {
		t.Fatal("the README has no example of a configuration")
	}
	example, _, _ = strings.Cut(example, "```")
	if c := parse(t, example); len(c.Warnings) > 0 || len(Changes(Default(), c)) == 0 {
		t.Errorf("the example gives %+v", c)
	}
}
