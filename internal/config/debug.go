package config

import (
	"fmt"
	"strconv"
	"strings"
)

// A DebugMask selects classes of debug messages, with the bits of siproxd.
type DebugMask uint32

// The classes of debug messages.
const (
	DebugBabble    DebugMask = 1 << iota // entering and leaving of functions
	DebugNet                             // network and interfaces
	DebugSIP                             // SIP rewriting
	DebugReg                             // registrations and bindings
	DebugNoSpec                          // everything without a class
	DebugProxy                           // proxy mode
	DebugDNS                             // name resolution
	DebugNetTraf                         // network traffic: whole messages
	DebugConfig                          // configuration
	DebugRTP                             // media streams
	DebugAccess                          // access lists and refusals
	DebugAuth                            // authentication
	DebugPlugin                          // plugins
	DebugRTPBabble                       // media streams in every detail

	DebugAll DebugMask = 0xffffffff
)

// debugClasses names the bits, from the lowest up.
var debugClasses = [...]string{
	"babble", "net", "sip", "reg", "nospec", "proxy", "dns", "nettraf",
	"config", "rtp", "access", "auth", "plugin", "rtpbabble",
}

// debugNames returns what a mask can be composed of.
func debugNames() []string {
	return append(debugClasses[:len(debugClasses):len(debugClasses)], "all", "none")
}

// Has reports whether any of the classes is selected.
func (m DebugMask) Has(classes DebugMask) bool { return m&classes != 0 }

// String returns the names of the classes, separated by commas.
func (m DebugMask) String() string {
	switch m {
	case 0:
		return "none"
	case DebugAll:
		return "all"
	}
	var names []string
	for i, name := range debugClasses {
		if m.Has(1 << i) {
			names = append(names, name)
			m &^= 1 << i
		}
	}
	if m != 0 {
		names = append(names, fmt.Sprintf("%#x", uint32(m)))
	}
	return strings.Join(names, ",")
}

// ParseDebug reads a mask as the flag -d and the setting debug_level take it: a
// number as in siproxd (decimal, octal or hexadecimal, -1 for everything), or
// names separated by commas or spaces. Several are added up.
func ParseDebug(s string) (DebugMask, error) {
	values, err := words(s)
	if err != nil {
		return 0, err
	}
	if len(values) == 0 {
		return 0, errNoValue
	}
	return parseDebug(values)
}

func parseDebug(values []string) (DebugMask, error) {
	var mask DebugMask
	for _, v := range values {
		bits, err := parseDebugClass(v)
		if err != nil {
			return 0, err
		}
		mask |= bits
	}
	return mask, nil
}

func parseDebugClass(v string) (DebugMask, error) {
	if n, err := strconv.ParseInt(v, 0, 64); err == nil {
		if n == -1 {
			return DebugAll, nil
		}
		if n < 0 || n > int64(DebugAll) {
			return 0, fmt.Errorf("%s does not fit in 32 bits", printable(v))
		}
		return DebugMask(n), nil
	}
	switch name := strings.ToLower(v); name {
	case "all":
		return DebugAll, nil
	case "none":
		return 0, nil
	default:
		for i, class := range debugClasses {
			if class == name {
				return 1 << i, nil
			}
		}
	}
	return 0, wrongChoice(v, debugNames())
}
