// Package ifaces knows which network interfaces are inside and which are
// outside, what addresses they have and which of them masquerade would use.
//
// [Resolve] asks the kernel (rtnetlink) once and returns a [Snapshot], which
// never changes and may be used by any number of goroutines; a look-up by
// interface index takes nanoseconds and allocates nothing. [Watch] delivers a
// new Snapshot whenever links, addresses or routes have changed what the last
// one said.
//
// Interfaces are those that the configuration names, or are found: outside is
// where the IPv4 default route of the main table leaves, inside is every other
// interface that is up and has a private address (RFC 1918).
package ifaces
