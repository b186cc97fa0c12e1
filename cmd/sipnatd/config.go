package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"

	"sipnatd/internal/config"
)

// runConfig is "sipnatd config": it looks at the configuration without starting
// anything.
func runConfig(args []string, out io.Writer) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "check":
		return runConfigCheck(args, out)
	case "show":
		return runConfigShow(args, out)
	case "reference":
		_, help, err := configFlags("config reference", args, out)
		if help || err != nil {
			return err
		}
		return config.WriteReference(out)
	case "-h", "-help", "--help":
		configUsage(out)
		return nil
	}
	verbs := []string{"check", "show", "reference"}
	err := "sipnatd config wants one of check, show, reference"
	if near := config.Nearest(verb, verbs); near != "" {
		err += fmt.Sprintf("; did you mean %s?", near)
	}
	return usageError{errors.New(err + "; see sipnatd config -h")}
}

func configUsage(w io.Writer) {
	fmt.Fprintf(w, `Usage: sipnatd config check [-c file]
       sipnatd config show [-c file]
       sipnatd config reference

  check        says what is wrong with the configuration, line by line, or that
               it is in order; what it says besides is what the daemon will say
  show         writes what the configuration comes to, each setting with the line
               that it comes from; the output is a configuration, too
  reference    writes a configuration with every setting, explained

  -c file      the configuration, default %s or %s

Exit status:
  0            in order
  1            the file cannot be read
  2            the configuration is wrong, or the call
`, defaultConfigs[0], defaultConfigs[1])
}

// configFlags reads the flags of a verb: the file that -c names, and whether help
// was asked for and given.
func configFlags(name string, args []string, out io.Writer) (file string, help bool, err error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&file, "c", "", "")
	flags.StringVar(&file, "config", "", "")
	ok, err := parseFlags(flags, args, out, configUsage)
	if err == nil && ok && flags.NArg() > 0 {
		err = usageError{fmt.Errorf("unexpected argument %q; see sipnatd config -h", flags.Arg(0))}
	}
	return file, !ok && err == nil, err
}

// runConfigCheck writes everything that is wrong or is to be known.
func runConfigCheck(args []string, out io.Writer) error {
	file, help, err := configFlags("config check", args, out)
	if help || err != nil {
		return err
	}
	cfg, err := load(file)
	if wrong := (config.Errors)(nil); errors.As(err, &wrong) {
		fmt.Fprintln(out, wrong)
		return usageError{errTold}
	}
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(out, w)
	}
	if cfg.File != "" {
		fmt.Fprintf(out, "%s: ok\n", cfg.File)
	}
	return nil
}

// runConfigShow writes the effective configuration: what has an effect in this
// version, and of the rest what the file sets.
func runConfigShow(args []string, out io.Writer) error {
	file, help, err := configFlags("config show", args, out)
	if help || err != nil {
		return err
	}
	cfg, err := load(file)
	if wrong := (config.Errors)(nil); errors.As(err, &wrong) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	var shown []config.Value
	name, text := 0, 0
	for _, v := range cfg.Values() {
		if v.Group == config.GroupProxy && v.Effect.In(cfg.Mode) || v.Effect == config.Effective || v.Origin != "default" {
			shown = append(shown, v)
			name = max(name, len(v.Name))
			if len(v.Text) <= maxAligned {
				text = max(text, len(v.Text))
			}
		}
	}
	b := bufio.NewWriter(out)
	group := config.Group("")
	for _, v := range shown {
		if v.Group != group {
			if group != "" {
				fmt.Fprintln(b)
			}
			group = v.Group
			fmt.Fprintf(b, "# %s\n", group)
		}
		origin := v.Origin
		if !v.Effect.In(cfg.Mode) {
			origin += ", no effect"
		}
		if v.Text == config.Hidden {
			v.Name, v.Text = "#"+v.Name, ""
			origin += ", not shown"
		}
		fmt.Fprintf(b, "%-*s = %-*s   # %s\n", name, v.Name, text, v.Text, origin)
	}
	return b.Flush()
}

// maxAligned is the length of a value that others are aligned with.
const maxAligned = 40
