package main

import (
	"fmt"
	"io"
	"strings"

	"sipnatd/internal/config"
)

// printUsage writes the text for -h: what can be given, and what can be set.
func printUsage(w io.Writer) {
	fmt.Fprintf(w, `Usage: sipnatd [-c file] [-d classes] [-p file]
       sipnatd command [argument ...]

Lets SIP phones work through a masquerading firewall: rewrites the SIP that the
firewall forwards, and has the kernel translate the media.

  -c, --config file      configuration, default %s or %s
  -d, --debug classes    debug messages, in place of debug_level: names such as
                         sip,rtp, all, none, or siproxd's number
  -p, --pid-file file    file for the process number, in place of pid_file
  -h, --help             this text

Commands, each of which explains itself with -h:
`, defaultConfigs[0], defaultConfigs[1])
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.what)
	}
	fmt.Fprint(w, `
Signals:
  HUP          read the configuration again; running calls go on
  USR1         write the counters to the log
  TERM, INT    stop; running calls go on

Exit status:
  0            stopped, or is in the background and ready (daemonize)
  1            could not start, or had to stop; the reason is told
  2            was called wrongly, or the configuration is wrong

Settings of the configuration, with their defaults:
`)
	group := config.Group("")
	for _, s := range config.Settings() {
		if s.Effect != config.Effective {
			continue
		}
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(w, "  # %s\n", group)
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-13s = %s", s.Name, s.Default), " "))
	}
	fmt.Fprint(w, `
"sipnatd config reference" explains them, those of the proxy mode, and what siproxd
has besides.
`)
}
