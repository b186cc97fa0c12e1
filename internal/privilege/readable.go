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
	who, err := lookup(name)
	if err != nil {
		return err
	}
	if os.Geteuid() == who.uid {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return f.Close()
	}
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this
		result <- readAs(who, path)
	}()
	return <-result
}

// readAs opens a file as somebody else. It changes the calling thread for good.
func readAs(who account, path string) error {
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
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	return unix.Close(fd)
}
