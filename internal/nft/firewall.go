package nft

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Firewall is what other people have put into the packet filter of the caller's
// network namespace, as it was when it was read: the tables of nft and iptables-nft
// that see IPv4 packets, and those of iptables-legacy. The daemon's own table is not
// among them. Large sets are not read. It is not for concurrent use.
type Firewall struct {
	s         *ruleset
	chains    []Chain
	rules     []Rule
	byChain   map[chainKey][]Rule
	legacy    map[string]*legacyTable
	installed bool
}

// chainKey names a chain.
type chainKey struct {
	table tableKey
	name  string
}

// ReadFirewall reads it. What could not be read is an error; the rest is returned
// all the same, if there is any. It takes milliseconds with a firewall's usual rules,
// causes no kernel module to be loaded, and needs CAP_NET_ADMIN. Who asks has to
// close it.
func ReadFirewall() (*Firewall, error) {
	s, err := dialRuleset()
	if err != nil {
		return nil, err
	}
	f := &Firewall{s: s, byChain: make(map[chainKey][]Rule), legacy: make(map[string]*legacyTable)}
	errs := []error{f.readChains(), f.readRules()}
	for _, name := range legacyRead {
		table, err := readLegacy(name)
		errs = append(errs, err)
		if table != nil {
			f.legacy[name] = table
		}
	}
	return f, errors.Join(errs...)
}

// Close ends the reading of sets.
func (f *Firewall) Close() { f.s.close() }

// Installed reports whether the daemon's own table is there.
func (f *Firewall) Installed() bool { return f.installed }

// Hook is where a base chain sees packets.
type Hook uint8

// The hooks of packets that are forwarded, and of those for the firewall itself.
const (
	Prerouting  Hook = unix.NF_INET_PRE_ROUTING
	Input       Hook = unix.NF_INET_LOCAL_IN
	Forward     Hook = unix.NF_INET_FORWARD
	Postrouting Hook = unix.NF_INET_POST_ROUTING
)

// Kinds of base chains.
const (
	KindFilter = "filter"
	KindNAT    = "nat"
)

// A Chain is a base chain of the administrator's.
type Chain struct {
	Family   string // ip or inet
	Table    string
	Name     string
	Kind     string // KindFilter, KindNAT or what else there is
	Hook     Hook
	Priority int
	Legacy   bool // of iptables-legacy

	drops bool // its policy
}

// String says where it is.
func (c Chain) String() string {
	if c.Legacy {
		return fmt.Sprintf("chain %s of table %s (iptables-legacy)", c.Name, c.Table)
	}
	return fmt.Sprintf("chain %s of table %s %s", c.Name, c.Family, c.Table)
}

// iptables is the program whose chain it is; empty for nft.
func (c Chain) iptables() string {
	switch {
	case c.Legacy:
		return "iptables-legacy"
	case c.Family == "ip" && slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, c.Table) &&
		c.Name == strings.ToUpper(c.Name):
		return "iptables-nft"
	}
	return ""
}

// Insert is the command that puts a rule in front of the chain's others. The rule is
// given as nft has it, and as iptables has it.
func (c Chain) Insert(nft, iptables string) string {
	program := c.iptables()
	if program == "" {
		return fmt.Sprintf("nft insert rule %s %s %s %s", c.Family, c.Table, c.Name, nft)
	}
	if c.Table != "filter" {
		program += " -t " + c.Table
	}
	return fmt.Sprintf("%s -I %s %s", program, c.Name, iptables)
}

// Chains lists the base chains of a kind at a hook, in the order in which packets
// meet them. Where priorities are equal the order is that of the kernel's list.
func (f *Firewall) Chains(kind string, hook Hook) []Chain {
	var found []Chain
	for _, c := range f.chains {
		if c.Kind == kind && c.Hook == hook {
			found = append(found, c)
		}
	}
	for _, l := range legacyChains {
		if f.legacy[l.Table] != nil && l.Kind == kind && l.Hook == hook {
			found = append(found, l)
		}
	}
	slices.SortStableFunc(found, func(a, b Chain) int { return cmp.Compare(a.Priority, b.Priority) })
	return found
}

