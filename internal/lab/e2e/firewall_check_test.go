package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// examine has sipnatd check look at the lab's firewall, and returns what it says is
// wrong.
func examine(t *testing.T, l *lab.Lab) []string {
	t.Helper()
	bin, err := lab.BuildDaemon()
	config := filepath.Join(l.Dir, "check.conf")
	if err == nil {
		// The range of ports is one for which the smallest tables have room.
		err = os.WriteFile(config, []byte("if_inbound = eth0\nif_outbound = ppp0\nrtp_port_high = 7079\n"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.FW.Output(bin, "check", "-c", config)
	var wrong []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "warning ") || strings.HasPrefix(line, "FAULT ") {
			wrong = append(wrong, strings.TrimSpace(line))
		}
	}
	if (err == nil) != (wrong == nil) {
		t.Fatalf("%v\n%s", err, out)
	}
	return wrong
}

// TestCheckFirewalls: of the firewalls that calls work through, nothing is said to be
// wrong, with the daemon and without it.
func TestCheckFirewalls(t *testing.T) {
	t.Parallel()
	for name, firewall := range lab.Flavours() {
		if firewall.Backend == lab.Routed {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{Firewall: firewall})
			if wrong := examine(t, l); wrong != nil {
				t.Errorf("before the daemon: %q", wrong)
			}
			l.StartDaemon()
			if wrong := examine(t, l); wrong != nil {
				t.Errorf("beside the daemon: %q", wrong)
			}
		})
	}
}
