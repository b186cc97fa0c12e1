package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sipnatd/internal/config"
	"sipnatd/internal/privilege"
	"sipnatd/internal/state"
)

// stateDir finds out whether the daemon can keep for its next start what running calls
// are. It opens the files before it becomes its user, to whom the directory may belong.
func stateDir(cfg *config.Config, usable func(state.Config) error) Finding {
	f := Finding{ID: StateDir, Subject: "state_dir", Text: "none is set: a restart does not know whose streams there are"}
	if cfg.StateDir == "" {
		f.Level = Note
		return f
	}
	f.Subject, f.Text = cfg.StateDir, "the daemon can keep its state there"
	if os.Geteuid() != 0 {
		f.Level, f.Text = Note, "whether the daemon can keep its state there was not tried: "+privilege.ErrNotRoot.Error()
		return f
	}
	where := state.Config{Dir: cfg.StateDir, UID: -1, GID: -1}
	if cfg.User != "" {
		if uid, gid, err := privilege.Account(cfg.User); err == nil { // account judges it
			where.UID, where.GID = uid, gid
		}
	} else if uid := ownerOf(cfg.StateDir); uid > 0 { // whom a service manager starts it as
		where.UID = uid
		f.Text += fmt.Sprintf(" if it is started as user %d", uid)
	}
	err := usable(where)
	if err == nil {
		return f
	}
	f.Level, f.Text = Warning, "the daemon cannot keep its state there, so that a restart does not know the calls: "+err.Error()
	owner := cfg.User
	if owner == "" {
		owner = root
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Remedy = "mkdir -p " + filepath.Dir(cfg.StateDir)
	case errors.Is(err, unix.ENOSPC):
		f.Remedy = "df " + cfg.StateDir + ", and make room there"
	case errors.Is(err, unix.EROFS):
		f.Remedy = "state_dir = /run/sipnatd, or another one that can be written"
	default:
		f.Remedy = fmt.Sprintf("chown %s %[2]s && chmod 700 %[2]s", owner, cfg.StateDir)
	}
	return f
}

// ownerOf is -1 for what is not there.
func ownerOf(path string) int {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return -1
	}
	return int(stat.Uid)
}
