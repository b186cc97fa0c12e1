package nft

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the name of the table in family ip.
const tableName = "sipnatd"

// Named counters.
const (
	guardDrops    = "guard_drops"
	strangerDrops = "stranger_drops"
	boundDrops    = "bound_drops"
	floodDrops    = "flood_drops"
)

// counters lists them.
var counters = [...]string{guardDrops, strangerDrops, boundDrops, floodDrops}

// Chains.
const (
	chainPrerouting  = "prerouting"
	chainPostrouting = "postrouting"
	chainInput       = "input"
	chainOutput      = "output"
	chainForward     = "forward"
	chainAssign      = "assign"

	chainInbound   = "inbound"
	chainOutbound  = "outbound"
	chainGuard     = "guard"
	chainDivertIn  = "divert_in"
	chainDivertOut = "divert_out"
	chainHelper    = "helper"
	chainStrangers = "strangers"
	chainFlood     = "flood"
	chainRedirect  = "join_tcp"
	chainSockets   = "sockets"
)

// set numbers the table's sets and maps, in the order in which they are declared.
type set uint8

const (
	setInside set = iota
	setOutside
	setSIPPorts
	setSIPPeers

	// The leased ones, that batches change.
	setSignalling
	mapBindings
	setBound
	setPeers
	setKnown
	mapStreams
	mapPublics
	setGuarded
	setSources
	setOpen
	setServing

	// Filled by the rules themselves.
	setStrays
	setUnknown
	setNewcomers
	setSenders
	setFloods

	numSets
)

// firstLeased and lastLeased bound the sets whose elements the daemon leases.
const firstLeased, lastLeased = setSignalling, setServing

// ServingLease is how long SIP is dropped at most when a daemon ends without a
// successor, though [Config.Bypass] is set; ServingRenewal is how often a daemon that
// runs has to take the lease anew ([Batch.Serve]). A restart has the time between the
// two, 10 s, at the least, which is enough to replace a package.
//
// Who sends SIP repeats it after 0.5, 1.5, 3.5, 7.5 and 15.5 s, and gives up after 32 s
// (RFC 3261, sections 17.1.1.2 and 17.1.2.2): a daemon that is back at once costs a
// caller half a second, and where none comes back the last repetitions still pass
// unchanged, as Bypass promises.
const (
	ServingLease   = 15 * time.Second
	ServingRenewal = 5 * time.Second
)

// What the rules remember of hosts: how many there are at most, and for how long after
// their last packet. Strays and floods are for the log. The others hold rates; a host that
// does not fit in is limited only together with all others.
const (
	straySize, strayAge       = 1024, time.Minute
	floodSize, floodAge       = 1024, time.Minute
	unknownSize, unknownAge   = 4096, 10 * time.Second
	newcomerSize, newcomerAge = 4096, 10 * time.Second
	senderSize, senderAge     = 16384, 10 * time.Second
)

// shape is the type of a set's key or data.
type shape uint8

const (
	none     shape = iota
	ifname         // interface name, 16 bytes
	protocol       // of the transport layer
	service        // port
	address        // address
	endpoint       // address . port
	hostPair       // address . address . port
)

// size is the number of bytes, padding included.
func (s shape) size() int {
	switch s {
	case ifname:
		return unix.IFNAMSIZ
	case protocol:
		return 1
	case service:
		return 2
	case address:
		return 4
	case endpoint:
		return 8
	case hostPair:
		return 12
	}
	return 0
}

// datatypes gives the nft types that a shape concatenates.
func (s shape) datatypes() []nftables.SetDatatype {
	switch s {
	case ifname:
		return []nftables.SetDatatype{nftables.TypeIFName}
	case protocol:
		return []nftables.SetDatatype{nftables.TypeInetProto}
	case service:
		return []nftables.SetDatatype{nftables.TypeInetService}
	case address:
		return []nftables.SetDatatype{nftables.TypeIPAddr}
	case endpoint:
		return []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeInetService}
	case hostPair:
		return []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetService}
	}
	return nil
}

// datatype is the concatenation; every part is padded to 4 bytes.
func (s shape) datatype() nftables.SetDatatype {
	types := s.datatypes()
	if len(types) == 1 {
		return types[0]
	}
	return nftables.MustConcatSetType(types...)
}

// setSpec declares a set (or map, when it has data).
type setSpec struct {
	name      string
	key, data shape
	leased    bool // elements carry timeouts
	interval  bool
	dynamic   bool // rules add elements
}

