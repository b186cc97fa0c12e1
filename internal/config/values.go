package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sipnatd/internal/ere"
)

var errNoValue = errors.New("a value is missing")

// set stores what stands after '=' in the setting's field of c. A note says what
// was made of a value that is not as it should be; the error says what is wrong,
// without naming the setting.
func (s Setting) set(c *Config, text string) (note string, err error) {
	if s.Kind == Text || s.Kind == URI || s.Kind == Pattern {
		return "", s.setLine(c, line(text))
	}
	values, err := words(text)
	if err != nil {
		return "", err
	}
	switch {
	case s.Kind == Interfaces:
		values, note = withoutLabels(values)
	case s.Kind.single() && s.Siproxd && len(values) > 1:
		note = fmt.Sprintf("only %s counts, as in siproxd: a value ends at the first space", printable(values[0]))
		values = values[:1]
	}
	return note, s.setWords(c, values)
}

// setLine stores a value that may hold anything.
func (s Setting) setLine(c *Config, value string) error {
	parse := parseText
	switch {
	case s.Kind == URI && value != "":
		parse = parseURI
	case s.Kind == Pattern:
		parse = parsePattern
	}
	switch f := s.field(c).(type) {
	case *string:
		return assign(f, value, parse)
	case *[]string:
		if value == "" {
			return nil
		}
		return add(f, value, parse)
	default:
		panic(fmt.Sprintf("config: %s: no way to set a %T", s.Name, f))
	}
}

func (s Setting) setWords(c *Config, values []string) error {
	switch f := s.field(c).(type) {
	case *[]string:
		switch s.Kind {
		case Interfaces:
			return setList(f, values, parseInterface)
		case Hosts:
			return setList(f, values, parseDomain)
		}
		return addOne(f, values, s.parseString())
	case *[]uint16:
		if s.Repeated {
			return addOne(f, values, s.parseNumber16)
		}
		if len(values) == 0 {
			return errNoValue
		}
		return setList(f, values, s.parseNumber16)
	case *[]netip.Prefix:
		return setList(f, values, parseNetwork)
	case *[]Access:
		return setList(f, values, parseAccess)
	case *DebugMask:
		if len(values) == 0 {
			return errNoValue
		}
		return assign(f, values, parseDebug)
	case *uint16:
		return setOne(f, values, s.parseNumber16)
	case *uint8:
		return setOne(f, values, func(v string) (uint8, error) {
			n, err := s.parseNumber(v)
			return uint8(n), err
		})
	case *int:
		return setOne(f, values, s.parseNumber)
	case *time.Duration:
		return setOne(f, values, s.parseDuration)
	case *bool:
		return setOne(f, values, parseSwitch)
	case *Mode:
		return setChoice(f, values, s.Choices)
	case *MediaSource:
		return setChoice(f, values, s.Choices)
	case *Hairpin:
		return setChoice(f, values, s.Choices)
	case *SIPAccept:
		return setChoice(f, values, s.Choices)
	case *OnFailure:
		return setChoice(f, values, s.Choices)
	case *string:
		if len(values) == 0 {
			*f = ""
			return nil
		}
		return setOne(f, values, s.parseString())
	default:
		panic(fmt.Sprintf("config: %s: no way to set a %T", s.Name, f))
	}
}

// parseString returns how a word of the setting is read.
func (s Setting) parseString() func(string) (string, error) {
	switch s.Kind {
	case Host:
		if s.Effect == Effective {
			return parseAnnounced
		}
		return parseHost
	case Account:
		return parseAccount
	case Path:
		return parsePath
	}
	panic("config: " + s.Name + ": no way to read a " + string(s.Kind))
}

// assign stores what parse makes of from, unless it fails.
func assign[F, T any](field *T, from F, parse func(F) (T, error)) error {
	v, err := parse(from)
	if err == nil {
		*field = v
	}
	return err
}

// add appends what parse makes of a value, unless it fails.
func add[T any](field *[]T, value string, parse func(string) (T, error)) error {
	v, err := parse(value)
	if err == nil {
		*field = append(*field, v)
	}
	return err
}

// addOne appends the one value, if there is one.
func addOne[T any](field *[]T, values []string, parse func(string) (T, error)) error {
	switch len(values) {
	case 0:
		return nil
	case 1:
		return add(field, values[0], parse)
	}
	return fmt.Errorf("one value is wanted, not %d", len(values))
}

func setOne[T any](field *T, values []string, parse func(string) (T, error)) error {
	switch len(values) {
	case 0:
		return errNoValue
	case 1:
		return assign(field, values[0], parse)
	}
	return fmt.Errorf("one value is wanted, not %d", len(values))
}