// OwnPriority is the priority of the daemon's chain of a kind at a hook.
func OwnPriority(kind string, hook Hook) int {
	switch {
	case kind == KindNAT && hook == Prerouting:
		return int(priorityPrerouting)
	case kind == KindNAT && hook == Postrouting:
		return int(priorityPostrouting)
	}
	return int(priorityForward)
}

// A Rule is a rule of the administrator's.
type Rule struct {
	Family string // ip or inet
	Table  string
	Chain  string
	Handle uint64 // nft's number for it
	Place  int    // in the chain of iptables-legacy, from 1 on; 0: a rule of nft

	exprs []byte
}

// String says where it is.
func (r Rule) String() string {
	if r.Place > 0 {
		return fmt.Sprintf("rule %d in table %s, chain %s of iptables-legacy", r.Place, r.Table, r.Chain)
	}
	return fmt.Sprintf("rule handle %d in table %s, chain %s", r.Handle, r.Table, r.Chain)
}

// Removal is the command that takes it away.
func (r Rule) Removal() string {
	if r.Place > 0 {
		return fmt.Sprintf("iptables-legacy -t %s -D %s %d", r.Table, r.Chain, r.Place)
	}
	return fmt.Sprintf("nft delete rule %s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle)
}

func (r Rule) key() tableKey {
	if r.Family == "inet" {
		return tableKey{unix.NFPROTO_INET, r.Table}
	}
	return tableKey{unix.NFPROTO_IPV4, r.Table}
}

// familyName is nft's, of the families that see IPv4 packets on their way through;
// empty for others.
func familyName(family byte) string {
	switch family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_INET:
		return "inet"
	}
	return ""
}

func own(t tableKey) bool { return t == tableKey{unix.NFPROTO_IPV4, tableName} }

// readChains lists the base chains.
func (f *Firewall) readChains() error {
	msgs, err := f.s.ask.dump(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC)
	if err != nil {
		return fmt.Errorf("nft: listing chains: %w", err)
	}
	for _, m := range msgs {
		c := Chain{Family: familyName(m.family)}
		base := false
		for a := range attributes(m.attrs) {
			switch a.kind {
			case unix.NFTA_CHAIN_TABLE:
				c.Table = text(a.data)
			case unix.NFTA_CHAIN_NAME:
				c.Name = text(a.data)
			case unix.NFTA_CHAIN_TYPE:
				c.Kind = text(a.data)
			case unix.NFTA_CHAIN_POLICY:
				c.drops = number(a.data) == nfDrop
			case unix.NFTA_CHAIN_HOOK:
				for h := range attributes(a.data) {
					switch h.kind {
					case unix.NFTA_HOOK_HOOKNUM:
						c.Hook, base = Hook(number(h.data)), true
					case unix.NFTA_HOOK_PRIORITY:
						c.Priority = int(int32(number(h.data)))
					}
				}
			}
		}
		switch {
		case own(tableKey{m.family, c.Table}):
			f.installed = true
		case base && c.Family != "":
			f.chains = append(f.chains, c)
		}
	}
	return nil
}

// readRules reads all rules.
func (f *Firewall) readRules() error {
	msgs, err := f.s.ask.dump(unix.NFT_MSG_GETRULE, unix.NFPROTO_UNSPEC)
	if err != nil {
		return fmt.Errorf("nft: reading the rules: %w", err)
	}
	for _, m := range msgs {
		r := Rule{Family: familyName(m.family)}
		for a := range attributes(m.attrs) {
			switch a.kind {
			case unix.NFTA_RULE_TABLE:
				r.Table = text(a.data)
			case unix.NFTA_RULE_CHAIN:
				r.Chain = text(a.data)
			case unix.NFTA_RULE_HANDLE:
				if len(a.data) == 8 {
					r.Handle = binary.BigEndian.Uint64(a.data)
				}
			case unix.NFTA_RULE_EXPRESSIONS:
				r.exprs = a.data
			}
		}
		if r.Family == "" || own(r.key()) {
			continue
		}
		f.rules = append(f.rules, r)
		in := chainKey{r.key(), r.Chain}
		f.byChain[in] = append(f.byChain[in], r)
	}
	return nil
}

// Err returns what could not be read of sets since it was asked last.
func (f *Firewall) Err() error {
	err := errors.Join(f.s.failures...)
	f.s.failures = nil
	return err
}
