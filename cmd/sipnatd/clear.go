package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"sipnatd/conntrack"
	"sipnatd/internal/config"
	"sipnatd/internal/daemon"
	"sipnatd/internal/nft"
	"sipnatd/internal/privilege"
)

// runClear takes away everything that a daemon has left, in the kernel and in state_dir.
func runClear(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("clear", flag.ContinueOnError)
	file := flags.String("c", "", "")
	if more, err := parseFlags(flags, args, out, printClearUsage); !more {
		return err
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; see sipnatd clear -h", flags.Arg(0))}
	}
	if err := privilege.Need(); err != nil {
		return err
	}
	return daemon.Alone(func() error {
		if err := nft.Delete(); err != nil {
			return err
		}
		cfg, cfgErr := load(*file)
		if cfgErr != nil {
			cfg = config.Default()
		}
		conn, err := conntrack.Open(conntrack.Options{})
		if err != nil {
			return err
		}
		return errors.Join(conn.Clear(), conn.Close(), daemon.ClearState(cfg), cfgErr)
	})
}

// printClearUsage writes the text for sipnatd clear -h.
func printClearUsage(w io.Writer) {
	fmt.Fprint(w, `Usage: sipnatd clear [-c file]

Takes away what a stopped daemon has left for running calls: in the kernel its nftables
table, expectations, and conntrack helper, and what is in state_dir. Their media ends.

  -c   the configuration, for state_dir
  -h   this text
`)
}
