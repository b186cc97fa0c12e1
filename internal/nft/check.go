package nft

import (
	"fmt"

	"github.com/google/nftables"
)

// LateChain is a filter chain of somebody else's on the forward hook that runs
// after ours. What it drops has been queued already and may have opened a stream.
type LateChain struct {
	Family, Table, Name string
	Priority            int
}

// String says what is wrong, for the administrator.
func (c LateChain) String() string {
	return fmt.Sprintf("chain %s of table %s %s filters forwarded packets at priority %d, after sipnatd (%d): "+
		"give it a lower priority, or packets that it drops may still open media streams",
		c.Name, c.Family, c.Table, c.Priority, priorityForward)
}

// LateChains finds the filter chains at forward that run after ours.
func LateChains() ([]LateChain, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	all, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("nft: listing chains: %w", err)
	}
	var late []LateChain
	for _, c := range all {
		var family string
		switch c.Table.Family {
		case nftables.TableFamilyIPv4:
			family = "ip"
		case nftables.TableFamilyINet:
			family = "inet"
		default:
			continue
		}
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || c.Type != nftables.ChainTypeFilter ||
			*c.Priority < priorityForward || family == "ip" && c.Table.Name == tableName {
			continue
		}
		late = append(late, LateChain{Family: family, Table: c.Table.Name, Name: c.Name, Priority: int(*c.Priority)})
	}
	return late, nil
}
