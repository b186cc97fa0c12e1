package config

import (
	"fmt"
	"strings"
)

// An Error is one thing that is wrong in a configuration file.
type Error struct {
	File    string
	Line    int    // from 1 on; 0 where it concerns no line
	Setting string // the name as the file has it; empty where the line has none
	Value   string // the value as the file has it
	Reason  string // what is wrong
	Nearest string // the known setting that was probably meant, for an unknown one
}

// Error returns the whole as one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(position(e.File, e.Line))
	switch {
	case e.Setting != "" && e.Value != "":
		fmt.Fprintf(&b, ": %s = %s", printable(e.Setting), printable(e.Value))
	case e.Setting != "":
		fmt.Fprintf(&b, ": %s", printable(e.Setting))
	}
	fmt.Fprintf(&b, ": %s", strings.ReplaceAll(e.Reason, "\n", "; "))
	return b.String() + didYouMean(e.Nearest)
}

func didYouMean(near string) string {
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", near)
}

// Errors is everything that is wrong in a configuration file, in the order of
// its lines.
type Errors []*Error

// Error returns one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, err := range e {
		list[i] = err
	}
	return list
}

// position is where something stands, in the form that editors understand.
func position(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// quoted returns s in quotes, as printable ASCII, cut where it is long.
func quoted(s string) string { return fmt.Sprintf("%+q", cut(s)) }

// printable returns s fit for a terminal: like quoted, but without quotes where
// it holds only printable ASCII.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return quoted(s)
	}
	return cut(s)
}

func cut(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
