// Command sipnatd lets SIP phones work through a masquerading Linux firewall.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"sipnatd/internal/config"
	"sipnatd/internal/daemon"
	"sipnatd/internal/privilege"
	"sipnatd/internal/report"
)

const defaultConfig = "/etc/siproxd.conf"

func main() {
	err := run(os.Args[1:])
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "sipnatd:", err)
		os.Exit(1)
	}
}

// run starts the daemon, in the background if the configuration says so, and
// returns when it has ended.
func run(args []string) error {
	flags := flag.NewFlagSet("sipnatd", flag.ContinueOnError)
	file := flags.String("c", defaultConfig, "configuration `file`")
	debug := flags.String("d", "", "debug `mask`: a number or names, overrides debug_level")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see sipnatd -h", flags.Arg(0))
	}
	cfg, err := config.Load(*file)
	if err != nil {
		return err
	}
	if *debug != "" {
		if cfg.Debug, err = config.ParseDebug(*debug); err != nil {
			return fmt.Errorf("-d: %w", err)
		}
	}
	child := privilege.Detached()
	if cfg.Daemonize && child == nil {
		return privilege.Detach()
	}
	err = serve(cfg, child)
	if err != nil {
		child.Fail(err)
	}
	return err
}

func serve(cfg *config.Config, child *privilege.Child) error {
	log, err := report.New(cfg.Debug != 0, child != nil)
	if err != nil {
		return err
	}
	slog.SetDefault(log)
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
	log.Info("ready")
	if err := child.Ready(); err != nil {
		return err
	}
	status := make(chan os.Signal, 1)
	signal.Notify(status, syscall.SIGUSR1)
	err = d.Run(ctx, status)
	if err == nil {
		log.Info("stopped: what is in the kernel stays for the rest of its lease, running calls go on")
	}
	return err
}
