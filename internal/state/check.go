package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Check says what would keep this process from opening and writing the logs of a
// directory, without changing anything. The directory need not be there, if it can be
// made.
func Check(cfg Config) error {
	dir, err := openDir(cfg, false)
	if errors.Is(err, fs.ErrNotExist) {
		if dir, err = os.Open(filepath.Dir(cfg.Dir)); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	path := dir.Name()
	if err := unix.Access(path, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "access", Path: path, Err: err}
	}
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &s); err != nil {
		return &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	if s.Blocks > 0 && s.Bavail == 0 || s.Files > 0 && s.Ffree == 0 { // some count neither
		return &os.PathError{Op: "write", Path: path, Err: unix.ENOSPC}
	}
	return nil
}
