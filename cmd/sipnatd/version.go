package main

import (
	"fmt"
	"io"
	"runtime"
)

// version is set by the linker (-X main.version=...).
var version = "(not a release)"

// runVersion writes which program this is.
func runVersion(_ []string, out io.Writer) error {
	_, err := fmt.Fprintf(out, "sipnatd %s (%s, %s)\n", version, runtime.Version(), runtime.GOARCH)
	return err
}
