package nft

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Mapping is a binding or a stream in the kernel: packets from outside to Public
// go to Inside, and what Inside sends leaves from Public.
type Mapping struct {
	Inside, Public netip.AddrPort

	// Stream: media. Otherwise it is a binding, for signalling.
	Stream bool

	// Hosts are the outside hosts that may send to it: a stream's allowed sources,
	// a binding's peers. In no order.
	Hosts []netip.Addr

	// Open: every outside host may send to the stream.
	Open bool

	// Expires is what is left of the lease.
	Expires time.Duration
}

// Mappings reads all bindings and streams from the kernel, in no order. It is for
// starting up, when a previous daemon has left some.
func (t *Table) Mappings() ([]Mapping, error) {
	peers, err := t.readHosts(setPeers)
	if err != nil {
		return nil, err
	}
	sources, err := t.readHosts(setSources)
	if err != nil {
		return nil, err
	}
	elems, err := t.read(setOpen)
	if err != nil {
		return nil, err
	}
	open := make(map[netip.AddrPort]bool, len(elems))
	for _, e := range elems {
		open[readEndpoint(e.Key)] = true
	}

	var all []Mapping
	for _, s := range []set{mapBindings, mapStreams} {
		elems, err := t.read(s)
		if err != nil {
			return nil, err
		}
		for _, e := range elems {
			m := Mapping{
				Inside:  readEndpoint(e.Val),
				Public:  readEndpoint(e.Key),
				Stream:  s == mapStreams,
				Expires: e.Expires,
			}
			if m.Stream {
				m.Hosts, m.Open = sources[m.Inside], open[m.Inside]
			} else {
				m.Hosts = peers[m.Public]
			}
			all = append(all, m)
		}
	}
	return all, nil
}

// readHosts reads a set of host pairs: the outside hosts of each endpoint.
func (t *Table) readHosts(s set) (map[netip.AddrPort][]netip.Addr, error) {
	elems, err := t.read(s)
	if err != nil {
		return nil, err
	}
	hosts := make(map[netip.AddrPort][]netip.Addr)
	for _, e := range elems {
		ep := readEndpoint(e.Key[4:])
		hosts[ep] = append(hosts[ep], netip.AddrFrom4([4]byte(e.Key)))
	}
	return hosts, nil
}

// GuardDrops is how many packets the guard has dropped since the table was made.
func (t *Table) GuardDrops() (packets uint64, err error) { return t.counter(guardDrops) }

// StrangerDrops is how many packets of unknown outside hosts were dropped for coming
// too fast.
func (t *Table) StrangerDrops() (packets uint64, err error) { return t.counter(strangerDrops) }

// FloodDrops is how many packets were dropped since their host sent more than any may,
// strangers aside.
func (t *Table) FloodDrops() (packets uint64, err error) { return t.counter(floodDrops) }

// BoundDrops is how many packets to bindings' public endpoints were dropped, since
// they came from hosts that are no peers.
func (t *Table) BoundDrops() (packets uint64, err error) { return t.counter(boundDrops) }

func (t *Table) counter(name string) (uint64, error) {
	t.slow.Lock()
	defer t.slow.Unlock()
	obj, err := t.slow.conn.GetObject(&nftables.NamedObj{Table: t.table, Name: name, Type: nftables.ObjTypeCounter})
	if err != nil {
		return 0, fmt.Errorf("nft: counter %s: %w", name, err)
	}
	named, ok := obj.(*nftables.NamedObj)
	if !ok {
		return 0, fmt.Errorf("nft: counter %s: the kernel has a %T", name, obj)
	}
	c, ok := named.Obj.(*expr.Counter)
	if !ok {
		return 0, fmt.Errorf("nft: counter %s: the kernel has a %T", name, named.Obj)
	}
	return c.Packets, nil
}

// Stray is an outside host that the guard has turned away within the last minute.
type Stray struct {
	Source netip.Addr

	// Inside is the media endpoint that it sent to, after translation.
	Inside netip.AddrPort

	// Packets were dropped, in all.
	Packets uint64

	// Last is how long ago it was last turned away.
	Last time.Duration
}

// Strays tells whom the guard has turned away within the last minute, up to 1024
// of them, in no order.
func (t *Table) Strays() ([]Stray, error) {
	elems, err := t.read(setStrays)
	if err != nil {
		return nil, err
	}
	strays := make([]Stray, 0, len(elems))
	for _, e := range elems {
		s := Stray{
			Source: netip.AddrFrom4([4]byte(e.Key)),
			Inside: readEndpoint(e.Key[4:]),
			Last:   max(0, strayAge-e.Expires),
		}
		if e.Counter != nil {
			s.Packets = e.Counter.Packets
		}
		strays = append(strays, s)
	}
	return strays, nil
}

// Flood is a host that has sent more SIP within the last minute than any may.
type Flood struct {
	Host    netip.Addr
	Packets uint64 // that were dropped, in all
}

// Floods tells who has sent more SIP within the last minute than any host may, up to
// 1024 of them, those with the most drops first. They may be inside or outside; of
// strangers nothing is noted.
func (t *Table) Floods() ([]Flood, error) {
	elems, err := t.read(setFloods)
	if err != nil {
		return nil, err
	}
	floods := make([]Flood, 0, len(elems))
	for _, e := range elems {
		f := Flood{Host: netip.AddrFrom4([4]byte(e.Key))}
		if e.Counter != nil {
			f.Packets = e.Counter.Packets
		}
		floods = append(floods, f)
	}
	slices.SortFunc(floods, func(a, b Flood) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), a.Host.Compare(b.Host))
	})
	return floods, nil
}

// reads bounds how often a set is read for one answer.
const reads = 6

// read dumps a set. A hash table that grows is dumped with gaps and repetitions,
// and it grows after the elements were added: what two dumps agree on is believed.
func (t *Table) read(s set) (elems []nftables.SetElement, err error) {
	last := -1
	for range reads {
		if elems, err = t.dump(s); err != nil {
			return nil, err
		}
		seen := make(map[string]bool, len(elems))
		for _, e := range elems {
			seen[string(e.Key)] = true
		}
		if len(seen) == len(elems) && len(elems) == last {
			break
		}
		last = len(elems)
	}
	return elems, nil
}

// dump reads a set, leaving out what is not of the set's shape.
func (t *Table) dump(s set) ([]nftables.SetElement, error) {
	t.slow.Lock()
	defer t.slow.Unlock()
	elems, err := t.slow.conn.GetSetElements(s.declare(t.table))
	if err != nil {
		return nil, fmt.Errorf("nft: reading %v: %w", s, err)
	}
	spec := s.spec()
	fit := elems[:0]
	for _, e := range elems {
		if len(e.Key) == spec.key.size() && len(e.Val) == spec.data.size() {
			fit = append(fit, e)
		}
	}
	return fit, nil
}
