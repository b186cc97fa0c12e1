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
	return p.config, nil
}

// A parser holds what is known while a file is read.
type parser struct {
	file   string
	line   int
	config *Config
	lines  map[string]int  // setting -> line that set it
	wrong  map[string]bool // settings whose value was refused
	errs   Errors
}

func (p *parser) fail(setting, value, reason string) {
	p.errs = append(p.errs, &Error{File: p.file, Line: p.line, Setting: setting, Value: value, Reason: reason})
}

func (p *parser) warn(format string, args ...any) {
	p.config.Warnings = append(p.config.Warnings, position(p.file, p.line)+": "+fmt.Sprintf(format, args...))
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
	if s, ok := lookup(name); ok {
		p.set(s, value)
		return
	}
	if fate, ok := siproxdFate(name); ok {
		p.warn("%s has no effect: %s", printable(name), fate)
		return
	}
	p.fail(name, value, "unknown setting")
	p.errs[len(p.errs)-1].Nearest = Nearest(name, knownNames())
}

// set gives a setting its value and remembers where that was.
func (p *parser) set(s Setting, text string) {
	values, err := fields(text)
	if err == nil {
		err = s.set(p.config, values)
	}
	if err != nil {
		p.wrong[s.Name] = true
		p.fail(s.Name, text, err.Error()+"; wanted: "+s.Accepts())
		return
	}
	if before, again := p.lines[s.Name]; again {
		p.warn("%s is set again, line %d has no effect", s.Name, before)
	}
	p.lines[s.Name] = p.line
}

// checkWhole judges what several settings say together. An error stands at the
// last of the lines that contributed.
func (p *parser) checkWhole() {
	c := p.config
	if c.RTPPortLow%2 != 0 {
		p.failAt(fmt.Sprintf("rtp_port_low = %d is odd: RTP takes the even port of a pair and RTCP the odd one after it (RFC 3550, section 11), so the range starts at an even port, such as %d",
			c.RTPPortLow, c.RTPPortLow+1), "rtp_port_low")
	}
	if int(c.RTPPortHigh) < int(c.RTPPortLow)+1 {
		p.failAt(fmt.Sprintf("rtp_port_low = %d, rtp_port_high = %d: the range has no room for one pair of RTP and RTCP ports, rtp_port_high must be %d or more",
			c.RTPPortLow, c.RTPPortHigh, int(c.RTPPortLow)+1), "rtp_port_low", "rtp_port_high")
	}
	for _, port := range c.SIPPorts {
		if port >= c.RTPPortLow && port <= c.RTPPortHigh {
			p.failAt(fmt.Sprintf("the SIP port %d is one of the media ports, %d to %d: a port cannot be both",
				port, c.RTPPortLow, c.RTPPortHigh), "sip_ports", "rtp_port_low", "rtp_port_high")
		}
	}
	for _, name := range c.Inside {
		if slices.Contains(c.Outside, name) {
			p.failAt(fmt.Sprintf("%s is in if_inbound and in if_outbound: an interface is on one side", printable(name)), "if_inbound", "if_outbound")
		}
	}
	if last := int(c.QueueNum) + int(c.Queues) - 1; last > 65535 {
		p.failAt(fmt.Sprintf("queue_num = %d, queues = %d: the last queue would be %d, and there is none above 65535",
			c.QueueNum, c.Queues, last), "queue_num", "queues")
	}
}

// failAt reports an error at the last line that set one of the settings. It is
// silent where one of them was refused: its value is not the one that was meant.
func (p *parser) failAt(reason string, settings ...string) {
	line := 0
	for _, s := range settings {
		if p.wrong[s] {
			return
		}
		line = max(line, p.lines[s])
	}
	p.errs = append(p.errs, &Error{File: p.file, Line: line, Reason: reason})
}
