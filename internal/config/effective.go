package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Hidden stands for the value of a secret.
const Hidden = "(not shown)"

// A Value is the effective value of a setting. A setting that adds up has one for
// each line, and one without text where there is no line.
type Value struct {
	Setting
	Text   string // as a file may have it; Hidden for a secret
	Origin string // "default", "FILE:LINE", or the flag that overrides the file
}

// Values returns the effective values, in the order of [Settings].
func (c *Config) Values() []Value {
	var values []Value
	for _, s := range settings {
		texts, origins := s.texts(c), c.origins[s.Name]
		if len(texts) == 0 {
			values = append(values, Value{s, "", "default"})
		}
		for i, text := range texts {
			origin := "default"
			if i < len(origins) {
				origin = origins[i]
			}
			values = append(values, Value{s, s.shown(text), origin})
		}
	}
	return values
}

// A Change is a setting whose value differs between two configurations.
type Change struct {
	Setting
	Old, New string // as a file may have it, several values with commas; Hidden for a secret
}

// Changes returns what differs between two configurations, in the order of
// [Settings].
func Changes(old, new *Config) []Change {
	var changes []Change
	for _, s := range settings {
		if before, after := s.texts(old), s.texts(new); !slices.Equal(before, after) {
			changes = append(changes, Change{s, s.shown(strings.Join(before, ", ")), s.shown(strings.Join(after, ", "))})
		}
	}
	return changes
}

// Override sets a setting in place of what the file says of it; flag is what was
// given for that, such as "-d".
func (c *Config) Override(flag, name, text string) error {
	s, ok := Lookup(name)
	if !ok {
		return fmt.Errorf("%s: there is no setting %s", flag, name)
	}
	if _, err := s.set(c, text); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	c.origins[name] = []string{flag}
	return nil
}

// AsksForProxy reports whether somebody wants the proxy mode: the mode was chosen so,
// or one of its settings. Else it is there because it may be of use.
func (c *Config) AsksForProxy() bool {
	if c.Mode == ModeTransparent {
		return false
	}
	for _, s := range settings {
		if (s.Effect == InProxyMode || s.Name == "mode") && len(c.origins[s.Name]) > 0 {
			return true
		}
	}
	return false
}

func (s Setting) shown(text string) string {
	if s.Secret && text != "" {
		return Hidden
	}
	return text
}

// texts returns the setting's values as a file may have them: one for each line of
// a setting that adds up, one of any other.
func (s Setting) texts(c *Config) []string {
	switch f := s.field(c).(type) {
	case *[]string:
		if !s.Repeated {
			return []string{list(*f, func(v string) string { return v })}
		}
		var lines []string
		for _, v := range *f {
			lines = append(lines, s.inQuotes(v))
		}
		return lines
	case *[]uint16:
		if !s.Repeated {
			return []string{list(*f, portText)}
		}
		var lines []string
		for _, v := range *f {
			lines = append(lines, portText(v))
		}
		return lines
	}
	return []string{s.text(c)}
}

// lines returns how many values a setting that adds up has.
func (s Setting) lines(c *Config) int {
	switch f := s.field(c).(type) {
	case *[]string:
		return len(*f)
	case *[]uint16:
		return len(*f)
	}
	return 1
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }

// text returns the value of a setting that has one line.
func (s Setting) text(c *Config) string {
	switch f := s.field(c).(type) {
	case *[]netip.Prefix:
		return list(*f, netip.Prefix.String)
	case *[]Access:
		return list(*f, Access.String)
	case *DebugMask:
		return f.String()
	case *uint16:
		return portText(*f)
	case *uint8:
		return strconv.Itoa(int(*f))
	case *int:
		return strconv.Itoa(*f)
	case *time.Duration:
		return strconv.FormatInt(int64(*f/s.Kind.duration()), 10)
	case *bool:
		if *f {
			return "yes"
		}
		return "no"
	case *Mode:
		return string(*f)
	case *MediaSource:
		return string(*f)
	case *Hairpin:
		return string(*f)
	case *SIPAccept:
		return string(*f)
	case *OnFailure:
		return string(*f)
	case *string:
		return s.inQuotes(*f)
	default:
		panic(fmt.Sprintf("config: %s: no way to write a %T", s.Name, f))
	}
}

func (s Setting) inQuotes(value string) string {
	if s.Kind == Text || s.Kind == URI || s.Kind == Pattern {
		return lineInQuotes(value)
	}
	return wordInQuotes(value)
}
