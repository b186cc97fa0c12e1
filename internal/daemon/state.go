package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/internal/config"
	"sipnatd/internal/privilege"
	"sipnatd/internal/report"
	"sipnatd/internal/state"
)

// States are the names of the logs in state_dir.
const (
	stateCalls         = "calls"         // the engine's: calls, transactions, what bindings are registered for
	stateRegistrations = "registrations" // the registrar's, and domains that were taken for ours
	stateDialogs       = "dialogs"       // the proxy's
)

// stateRetry is how long it takes until everything is written anew after a state could
// not be written.
const stateRetry = 5 * time.Second

// stateLook is how often it is looked whether the files are still there.
const stateLook = 5 * time.Second

// A journal keeps the state of a part of the daemon for the process that comes after
// this one. Where there is none, it is nil.
type journal struct {
	*state.Log
	report *report.Log
	path   string
	failed chan error // a write has failed, and nothing is kept since
}

// openJournal opens a log in state_dir, while the process still may. What is wrong with
// it costs only a later start something.
func openJournal(cfg *config.Config, name string, log *report.Log) *journal {
	if cfg.StateDir == "" {
		return nil
	}
	where, err := stateConfig(cfg, name)
	var l *state.Log
	if err == nil {
		l, err = state.Open(where)
	}
	if err != nil {
		log.Warn("state_dir cannot be used: the next start will not know the calls and registrations of this one",
			"state", name, "error", err, "remedy", stateRemedy(cfg.StateDir, err))
		return nil
	}
	return &journal{Log: l, report: log, path: filepath.Join(cfg.StateDir, name), failed: make(chan error, 1)}
}

func stateConfig(cfg *config.Config, name string) (state.Config, error) {
	uid, gid, err := privilege.Account(cfg.User)
	return state.Config{Dir: cfg.StateDir, Name: name, UID: uid, GID: gid}, err
}

// stateRemedy says what to do about a state that cannot be opened or written.
func stateRemedy(dir string, err error) string {
	switch {
	case errors.Is(err, state.ErrInUse):
		return "another daemon has it, in another network namespace perhaps: give each a state_dir of its own"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "make room in " + dir
	case errors.Is(err, os.ErrNotExist):
		return "mkdir -p " + filepath.Dir(dir)
	case errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("the directory and what is in it must belong to the user that the daemon is started as: chown -R %d %s", os.Geteuid(), dir)
	case errors.Is(err, unix.EROFS):
		return "name a state_dir that is not on a read-only file system"
	}
	return "remove what is there, or name another state_dir"
}

// load hands over what an earlier process has left, says what is wrong with that, and
// makes room for the state of this one.
func (j *journal) load(restore func(key uint64, record []byte, shift time.Duration)) state.Condition {
	if j == nil {
		return state.Condition{Health: state.Fresh}
	}
	c := j.Load(func(key uint64, record []byte) { restore(key, record, j.Shift()) })
	switch {
	case c.Health == state.Damaged:
		j.report.Warn("the state of an earlier daemon is damaged: of what it has lost, calls keep their media while that flows, and phones are reachable when they have registered again",
			"state", j.path, "damage", c.Reason, "records", c.Records)
	case c.Reason != "":
		j.report.Info("the state of an earlier daemon does not count here", "state", j.path, "reason", c.Reason)
	}
	j.Reset()
	return c
}

// Flush is the log's. A failure is reported, and everything is written anew later on.
func (j *journal) Flush() error {
	err := j.Log.Flush()
	if err != nil {
		select {
		case j.failed <- err:
		default:
		}
	}
	return err
}

// run has everything written anew after a failure, until ctx ends. keep(nil) has the
// owner keep nothing, keep(j) has it write all that it has, and each change from then on.
func (j *journal) run(ctx context.Context, keep func(*journal)) {
	look := time.NewTicker(stateLook)
	defer look.Stop()
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			told = j.recover(keep, told)
			continue
		case err := <-j.failed:
			j.report.Error("the state cannot be written: running calls go on, but a start will not know them until it can",
				"state", j.path, "error", err, "remedy", stateRemedy(filepath.Dir(j.path), err))
		}
		for failed := true; failed; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(stateRetry):
			}
			keep(nil)
			j.Reset()
			keep(j)
			select {
			case <-j.failed:
			default:
				failed = false
			}
		}
		j.report.Info("the state is whole again", "state", j.path)
	}
}

