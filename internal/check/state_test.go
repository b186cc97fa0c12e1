package check

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sipnatd/internal/state"
)

func TestStateDir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("whether root can write somewhere is for root to find out")
	}
	dir := filepath.Join(t.TempDir(), "state")
	of := func(text string) []Finding { return []Finding{stateDir(parse(t, text), state.Check)} }
	set := "state_dir = " + dir + "\n"
	one(t, of("state_dir ="), Note, "none is set", "")
	one(t, of(set), OK, "can keep its state", "") // it is made at the start
	if _, err := os.Stat(dir); err == nil {
		t.Error("the check has made the directory")
	}
	one(t, of("state_dir = "+dir+"/deeper"), Warning, "does not know the calls", "mkdir -p "+dir)
	must(t, os.Mkdir(dir, 0o777))
	must(t, os.Chmod(dir, 0o777))
	one(t, of(set), Warning, "other users can write", "chown root "+dir+" && chmod 700 "+dir)
	must(t, os.Chmod(dir, 0o700))
	one(t, of(set), OK, "can keep its state", "")
	must(t, os.Chown(dir, 65534, 65534))
	one(t, of(set), OK, "if it is started as user 65534", "")
	one(t, of(set+"user = daemon\n"), Warning, "is another user's", "chown daemon "+dir)
	one(t, of(set+"user = nobody\n"), OK, "can keep its state", "")
	full := func(err error) []Finding {
		return []Finding{stateDir(parse(t, set), func(state.Config) error { return err })}
	}
	one(t, full(&os.PathError{Op: "write", Path: dir, Err: unix.ENOSPC}), Warning, "no space", "df "+dir)
	one(t, full(&os.PathError{Op: "access", Path: dir, Err: unix.EROFS}), Warning, "read-only", "state_dir = /run/sipnatd")
}
