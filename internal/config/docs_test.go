package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The table of settings in the README says of each setting what the program
// says of it.
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
	var got []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	for _, row := range got {
		name, _, _ := strings.Cut(strings.TrimPrefix(row, "| `"), "`")
		s, ok := lookup(name)
		if !ok {
			t.Errorf("there is no setting %s", name)
		} else if want := tableRow(s); row != want {
			t.Errorf("the row should be\n%s", want)
		}
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
	if c := parse(t, example); len(c.Warnings) > 0 || c.User != "nobody" || c.RTPPortHigh != 10999 {
		t.Errorf("the example gives %+v", c)
	}
}
