package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sipnatd/internal/config"
)

// A file that is in order is said to be, after what is to be known of it; one that
// is not has a line for everything that is wrong, and nothing else.
func TestConfigCheck(t *testing.T) {
	good := write(t, "rtp_timeout = 60\ndebug_port = 0\n")
	stdout, stderr, status := result(t, program(t, "config", "check", "-c", good))
	want := good + ":2: debug_port has no effect: debug messages go to the log, debug_level and -d choose them\n" + good + ": ok\n"
	if stdout != want || stderr != "" || status != 0 {
		t.Errorf("status %d, %s\ngot  %s\nwant %s", status, stderr, stdout, want)
	}

	bad := write(t, "rtp_timeout = 5\nnonsense = 1\ndebug_port = 0\nqueues = 4 5\n")
	stdout, stderr, status = result(t, program(t, "config", "check", "--config", bad))
	want = bad + ":1: rtp_timeout = 5: 5 is out of range; the nearest is 10; wanted: 10 to 86400 seconds\n" +
		bad + ":2: nonsense = 1: unknown setting\n" +
		bad + ":4: queues = 4 5: one value is wanted, not 2; wanted: 1 to 64\n"
	if stdout != want || stderr != "" || status != exitUsage {
		t.Errorf("status %d, %s\ngot  %s\nwant %s", status, stderr, stdout, want)
	}
}

// What is shown is a configuration, and the same one; each line says where it comes
// from. Passwords are not shown.
func TestConfigShow(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(top, "internal/config/testdata/siproxd-*.conf"))
	must(t, err)
	for _, file := range append(files, write(t, "")) {
		stdout, stderr, status := result(t, program(t, "config", "show", "-c", file))
		if status != 0 || stderr != "" {
			t.Fatalf("%s: status %d, %s", file, status, stderr)
		}
		shown, err := config.Parse("shown", strings.NewReader(stdout))
		must(t, err)
		read, err := config.Load(file)
		must(t, err)
		for _, change := range config.Changes(read, shown) {
			if !change.Secret {
				t.Errorf("%s: %s is %q, and shown as %q", file, change.Name, change.Old, change.New)
			}
		}
		for _, v := range read.Values() {
			line := regexp.MustCompile(`(?m)^#?` + v.Name + ` += .*# ` + regexp.QuoteMeta(v.Origin) + `(,.*)?$`)
			if set := v.Effect == config.Effective || v.Group == config.GroupProxy || v.Origin != "default"; line.MatchString(stdout) != set {
				t.Errorf("%s: %s from %s: shown is\n%s", file, v.Name, v.Origin, stdout)
			}
		}
		for _, secret := range []string{"secret", "pass word#1"} {
			if strings.Contains(stdout, secret) {
				t.Errorf("%s: a password is shown", file)
			}
		}
	}
}

func TestConfigReference(t *testing.T) {
	stdout, stderr, status := result(t, program(t, "config", "reference"))
	want, err := os.ReadFile(filepath.Join(top, "contrib/sipnatd.conf"))
	must(t, err)
	if stdout != string(want) || stderr != "" || status != 0 {
		t.Errorf("status %d, %s: it is not contrib/sipnatd.conf", status, stderr)
	}
}

func TestConfigCalls(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.conf")
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"config"}, exitUsage, "see sipnatd config -h"},
		{[]string{"config", "shwo"}, exitUsage, "did you mean show?"},
		{[]string{"config", "check", "-x"}, exitUsage, "see sipnatd config check -h"},
		{[]string{"config", "check", "file"}, exitUsage, `"file"`},
		{[]string{"config", "check", "-c", missing}, exitFailed, missing},
		{[]string{"config", "show", "-c", write(t, "queues = 0")}, exitUsage, "the nearest is 1"},
	} {
		stdout, stderr, status := result(t, program(t, c.args...))
		if status != c.status || stdout != "" || strings.Count(stderr, c.says) != 1 {
			t.Errorf("%q: status %d, want %d; it says\n%s%s", c.args, status, c.status, stdout, stderr)
		}
	}
	for _, args := range [][]string{{"config", "-h"}, {"config", "check", "-h"}, {"config", "show", "--help"}, {"config", "reference", "-h"}} {
		if stdout, stderr, status := result(t, program(t, args...)); status != 0 || stderr != "" || !strings.HasPrefix(stdout, "Usage: sipnatd config check") {
			t.Errorf("%q: status %d, it says\n%s%s", args, status, stdout, stderr)
		}
	}
}
