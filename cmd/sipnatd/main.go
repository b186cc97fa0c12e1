// Command sipnatd lets SIP phones work through a masquerading Linux firewall.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"sipnatd/internal/config"
	"sipnatd/internal/daemon"
	"sipnatd/internal/nft"
	"sipnatd/internal/privilege"
	"sipnatd/internal/report"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
	exitWarned = 3
)

// errTold is returned where the process that waits for this one has been told the
// reason.
var errTold = errors.New("the reason has been told")

// errWarned is returned where there is something to be done about, and has been told.
var errWarned = errors.New("there are warnings")

// usageError is a wrong call of the program.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	if errors.Is(err, errWarned) {
		os.Exit(exitWarned)
	}
	if !errors.Is(err, errTold) {
		fmt.Fprintln(os.Stderr, "sipnatd:", err)
	}
	if errors.As(err, new(usageError)) || errors.As(err, new(config.Errors)) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

// run is a command, or else the daemon.
func run(args []string) error {
	if len(args) > 0 {
		name := args[0]
		if name == "--version" { // as with most programs
			name = "version"
		}
		for _, c := range commands() {
			if c.name == name {
				return c.run(args[1:], os.Stdout)
			}
		}
	}
	return runDaemon(args)
}

// A commandLine says how the daemon was called. What it sets counts more than the
// configuration, after a reload too.
type commandLine struct{ config, debug, pidFile string }

// parse returns false where help was asked for.
func (c *commandLine) parse(args []string) (bool, error) {
	flags := flag.NewFlagSet("sipnatd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, f := range []struct {
		value       *string
		short, long string // as siproxd has them
	}{{&c.config, "c", "config"}, {&c.debug, "d", "debug"}, {&c.pidFile, "p", "pid-file"}} {
		flags.StringVar(f.value, f.short, "", "")
		flags.StringVar(f.value, f.long, "", "")
	}
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return false, nil
	case err != nil:
		return false, usageError{fmt.Errorf("%w; see sipnatd -h", err)}
	}
	for _, name := range []*string{&c.config, &c.pidFile} { // in the background the daemon is in /
		if *name == "" {
			continue
		}
		if *name, err = filepath.Abs(*name); err != nil {
			return false, err
		}
	}
	return true, nil
}

// load reads the configuration.
func (c *commandLine) load() (*config.Config, error) {
	cfg, err := load(c.config)
	if err != nil {
		return nil, err
	}
	for _, o := range []struct{ flag, setting, value string }{{"-d", "debug_level", c.debug}, {"-p", "pid_file", c.pidFile}} {
		if o.value == "" {
			continue
		}
		if err := cfg.Override(o.flag, o.setting, o.value); err != nil {
			return nil, usageError{err}
		}
	}
	return cfg, nil
}

// runDaemon starts the daemon, in the background if the configuration says so, and
// returns when it has ended.
func runDaemon(args []string) error {
	var call commandLine
	if ok, err := call.parse(args); err != nil {
		return err
	} else if !ok {
		printUsage(os.Stdout)
		return nil
	}
	cfg, err := call.load()
	if err != nil {
		return err
	}
	if err := preconditions(cfg); err != nil {
		return err
	}
	child := privilege.Detached()
	if cfg.Daemonize && daemon.Supervised() {
		cfg.Warnings = append(cfg.Warnings, "daemonize has no effect: a service manager waits for the process that it has started")
	} else if cfg.Daemonize && child == nil {
		return privilege.Detach()
	}
	err = serve(cfg, child, call.load)
	if err == nil || child == nil {
		return err
	}
	child.Fail(err)
	return errTold
}

// loader returns the configuration as its file has it now.
type loader func() (*config.Config, error)

func serve(cfg *config.Config, child *privilege.Child, again loader) error {
	if os.Getenv("GOGC") == "" {
		// On a router memory is scarcer than the little computing that this costs:
		// with fifty proxied calls a second it saves 20 MiB of 70, for nothing that
		// can be measured.
		debug.SetGCPercent(50)
	}
	log, err := report.New(report.Selection{Debug: cfg.Debug, Silence: cfg.SilenceLog}, child != nil)
	if err != nil {
		return err
	}
	slog.SetDefault(log.Logger)
	err = work(cfg, child, log, again)
	if err != nil && child != nil {
		log.Error("stopped", "error", err) // whoever waits is told too, but may not be a person
	}
	return err
}

// work is the daemon's life.
func work(cfg *config.Config, child *privilege.Child, log *report.Log, again loader) error {
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signals := make(chan os.Signal, 8) // none is lost while another is answered
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGHUP)
	d, err := daemon.Open(cfg, log)
	if err != nil {
		return err
	}
	defer d.Close()
	switch err := privilege.Drop(cfg.User); {
	case errors.Is(err, privilege.ErrNotRoot):
		log.Warn("user has no effect", "user", cfg.User, "reason", err)
	case err != nil:
		return fmt.Errorf("giving up privileges: %w", err)
	}
	log.Info("ready")
	if err := child.Ready(); err != nil {
		return err
	}
	if err := d.Run(ctx, signals, again); err != nil {
		return fmt.Errorf("%w; SIP %s", err, fate(d.OnFailure()))
	}
	log.Info("stopped: what is in the kernel stays for the rest of its lease, running calls go on", "sip", fate(d.OnFailure()))
	return nil
}

// preconditions finds what is wrong before anything is changed.
func preconditions(cfg *config.Config) error {
	if err := privilege.Need(); err != nil {
		return err
	}
	if err := privilege.Check(cfg.User); err != nil {
		return fmt.Errorf("user = %s: %w", cfg.User, err)
	}
	return nil
}

// fate says what becomes of SIP until the next start.
func fate(f config.OnFailure) string {
	if f == config.FailDrop {
		return "is dropped until the next start (on_failure = drop)"
	}
	return fmt.Sprintf("is dropped for up to %v, and passes unchanged from then on until the next start (on_failure = pass)", nft.ServingLease)
}
