package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// A command is what the program does instead of being the daemon.
type command struct {
	name string
	what string // for sipnatd -h
	run  func(args []string, out io.Writer) error
}

// commands lists them, in the order of sipnatd -h.
func commands() []command {
	return []command{
		{"check", "look for what keeps this machine from working", runCheck},
		{"config", "check, show or explain the configuration", runConfig},
		{"rules", "write rule files for firewalls", runRules},
		{"clear", "take away what a stopped daemon has left", runClear},
		{"version", "say which version this is", runVersion},
	}
}

// parseFlags reads the flags of a command. It returns false, after usage has been
// written to out, where help was asked for.
func parseFlags(flags *flag.FlagSet, args []string, out io.Writer, usage func(io.Writer)) (bool, error) {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage(out)
		return false, nil
	case err != nil:
		return false, usageError{fmt.Errorf("%w; see sipnatd %s -h", err, flags.Name())}
	}
	return true, nil
}
