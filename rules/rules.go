// Package rules holds the rule files that people read and that the daemon can
// write out.
package rules

import _ "embed"

// Siproxd is siproxd.nft: the daemon's nftables table in its commented form, for
// the reference configuration.
//
//go:embed siproxd.nft
var Siproxd string
