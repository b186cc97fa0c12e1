package nft

import (
	"errors"
)

// Redirects reads the administrator's own DNAT rules for UDP over IPv4 in the
// caller's network namespace: those of nftables and iptables-nft, in the order in
// which packets meet them, then those of iptables-legacy. Rules of the daemon's
// table are left out. It errs on the side of too many: what it does not understand
// of a rule, it takes to match. With an error it returns what it could read.
//
// It takes one or two milliseconds with a firewall's usual rules, and causes no
// kernel module to be loaded. It needs CAP_NET_ADMIN.
func Redirects() ([]Redirect, error) {
	native, nativeErr := nftRedirects()
	legacy, legacyErr := legacyRedirects()
	return append(native, legacy...), errors.Join(nativeErr, legacyErr)
}

// Bounds on what is read, so that no ruleset can keep us for long.
const (
	// maxAlternatives bounds the redirects of one rule. Of a set with more, each
	// element is taken to match; of a map with more, the rest is left out.
	maxAlternatives = 4096

	// maxVisits bounds the work: rules looked at, times the alternatives of the
	// packets that come there, plus what is found. A rule counts each time that
	// another chain jumps to its own.
	maxVisits = 1 << 18

	// maxDepth bounds the jumps from chain to chain, as the kernel does.
	maxDepth = 16
)
