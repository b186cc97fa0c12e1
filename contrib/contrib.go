// Package contrib holds firewalls that sipnatd works with, as their
// administrators write them. The tests load these very files.
package contrib

import _ "embed"

// IPTables is iptables/firewall.rules: a masquerading firewall for
// iptables-restore, on the machine that sipnatd runs on.
//
//go:embed iptables/firewall.rules
var IPTables string

// IPChains is ipchains/firewall.sh: a packet filter of Linux 2.2 in front of
// the machine that sipnatd runs on.
//
//go:embed ipchains/firewall.sh
var IPChains string
