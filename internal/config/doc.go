// Package config reads the daemon's configuration: lines of "name = value" in
// the format of siproxd.conf.
//
//	# a comment
//	if_inbound  = eth0, eth1          # a list: commas or white space
//	if_outbound = "ppp0"              # quotes are allowed, never needed
//	rtp_timeout = 300
//
// A '#' starts a comment at the beginning of a line and after white space, so
// that values may hold one. The last of several lines for one setting counts,
// with a warning.
//
// [Settings] is the only place where a setting is defined: its name, kind,
// default, range and help. Parsing, defaults and the tests of the documentation
// all follow from it.
//
// Whatever is wrong is said, all of it at once: [Parse] returns [Errors], each
// with its file and line, the value, and the nearest name that would have been
// right. A directive of siproxd that has no effect here is not an error (an
// existing file must work as it is); it becomes one of [Config.Warnings], which
// says what does its job.
package config
