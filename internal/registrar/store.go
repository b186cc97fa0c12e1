package registrar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// store is what is known of the registration file. Only [Registrar.keep] uses it, and
// load before.
type store struct {
	wake    chan struct{} // the configuration has changed
	saved   uint64        // Registrar.changed when the file was written
	claimed string        // the file's name
	barred  bool          // it is not ours to write
	failing bool          // and it has been reported
}

// keep writes the file, until ctx ends, and then once more. It does so at the start,
// too, so that somebody is looking when it can not be written.
func (r *Registrar) keep(ctx context.Context) {
	r.save(true)
	for {
		r.mu.Lock()
		name, every := r.cfg.File, r.cfg.Autosave
		r.mu.Unlock()
		if name != r.store.claimed {
			r.claim(name)
			r.store.failing = false
			r.save(true)
		}
		var next <-chan time.Time // never
		if every > 0 {
			next = time.After(every)
		}
		select {
		case <-ctx.Done():
			r.save(true)
			return
		case <-next:
			r.save(false)
		case <-r.store.wake:
		}
	}
}

// save writes the file, if there is something new or it must.
func (r *Registrar) save(must bool) {
	r.mu.Lock()
	changed := r.changed
	r.mu.Unlock()
	name := r.store.claimed
	if name == "" || r.store.barred || !must && changed == r.store.saved {
		return
	}
	err := writeFile(name, r.dump())
	switch {
	case err == nil:
		if r.store.failing {
			r.log.Info("registration_file is written again", "file", name)
		}
		r.store.failing = false
		r.store.saved = changed
	case !r.store.failing:
		r.store.failing = true
		r.log.Warn("registration_file can not be written: registrations will not outlive the daemon",
			"file", name, "error", err, "remedy", remedy(name, err))
	}
}

// remedy says what to do about a file that can not be written.
func remedy(name string, err error) string {
	dir := filepath.Dir(name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("the directory must belong to the user that the daemon runs as, since the file is replaced as a whole: chown %d %s", os.Geteuid(), dir)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("mkdir -p %s && chown %d %[1]s", dir, os.Geteuid())
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "make room on the disk"
	case errors.Is(err, unix.EROFS):
		return "name a file that is not on a read-only file system"
	}
	return "name another file"
}

// writeFile puts text in the place of a file. Whatever happens meanwhile, there is
// either the old file or the new one.
func writeFile(name string, text []byte) (err error) {
	// Anybody else's file of this name is refused, a forgotten one of ours is not.
	temp := name + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(name)); err == nil {
		_ = dir.Sync() // some file systems can not
		_ = dir.Close()
	}
	return nil
}

// load takes over what the file tells. Whatever is wrong with it is said once and
// survived: phones register again.
func (r *Registrar) load() {
	name := r.cfg.File
	text := r.claim(name)
	if text == nil {
		return
	}
	contacts, lines, damage := r.restore(text, time.Now().Add(-r.now()))
	if len(damage) == 0 {
		r.log.Info("registrations restored", "file", name, "contacts", contacts, "tokens", lines)
		return
	}
	kept := name + ".damaged"
	if err := writeFile(kept, text); err != nil {
		kept = "not kept: " + err.Error()
	}
	r.log.Warn("registration_file is damaged: what is left of it is taken, other phones are reachable when they have registered again",
		"file", name, "contacts", contacts, "tokens", lines, "damage", strings.Join(damage, "; "), "kept", kept)
}

// claim returns what a file of ours tells, nil if there is none. A file that somebody
// else may need is moved away or left alone.
func (r *Registrar) claim(name string) []byte {
	r.store.claimed, r.store.barred = name, false
	if name == "" {
		return nil
	}
	text, _, err := readFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(text) == 0:
		return nil
	case err != nil:
		r.store.barred = true
		r.log.Warn("registration_file can not be read, and is left alone: registrations will not outlive the daemon",
			"file", name, "error", err, "remedy", fmt.Sprintf("remove it, or chown %d %s", os.Geteuid(), name))
		return nil
	}
	kind := recognize(text)
	switch kind {
	case ours:
		return text
	case notOurs:
		r.store.barred = true
		r.log.Error("registration_file is not a file of registrations, and is left alone: registrations will not outlive the daemon",
			"file", name, "remedy", "name another file, or remove this one")
		return nil
	}
	kept := name + "." + string(kind)
	if err := os.Rename(name, kept); err != nil {
		r.store.barred = true
		kept = "left alone: " + err.Error()
	}
	r.log.Warn("registration_file is "+kind.words()+" and is not read: phones are reachable when they have registered again",
		"file", name, "kept", kept)
	return nil
}
