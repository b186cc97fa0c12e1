package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pidFile is the file that tells scripts the number of the process. It stays open:
// its lock tells other daemons that the process lives, and a process that has given
// up root can still empty it.
type pidFile struct {
	dir  *os.File
	name string
	file *os.File
}

// errTaken is why a file with the number of another process is left alone.
var errTaken = errors.New("is another daemon's")

// writePIDFile writes the number of this process to a file. The error is errTaken
// where the file is that of a process that runs: another daemon, or siproxd.
//
// The file may be in a directory of another user, as siproxd's is. No symbolic link
// leads out of it, and no other file than a daemon's own is written to.
func writePIDFile(path string) (_ *pidFile, err error) {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	p := &pidFile{dir: dir, name: filepath.Base(path)}
	defer func() {
		if err != nil {
			p.letGo()
		}
	}()
	fd, err := unix.Openat(int(dir.Fd()), p.name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	p.file = os.NewFile(uintptr(fd), path)
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	text := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(p.file.Truncate(0), p.file.Chmod(0o644)); err != nil {
		return nil, err
	}
	_, err = p.file.WriteAt([]byte(text), 0)
	return p, err
}

// check reports why the file must not be written to.
func (p *pidFile) check() error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(p.file.Fd()), &stat); err != nil {
		return err
	}
	var dir unix.Stat_t
	if err := unix.Fstat(int(p.dir.Fd()), &dir); err != nil {
		return err
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Nlink != 1:
		return errors.New("it is no ordinary file, or has another name as well: remove it")
	case stat.Uid != 0 && int(stat.Uid) != os.Geteuid() && stat.Uid != dir.Uid:
		return errors.New("it is another user's: remove it")
	}
	text, _ := io.ReadAll(io.NewSectionReader(p.file, 0, 64))
	pid, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
	if err != nil && len(text) > 0 {
		return errors.New("it holds something else than the number of a process: remove it, or name another file")
	}
	if err := unix.Flock(int(p.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("the file %w, process %s: stop it first, or name another file", errTaken, describe(int32(pid)))
		}
		return err
	}
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(comm)) == "siproxd" {
		return fmt.Errorf("the file %w, process %s: stop it first, or name another file", errTaken, describe(int32(pid)))
	}
	return nil
}

// close removes the file, or empties it where that is not allowed any more. A file
// that has taken its place meanwhile stays.
func (p *pidFile) close() {
	if p == nil {
		return
	}
	defer p.letGo()
	var ours, there unix.Stat_t
	if unix.Fstat(int(p.file.Fd()), &ours) != nil {
		return
	}
	if unix.Fstatat(int(p.dir.Fd()), p.name, &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		there.Ino == ours.Ino && there.Dev == ours.Dev &&
		unix.Unlinkat(int(p.dir.Fd()), p.name, 0) == nil {
		return
	}
	_ = p.file.Truncate(0)
}

func (p *pidFile) letGo() {
	if p.file != nil {
		p.file.Close()
	}
	p.dir.Close()
}

// maxLinks is how many symbolic links a path may have, as in the kernel.
const maxLinks = 40

// openDir opens a directory by its absolute path. All above it, and every symbolic
// link on the way, must be of root or of this process, and nobody else may change
// them.
func openDir(path string) (*os.File, error) {
	at, todo := "/", strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		if err := trusted(at); err != nil {
			return nil, err
		}
		next := filepath.Join(at, name)
		target, err := os.Readlink(next)
		if err != nil {
			at = next // no link; what it is instead shows
			continue
		}
		if err := trusted(next); err != nil {
			return nil, err
		}
		if links++; links > maxLinks {
			return nil, &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	fd, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), at), nil
}

// trusted reports whether nobody but root and this process can change what a
// directory or link leads to.
func trusted(path string) error {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	owned := stat.Uid == 0 || int(stat.Uid) == os.Geteuid()
	open := stat.Mode&unix.S_IFMT == unix.S_IFDIR && stat.Mode&0o022 != 0 && stat.Mode&unix.S_ISVTX == 0
	if !owned || open {
		return fmt.Errorf("other users can change %s, and so where the file is", path)
	}
	return nil
}
