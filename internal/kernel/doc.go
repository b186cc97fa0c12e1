// Package kernel is the engine's netfilter: it turns the changes that nat asks
// for into elements of the daemon's nftables table and into anchors and
// expectations, and it deletes the flows that must not outlive them.
//
// It remembers all that it has installed, so that a firewall reload which takes
// the table away (nft flush ruleset), or whatever else others do to table and anchors,
// is repaired at once. It learns of flows by
// conntrack's events: closing a stream needs no search of the flow table.
package kernel
