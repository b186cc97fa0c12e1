package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipnatd/internal/config"
	"sipnatd/rules"
)

// shell runs a script with a shell that completes, and returns the words it writes.
func shell(t *testing.T, name, script string) []string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("SIPNATD_CI") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(path, "-c", script)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must(t, err)
	return strings.Fields(string(out))
}

// bash completes the words after sipnatd, of which the last is not complete.
func bash(t *testing.T, words ...string) []string {
	t.Helper()
	return shell(t, "bash", fmt.Sprintf(`set -eu
		source %s
		complete -p sipnatd >/dev/null
		COMP_WORDS=(sipnatd %s) COMP_CWORD=%d
		_sipnatd sipnatd "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
		echo "${COMPREPLY[@]}"`,
		filepath.Join(top, "contrib/completion/sipnatd.bash"), "'"+strings.Join(words, "' '")+"'", len(words)))
}

// fish does the same.
func fish(t *testing.T, words ...string) []string {
	t.Helper()
	return shell(t, "fish", fmt.Sprintf(`source %s; complete -C 'sipnatd %s' | string replace -r '\t.*' ''; true`,
		filepath.Join(top, "contrib/completion/sipnatd.fish"), strings.Join(words, " ")))
}

// What the shells offer is what the program has.
func TestCompletion(t *testing.T) {
	var names, formats []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	for _, f := range rules.Formats() {
		formats = append(formats, f.Name)
	}
	// Of debug classes the program tells only of those that are near a wrong one.
	classes := strings.Fields("babble net sip reg nospec proxy dns nettraf config rtp access auth plugin rtpbabble all none")
	for _, class := range classes {
		if _, err := config.ParseDebug(class); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct{ words, want []string }{
		{[]string{"ru"}, []string{"rules"}},
		{[]string{""}, names},
		{[]string{"rules", ""}, formats},
		{[]string{"rules", "-whole", "iptables-"}, []string{"iptables-script"}},
		{[]string{"config", ""}, []string{"check", "show", "reference"}},
		{[]string{"-d", ""}, classes},
	} {
		for name, complete := range map[string]func(*testing.T, ...string) []string{"bash": bash, "fish": fish} {
			t.Run(name+" sipnatd "+strings.Join(tt.words, " "), func(t *testing.T) {
				got := complete(t, tt.words...)
				slices.Sort(got)
				if diff := cmp.Diff(slices.Sorted(slices.Values(tt.want)), got); diff != "" {
					t.Errorf("want (-), got (+):\n%s", diff)
				}
			})
		}
	}
	for _, flag := range []string{"-c", "-d", "-p", "-h", "--config", "--debug", "--pid-file", "--help"} {
		if got := bash(t, "-"); !slices.Contains(got, flag) {
			t.Errorf("bash does not offer %s: %q", flag, got)
		}
	}
}

// zsh has no way to ask without a terminal, so its file is parsed and looked into.
func TestCompletionZsh(t *testing.T) {
	path := filepath.Join(top, "contrib/completion/_sipnatd")
	text, err := os.ReadFile(path)
	must(t, err)
	for _, c := range commands() {
		if !strings.Contains(string(text), "\t'"+c.name+":") {
			t.Errorf("no command %s", c.name)
		}
	}
	words := strings.Fields(string(text))
	for _, f := range rules.Formats() {
		if !slices.Contains(words, f.Name) {
			t.Errorf("no format %s", f.Name)
		}
	}
	shell(t, "zsh", "zsh -n "+path)
}
