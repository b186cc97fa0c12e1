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
	"syscall"

	"sipnatd/internal/config"
	"sipnatd/internal/daemon"
	"sipnatd/internal/privilege"
	"sipnatd/internal/report"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

// errTold is returned where the process that waits for this one has been told the
// reason.
var errTold = errors.New("the reason has been told")

// usageError is a wrong call of the program.
type usageError struct{ error }

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	if !errors.Is(err, errTold) {
		fmt.Fprintln(os.Stderr, "sipnatd:", err)
	}
	if errors.As(err, new(usageError)) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

// run is a command, or else the daemon.
func run(args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return c.run(args[1:], os.Stdout)
			}
		}
	}
	return runDaemon(args)
}

// runDaemon starts the daemon, in the background if the configuration says so, and
// returns when it has ended.
func runDaemon(args []string) error {
	flags := flag.NewFlagSet("sipnatd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("c", "", "")
	debug := flags.String("d", "", "")
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		printUsage(os.Stdout)
		return nil
	case err != nil:
		return usageError{fmt.Errorf("%w; see sipnatd -h", err)}
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	if *debug != "" {
		if cfg.Debug, err = config.ParseDebug(*debug); err != nil {
			return usageError{fmt.Errorf("-d: %w", err)}
		}
	}
	if err := check(cfg); err != nil {
		return err
	}
	child := privilege.Detached()
	if cfg.Daemonize && child == nil {
		return privilege.Detach()
	}
	err = serve(cfg, child)
	if err == nil || child == nil {
		return err
	}
	child.Fail(err)
	return errTold
}

func serve(cfg *config.Config, child *privilege.Child) error {
	log, err := report.New(report.Selection{Debug: cfg.Debug, Silence: cfg.SilenceLog}, child != nil)
	if err != nil {
		return err
	}
	slog.SetDefault(log.Logger)
	err = work(cfg, child, log.Logger)
	if err != nil && child != nil {
		log.Error("stopped", "error", err) // whoever waits is told too, but may not be a person
	}
	return err
}

// work is the daemon's life.
func work(cfg *config.Config, child *privilege.Child, log *slog.Logger) error {
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	d, err := daemon.Open(cfg, log)
	if err != nil {
		return err
	}
	if cfg.User != "" {
		if err := privilege.Drop(cfg.User); err != nil {
			return fmt.Errorf("user = %s: %w", cfg.User, err)
		}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGHUP)
	log.Info("ready")
	if err := child.Ready(); err != nil {
		return err
	}
	if err := d.Run(ctx, signals); err != nil {
		return fmt.Errorf("%w; SIP %s", err, fate(cfg))
	}
	log.Info("stopped: what is in the kernel stays for the rest of its lease, running calls go on", "sip", fate(cfg))
	return nil
}

// check finds what is wrong before anything is changed.
func check(cfg *config.Config) error {
	if err := privilege.Need(); err != nil {
		return err
	}
	if cfg.User == "" {
		return nil
	}
	if err := privilege.Check(cfg.User); err != nil {
		return fmt.Errorf("user = %s: %w", cfg.User, err)
	}
	return nil
}

// fate says what becomes of SIP until the next start.
func fate(cfg *config.Config) string {
	if cfg.OnFailure == config.FailDrop {
		return "is dropped until the next start (on_failure = drop)"
	}
	return "passes unchanged until the next start (on_failure = pass)"
}
