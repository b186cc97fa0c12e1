package e2e

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"sipnatd/internal/lab"
	"sipnatd/internal/privilege"
)

// example is the code block of README.md that begins with a line.
func example(t *testing.T, begin string) string {
	t.Helper()
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "\n"+begin+"\n")
	block, _, closed := strings.Cut(block, "\n```")
	if !found || !closed {
		t.Fatalf("README.md has no block that begins with %q", begin)
	}
	return begin + "\n" + block + "\n"
}

// TestReadme: the firewall and the configuration that README.md shows are enough
// for calls, word for word, to a daemon with CAP_NET_ADMIN and nothing else.
func TestReadme(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("it has another firewall")
	}
	if _, err := d.FW.Pipe("flush ruleset\n"+example(t, "table inet filter {"), "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	daemon, err := d.TryDaemon(example(t, "# /etc/sipnatd.conf") + "user = nobody\n")
	if err != nil && strings.Contains(err.Error(), privilege.ErrCgo.Error()) {
		t.Skipf("the daemon is built with the race detector, which needs cgo: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.register()
	d.call()
	d.incoming().call()
	if port := d.announced().Port(); port < 10000 || port > 10999 {
		t.Errorf("the public port of media is %d", port)
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(daemon.Cmd.Process.Pid) + "/status")
	if err != nil || !strings.Contains(string(status), "\nCapEff:\t0000000000001000\n") { // CAP_NET_ADMIN
		t.Errorf("the daemon does not run with CAP_NET_ADMIN alone: %v\n%s", err, status)
	}
}
