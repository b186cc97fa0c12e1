// Package nft keeps the daemon's own nftables table, "ip sipnatd": it installs
// the rules, leases elements to the kernel and takes them back.
//
// The table is written out, commented, in rules/siproxd.nft. In short:
//
//	prerouting   (nat, dstnat - 10)  public -> inside   by the maps streams and bindings
//	postrouting  (nat, srcnat - 10)  inside -> public   by the map publics
//	forward      (filter, 290)       the guard on media, then SIP to the queue
//	input        (filter, 290)       limits before the daemon's own sockets
//	output       (filter, 290)       no word that nobody listens, while a daemon starts
//
// Everything the daemon learns is an element with a timeout, a lease. The daemon
// renews the leases it still needs. When it dies, the kernel goes on with calls
// for the rest of the lease, and the next daemon finds the elements with
// [Table.Mappings] and takes them over.
//
// A [Batch] collects changes and [Table.Commit] makes them in one netlink
// exchange, all or nothing, and returns when the kernel has acknowledged them:
// a packet that is held in a queue meanwhile meets the new elements on its way
// out.
//
// What others change in the table is told by [Table.Watch], and repaired by
// [Table.Install] and [Table.Settle].
//
// [Redirects] reads the firewall's own DNAT rules, wherever they are kept.
//
// Kernels differ and are asked, never assumed: see [Features].
package nft
