package main

import (
	"flag"
	"fmt"
	"io"

	"sipnatd/internal/check"
)

// runCheck looks at the machine and says what is wrong with it.
func runCheck(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	file := ""
	flags.StringVar(&file, "c", "", "")
	flags.StringVar(&file, "config", "", "")
	json := flags.Bool("json", false, "")
	if more, err := parseFlags(flags, args, out, printCheckUsage); !more {
		return err
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; see sipnatd check -h", flags.Arg(0))}
	}
	cfg, err := load(file)
	if err != nil {
		return usageError{err}
	}
	findings := check.Run(cfg)
	write := check.Write
	if *json {
		write = check.WriteJSON
	}
	if err := write(out, findings); err != nil {
		return err
	}
	switch check.Worst(findings) {
	case check.Fault:
		return errTold
	case check.Warning:
		return errWarned
	}
	return nil
}

// printCheckUsage writes the text for sipnatd check -h.
func printCheckUsage(w io.Writer) {
	fmt.Fprintf(w, `Usage: sipnatd check [-c file] [-json]

Looks at this machine, and at how it fits the configuration: what the kernel can do,
interfaces and routes, the firewall's rules, the sizes of tables, other programs. A
line for each thing says what was found, and what to do; the worst comes last. It
changes nothing, and may be run beside the daemon.

  -c file   configuration, default %s or %s
  -json     for programs: an array of objects with the strings id, level, subject,
            text and remedy; docs/check.md lists the ids
  -h        this text

Levels:
  ok        as it should be
  note      worth knowing, nothing has to be done
  warning   it works, but not always, or not all of it
  FAULT     it does not work, or not for long

Exit status:
  0         nothing is wrong: ok and notes
  1         there is a fault
  2         the configuration is wrong, or the call
  3         there are warnings, and no fault
`, defaultConfigs[0], defaultConfigs[1])
}
