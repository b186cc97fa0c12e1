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
// with a warning; a few settings add up instead.
//
// [Settings] is the only place where a setting is defined: its name, kind,
// default, range and help. Parsing, defaults, the reference configuration
// ([WriteReference]), the manual and the tests of the documentation all follow
// from it.
//
// An existing siproxd.conf works as it is. Every directive of siproxd 0.3 to 0.8
// and of its plugins is a setting, read and checked like the others. One that has
// no effect ([Setting].Effect) becomes one of [Config.Warnings], which says why, or
// what does its job; so does a value that is refused elsewhere but that siproxd
// took, with what is made of it.
//
// Whatever is wrong is said, all of it at once: [Parse] returns [Errors], each
// with its file and line, the value, and the nearest name or value that would
// have been right. [Config.Values] says where each value comes from.
package config
