package privilege

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// CanRead tries whether the user (a name or a number) may read a file, with no
// supplementary groups, as [Drop] leaves it. The error is that of opening the file.
// It needs root ([ErrNotRoot]), or to be that user.
func CanRead(name, path string) error {
	return as(name, func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		return unix.Close(fd)
	})
}

// CanCreate tries in the same way whether the user may create files in a directory.
func CanCreate(name, dir string) error {
	return as(name, func() error {
		if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return &os.PathError{Op: "write to", Path: dir, Err: err}
		}
		return nil
	})
}

// as tries something as a user.
func as(name string, try func() error) error {
	who, err := lookup(name)
	if err != nil {
		return err
	}
	if os.Geteuid() == who.uid {
		return try()
	}
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this
		if err := accessAs(who); err != nil {
			result <- err
			return
		}
		result <- try()
	}()
	return <-result
}

// accessAs gives the calling thread somebody else's access to files, for good.
func accessAs(who account) error {
	const ask = -1 // changes nothing, and returns what there is
	if err := unix.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := errors.Join(unix.Setfsgid(who.gid), unix.Setfsuid(who.uid)); err != nil {
		return fmt.Errorf("setfsuid: %w", err)
	}
	if now, err := unix.SetfsuidRetUid(ask); err != nil || now != who.uid {
		return ErrNotRoot
	}
	return nil
}
