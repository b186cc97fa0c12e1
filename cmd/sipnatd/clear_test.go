package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// sipnatd clear takes away what a stop leaves, but not from a daemon that runs.
func TestClear(t *testing.T) {
	firewall(t)
	d := start(t, "-c", write(t, "if_outbound = ppp0"))
	d.says("msg=ready")
	if _, stderr, status := result(t, program(t, "clear")); status != exitFailed || !strings.Contains(stderr, "another sipnatd runs") {
		t.Errorf("beside a daemon: status %d, it says\n%s", status, stderr)
	}
	d.signal(syscall.SIGTERM)
	must(t, d.Wait())

	tables := func() string {
		out, err := exec.Command("nft", "list", "tables").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if info, err := os.Stat("/run/sipnatd/calls.1"); err != nil || info.Size() == 0 {
		t.Errorf("no state is left for the next start: %v", err)
	}
	if got := tables(); !strings.Contains(got, "ip sipnatd") {
		t.Errorf("after the stop there are the tables %q", got)
	}
	for range 2 { // the second time there is nothing to do
		if stdout, stderr, status := result(t, program(t, "clear")); status != 0 || stdout != "" || stderr != "" {
			t.Errorf("status %d, it says\n%s%s", status, stdout, stderr)
		}
		if got := tables(); got != "" {
			t.Errorf("tables that are left: %q", got)
		}
		if _, err := os.Stat("/run/sipnatd"); !errors.Is(err, os.ErrNotExist) {
			t.Error("state_dir is left:", err)
		}
	}
}
