package contrib

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The copyright file names every module that is in the program, and none besides.
func TestCopyright(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "sipnatd/cmd/sipnatd")
	list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := list.Output()
	must(t, err)
	want := append(strings.Fields(string(out)), "std", "*")
	want = slices.DeleteFunc(want, func(path string) bool { return path == "sipnatd" })
	slices.Sort(want)
	want = slices.Compact(want)

	text, err := os.ReadFile("package/copyright")
	must(t, err)
	var got []string
	for line := range strings.Lines(string(text)) {
		if files, found := strings.CutPrefix(line, "Files: "); found {
			got = append(got, strings.Fields(files)...)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the copyright file names\n%q, in the program are\n%q", got, want)
	}
}