// setList stores a list without repetitions.
func setList[T comparable](field *[]T, values []string, parse func(string) (T, error)) error {
	var list []T
	var errs []error
	for _, value := range values {
		v, err := parse(value)
		if err != nil {
			errs = append(errs, err)
		} else if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	*field = list
	return nil
}

func setChoice[T ~string](field *T, values []string, choices []string) error {
	return setOne(field, values, func(v string) (T, error) {
		if slices.Contains(choices, v) {
			return T(v), nil
		}
		return "", wrongChoice(v, choices)
	})
}

// wrongChoice is the error for a value that is none of the choices.
func wrongChoice(value string, choices []string) error {
	return fmt.Errorf("%s is none of %s%s", quoted(value), strings.Join(choices, ", "), didYouMean(Nearest(value, choices)))
}

// parseNumber reads a number as siproxd does: decimal, hexadecimal after 0x, octal
// after 0.
func (s Setting) parseNumber(v string) (int, error) {
	n, err := strconv.ParseInt(v, 0, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax) || strings.ContainsRune(v, '_'):
		return 0, fmt.Errorf("%s is not a number", quoted(v))
	case n < int64(s.Min): // of numbers beyond 64 bits, n is the nearest
		return 0, fmt.Errorf("%s is out of range; the nearest is %d", printable(v), s.Min)
	case n > int64(s.Max):
		return 0, fmt.Errorf("%s is out of range; the nearest is %d", printable(v), s.Max)
	}
	return int(n), nil
}

func (s Setting) parseNumber16(v string) (uint16, error) {
	n, err := s.parseNumber(v)
	return uint16(n), err
}

func (s Setting) parseDuration(v string) (time.Duration, error) {
	n, err := s.parseNumber(v)
	if d, wrong := time.ParseDuration(v); err != nil && wrong == nil && strings.ContainsAny(v, "hms") {
		return 0, fmt.Errorf("%s is not a number of %s; did you mean %d?", quoted(v), s.Unit,
			min(max(int64(d/s.Kind.duration()), int64(s.Min)), int64(s.Max)))
	}
	return time.Duration(n) * s.Kind.duration(), err
}

// duration is what a setting of the kind counts.
func (k Kind) duration() time.Duration {
	if k == Milliseconds {
		return time.Millisecond
	}
	return time.Second
}

func parseSwitch(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "1", "yes", "true", "on":
		return true, nil
	case "0", "no", "false", "off":
		return false, nil
	}
	return false, fmt.Errorf("%s is neither yes nor no (1, 0, true, false, on, off are known too)", quoted(v))
}

// withoutLabels takes eth0 for eth0:1, which siproxd could be given for the sake
// of its address.
func withoutLabels(names []string) ([]string, string) {
	note := ""
	names = slices.Clone(names)
	for i, name := range names {
		if before, _, label := strings.Cut(name, ":"); label && before != "" {
			note = fmt.Sprintf("%s is the label of an address, not an interface: %s is taken; host_outbound can name the address", quoted(name), quoted(before))
			names[i] = before
		}
	}
	return names, note
}

// maxInterfaceName is IFNAMSIZ without its terminating zero.
const maxInterfaceName = 15

// parseInterface accepts what the kernel accepts as a name (dev_valid_name).
func parseInterface(v string) (string, error) {
	switch {
	case v == "" || v == "." || v == ".." || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r == 0x7f }):
		return "", fmt.Errorf("%s cannot be an interface name", quoted(v))
	case len(v) > maxInterfaceName:
		return "", fmt.Errorf("%s cannot be an interface name: longer than %d characters", quoted(v), maxInterfaceName)
	}
	return v, nil
}

// parseAccount accepts what can stand in the first field of passwd(5).
func parseAccount(v string) (string, error) {
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == ':' || r == '/' || r == 0x7f }) {
		return "", fmt.Errorf("%s cannot be a user", quoted(v))
	}
	return v, nil
}

func parsePath(v string) (string, error) {
	if v == "" || strings.ContainsFunc(v, unicode.IsControl) {
		return "", fmt.Errorf("%s cannot be a file name", quoted(v))
	}
	return v, nil
}

func parseText(v string) (string, error) {
	if strings.ContainsFunc(v, unicode.IsControl) {
		return "", errors.New("it holds a control character")
	}
	return v, nil
}

func parsePattern(v string) (string, error) {
	if _, err := parseText(v); err != nil {
		return "", err
	}
	if _, err := ere.Compile(v); err != nil {
		return "", fmt.Errorf("not an extended regular expression: %w", err)
	}
	return v, nil
}

// parseURI accepts sip:user@host and what stands around it in a header.
func parseURI(v string) (string, error) {
	if _, err := parseText(v); err != nil {
		return "", err
	}
	_, uri, _ := strings.Cut(v, "<")
	if uri == "" {
		uri = v
	}
	scheme, rest, found := strings.Cut(uri, ":")
	if scheme = strings.ToLower(scheme); !found || scheme != "sip" && scheme != "sips" || rest == "" {
		return "", fmt.Errorf("%s is not a SIP URI; did you mean %s?", quoted(v), printable("sip:"+v))
	}
	return v, nil
}
