package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
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
		ask  *asker // for what Watch looks at
	}
	port      uint32    // netlink port of that connection
	installed structure // what was installed, once it was found to be there
	elements  *elements

	monitorMu sync.Mutex // guards monitor, which Watch replaces when it fails
	monitor   *monitor
	closed    bool
	overrun   time.Time // when the log was told that changes were missed
}

// installBuffer bounds the transaction that replaces a table of another version, with all
// of its leases: some 2 KB for a call.
const installBuffer = 64 << 20

// Open installs the table, or takes over the one that is there: its rules and
// configured sets are replaced, its leased elements stay, and packets meet the old
// rules or the new ones, never none. The table outlives the process and Close.
func Open(cfg Config, log *slog.Logger) (*Table, error) {
	t := &Table{
		log:   log,
		table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4},
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(conn *netlink.Conn) (err error) {
		if err := conn.SetWriteBuffer(installBuffer); err != nil {
			return err
		}
		t.port, err = portOf(conn)
		return err
	}))
	if err != nil {
		return nil, fmt.Errorf("nft: %w", err)
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
	if t.slow.ask, err = dialAsker(); err != nil {
		return err
	}
	if t.elements, err = dialElements(t.features); err != nil {
		return err
	}
	if t.monitor, err = dialMonitor(t.elements.port, t.port); err != nil {
		return err
	}
	return t.Install(cfg)
}

// Install does what Open does to the table once more: after it was lost, or with a
// changed configuration. Leases that were lost are not restored.
//
// [ServingLease] begins: who calls Install listens, or will at once.
func (t *Table) Install(cfg Config) error {
	if err := t.replaceRules(cfg); err != nil || !cfg.Awaited() {
		return err
	}
	var b Batch
	b.Serve(ServingLease)
	return t.Commit(&b)
}

// replaceRules installs the table.
func (t *Table) replaceRules(cfg Config) error {
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
	}
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
	if t.slow.ask != nil {
		t.slow.ask.close()
	}
	if t.elements != nil {
		err = errors.Join(err, t.elements.close())
	}
	t.monitorMu.Lock()
	defer t.monitorMu.Unlock()
	t.closed = true
	if t.monitor != nil {
		err = errors.Join(err, t.monitor.conn.Close())
	}
	return err
}

// portOf returns the netlink port of a connection.
func portOf(conn *netlink.Conn) (port uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var name unix.Sockaddr
		if name, err = unix.Getsockname(int(fd)); err == nil {
			port = name.(*unix.SockaddrNetlink).Pid
		}
	})
	return port, errors.Join(cerr, err)
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
	there, err := t.inspect()
	if err != nil {
		return err
	}
	var carried [numSets][]nftables.SetElement
	if there.state == foreign {
		t.log.Warn("a table of another version is in the kernel; it is replaced and its leases are carried over", "table", tableName)
		if carried, err = t.salvage(); err != nil {
			return err
		}
	}
	declared := there.state == ours && there.helper == cfg.Helper
	err = t.put(cfg, there, declared, carried)
	if err != nil && there.state == ours && !there.whole() { // what others have added cannot be deleted alone
		if carried, err = t.salvage(); err != nil {
			return err
		}
		there, declared = standing{state: foreign}, false
		err = t.put(cfg, there, declared, carried)
	}
	if err == nil || cfg.Helper == "" || declared {
		return err
	}
	name := cfg.Helper
	cfg.Helper = ""
	if t.put(cfg, there, false, carried) != nil {
		return err
	}
	t.log.Warn("flows get no conntrack helper: where the firewall moves UDP flows to a flowtable, SIP and media are not seen any more",
		"helper", name, "error", err)
	t.noHelper = name
	return nil
}

