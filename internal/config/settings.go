package config

import (
	"fmt"
	"slices"
	"strings"
)

// A Kind is the form of a setting's value.
type Kind string

// The kinds of settings.
const (
	Interfaces   Kind = "interfaces"   // list of interface names
	Host         Kind = "host"         // one IPv4 address or host name
	Hosts        Kind = "hosts"        // list of host names
	Port         Kind = "port"         // one UDP port
	Ports        Kind = "ports"        // list of UDP ports
	Number       Kind = "number"       // one number
	Seconds      Kind = "seconds"      // one number of seconds
	Milliseconds Kind = "milliseconds" // one number of milliseconds
	Networks     Kind = "networks"     // list of IPv4 addresses and networks (address/bits)
	AccessList   Kind = "access list"  // list of networks and of host names (name/bits)
	Choice       Kind = "choice"       // one of Setting.Choices
	Switch       Kind = "switch"       // yes or no, as 1/0, yes/no, true/false, on/off
	Account      Kind = "user"         // one user, by name or number
	Path         Kind = "path"         // one file name
	URI          Kind = "uri"          // one SIP URI
	Text         Kind = "text"         // the rest of the line
	Pattern      Kind = "pattern"      // one extended regular expression
	Mask         Kind = "mask"         // numeric mask or list of class names
)

// single reports whether a value of the kind is one word.
func (k Kind) single() bool {
	return !slices.Contains([]Kind{Interfaces, Hosts, Ports, Networks, AccessList, Mask, URI, Text, Pattern}, k)
}

// An Effect says what becomes of a setting.
type Effect int

// The effects of a setting.
const (
	Effective   Effect = iota
	InProxyMode        // it has no effect with mode = transparent
	NoEffect           // it has no place here
)

// A Group is the subject of a setting, for people.
type Group string

// The groups of settings, in their order.
const (
	GroupInterfaces Group = "Interfaces"
	GroupSignalling Group = "Signalling"
	GroupMedia      Group = "Media"
	GroupProcess    Group = "Process"
	GroupLog        Group = "Log"
	GroupProxy      Group = "Proxy mode"
	GroupPlugins    Group = "siproxd's plugins"
	GroupObsolete   Group = "Other directives of siproxd"
)

// Groups returns the groups of settings, in the order of [Settings].
func Groups() []Group {
	return []Group{GroupInterfaces, GroupSignalling, GroupMedia, GroupProcess, GroupLog, GroupProxy, GroupPlugins, GroupObsolete}
}

// A Setting defines one setting of the configuration file.
type Setting struct {
	Name    string
	Group   Group
	Kind    Kind
	Default string   // as it would be written in the file
	Unit    string   // what a number counts; empty for none
	Min     int      // smallest value of a number or port
	Max     int      // largest value of a number or port
	Choices []string // the values of a Choice, or the class names of a Mask
	Help    string   // what it does, in one to three sentences

	Effect Effect
	Fate   string // where it has none: why, or what does its job; no full stop

	Reload    bool // takes effect on SIGHUP; others with the next start
	Essential bool // one of those that most administrators may want to change
	Repeated  bool // each line adds to it; other settings are set anew
	Secret    bool // its value is not shown
	Siproxd   bool // siproxd has it too

	field func(*Config) any // the field of Config that it sets
}

// Accepts says in words which values the setting takes.
func (s Setting) Accepts() string {
	switch s.Kind {
	case Port:
		return fmt.Sprintf("%d to %d", s.Min, s.Max)
	case Number, Seconds, Milliseconds:
		return strings.TrimSpace(fmt.Sprintf("%d to %d %s", s.Min, s.Max, s.Unit))
	case Ports:
		return fmt.Sprintf("ports %d to %d, separated by commas or spaces", s.Min, s.Max)
	case Choice:
		return strings.Join(s.Choices, " or ")
	case Interfaces:
		return "interface names, separated by commas or spaces"
	case Networks:
		return "IPv4 addresses and networks such as 192.0.2.0/24, separated by commas or spaces"
	case AccessList:
		return "networks such as 192.0.2.0/24, and host names, separated by commas or spaces"
	case Host:
		return "an IPv4 address or a host name"
	case Hosts:
		return "host names, separated by commas or spaces"
	case Switch:
		return "yes or no"
	case Account:
		return "a user's name or number"
	case Path:
		return "a file name"
	case URI:
		return "a SIP URI such as sip:user@example.org"
	case Pattern:
		return "an extended regular expression"
	case Mask:
		return "a number such as 0x204, or classes: " + strings.Join(s.Choices, ", ")
	}
	return string(s.Kind)
}

// In reports whether there is an effect in a mode.
func (e Effect) In(m Mode) bool {
	return e == Effective || e == InProxyMode && m != ModeTransparent
}

// noEffect is what a line is answered with that has none.
func noEffect(line, fate string) string { return line + " has no effect: " + fate }

// Settings returns the definition of every setting, in the order in which they
// are explained to people: group by group.
func Settings() []Setting { return slices.Clone(settings) }

// Lookup finds a setting by its exact name.
func Lookup(name string) (Setting, bool) {
	i, ok := settingIndex[name]
	if !ok {
		return Setting{}, false
	}
	return settings[i], true
}

var settings = slices.Concat(
	group(GroupInterfaces, Effective, interfaceSettings),
	group(GroupSignalling, Effective, signallingSettings),
	group(GroupMedia, Effective, mediaSettings),
	group(GroupProcess, Effective, processSettings),
	group(GroupLog, Effective, logSettings),
	group(GroupProxy, InProxyMode, proxySettings),
	group(GroupPlugins, InProxyMode, pluginSettings()),
	group(GroupObsolete, NoEffect, obsoleteSettings),
)

// settingIndex finds a setting by its name.
var settingIndex = func() map[string]int {
	index := make(map[string]int, len(settings))
	for i, s := range settings {
		index[s.Name] = i
	}
	return index
}()

// group gives settings their group, and their effect where they have no other.
func group(g Group, e Effect, list []Setting) []Setting {
	list = slices.Clone(list)
	for i := range list {
		list[i].Group = g
		if list[i].Effect == Effective {
			list[i].Effect = e
		}
		switch list[i].Kind {
		case Seconds:
			list[i].Unit = "seconds"
		case Milliseconds:
			list[i].Unit = "milliseconds"
		}
	}
	return list
}

// nearestName returns the name of a setting that was probably meant, or "". What
// looks like a plugin's option is compared with those only, without what they all
// begin with.
func nearestName(name string) string {
	prefix := ""
	if isPluginOption(name) {
		prefix = "plugin_"
	}
	var names []string
	for _, s := range settings {
		if rest, ok := strings.CutPrefix(s.Name, prefix); ok {
			names = append(names, rest)
		}
	}
	if near := Nearest(name[len(prefix):], names); near != "" {
		return prefix + near
	}
	return ""
}

func isPluginOption(name string) bool { return strings.HasPrefix(name, "plugin_") }
