package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// room is a directory that others may enter.
func room(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sipnatd-pid-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func TestPIDFile(t *testing.T) {
	path := filepath.Join(room(t), "x.pid")
	for _, before := range []string{"", "4194300\n", "999999999\n"} {
		must(t, os.WriteFile(path, []byte(before), 0o600))
		p, err := writePIDFile(path)
		must(t, err)
		if got, want := content(t, path), fmt.Sprintln(os.Getpid()); got != want {
			t.Errorf("over %q: %q, want %q", before, got, want)
		}
		if info, _ := os.Stat(path); info.Mode() != 0o644 {
			t.Errorf("mode %v", info.Mode())
		}
		if _, err := writePIDFile(path); !errors.Is(err, errTaken) || !strings.Contains(err.Error(), fmt.Sprintf("process %d (", os.Getpid())) {
			t.Errorf("a second one: %v", err)
		}
		if content(t, path) == "" {
			t.Error("the second one has emptied it")
		}
		p.close()
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("left: %v", err)
		}
	}
}

// siproxd has no lock on its file, but it can be told by its name.
func TestPIDFileOfSiproxd(t *testing.T) {
	dir := room(t)
	cmd := play(t, "holder")
	text, err := os.ReadFile(cmd.Path)
	must(t, err)
	cmd.Path = filepath.Join(dir, "siproxd")
	must(t, os.WriteFile(cmd.Path, text, 0o755))
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })

	path := filepath.Join(dir, "x.pid")
	must(t, os.WriteFile(path, []byte(fmt.Sprintln(cmd.Process.Pid)), 0o644))
	if _, err := writePIDFile(path); !errors.Is(err, errTaken) || !strings.Contains(err.Error(), "(siproxd)") {
		t.Error(err)
	}
	if content(t, path) != fmt.Sprintln(cmd.Process.Pid) {
		t.Error("siproxd's file has changed")
	}
}

// What an attacker may have put there is neither followed nor written to.
func TestPIDFileTraps(t *testing.T) {
	netspace.NeedRoot(t)
	const nobody = 65534
	dir := room(t)
	victim := filepath.Join(dir, "victim")
	must(t, os.WriteFile(victim, nil, 0o644))
	theirs := filepath.Join(dir, "theirs") // a directory of the attacker's
	must(t, os.MkdirAll(filepath.Join(theirs, "below"), 0o755))
	must(t, os.Chown(theirs, nobody, nobody))
	must(t, os.Chown(filepath.Join(theirs, "below"), nobody, nobody))
	open := filepath.Join(dir, "open") // as /tmp
	must(t, os.Mkdir(open, 0o755))
	must(t, os.Chmod(open, 0o1777))

	link := func(target, path string) string {
		must(t, os.Symlink(target, path))
		must(t, os.Lchown(path, nobody, nobody))
		return path
	}
	file := func(path, text string) string {
		must(t, os.WriteFile(path, []byte(text), 0o644))
		must(t, os.Chown(path, nobody, nobody))
		return path
	}
	hard := filepath.Join(theirs, "hard.pid")
	must(t, os.Link(victim, hard))
	fifo := filepath.Join(theirs, "fifo.pid")
	must(t, unix.Mkfifo(fifo, 0o666))
	for name, path := range map[string]string{
		"symbolic link":               link(victim, filepath.Join(theirs, "link.pid")),
		"hard link":                   hard,
		"fifo":                        fifo,
		"directory":                   theirs,
		"below their directory":       filepath.Join(theirs, "below", "x.pid"),
		"by their link":               filepath.Join(link(dir, filepath.Join(open, "way")), "x.pid"),
		"their file in a common room": file(filepath.Join(open, "x.pid"), "1\n"),
		"other content":               file(filepath.Join(theirs, "text.pid"), "root:x:0:0\n"),
		"no directory":                filepath.Join(dir, "missing", "x.pid"),
	} {
		p, err := writePIDFile(path)
		if err == nil {
			p.close()
			t.Errorf("%s: written", name)
		} else if errors.Is(err, errTaken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if content(t, victim) != "" || content(t, filepath.Join(theirs, "text.pid")) == "" {
		t.Error("a file has changed")
	}

	// siproxd's usual place is a directory of its user, by a link of root's.
	must(t, os.Symlink(dir, filepath.Join(dir, "run")))
	p, err := writePIDFile(filepath.Join(dir, "run", "theirs", "x.pid"))
	must(t, err)
	p.close()
}

// roleDropped writes the file as root, and gives it up as nobody.
func roleDropped() int {
	var result struct{ Write, After string }
	path := os.Getenv("SIPNATD_TEST_PATH")
	p, err := writePIDFile(path)
	if err == nil {
		text, _ := os.ReadFile(path)
		result.Write = string(text)
		if err = syscall.Setresuid(65534, 65534, 65534); err == nil {
			p.close()
		}
	}
	if err != nil {
		result.After = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(result)
	return 0
}

// A process that has become another user empties the file where it may not remove it.
func TestPIDFileAfterDrop(t *testing.T) {
	netspace.NeedRoot(t)
	for _, mine := range []bool{false, true} {
		dir := room(t)
		if mine {
			must(t, os.Chown(dir, 65534, 65534))
		}
		path := filepath.Join(dir, "x.pid")
		cmd := play(t, "dropped", "SIPNATD_TEST_PATH="+path)
		out, err := cmd.Output()
		must(t, err)
		if want := fmt.Sprintf(`{"Write":"%d\n","After":""}`, cmd.Process.Pid); strings.TrimSpace(string(out)) != want {
			t.Errorf("got %s, want %s", out, want)
		}
		text, err := os.ReadFile(path)
		if mine && !os.IsNotExist(err) || !mine && (err != nil || len(text) > 0) {
			t.Errorf("in a directory of its own %v: left %q, %v", mine, text, err)
		}
	}
}

// A file that has taken the place of ours is another's.
func TestPIDFileReplaced(t *testing.T) {
	path := filepath.Join(room(t), "x.pid")
	p, err := writePIDFile(path)
	must(t, err)
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, []byte("1\n"), 0o644))
	p.close()
	if content(t, path) != "1\n" {
		t.Error("another's file is emptied")
	}
}
