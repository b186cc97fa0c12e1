package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"sipnatd/internal/ranges"
)

// ErrLost is what operations return when the table is not in the kernel any more:
// somebody flushed the ruleset. [Open] installs it again.
var ErrLost = errors.New("nft: the table ip " + tableName + " is gone from the kernel")

// Table is the daemon's table in the network namespace where it was opened. Its
// methods may be called concurrently.
type Table struct {
	log      *slog.Logger
	table    *nftables.Table
	features Features
	chains   []chain
	noHelper string // that rules were found unable to assign

	// The library's connection, for all but batches.
	slow struct {
		sync.Mutex
		conn *nftables.Conn
	}
	elements *elements
	monitor  *monitor
}

// Open installs the table, or takes over the one that is there: its rules and
// configured sets are replaced, its leased elements stay, and packets meet the old
// rules or the new ones, never none. The table outlives the process and Close.
func Open(cfg Config, log *slog.Logger) (*Table, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	t := &Table{
		log:   log,
		table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4},
	}
	t.slow.conn = conn
	if err := t.open(cfg); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Table) open(cfg Config) error {
	var err error
	if t.features, err = probe(t.slow.conn); err != nil {
		return err
	}
	if !t.features.NativeQueue && !t.features.XTQueue {
		return missingQueue()
	}
	if t.elements, err = dialElements(t.features); err != nil {
		return err
	}
	if t.monitor, err = dialMonitor(t.elements.port); err != nil {
		return err
	}
	return t.Install(cfg)
}

// Install does what Open does to the table once more: after it was lost, or with a
// changed configuration. Leases that were lost are not restored.
func (t *Table) Install(cfg Config) error {
	if err := cfg.check(); err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	t.slow.Lock()
	defer t.slow.Unlock()
	if cfg.RedirectPort != 0 {
		if err := tryRule(t.slow.conn, scratchTable(), join(routedTo("lo"), tcp())); err != nil {
			t.log.Warn("SIP over TCP passes unseen: rules cannot ask for a route (nft_fib_ipv4)", "error", err)
			cfg.RedirectPort = 0
		}
//
// Where SIP may bypass the queue, [ServingLease] begins: who calls Install listens
// there, or will at once.
	}
	if err := t.replaceRules(cfg); err != nil || !cfg.Bypass {
		return err
	}
	var b Batch
	b.Serve(ServingLease)
	return t.Commit(&b)
}

// replaceRules installs the table.
func (t *Table) replaceRules(cfg Config) error {
	return t.install(cfg)
}

// StopRedirect has new TCP connections pass as they are, until the table is
// installed again: nobody is there any more to join them.
func (t *Table) StopRedirect() error {
	t.slow.Lock()
	defer t.slow.Unlock()
	t.slow.conn.FlushChain(&nftables.Chain{Name: chainRedirect, Table: t.table})
	if err := t.slow.conn.Flush(); err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	return nil
}

// Features tells what the kernel was found to be able to do.
func (t *Table) Features() Features { return t.features }

// Close gives up the connections to the kernel and leaves the table there.
func (t *Table) Close() error {
	err := t.slow.conn.CloseLasting()
	if t.elements != nil {
		err = errors.Join(err, t.elements.close())
	}
	if t.monitor != nil {
		err = errors.Join(err, t.monitor.conn.Close())
	}
	return err
}

// install brings the table to what cfg says, without the helper if rules cannot assign
// it. That is found out by the table itself, and a helper that the table has is not
// declared again: when the kernel takes an object for a helper away, it drops the
// packets that wait in queues.
func (t *Table) install(cfg Config) error {
	if cfg.Helper == t.noHelper {
		cfg.Helper = ""
	}
	t.chains = chains(cfg, t.features)
	state, helper, err := t.inspect()
	if err != nil {
		return err
	}
	var carried [numSets][]nftables.SetElement
	if state == foreign {
		t.log.Warn("a table of another version is in the kernel; it is replaced and its leases are carried over", "table", tableName)
		if carried, err = t.salvage(); err != nil {
			return err
		}
	}
	declared := state == ours && helper == cfg.Helper
	err = t.put(cfg, state, declared, carried)
	if err == nil || cfg.Helper == "" || declared {
		return err
	}
	name := cfg.Helper
	cfg.Helper = ""
	if t.put(cfg, state, false, carried) != nil {
		return err
	}
	t.log.Warn("flows get no conntrack helper: where the firewall moves UDP flows to a flowtable, SIP and media are not seen any more",
		"helper", name, "error", err)
	t.noHelper = name
	return nil
}

