package state

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Config says where a [Log] is.
type Config struct {
	Dir  string // made if it is missing, not what is above it
	Name string // of the log

	// UID and GID are those of the account that the process will become. A directory
	// or file that is made is given to it, and it may own what is there. -1: it stays
	// who it is.
	UID, GID int
}

// ErrInUse is why a log that another process has open is not opened.
var ErrInUse = errors.New("another process has it open")

// patience is how long a process that has just been killed may take to let go of its
// files.
const patience = 300 * time.Millisecond

// Open opens the files of a log, which nobody else may do until it is closed or the
// process ends. Symbolic links, and files or directories that other users could
// change, are refused.
func Open(cfg Config) (_ *Log, err error) {
	l := &Log{cfg: cfg, index: make(map[uint64]entry)}
	if l.title, err = newTitle(); err != nil {
		return nil, err
	}
	for i := range l.names {
		l.names[i] = fileName(cfg, i)
	}
	l.files, err = openFiles(cfg, l.names)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func openFiles(cfg Config, names [2]string) (files [2]*os.File, err error) {
	dir, err := openDir(cfg, true)
	if err != nil {
		return files, err
	}
	defer dir.Close()
	for i := range files {
		if files[i], err = openFile(dir, cfg, names[i], unix.O_CREAT); err != nil {
			if i > 0 {
				files[0].Close()
			}
			return files, err
		}
	}
	return files, nil
}

// Gone reports whether somebody has removed a file: what is written to it is nothing that
// a later process would find.
func (l *Log) Gone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		var stat unix.Stat_t
		if unix.Fstat(int(f.Fd()), &stat) == nil && stat.Nlink == 0 {
			return true
		}
	}
	return false
}

// Reopen opens the files anew that are gone. Nothing is kept from then on until
// [Log.Reset] is called and everything put anew. Where it fails, all is as before.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock := func(how int) {
		for _, f := range l.files {
			_ = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		}
	}
	lock(unix.LOCK_UN) // one of them may still be there
	files, err := openFiles(l.cfg, l.names)
	if err != nil {
		lock(unix.LOCK_EX)
		return err
	}
	for _, f := range l.files {
		f.Close()
	}
	l.files = files
	l.clear()
	return nil
}

// Remove removes the files of a log, and its directory if nothing else is in it. The
// error is ErrInUse where a process has the log open. Nothing to remove is no error.
func Remove(cfg Config) error {
	dir, err := openDir(cfg, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	for i := range 2 {
		name := fileName(cfg, i)
		f, err := openFile(dir, cfg, name, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close() // the lock is held until both are gone
		if err := unix.Unlinkat(int(dir.Fd()), filepath.Base(name), 0); err != nil {
			return &os.PathError{Op: "remove", Path: name, Err: err}
		}
	}
	_ = os.Remove(cfg.Dir) // there may be other things in it
	return nil
}

func fileName(cfg Config, i int) string {
	return filepath.Join(cfg.Dir, fmt.Sprintf("%s.%d", cfg.Name, i))
}

// mayOwn reports whether a user may own what the state rests on.
func (c *Config) mayOwn(uid uint32) bool {
	return slices.Contains([]int{0, os.Geteuid(), c.UID}, int(uid))
}

func openDir(cfg Config, create bool) (*os.File, error) {
	made := false
	if create {
		err := os.Mkdir(cfg.Dir, 0o700)
		if made = err == nil; err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	fd, err := unix.Open(cfg.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%s is no directory; a symbolic link is refused", cfg.Dir)
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: cfg.Dir, Err: err}
	}
	dir := os.NewFile(uintptr(fd), cfg.Dir)
	if err := checkDir(dir, cfg, made); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

func checkDir(dir *os.File, cfg Config, made bool) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &stat); err != nil {
		return err
	}
	switch {
	case made && cfg.UID >= 0 && os.Geteuid() == 0:
		_ = dir.Chown(cfg.UID, cfg.GID)
	case !cfg.mayOwn(stat.Uid):
		return fmt.Errorf("%s is another user's", cfg.Dir)
	case stat.Mode&0o022 != 0:
		return fmt.Errorf("other users can write to %s", cfg.Dir)
	}
	return nil
}

// openFile opens one of the files, and takes the lock that keeps others from it.
func openFile(dir *os.File, cfg Config, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), filepath.Base(name), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0o600)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%s is a symbolic link: remove it", name)
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if err := checkFile(f, cfg, name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkFile(f *os.File, cfg Config, name string) error {
	fd := int(f.Fd())
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Nlink != 1:
		return fmt.Errorf("%s is no ordinary file, or has another name as well: remove it", name)
	case !cfg.mayOwn(stat.Uid):
		return fmt.Errorf("%s is another user's: remove it", name)
	}
	for end := time.Now().Add(patience); ; time.Sleep(patience / 100) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
		case !errors.Is(err, unix.EWOULDBLOCK):
			return &os.PathError{Op: "flock", Path: name, Err: err}
		case time.Now().After(end):
			return fmt.Errorf("%s: %w", name, ErrInUse)
		default:
			continue
		}
		break
	}
	if cfg.UID >= 0 && os.Geteuid() == 0 {
		_ = f.Chown(cfg.UID, cfg.GID) // only a later process that starts as that account would need it
	}
	if stat.Mode&0o777 != 0o600 {
		return f.Chmod(0o600)
	}
	return nil
}

// newTitle says where and when this process is.
func newTitle() (t title, err error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return t, err
	}
	boot, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(boot) != len(t.boot) {
		return t, fmt.Errorf("the kernel's boot_id is %q", text)
	}
	copy(t.boot[:], boot)
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err != nil {
		return t, &os.PathError{Op: "stat", Path: "/proc/thread-self/ns/net", Err: err}
	}
	t.namespace = stat.Ino
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
		t.cookie, _ = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		_ = unix.Close(fd)
	}
	var monotonic unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic); err != nil {
		return t, err
	}
	t.wall, t.monotonic = time.Now().UnixNano(), monotonic.Nano()
	return t, nil
}
