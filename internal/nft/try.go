package nft

import (
	"fmt"

	"github.com/google/nftables"
)

// ProbeMaps finds out whether the kernel translates by maps whose elements have a
// timeout, on which the daemon's table stands. It needs CAP_NET_ADMIN and leaves
// nothing behind.
func ProbeMaps() error {
	return tryOut("NAT by a map whose elements have timeouts", func(conn *nftables.Conn, scratch *nftables.Table) error {
		if err := conn.AddSet(mapStreams.declare(scratch), nil); err != nil {
			return err
		}
		c := conn.AddChain(&nftables.Chain{Name: "probe", Table: scratch}) // not on a hook: no packet comes
		conn.AddRule(&nftables.Rule{Table: scratch, Chain: c, Exprs: join(udp(), daddrDport(), dnat(mapStreams))})
		return nil
	})
}

// ProbeFlowtable finds out whether the kernel has flowtables. It needs CAP_NET_ADMIN
// and leaves nothing behind.
func ProbeFlowtable() error {
	return tryOut("a flowtable", func(conn *nftables.Conn, scratch *nftables.Table) error {
		priority := nftables.FlowtablePriority(0)
		conn.AddFlowtable(&nftables.Flowtable{Table: scratch, Name: "probe",
			Hooknum: nftables.FlowtableHookIngress, Priority: &priority})
		return nil
	})
}

// tryOut offers something to the kernel, in a transaction that takes it back.
func tryOut(what string, add func(*nftables.Conn, *nftables.Table) error) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	scratch := conn.AddTable(scratchTable())
	if err := add(conn, scratch); err != nil {
		return fmt.Errorf("nft: %s: %w", what, err)
	}
	conn.DelTable(scratch)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nft: the kernel refuses %s: %w", what, err)
	}
	return nil
}
