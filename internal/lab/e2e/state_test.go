package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sipnatd/internal/lab"
)

// TestStateDamaged: the daemon is killed, and what it has left for the next one is
// destroyed in each way. The next one says so and serves; the call keeps its audio, and
// ends as it should once it has shown itself again.
func TestStateDamaged(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon()
	d.register()
	const damaged, foreign = `level=WARN msg="the state of an earlier daemon is damaged.*damage="calls\.\d `, `level=INFO msg="the state of an earlier daemon does not count here.*reason="calls\.\d `
	for _, c := range []struct {
		name   string
		says   string
		change func(text []byte) []byte
	}{
		{"cut off", damaged + "ends within a record", func(b []byte) []byte { return b[:len(b)-3] }},
		{"title cut off", damaged + "ends within its title", func(b []byte) []byte { return b[:20] }},
		{"garbage", damaged + "is no state of sipnatd", func(b []byte) []byte { return bytes.Repeat([]byte("garbage"), 5000) }},
		{"overwritten within", damaged + "has .* damaged bytes", func(b []byte) []byte { copy(b[len(b)/2:], "overwritten"); return b }},
		{"another version's", foreign + "is of another version", func(b []byte) []byte { return bytes.Replace(b, []byte("state 1"), []byte("state 9"), 1) }},
		{"gone", "", func([]byte) []byte { return nil }},
	} {
		d.step(c.name, func() {
			d.connect()
			stop := d.converse()
			d.audible()
			daemon.Kill()
			changed := 0
			for _, name := range []string{"calls.0", "calls.1"} {
				name = filepath.Join(d.StateDir(), name)
				text, err := os.ReadFile(name)
				if err == nil && len(text) > 0 {
					changed++
					err = os.WriteFile(name, c.change(text), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if changed != 1 {
				t.Errorf("%d files have something in them", changed)
			}
			daemon = d.StartDaemon()
			if c.says != "" {
				daemon.WaitLine(c.says, lab.Moment())
			}
			d.audible()
			stop()
			d.exchange("INVITE", d.alice, d.bob, d.alice.sdp(), d.bob.sdp())
			d.talk()
			d.hangUp(d.bob, d.alice)
		})
	}
	daemon.Stop()
	daemon = d.StartDaemon()
	if log := daemon.Log(); strings.Contains(log, "state of an earlier") {
		t.Errorf("an ordinary start complains:\n%s", log)
	}
}

// TestStateOnFullDisk: nothing can be written to state_dir. That is told, calls go on,
// and as soon as there is room a start knows everything.
func TestStateOnFullDisk(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	dir := d.StateDir()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("sipnatd-test", dir, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}

	daemon := d.StartDaemon()
	daemon.WaitLine(`level=ERROR msg="the state cannot be written.*no space left.*remedy="make room in `+dir, lab.Moment())
	d.register()
	d.connect()
	stop := d.converse()
	d.audible()
	daemon.Mark()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	daemon.WaitLine("the state is whole again", 3*lab.Moment())
	if n := strings.Count(daemon.Log(), "the state cannot be written"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	daemon.Kill()
	daemon = d.StartDaemon()
	daemon.WaitLine(`taken over from an earlier daemon.* calls=1 bindings=1 `, lab.Moment())
	d.audible()
	stop()
	d.hangUp(d.bob, d.alice)
}

// TestStateRemoved: somebody removes the files of the daemon that runs. They are written
// again, and the next daemon knows the call.
func TestStateRemoved(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon()
	d.register()
	d.connect()
	daemon.Mark()
	if err := os.RemoveAll(d.StateDir()); err != nil {
		t.Fatal(err)
	}
	daemon.WaitLine("the files of the state were removed by somebody; they are written again", 3*lab.Moment())
	daemon.Kill()
	d.StartDaemon().WaitLine(`taken over from an earlier daemon.* calls=1 bindings=1 `, lab.Moment())
	d.talk()
	d.hangUp(d.bob, d.alice)
}