// put replaces the table, which is in that state, in one transaction.
func (t *Table) put(cfg Config, state tableState, declared bool, carried [numSets][]nftables.SetElement) error {
	conn := t.slow.conn
	t.chains = chains(cfg, t.features)
	if state == foreign {
		conn.DelTable(t.table)
	}
	conn.AddTable(t.table)
	for s := range numSets {
		d := s.declare(t.table)
		if state != ours {
			if err := conn.AddSet(d, carried[s]); err != nil {
				return fmt.Errorf("nft: set %v: %w", s, err)
			}
		}
		if s < firstLeased {
			conn.FlushSet(d)
			if err := conn.SetAddElements(d, configured(cfg, s)); err != nil {
				return fmt.Errorf("nft: set %v: %w", s, err)
			}
		}
	}
	if state != ours {
		for _, name := range counters {
			conn.AddObj(&nftables.NamedObj{Table: t.table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
		}
	}
	if cfg.Helper != "" && !declared {
		conn.AddObj(helperObject(t.table, cfg.Helper))
	}
	for _, c := range t.chains {
		d := c.declare(t.table)
		if state != ours {
			conn.AddChain(d)
		}
		conn.FlushChain(d)
	}
	for _, c := range t.chains {
		d := &nftables.Chain{Name: c.name, Table: t.table}
		for _, r := range c.rules {
			conn.AddRule(&nftables.Rule{Table: t.table, Chain: d, Exprs: r})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nft: installing the table: %w", err)
	}
	return nil
}

// configured gives the elements of a set that the configuration fills.
func configured(cfg Config, s set) []nftables.SetElement {
	var elems []nftables.SetElement
	seen := make(map[string]bool)
	add := func(key []byte) {
		if !seen[string(key)] {
			seen[string(key)] = true
			elems = append(elems, nftables.SetElement{Key: key})
		}
	}
	names := func(list []string) {
		for _, name := range list {
			key := make([]byte, unix.IFNAMSIZ)
			copy(key, name)
			add(key)
		}
	}
	switch s {
	case setInside:
		names(cfg.Inside)
	case setOutside:
		names(cfg.Outside)
	case setSIPPorts:
		for _, port := range cfg.SIPPorts {
			add(binary.BigEndian.AppendUint16(nil, port))
		}
	case setSIPPeers:
		for _, r := range ranges.Merge(cfg.SIPPeers) {
			elems = append(elems, nftables.SetElement{Key: r.First.AsSlice()})
			if end := r.Last.Next(); end.IsValid() {
				elems = append(elems, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
			}
		}
	}
	return elems
}

// tableState is what inspect finds in the kernel.
type tableState int

const (
	absent tableState = iota
	ours              // with just our chains, sets and maps
	foreign
)

// inspect compares the chains and sets in the kernel with the layout, and finds the
// helper that the table declares, if any.
func (t *Table) inspect() (_ tableState, helper string, _ error) {
	conn := t.slow.conn
	tables, err := conn.ListTablesOfFamily(t.table.Family)
	if err != nil {
		return absent, "", fmt.Errorf("nft: listing tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(other *nftables.Table) bool { return other.Name == t.table.Name }) {
		return absent, "", nil
	}

	sets, err := conn.GetSets(t.table)
	if err != nil {
		return absent, "", fmt.Errorf("nft: listing sets: %w", err)
	}
	known := make(map[string]*nftables.Set, len(sets))
	for _, s := range sets {
		known[s.Name] = s
	}
	if len(known) != int(numSets) {
		return foreign, "", nil
	}
	for s := range numSets {
		if got := known[s.String()]; got == nil || !sameSet(got, s.declare(t.table)) {
			return foreign, "", nil
		}
	}

	all, err := conn.ListChainsOfTableFamily(t.table.Family)
	if err != nil {
		return absent, "", fmt.Errorf("nft: listing chains: %w", err)
	}
	there := make(map[string]*nftables.Chain)
	for _, c := range all {
		if c.Table.Name == t.table.Name {
			there[c.Name] = c
		}
	}
	if len(there) != len(t.chains) {
		return foreign, "", nil
	}
	for _, c := range t.chains {
		if got := there[c.name]; got == nil || !sameChain(got, c.declare(t.table)) {
			return foreign, "", nil
		}
	}

	objs, err := conn.GetNamedObjects(t.table)
	if err != nil {
		return absent, "", fmt.Errorf("nft: listing objects: %w", err)
	}
	found := 0
	for _, o := range objs {
		named, ok := o.(*nftables.NamedObj)
		switch {
		case ok && slices.Contains(counters[:], named.Name):
			found++
		case ok && named.Type == nftables.ObjTypeCtHelper:
			helper = named.Name
		}
	}
	if found != len(counters) {
		return foreign, "", nil
	}
	return ours, helper, nil
}

func sameSet(a, b *nftables.Set) bool {
	return a.IsMap == b.IsMap && a.HasTimeout == b.HasTimeout && a.Interval == b.Interval &&
		a.Dynamic == b.Dynamic && a.Size == b.Size &&
		a.KeyType.Bytes == b.KeyType.Bytes && a.DataType.Bytes == b.DataType.Bytes
}

func sameChain(a, b *nftables.Chain) bool {
	if a.Hooknum == nil || b.Hooknum == nil {
		return a.Hooknum == nil && b.Hooknum == nil
	}
	return *a.Hooknum == *b.Hooknum && *a.Priority == *b.Priority && a.Type == b.Type
}

// salvage reads the leases out of a table of another version, as far as they fit.
func (t *Table) salvage() (carried [numSets][]nftables.SetElement, err error) {
	sets, err := t.slow.conn.GetSets(t.table)
	if err != nil {
		return carried, fmt.Errorf("nft: listing sets: %w", err)
	}
	for _, there := range sets {
		for s := firstLeased; s <= lastLeased; s++ {
			want := s.declare(t.table)
			if there.Name != want.Name || !sameSet(there, want) {
				continue
			}
			elems, err := t.slow.conn.GetSetElements(there)
			if err != nil {
				return carried, fmt.Errorf("nft: reading %v: %w", s, err)
			}
			for _, e := range elems {
				carried[s] = append(carried[s], nftables.SetElement{Key: e.Key, Val: e.Val, Timeout: e.Expires})
			}
		}
	}
	if carried[setBound] == nil { // an older version had none
		for _, e := range carried[mapBindings] {
			carried[setBound] = append(carried[setBound], nftables.SetElement{Key: e.Key, Timeout: e.Timeout})
		}
	}
	return carried, nil
}