// recover puts files back that somebody has removed. told says, and is returned, whether
// the log has been told that this is not possible.
func (j *journal) recover(keep func(*journal), told bool) bool {
	if !j.Gone() {
		return false
	}
	if err := j.Reopen(); err != nil {
		if !told {
			j.report.Error("the files of the state were removed, and cannot be made again: running calls go on, but a start will not know them",
				"state", j.path, "error", err, "remedy", "restart the daemon")
		}
		return true
	}
	keep(nil)
	j.Reset()
	keep(j)
	j.report.Warn("the files of the state were removed by somebody; they are written again", "state", j.path)
	return false
}

func (j *journal) close() {
	if j != nil {
		_ = j.Log.Close()
	}
}

// ClearState removes what stopped daemons have left for the next start.
func ClearState(cfg *config.Config) error {
	if cfg.StateDir == "" {
		return nil
	}
	var errs []error
	for _, name := range []string{stateCalls, stateRegistrations, stateDialogs} {
		where, err := stateConfig(cfg, name)
		if err == nil {
			err = state.Remove(where)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// takeOver has the engine go on where an earlier process has ended: with what is in the
// kernel, and with the calls that it was for.
func (d *Daemon) takeOver(adopted int, began time.Time) {
	asked := time.Now()
	condition := d.calls.load(func(_ uint64, record []byte, shift time.Duration) { d.engine.Restore(record, shift) })
	loaded := time.Now()
	did := d.engine.Resume(condition.Health == state.Whole)
	resumed := time.Now()
	d.keepCalls(d.calls)
	d.log.With("class", "net").Debug("what taking over took", "asking the kernel", asked.Sub(began), "reading the state", loaded.Sub(asked),
		"resuming", resumed.Sub(loaded), "writing the state", time.Since(resumed))
	if did.Unreadable > 0 {
		d.log.Warn("not all of the state of an earlier daemon is understood: another version may have written it", "records", did.Unreadable)
	}
	if adopted+did.Calls+did.Bindings > 0 {
		d.log.Info("taken over from an earlier daemon", "mappings", adopted, "calls", did.Calls, "bindings", did.Bindings,
			"transactions", did.Transactions, "streams of no call", did.Orphans, "after", time.Since(began).Round(time.Millisecond))
	}
}

// keepCalls gives the engine a journal, or none.
func (d *Daemon) keepCalls(j *journal) {
	if j == nil { // which is no nil nat.Journal
		d.engine.Keep(nil)
		return
	}
	d.engine.Keep(j)
}

// takeOver has the proxy mode go on where an earlier process has ended.
func (m *proxyMode) takeOver(log *report.Log) {
	began := time.Now()
	domains := 0
	condition := m.registrations.load(func(_ uint64, record []byte, shift time.Duration) {
		if m.domains.restore(record) {
			domains++
			return
		}
		m.registrar.Restore(record, shift)
	})
	contacts, tokens := m.registrar.Resume(condition.Health == state.Whole)
	m.keepRegistrations(m.registrations)
	dialogs, unreadable := 0, 0
	m.dialogs.load(func(key uint64, record []byte, shift time.Duration) {
		if m.proxy.Restore(key, record, shift) {
			dialogs++
		} else {
			unreadable++
		}
	})
	m.keepDialogs(m.dialogs)
	if unreadable > 0 {
		log.Warn("not all of the state of an earlier daemon is understood: another version may have written it", "records", unreadable)
	}
	if dialogs = max(dialogs-1, 0); contacts+tokens+dialogs+domains > 0 { // one is the secret
		log.Info("the proxy mode goes on where an earlier daemon ended", "contacts", contacts, "tokens", tokens,
			"dialogs", dialogs, "domains", domains, "after", time.Since(began).Round(time.Millisecond))
	}
}

// keepRegistrations gives the registrar and the domains a journal, or none.
func (m *proxyMode) keepRegistrations(j *journal) {
	if j == nil {
		m.registrar.Keep(nil)
		m.domains.keep(nil)
		return
	}
	m.registrar.Keep(j)
	m.domains.keep(j)
}

// keepDialogs gives the proxy a journal, or none.
func (m *proxyMode) keepDialogs(j *journal) {
	if j == nil {
		m.proxy.Keep(nil)
		return
	}
	m.proxy.Keep(j)
}

// runState keeps the states until ctx ends.
func (d *Daemon) runState(ctx context.Context) error {
	var wait sync.WaitGroup
	run := func(j *journal, keep func(*journal)) {
		if j != nil {
			wait.Go(func() { j.run(ctx, keep) })
		}
	}
	run(d.calls, d.keepCalls)
	if m := d.proxy; m != nil {
		run(m.registrations, m.keepRegistrations)
		run(m.dialogs, m.keepDialogs)
	}
	<-ctx.Done()
	wait.Wait()
	return nil
}
