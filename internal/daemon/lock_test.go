package daemon

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipnatd/internal/netspace"
)

// roleHolder has the lock until its standard input ends.
func roleHolder() int {
	l, err := net.Listen("unix", lockName)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer l.Close()
	fmt.Println("has it")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// holder starts a process that has the lock of the test's network namespace.
func holder(t *testing.T, as *syscall.Credential) (pid int, release func()) {
	t.Helper()
	cmd := play(t, "holder")
	cmd.SysProcAttr.Credential = as
	if as != nil { // the test program is in a directory that nobody else may enter
		text, err := os.ReadFile(cmd.Path)
		must(t, err)
		dir, err := os.MkdirTemp("/tmp", "sipnatd-lock-")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		must(t, os.Chmod(dir, 0o755))
		cmd.Path = dir + "/holder"
		must(t, os.WriteFile(cmd.Path, text, 0o755))
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "has it\n" {
		t.Fatal(line, err)
	}
	return cmd.Process.Pid, func() { in.Close() }
}

// A second daemon in a network namespace is told which process is the first one.
// In another one it has nothing to do with it.
func TestLock(t *testing.T) {
	netspace.New(t)
	pid, _ := holder(t, nil)
	begin := time.Now()
	l, warning, err := lockNamespace()
	if err == nil {
		l.Close()
		t.Fatal("two have the lock")
	}
	if want := fmt.Sprintf("process %d (", pid); !strings.Contains(err.Error(), want) || warning != "" {
		t.Errorf("%v, want %s; %s", err, want, warning)
	}
	if waited := time.Since(begin); waited < lockPatience {
		t.Errorf("refused after %v", waited)
	}

	netspace.New(t)
	if l, _, err = lockNamespace(); err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// A daemon that is about to end is waited for, and not longer than it lasts.
func TestLockIsWaitedFor(t *testing.T) {
	netspace.New(t)
	_, release := holder(t, nil)
	time.AfterFunc(100*time.Millisecond, release)
	begin := time.Now()
	l, warning, err := lockNamespace()
	if err != nil || warning != "" {
		t.Fatal(err, warning)
	}
	l.Close()
	if waited := time.Since(begin); waited > lockPatience/2 {
		t.Errorf("it took %v", waited)
	}
}

// Somebody who could not be a daemon does not keep one from starting.
func TestLockOfNobody(t *testing.T) {
	netspace.New(t)
	pid, _ := holder(t, &syscall.Credential{Uid: 65534, Gid: 65534})
	l, warning, err := lockNamespace()
	if l != nil || err != nil || !strings.Contains(warning, fmt.Sprintf("process %d (holder) of user 65534", pid)) {
		t.Errorf("%v, %v, %q", l, err, warning)
	}
}
