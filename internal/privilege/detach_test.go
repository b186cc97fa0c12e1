package privilege

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// detached is what a daemon is once it is ready.
type detached struct {
	Leader  bool // of a session of its own
	Dir     string
	Streams [3]string
	Marked  bool // whether the environment still marks it
}

// roleDaemon is the main function of a daemon that detaches. How its start ends
// is in the environment.
func roleDaemon() int {
	child := Detached()
	if child == nil {
		if err := Detach(); err != nil {
			fmt.Print(err)
			return 1
		}
		return 0
	}
	fmt.Fprint(os.Stderr, "first log line\n")
	switch os.Getenv("SIPNATD_TEST_START") {
	case "fails":
		child.Fail(errors.New("no queue 5060: it is taken\n"))
		return 3
	case "exits":
		return 4
	case "crashes":
		panic("crash at the start")
	}
	if err := child.Ready(); err != nil {
		child.Fail(err)
		return 5
	}
	fmt.Fprint(os.Stderr, "after the terminal is gone\n")
	return showDetached(os.Getenv("SIPNATD_TEST_SOCKET"))
}

// showDetached tells the test what the daemon is, and ends when the test says so.
func showDetached(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 1
	}
	defer conn.Close()
	sid, _ := unix.Getsid(0)
	d := detached{Leader: sid == os.Getpid()}
	d.Dir, _ = os.Getwd()
	for fd := range d.Streams {
		d.Streams[fd], _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	_, d.Marked = os.LookupEnv(reportVariable)
	if err := json.NewEncoder(conn).Encode(d); err != nil {
		return 1
	}
	io.Copy(io.Discard, conn)
	return 0
}

func TestDetachReady(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	out, errs, status := play(t, "daemon", "SIPNATD_TEST_SOCKET="+socket)
	if status != 0 || out != "" || errs != "first log line\n" {
		t.Fatalf("parent: status %d, output %q, error output %q", status, out, errs)
	}
	listener.SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // ends the daemon
	var got detached
	if err := json.NewDecoder(conn).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := detached{Leader: true, Dir: "/", Streams: [3]string{os.DevNull, os.DevNull, os.DevNull}}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDetachFailure(t *testing.T) {
	for start, want := range map[string]string{
		"fails":   "no queue 5060: it is taken",
		"exits":   "the daemon ended before it was ready: exit status 4",
		"crashes": "the daemon ended before it was ready: exit status 2",
	} {
		t.Run(start, func(t *testing.T) {
			out, _, status := play(t, "daemon", "SIPNATD_TEST_START="+start)
			if status != 1 || out != want {
				t.Errorf("parent: status %d, %q; want 1, %q", status, out, want)
			}
		})
	}
}

// In the foreground there is nobody to report to.
func TestNotDetached(t *testing.T) {
	child := Detached()
	if child != nil {
		t.Fatal("the test is taken for a detached child")
	}
	if err := child.Ready(); err != nil {
		t.Error(err)
	}
	child.Fail(errors.New("nobody hears it"))
	if _, err := os.Stdout.Stat(); err != nil {
		t.Errorf("the standard output is gone: %v", err)
	}
}
