package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"sipnatd/conntrack"
	"sipnatd/internal/daemon"
	"sipnatd/internal/nft"
	"sipnatd/internal/privilege"
)

// runClear takes everything out of the kernel that a daemon has left there.
func runClear(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("clear", flag.ContinueOnError)
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
		conn, err := conntrack.Open(conntrack.Options{})
		if err != nil {
			return err
		}
		return errors.Join(conn.Clear(), conn.Close())
	})
}

// printClearUsage writes the text for sipnatd clear -h.
func printClearUsage(w io.Writer) {
	fmt.Fprint(w, `Usage: sipnatd clear

Takes out of the kernel what a stopped daemon has left there for running calls: its
nftables table, expectations, and conntrack helper. Their media ends.

  -h   this text
`)
}