// spec gives the declaration of s.
func (s set) spec() setSpec {
	return [numSets]setSpec{
		setInside:     {name: "inside", key: ifname},
		setOutside:    {name: "outside", key: ifname},
		setSIPPorts:   {name: "sip_ports", key: service},
		setSIPPeers:   {name: "sip_peers", key: address, interval: true},
		setSignalling: {name: "signalling", key: endpoint, leased: true},
		mapBindings:   {name: "bindings", key: endpoint, data: endpoint, leased: true},
		setBound:      {name: "bound", key: endpoint, leased: true},
		setPeers:      {name: "peers", key: hostPair, leased: true},
		setKnown:      {name: "known", key: address, leased: true},
		mapStreams:    {name: "streams", key: endpoint, data: endpoint, leased: true},
		mapPublics:    {name: "publics", key: endpoint, data: endpoint, leased: true},
		setGuarded:    {name: "guarded", key: endpoint, leased: true},
		setSources:    {name: "sources", key: hostPair, leased: true},
		setOpen:       {name: "open", key: endpoint, leased: true},
		setServing:    {name: "serving", key: protocol, leased: true},
		setStrays:     {name: "strays", key: hostPair, leased: true, dynamic: true},
		setUnknown:    {name: "unknown", key: address, leased: true, dynamic: true},
		setNewcomers:  {name: "newcomers", key: address, leased: true, dynamic: true},
		setSenders:    {name: "senders", key: address, leased: true, dynamic: true},
		setFloods:     {name: "floods", key: address, leased: true, dynamic: true},
	}[s]
}

func (s set) String() string { return s.spec().name }

// declare returns the set as the library wants it, in table t.
func (s set) declare(t *nftables.Table) *nftables.Set {
	spec := s.spec()
	d := &nftables.Set{
		Table:        t,
		Name:         spec.name,
		KeyType:      spec.key.datatype(),
		HasTimeout:   spec.leased,
		Interval:     spec.interval,
		Dynamic:      spec.dynamic,
		KeyByteOrder: binaryutil.BigEndian,
	}
	if spec.key == ifname {
		d.KeyByteOrder = binaryutil.NativeEndian
	}
	if spec.data != none {
		d.IsMap = true
		d.DataType = spec.data.datatype()
	}
	switch s {
	case setStrays:
		d.Size, d.Timeout = straySize, strayAge
	case setUnknown:
		d.Size, d.Timeout = unknownSize, unknownAge
	case setNewcomers:
		d.Size, d.Timeout = newcomerSize, newcomerAge
	case setSenders:
		d.Size, d.Timeout = senderSize, senderAge
	case setFloods:
		d.Size, d.Timeout = floodSize, floodAge
	}
	return d
}

// chain is a chain of the table with its rules.
type chain struct {
	name     string
	kind     nftables.ChainType // empty: a regular chain
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    []rule
}

// Priorities of the base chains. NAT comes just before the firewall's own, which
// then finds the flow translated; the filter comes after every firewall's filter
// (iptables 0, firewalld 10, iptables security 50), so that only what they
// admitted is looked at.
const (
	priorityPrerouting  nftables.ChainPriority = -110 // dstnat - 10
	priorityAssign      nftables.ChainPriority = 80   // srcnat - 20
	priorityPostrouting nftables.ChainPriority = 90   // srcnat - 10
	priorityInput       nftables.ChainPriority = 290
	priorityOutput      nftables.ChainPriority = 290
	priorityForward     nftables.ChainPriority = 290
)

// helperObject declares the object by which rules assign a helper, in table t.
func helperObject(t *nftables.Table, helper string) *nftables.NamedObj {
	return &nftables.NamedObj{Table: t, Name: helper, Type: nftables.ObjTypeCtHelper,
		Obj: &expr.CtHelper{Name: helper, L3Proto: unix.NFPROTO_IPV4, L4Proto: unix.IPPROTO_UDP}}
}

// chains returns the table's chains for a configuration, in the order in which a
// packet meets them.
func chains(c Config, f Features) []chain {
	return []chain{
		{name: chainPrerouting, kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting,
			priority: priorityPrerouting, rules: prerouting(c)},
		{name: chainPostrouting, kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting,
			priority: priorityPostrouting, rules: postrouting(c)},
		{name: chainInput, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput,
			priority: priorityInput, rules: input(c)},
		{name: chainOutput, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput,
			priority: priorityOutput, rules: output(c)},
		{name: chainForward, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward,
			priority: priorityForward, rules: forward()},
		{name: chainAssign, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPostrouting,
			priority: priorityAssign, rules: assign(c)},
		{name: chainInbound, rules: inbound()},
		{name: chainOutbound, rules: outbound(c)},
		{name: chainGuard, rules: guard(c)},
		{name: chainDivertIn, rules: divertIn(c, f)},
		{name: chainDivertOut, rules: divertOut(c, f)},
		{name: chainStrangers, rules: strangers()},
		{name: chainFlood, rules: flood()},
		{name: chainHelper, rules: helper(c)},
		{name: chainRedirect, rules: redirect(c)},
		{name: chainSockets, rules: sockets(c)},
	}
}

// declare returns the chain as the library wants it, in table t.
func (c chain) declare(t *nftables.Table) *nftables.Chain {
	d := &nftables.Chain{Name: c.name, Table: t}
	if c.hook != nil {
		accept := nftables.ChainPolicyAccept
		d.Type, d.Hooknum, d.Priority, d.Policy = c.kind, c.hook, &c.priority, &accept
	}
	return d
}
