//go:build !cgo

// Giving up privileges works without cgo only, as the daemon is built.

package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// As a service manager starts it, with siproxd's configuration: another user than
// siproxd's, and one capability.
func TestStartUnprivileged(t *testing.T) {
	firewall(t)
	conf := write(t, "if_inbound = eth0\nif_outbound = ppp0\nuser = siproxd\n")
	cmd := program(t, "-c", conf)
	unprivileged(t, cmd, filepath.Dir(conf))
	cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	d := follow(t, cmd)
	if line := d.says("user has no effect"); !strings.Contains(line, "user=siproxd") {
		t.Errorf("it says %s", line)
	}
	d.says("msg=ready")
	d.signal(syscall.SIGTERM)
	must(t, d.Wait())
}
