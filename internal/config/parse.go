package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxLine is the longest line that a file may have, in bytes.
const maxLine = 64 << 10

// Load reads the file at path. An unreadable file is an error of package os,
// a wrong one is [Errors].
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Parse(path, f)
}

// Parse reads a configuration; name stands for the file in errors and warnings.
// What is wrong in it is returned as [Errors].
func Parse(name string, r io.Reader) (*Config, error) {
	p := parser{file: name, config: Default(), lines: make(map[string]int), wrong: make(map[string]bool)}
	p.config.File = name
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		p.line++
		p.parseLine(scanner.Text())
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		p.line++
		p.fail("", "", fmt.Sprintf("the line is longer than %d bytes", maxLine))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.checkWhole()
	if len(p.errs) > 0 {
		slices.SortStableFunc(p.errs, func(a, b *Error) int { return a.Line - b.Line })
		return nil, p.errs
	}
	slices.SortStableFunc(p.warnings, func(a, b warning) int { return a.line - b.line })
	for _, w := range p.warnings {
		p.config.Warnings = append(p.config.Warnings, position(name, w.line)+": "+w.text)
	}
	return p.config, nil
}

// A parser holds what is known while a file is read.
type parser struct {
	file     string
	line     int
	config   *Config
	lines    map[string]int  // setting -> line that set it last
	wrong    map[string]bool // settings whose value was refused
	errs     Errors
	warnings []warning
}

type warning struct {
	line int
	text string
}

func (p *parser) fail(setting, value, reason string) *Error {
	err := &Error{File: p.file, Line: p.line, Setting: setting, Value: value, Reason: reason}
	p.errs = append(p.errs, err)
	return err
}

func (p *parser) warn(format string, args ...any) {
	p.warnings = append(p.warnings, warning{p.line, fmt.Sprintf(format, args...)})
}

func (p *parser) parseLine(text string) {
	if p.line == 1 {
		text = strings.TrimPrefix(text, "\ufeff") // the byte order mark that some editors write
	}
	text = strings.TrimSpace(text)
	if text == "" || text[0] == '#' {
		return
	}
	name, value, found := strings.Cut(text, "=")
	if !found {
		p.fail("", "", fmt.Sprintf("%s: a line is \"name = value\", a comment starts with #", printable(text)))
		return
	}
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if name == "" {
		p.fail("", "", fmt.Sprintf("%s: a name is missing before the =", printable(text)))
		return
	}
	if newer, older := olderNames[name]; older {
		p.warn("%s is called %s now", name, newer)
		name = newer
	}
	if s, ok := Lookup(name); ok {
		p.set(s, value)
		return
	}
	near := nearestName(name)
	if isPluginOption(name) { // an option of a plugin that does not come with siproxd
		p.warn("%s has no effect: there are no plugins, and siproxd's have no such option%s", printable(name), didYouMean(near))
		return
	}
	err := p.fail(name, value, "unknown setting")
	if err.Nearest = near; near != "" {
		if s, _ := Lookup(near); s.Secret {
			err.Value = ""
		}
	}
}

// set gives a setting its value and remembers where that was.
func (p *parser) set(s Setting, text string) {
	count := s.lines(p.config)
	note, err := s.set(p.config, text)
	if err != nil {
		p.wrong[s.Name] = true
		if s.Secret {
			text = ""
		}
		p.fail(s.Name, text, err.Error()+"; wanted: "+s.Accepts())
		return
	}
	if note != "" {
		p.warn("%s = %s: %s", s.Name, printable(text), note)
	}
	before, again := p.lines[s.Name]
	p.lines[s.Name] = p.line
	origin := position(p.file, p.line)
	switch {
	case !s.Repeated:
		p.config.origins[s.Name] = []string{origin}
		if again {
			p.warn("%s is set again, line %d has no effect", s.Name, before)
			return
		}
	case s.lines(p.config) > count:
		p.config.origins[s.Name] = append(p.config.origins[s.Name], origin)
	}
	if s.Name == "load_plugin" {
		for _, file := range p.config.Plugins.Load[count:] {
			if answer := answerPlugin(file); answer != "" {
				p.warn("%s", answer)
			}
		}
	} else if s.Effect == NoEffect && !again {
		p.warn("%s", noEffect(s.Name, s.Fate))
	}
}
