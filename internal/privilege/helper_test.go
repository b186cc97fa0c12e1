package privilege

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// roleVariable makes the test program play a part in a process of its own, since
// what is tested cannot be undone.
const roleVariable = "SIPNATD_TEST_ROLE"

// roles are the parts; each returns the exit status.
var roles = map[string]func() int{
	"drop":   roleDrop,
	"whoami": roleWhoami,
	"daemon": roleDaemon,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(roles[role]())
	}
	os.Exit(m.Run())
}

// play runs the test program in a role and returns its standard output, error
// output and exit status.
func play(t *testing.T, role string, env ...string) (stdout, stderr string, status int) {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(path)
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), status
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needRoot skips a test that cannot run here, which is a failure where
// SIPNATD_CI says that it must.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SIPNATD_CI") == "1" {
		t.Fatal("must run as root")
	}
	t.Skip("dropping privileges needs root")
}

// threadStatus returns the values of a field in the status of every thread,
// each value once.
func threadStatus(field string) ([]string, error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	var values []string
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if errors.Is(err, os.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		_, after, found := strings.Cut(string(text), "\n"+field+":")
		if !found {
			return nil, fmt.Errorf("no %s in the status", field)
		}
		line, _, _ := strings.Cut(after, "\n")
		if value := strings.Join(strings.Fields(line), " "); !slices.Contains(values, value) {
			values = append(values, value)
		}
	}
	return values, nil
}
