package daemon

import (
	"net"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// The words of sd_notify(3), by a socket with a path or an abstract one.
func TestManager(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@sipnatd-test-notify"} {
		server, err := net.ListenPacket("unixgram", name)
		must(t, err)
		defer server.Close()
		t.Setenv(managerVariable, name)
		if !Supervised() {
			t.Error("not supervised")
		}
		m, err := dialManager()
		must(t, err)
		for _, c := range []struct {
			tell func()
			want string
		}{
			{m.ready, `^READY=1\n`},
			{m.reloading, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+$`},
			{m.failed, `^READY=1\nSTATUS=.*not in force`},
			{m.stopping, `^STOPPING=1$`},
		} {
			c.tell()
			packet := make([]byte, 512)
			server.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, _, err := server.ReadFrom(packet)
			must(t, err)
			if !regexp.MustCompile(c.want).Match(packet[:n]) {
				t.Errorf("got %q, want %s", packet[:n], c.want)
			}
		}
		m.close()
	}
}

// Without a service manager, or without one that listens, there is nobody to tell.
func TestNoManager(t *testing.T) {
	t.Setenv(managerVariable, "")
	m, err := dialManager()
	if m != nil || err != nil || Supervised() {
		t.Errorf("%v, %v", m, err)
	}
	m.reloading()
	m.ready()
	m.close()
	t.Setenv(managerVariable, filepath.Join(t.TempDir(), "nobody"))
	if m, err := dialManager(); m != nil || err == nil {
		t.Errorf("%v, %v", m, err)
	}
}
