package state

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

func TestDirectoryIsMade(t *testing.T) {
	cfg := config(t)
	l := begin(t, cfg, map[uint64]string{1: "x"})
	for name, mode := range map[string]os.FileMode{cfg.Dir: 0o700, l.names[0]: 0o600, l.names[1]: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	cfg.Dir = filepath.Join(cfg.Dir, "not", "there")
	if _, err := Open(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// The account that the process becomes owns what is made, and a later process of that
// account can open it.
func TestAccount(t *testing.T) {
	netspace.NeedRoot(t)
	cfg := config(t)
	cfg.UID, cfg.GID = 12345, 12346
	l := begin(t, cfg, nil)
	for _, name := range []string{cfg.Dir, l.names[0], l.names[1]} {
		var stat unix.Stat_t
		if err := unix.Stat(name, &stat); err != nil || stat.Uid != 12345 || stat.Gid != 12346 {
			t.Errorf("%s is %d's: %v", name, stat.Uid, err)
		}
	}
	kill(l)
	_, _, c := start(t, cfg)
	if c.Health != Whole {
		t.Error(c)
	}
	cfg.UID = -1
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "another user's") {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(dir string) error
		reason  string
	}{
		"directory is a link": {func(dir string) error { return os.Symlink("/", dir) }, "is no directory"},
		"directory is a file": {func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, "is no directory"},
		"directory is open": {func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o770))
		}, "other users can write"},
		"file is a link": {func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Symlink("/dev/null", dir+"/calls.0"))
		}, "is a symbolic link"},
		"file is a directory": {func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(dir+"/calls.1", 0o700))
		}, "is a directory"},
		"file is a pipe": {func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), unix.Mkfifo(dir+"/calls.0", 0o600))
		}, "no ordinary file"},
		"file has two names": {func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+"/x", nil, 0o600), os.Link(dir+"/x", dir+"/calls.0"))
		}, "has another name"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			if err := c.prepare(cfg.Dir); err != nil {
				t.Fatal(err)
			}
			l, err := Open(cfg)
			if err == nil {
				l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%v, want %q", err, c.reason)
			}
		})
	}
}

func TestInUse(t *testing.T) {
	cfg := config(t)
	l := begin(t, cfg, nil)
	if _, err := Open(cfg); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	if err := Remove(cfg); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	kill(l)
	if err := Remove(cfg); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("it is still there:", err)
	}
	if err := Remove(cfg); err != nil {
		t.Error(err)
	}
}

// A state counts in its network namespace only.
func TestOtherNamespace(t *testing.T) {
	netspace.NeedRoot(t)
	cfg := config(t)
	kill(begin(t, cfg, map[uint64]string{1: "x"}))
	done := make(chan Condition)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		l, err := Open(cfg)
		if err != nil {
			t.Error(err)
			close(done)
			return
		}
		defer l.Close()
		done <- l.Load(func(uint64, []byte) { t.Error("a record") })
	}()
	if c := <-done; c.Health != Fresh || !strings.Contains(c.Reason, "another network namespace") {
		t.Error(c)
	}
}

// Files that somebody removes while they are open are made again; also where only one is
// gone, or the directory.
func TestReopen(t *testing.T) {
	for name, remove := range map[string]func(cfg Config) error{
		"one":           func(cfg Config) error { return os.Remove(fileName(cfg, 0)) },
		"the directory": func(cfg Config) error { return os.RemoveAll(cfg.Dir) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: filepath.Join(t.TempDir(), "state"), Name: "calls", UID: -1, GID: -1}
			l, err := Open(cfg)
			must(t, err)
			l.Load(func(uint64, []byte) {})
			l.Reset()
			l.Put(1, []byte("before"))
			must(t, l.Flush())
			if l.Gone() {
				t.Error("the files are said to be gone")
			}
			must(t, remove(cfg))
			if !l.Gone() {
				t.Error("nothing is said to be gone")
			}
			must(t, l.Reopen())
			l.Reset()
			l.Put(2, []byte("after"))
			must(t, l.Flush())
			if l.Gone() {
				t.Error("the files are still gone")
			}
			if _, err := Open(cfg); !errors.Is(err, ErrInUse) {
				t.Errorf("another process gets them: %v", err)
			}
			must(t, l.Close())
			l, err = Open(cfg)
			must(t, err)
			var got []string
			l.Load(func(_ uint64, record []byte) { got = append(got, string(record)) })
			if len(got) != 1 || got[0] != "after" {
				t.Errorf("the next process finds %q", got)
			}
			must(t, l.Close())
		})
	}
}