// put replaces the table, in one transaction. Of one that is ours it adds what is
// missing, deletes what others have added, and leaves the rest in its place: a base chain
// that goes takes the packets with it that wait in queues.
func (t *Table) put(cfg Config, there standing, declared bool, carried [numSets][]nftables.SetElement) error {
	conn := t.slow.conn
	t.chains = chains(cfg, t.features)
	if there.state == foreign {
		conn.DelTable(t.table)
	}
	conn.AddTable(t.table)
	for s := range numSets {
		d := s.declare(t.table)
		if there.state != ours || !there.sets[s] {
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
	for _, name := range counters {
		if there.state != ours || !slices.Contains(there.counters, name) {
			conn.AddObj(&nftables.NamedObj{Table: t.table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
		}
	}
	if cfg.Helper != "" && !declared {
		conn.AddObj(helperObject(t.table, cfg.Helper))
	}
	for _, c := range t.chains {
		d := c.declare(t.table)
		conn.AddChain(d) // also gives one that is there its policy back
		conn.FlushChain(d)
	}
	if there.state == ours {
		there.clear(conn)
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
	return t.note()
}

// note remembers what has been installed, unless somebody has already changed it.
func (t *Table) note() error {
	t.installed = structure{}
	now, err := readStructure(t.slow.ask)
	if errors.Is(err, ErrLost) {
		return nil // Watch is told
	}
	if err != nil {
		return err
	}
	rules := 0
	for _, c := range t.chains {
		rules += len(c.rules)
	}
	there, err := t.inspect()
	if err == nil && now.rules == rules && there.whole() {
		t.installed = now
	}
	return err
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

// standing is what inspect finds in the kernel.
type standing struct {
	state    tableState
	sets     [numSets]bool
	counters []string
	helper   string // that the table declares, if any
	missing  bool   // some chain, set or counter

	// What others have added to a table of ours.
	foreignChains  []*nftables.Chain
	foreignSets    []*nftables.Set
	foreignObjects []nftables.Obj
}

// whole reports whether the table has just what it should have.
func (s *standing) whole() bool {
	return s.state == ours && !s.missing && s.foreignChains == nil && s.foreignSets == nil && s.foreignObjects == nil
}

// clear deletes what others have added. Rules of ours may be about it, and are gone by
// then; its own may be about each other.
func (s *standing) clear(conn *nftables.Conn) {
	for _, c := range s.foreignChains {
		conn.FlushChain(c)
	}
	for _, set := range s.foreignSets {
		conn.DelSet(set)
	}
	for _, c := range s.foreignChains {
		conn.DelChain(c)
	}
	for _, o := range s.foreignObjects {
		conn.DeleteObject(o)
	}
}

// inspect compares the chains, sets and objects in the kernel with the layout.
func (t *Table) inspect() (standing, error) {
	conn := t.slow.conn
	tables, err := conn.ListTablesOfFamily(t.table.Family)
	if err != nil {
		return standing{}, fmt.Errorf("nft: listing tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(other *nftables.Table) bool { return other.Name == t.table.Name }) {
		return standing{state: absent}, nil
	}
	there := standing{state: ours}

	sets, err := conn.GetSets(t.table)
	if err != nil {
		return standing{}, fmt.Errorf("nft: listing sets: %w", err)
	}
	for _, got := range sets {
		s := setOf(got.Name)
		switch {
		case s == numSets:
			got.Table = t.table
			there.foreignSets = append(there.foreignSets, got)
		case !sameSet(got, s.declare(t.table)):
			return standing{state: foreign}, nil
		default:
			there.sets[s] = true
		}
	}
	there.missing = len(sets)-len(there.foreignSets) != int(numSets)

	all, err := conn.ListChainsOfTableFamily(t.table.Family)
	if err != nil {
		return standing{}, fmt.Errorf("nft: listing chains: %w", err)
	}
	found := 0
	for _, got := range all {
		if got.Table.Name != t.table.Name {
			continue
		}
		i := slices.IndexFunc(t.chains, func(c chain) bool { return c.name == got.Name })
		switch {
		case i < 0:
			there.foreignChains = append(there.foreignChains, &nftables.Chain{Name: got.Name, Table: t.table})
		case !sameChain(got, t.chains[i].declare(t.table)):
			return standing{state: foreign}, nil
		default:
			found++
		}
	}
	there.missing = there.missing || found != len(t.chains)

	objs, err := conn.GetNamedObjects(t.table)
	if err != nil {
		return standing{}, fmt.Errorf("nft: listing objects: %w", err)
	}
	for _, o := range objs {
		named, ok := o.(*nftables.NamedObj)
		switch {
		case ok && slices.Contains(counters[:], named.Name):
			there.counters = append(there.counters, named.Name)
		case ok && named.Type == nftables.ObjTypeCtHelper && there.helper == "":
			there.helper = named.Name
		default:
			there.foreignObjects = append(there.foreignObjects, o)
		}
	}
	there.missing = there.missing || len(there.counters) != len(counters)
	return there, nil
}

// setOf returns the set of that name, or numSets.
func setOf(name string) set {
	for s := range numSets {
		if s.String() == name {
			return s
		}
	}
	return numSets
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
