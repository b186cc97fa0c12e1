package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// roleVariable makes the test program play a part in a process of its own.
const roleVariable = "SIPNATD_TEST_ROLE"

// roles are the parts; each returns the exit status.
var roles = map[string]func() int{
	"holder":  roleHolder,
	"dropped": roleDropped,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(roles[role]())
	}
	os.Exit(m.Run())
}

// play is the test program in a role, to be started in the test's namespaces.
func play(t *testing.T, role string, env ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	must(t, err)
	cmd := exec.Command(path)
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// written is a log in memory.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *written) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
