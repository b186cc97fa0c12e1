package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

var errNoValue = errors.New("a value is missing")

// fields splits the text after '=' into values at commas and white space. A
// value in double or single quotes may hold both. An unquoted '#' at the start
// of a value begins a comment.
func fields(text string) ([]string, error) {
	var values []string
	for {
		text = strings.TrimLeft(text, " \t,")
		if text == "" || text[0] == '#' {
			return values, nil
		}
		if q := text[0]; q == '"' || q == '\'' {
			end := strings.IndexByte(text[1:], q)
			if end < 0 {
				return nil, fmt.Errorf("the quote %c is not closed", q)
			}
			values = append(values, text[1:1+end])
			text = text[end+2:]
			if text != "" && !strings.ContainsRune(" \t,", rune(text[0])) {
				return nil, fmt.Errorf("text follows the closing quote %c", q)
			}
			continue
		}
		end := strings.IndexAny(text, " \t,")
		if end < 0 {
			end = len(text)
		}
		values = append(values, text[:end])
		text = text[end:]
	}
}

// set stores the values in the setting's field of c. The error says what is
// wrong with them, without naming the setting.
func (s Setting) set(c *Config, values []string) error {
	switch f := s.field(c).(type) {
	case *[]string:
		return setList(f, values, parseInterface)
	case *[]uint16:
		if len(values) == 0 {
			return errNoValue
		}
		return setList(f, values, s.parseNumber16)
	case *[]netip.Prefix:
		return setList(f, values, parseNetwork)
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
		return setOne(f, values, s.parseSeconds)
	case *bool:
		return setOne(f, values, parseSwitch)
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
		if s.Kind == Host {
			return setOne(f, values, parseHost)
		}
		if s.Kind == Path {
			return setOne(f, values, parsePath)
		}
		return setOne(f, values, parseAccount)
	default:
		panic(fmt.Sprintf("config: %s: no way to set a %T", s.Name, f))
	}
}

// assign stores what parse makes of from, unless it fails.
func assign[F, T any](field *T, from F, parse func(F) (T, error)) error {
	v, err := parse(from)
	if err == nil {
		*field = v
	}
	return err
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
	err := fmt.Sprintf("%s is none of %s", quoted(value), strings.Join(choices, ", "))
	if near := Nearest(value, choices); near != "" {
		err += fmt.Sprintf("; did you mean %s?", near)
	}
	return errors.New(err)
}

func (s Setting) parseNumber(v string) (int, error) {
	n, err := strconv.Atoi(v)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, fmt.Errorf("%s is not a number", quoted(v))
	case err != nil || n < s.Min || n > s.Max:
		return 0, fmt.Errorf("%s is out of range", printable(v))
	}
	return n, nil
}

func (s Setting) parseNumber16(v string) (uint16, error) {
	n, err := s.parseNumber(v)
	return uint16(n), err
}

func (s Setting) parseSeconds(v string) (time.Duration, error) {
	n, err := s.parseNumber(v)
	return time.Duration(n) * time.Second, err
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

// maxInterfaceName is IFNAMSIZ without its terminating zero.
const maxInterfaceName = 15

// parseInterface accepts what the kernel accepts as a name (dev_valid_name),
// and explains the alias names of old, which are labels of addresses.
func parseInterface(v string) (string, error) {
	switch {
	case v == "" || v == "." || v == ".." || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }):
		return "", fmt.Errorf("%s cannot be an interface name", quoted(v))
	case strings.Contains(v, ":"):
		return "", fmt.Errorf("%s is the label of an address, not an interface: write %s", quoted(v), quoted(v[:strings.IndexByte(v, ':')]))
	case len(v) > maxInterfaceName:
		return "", fmt.Errorf("%s cannot be an interface name: longer than %d characters", quoted(v), maxInterfaceName)
	}
	return v, nil
}

func parseNetwork(v string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(v); err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%s is neither an IPv4 address nor a network such as 192.0.2.0/24", quoted(v))
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if !p.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("%s: IPv6 is not supported yet", quoted(v))
	}
	return p.Masked(), nil
}

// parseHost accepts an IPv4 address or a host name (RFC 1123, section 2.1).
func parseHost(v string) (string, error) {
	if a, err := netip.ParseAddr(v); err == nil {
		switch {
		case !a.Is4():
			return "", fmt.Errorf("%s: IPv6 is not supported yet", quoted(v))
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			return "", fmt.Errorf("%s cannot be announced", quoted(v))
		}
		return v, nil
	}
	name := strings.TrimSuffix(v, ".")
	if name == "" || len(name) > 253 {
		return "", fmt.Errorf("%s is neither an address nor a host name", quoted(v))
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isLetterDigit(r) && r != '-' }) {
			return "", fmt.Errorf("%s is neither an address nor a host name", quoted(v))
		}
	}
	if last := labels[len(labels)-1]; last[0] >= '0' && last[0] <= '9' {
		return "", fmt.Errorf("%s is not a complete IPv4 address", quoted(v))
	}
	return v, nil
}

func isLetterDigit(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// parseAccount accepts what can stand in the first field of passwd(5).
func parseAccount(v string) (string, error) {
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == ':' || r == '/' || r == 0x7f }) {
		return "", fmt.Errorf("%s cannot be a user", quoted(v))
	}
	return v, nil
}

// parsePath accepts an absolute file name: a daemon has no directory of its own.
func parsePath(v string) (string, error) {
	if !strings.HasPrefix(v, "/") || strings.IndexByte(v, 0) >= 0 {
		return "", fmt.Errorf("%s is not an absolute file name", quoted(v))
	}
	return v, nil
}
