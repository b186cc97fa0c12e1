package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/report"
)

// reload puts the configuration in force that load returns. If there is something
// wrong with it, all stays as it was, and the log says what.
func (d *Daemon) reload(load func() (*config.Config, error)) {
	d.manager.reloading()
	read, err := load()
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: the daemon is user %d now; let that user read the file (chgrp, chmod g+r), or stop and start the daemon", err, os.Geteuid())
	}
	if err == nil {
		err = d.configure(read)
	}
	if err != nil {
		for _, one := range unjoin(err) {
			d.log.Error("the changed configuration is not in force", "error", one)
		}
		d.manager.failed()
		return
	}
	d.manager.ready()
}

// configure puts another configuration in force: all of what can be changed while
// the daemon runs, or nothing if the kernel refuses it. Packets are handled by the
// old one or the new one, and wait for the change in their queue.
func (d *Daemon) configure(read *config.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, cfg := d.cfg, reloadable(d.cfg, read)
	if old.File != "" && read.File == "" {
		return fmt.Errorf("%s is gone, and there is no other file", old.File)
	}
	faces, err := ifaces.Resolve(watched(cfg))
	if err != nil {
		return fmt.Errorf("interfaces: %w", err)
	}
	// The interfaces first: what the table hands over next may come by a new one.
	before := d.faces.Swap(faces)
	if err := d.kernel.Configure(d.tableConfig(cfg, faces)); err != nil {
		d.faces.Store(before)
		return fmt.Errorf("the kernel refuses it: %w", err)
	}

	// Nothing can fail from here on.
	d.cfg = cfg
	d.hairpins = d.hairpins || cfg.Hairpin == config.HairpinRouter
	if cfg.HostOutbound != old.HostOutbound {
		d.announce(d.announcer.begin(cfg.HostOutbound, d.announced))
	}
	d.engine.Configure(d.engineConfig())
	d.queues.SetOnPanic(onPanic(cfg))
	if !slices.Equal(old.Inside, cfg.Inside) || !slices.Equal(old.Outside, cfg.Outside) {
		if d.rewatch != nil {
			d.rewatch()
		}
	}
	d.followJoin()
	d.configureProxy()
	// The log is told of the change by whichever selection says more.
	if cfg.SilenceLog <= old.SilenceLog {
		d.log.Select(selection(cfg))
	}
	d.reportChanges(old, read)
	if !before.Equal(faces) {
		d.reportInterfaces(faces)
		d.renumber(faces)
	}
	d.log.Select(selection(cfg))
	d.reportConfig()
	d.lookUpSoon()
	return nil
}

// reloadable returns what comes into force of a configuration that was read while
// another one was: what only a start can change stays as it was.
func reloadable(old, read *config.Config) *config.Config {
	cfg := *read
	cfg.QueueNum, cfg.Queues = old.QueueNum, old.Queues
	cfg.Mode, cfg.ListenPort = old.Mode, old.ListenPort
	cfg.SIPTCP, cfg.SIPTCPPort = old.SIPTCP, old.SIPTCPPort
	cfg.Daemonize, cfg.User, cfg.PIDFile, cfg.StateDir = old.Daemonize, old.User, old.PIDFile, old.StateDir
	return &cfg
}

// reportChanges tells the log what a reload has changed, and what it has not.
func (d *Daemon) reportChanges(old, read *config.Config) {
	for _, w := range read.Warnings {
		if !slices.Contains(old.Warnings, w) {
			d.log.Warn(w)
		}
	}
	changed := 0
	for _, c := range config.Changes(old, read) {
		if !c.Reload {
			d.log.Warn("a changed setting takes effect with the next start", "setting", c.Name, "in force", c.Old, "then", c.New)
			continue
		}
		changed++
		d.log.Info("setting changed", "setting", c.Name, "old", c.Old, "new", c.New)
	}
	d.log.Info("configuration read again", "file", read.File, "settings changed", changed)
}

// reportConfig writes every setting to the debug log.
func (d *Daemon) reportConfig() {
	log := d.log.With("class", "config")
	for _, v := range d.cfg.Values() {
		log.Debug("setting", "name", v.Name, "value", v.Text, "from", v.Origin)
	}
}

// selection is what a configuration wants in the log.
func selection(cfg *config.Config) report.Selection {
	return report.Selection{Debug: cfg.Debug, Silence: cfg.SilenceLog}
}

// unjoin returns the errors of which an error may consist.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
