package rules

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// uci is a model of OpenWrt's program of that name: the commands that the rules use, by
// the grammar of its command line and of "uci batch", on configurations that are kept
// as JSON. It is run as a program of its own: by the test's, with uciVariable set.
type uci struct {
	dir   string // of configurations, FILE and FILE.staged
	quiet bool
	out   io.Writer
}

const uciVariable = "SIPNATD_TEST_UCI"

func init() {
	if dir := os.Getenv(uciVariable); dir != "" {
		u := uci{dir: dir, out: os.Stdout}
		if err := u.main(os.Args[1:]); err != nil {
			if !u.quiet {
				fmt.Fprintln(os.Stderr, "uci:", err)
			}
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// uciConfig is the content of a file below /etc/config.
type uciConfig []*uciSection

type uciSection struct {
	Name    string // "" for one that has none
	Type    string
	Options []*uciOption
}

type uciOption struct {
	Name   string
	List   bool
	Values []string
}

var (
	errNoEntry   = errors.New("entry not found")
	uciName      = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	uciType      = regexp.MustCompile(`^[!-~]+$`)
	uciPath      = regexp.MustCompile(`^([A-Za-z0-9_-]+)(?:\.(@[A-Za-z0-9_-]+\[-?[0-9]+\]|[A-Za-z0-9_]+))?(?:\.([A-Za-z0-9_]+))?$`)
	uciAnonymous = regexp.MustCompile(`^@(.*)\[(-?[0-9]+)\]$`)
	uciLine      = regexp.MustCompile(`^([a-z_]+)(?: ([^ =]+)(?:=('[^']*'|[^ '"]*))?)?$`)
)

func (u *uci) main(args []string) error {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-q":
			u.quiet = true
		case args[0] == "-c" && len(args) > 1:
			u.dir = args[1]
			args = args[1:]
		default:
			return fmt.Errorf("no option %s", args[0])
		}
		args = args[1:]
	}
	switch {
	case len(args) == 1 && args[0] == "batch":
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			m := uciLine.FindStringSubmatch(lines.Text())
			if m == nil {
				return fmt.Errorf("parse error: %q", lines.Text())
			}
			if err := u.do(m[1], m[2], strings.Contains(lines.Text(), "="), strings.Trim(m[3], "'")); err != nil {
				return err
			}
		}
		return lines.Err()
	case len(args) == 2:
		path, value, is := strings.Cut(args[1], "=")
		return u.do(args[0], path, is, value)
	}
	return fmt.Errorf("usage: %q", args)
}

func (u *uci) file(config string, staged bool) string {
	if staged {
		config += ".staged"
	}
	return filepath.Join(u.dir, config)
}

// load gives a configuration with what has been changed and not been committed.
func (u *uci) load(config string) (c uciConfig, err error) {
	b, err := os.ReadFile(u.file(config, true))
	if err != nil {
		b, err = os.ReadFile(u.file(config, false))
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	return c, err
}

func (u *uci) stage(config string, c uciConfig) error {
	b, err := json.MarshalIndent(c, "", " ")
	if err == nil {
		err = os.WriteFile(u.file(config, true), b, 0o644)
	}
	return err
}

// section finds one by its name, or by type and number.
func (c uciConfig) section(name string) int {
	m := uciAnonymous.FindStringSubmatch(name)
	if m == nil {
		return slices.IndexFunc(c, func(s *uciSection) bool { return s.Name != "" && s.Name == name })
	}
	n, _ := strconv.Atoi(m[2])
	return slices.IndexFunc(c, func(s *uciSection) bool {
		if s.Type != m[1] {
			return false
		}
		n--
		return n < 0
	})
}

func (s *uciSection) option(name string) int {
	return slices.IndexFunc(s.Options, func(o *uciOption) bool { return o.Name == name })
}

func (u *uci) do(command, path string, assigned bool, value string) error {
	m := uciPath.FindStringSubmatch(path)
	if m == nil {
		return fmt.Errorf("%s: parse error: %q", command, path)
	}
	config, section, option := m[1], m[2], m[3]
	if assigned != slices.Contains([]string{"set", "add_list", "del_list"}, command) {
		return fmt.Errorf("usage: %s %s=%s", command, path, value)
	}
	c, err := u.load(config)
	if err != nil {
		return errNoEntry
	}
	at := c.section(section)
	var s *uciSection
	var o *uciOption
	if at >= 0 {
		s = c[at]
		if i := s.option(option); i >= 0 {
			o = s.Options[i]
		}
	}
	switch command {
	case "show":
		c.show(u.out, config)
		return nil
	case "changes":
		if _, err := os.Stat(u.file(config, true)); err == nil {
			fmt.Fprintln(u.out, config, "has changes")
		}
		return nil
	case "revert":
		if err := os.Remove(u.file(config, true)); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	case "commit":
		if err := os.Rename(u.file(config, true), u.file(config, false)); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	case "get":
		if o == nil {
			return errNoEntry
		}
		fmt.Fprintln(u.out, strings.Join(o.Values, " "))
		return nil
	case "delete":
		switch {
		case s == nil || option != "" && o == nil:
			return errNoEntry
		case option == "":
			c = slices.Delete(c, at, at+1)
		default:
			s.Options = slices.DeleteFunc(s.Options, func(x *uciOption) bool { return x == o })
		}
	case "set", "add_list":
		switch {
		case option == "" && command == "set":
			if !uciName.MatchString(section) || !uciType.MatchString(value) {
				return fmt.Errorf("no section %s of type %s", section, value)
			}
			if s == nil {
				c = append(c, &uciSection{Name: section, Type: value})
			} else {
				s.Type = value
			}
		case s == nil || option == "":
			return errNoEntry
		default:
			if o == nil {
				o = &uciOption{Name: option}
				s.Options = append(s.Options, o)
			}
			if command == "add_list" {
				o.List = true
				o.Values = append(o.Values, value)
			} else {
				o.List = false
				o.Values = []string{value}
			}
		}
	case "del_list":
		if o == nil || !o.List {
			return errNoEntry
		}
		o.Values = slices.DeleteFunc(o.Values, func(v string) bool { return v == value })
	default:
		return fmt.Errorf("no command %s", command)
	}
	return u.stage(config, c)
}

func (c uciConfig) show(w io.Writer, config string) {
	count := make(map[string]int)
	for _, s := range c {
		name := s.Name
		if name == "" {
			name = fmt.Sprintf("@%s[%d]", s.Type, count[s.Type])
		}
		count[s.Type]++
		fmt.Fprintf(w, "%s.%s=%s\n", config, name, s.Type)
		for _, o := range s.Options {
			fmt.Fprintf(w, "%s.%s.%s='%s'\n", config, name, o.Name, strings.Join(o.Values, "' '"))
		}
	}
}

// parseUCI reads a file as /etc/config has them.
func parseUCI(text string) (c uciConfig) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		for i := range words {
			words[i] = strings.Trim(words[i], "'")
		}
		switch {
		case len(words) == 0:
		case words[0] == "config":
			c = append(c, &uciSection{Type: words[1], Name: strings.Join(words[2:], "")})
		default:
			s := c[len(c)-1]
			if i := s.option(words[1]); i >= 0 {
				s.Options[i].Values = append(s.Options[i].Values, words[2])
				continue
			}
			s.Options = append(s.Options, &uciOption{Name: words[1], List: words[0] == "list", Values: words[2:3]})
		}
	}
	return c
}
