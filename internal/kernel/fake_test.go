package kernel

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
	"sipnatd/nat"
)

// fakeTable is an nftables table in memory: the elements of each set.
type fakeTable struct {
	t        *testing.T
	sets     map[string]map[string]string
	gone     bool  // somebody has flushed the ruleset
	refusal  error // of the next Commit
	failing  error // of Install
	installs int
	config   nft.Config // installed last
}

// Commit implements Table.
func (f *fakeTable) Commit(b *nft.Batch) error {
	if f.gone {
		return nft.ErrLost
	}
	if err := f.refusal; err != nil {
		f.refusal = nil
		return err
	}
	for line := range strings.Lines(b.String()) {
		verb, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		set, rest, _ := strings.Cut(rest, " ")
		if verb == "delete" {
			delete(f.sets[set], rest)
			continue
		}
		i := strings.LastIndex(rest, " for ")
		key, data, _ := strings.Cut(rest[:i], " = ")
		if f.sets[set] == nil {
			f.sets[set] = make(map[string]string)
		}
		f.sets[set][key] = data
	}
	return nil
}

// Install implements Table.
func (f *fakeTable) Install(c nft.Config) error {
	if f.failing == nil {
		f.installs++
		f.gone = false
		f.config = c
	}
	return f.failing
}

// flush loses the table with all that is in it.
func (f *fakeTable) flush() { f.gone, f.sets = true, make(map[string]map[string]string) }

// Mappings implements Table.
func (f *fakeTable) Mappings() ([]nft.Mapping, error) {
	var all []nft.Mapping
	for _, set := range []string{"bindings", "streams"} {
		for public, inside := range f.sets[set] {
			m := nft.Mapping{Inside: netip.MustParseAddrPort(inside), Public: netip.MustParseAddrPort(public),
				Stream: set == "streams", Expires: time.Hour}
			hosts, of := "peers", public
			if m.Stream {
				hosts, of = "sources", inside
			}
			for key := range f.sets[hosts] {
				if host, ok := strings.CutSuffix(key, " . "+of); ok {
					m.Hosts = append(m.Hosts, netip.MustParseAddr(host))
				}
			}
			_, m.Open = f.sets["open"][inside]
			all = append(all, m)
		}
	}
	return all, nil
}

// Leases implements Table: what is there is asked for by Settle.
func (f *fakeTable) Leases() (*nft.Leases, error) { return nil, nil }

// Settle implements Table.
func (f *fakeTable) Settle(_ *nft.Leases, want *nft.Batch, _ time.Duration) (missing, foreign int, err error) {
	if f.gone {
		return 0, 0, nft.ErrLost
	}
	before := f.sets
	f.sets = make(map[string]map[string]string)
	for _, kept := range []string{"known", "serving"} {
		f.sets[kept] = before[kept]
	}
	if err := f.Commit(want); err != nil {
		f.sets = before
		return 0, 0, err
	}
	for set, elements := range f.sets {
		for key, data := range elements {
			if got, ok := before[set][key]; !ok || got != data {
				missing++
			}
		}
	}
	for set, elements := range before {
		for key := range elements {
			if _, ok := f.sets[set][key]; !ok {
				foreign++
			}
		}
	}
	return missing, foreign, nil
}

// has fails the test unless a set has just these keys.
func (f *fakeTable) has(set string, keys ...string) {
	f.t.Helper()
	got := slices.Sorted(maps.Keys(f.sets[set]))
	slices.Sort(keys)
	if !slices.Equal(got, keys) {
		f.t.Errorf("%s has %v, want %v", set, got, keys)
	}
}

// fakeTracker is conntrack in memory.
type fakeTracker struct {
	flows    []conntrack.Flow
	anchors  []netip.AddrPort // that an earlier daemon has left
	batches  []string         // what was committed
	refusal  error            // of every Commit
	searched func()           // before a Select returns
	missing  []netip.AddrPort // anchors that others have deleted
}

// Commit implements Tracker.
func (f *fakeTracker) Commit(b *conntrack.Batch) error {
	defer b.Reset()
	f.batches = append(f.batches, b.String())
	return f.refusal
}

// Lookup implements Tracker.
func (f *fakeTracker) Lookup(t conntrack.Tuple) (conntrack.Flow, error) {
	for _, flow := range f.flows {
		if flow.Orig == t || flow.Reply == t {
			return flow, nil
		}
	}
	return conntrack.Flow{}, conntrack.ErrNotFound
}

// Delete implements Tracker.
func (f *fakeTracker) Delete(t conntrack.Tuple) error {
	f.flows = slices.DeleteFunc(f.flows, func(flow conntrack.Flow) bool { return flow.Orig == t || flow.Reply == t })
	return nil
}

// Select implements Tracker, for the source of one direction.
func (f *fakeTracker) Select(by conntrack.Filter) (flows []conntrack.Flow, err error) {
	for _, flow := range f.flows {
		if (!by.Orig.Src.IsValid() || by.Orig.Src == flow.Orig.Src) && (!by.Reply.Src.IsValid() || by.Reply.Src == flow.Reply.Src) {
			flows = append(flows, flow)
		}
	}
	if f.searched != nil {
		f.searched()
	}
	return flows, nil
}

// Anchors implements Tracker.
func (f *fakeTracker) Anchors() []netip.AddrPort { return f.anchors }

// Missing implements Tracker.
func (f *fakeTracker) Missing() ([]netip.AddrPort, error) { return f.missing, nil }

// MaxExpectations, RenewEvery and Helper implement Tracker.
func (f *fakeTracker) MaxExpectations() int      { return 4 }
func (f *fakeTracker) RenewEvery() time.Duration { return time.Minute }
func (f *fakeTracker) Helper() conntrack.Helper  { return conntrack.HelperSIP }

// said reports whether an operation was committed, by the start of its line.
func (f *fakeTracker) said(operation string) bool {
	return slices.ContainsFunc(f.batches, func(b string) bool {
		return strings.Contains("\n"+b, "\n"+operation)
	})
}

// The endpoints of these tests.
var (
	phone  = netip.MustParseAddrPort("10.0.0.10:4000")
	public = netip.MustParseAddrPort("203.0.113.1:7070")
	far    = netip.MustParseAddrPort("198.51.100.20:6000")
)

// outgoing and incoming are flows that began on either side.
func outgoing(inside, far, public netip.AddrPort) conntrack.Flow {
	return conntrack.Flow{Orig: conntrack.Tuple{Src: inside, Dst: far}, Reply: conntrack.Tuple{Src: far, Dst: public}}
}

func incoming(far, public, inside netip.AddrPort) conntrack.Flow {
	return conntrack.Flow{Orig: conntrack.Tuple{Src: far, Dst: public}, Reply: conntrack.Tuple{Src: inside, Dst: far}}
}

// newFake is a Kernel on fakes.
func newFake(t *testing.T) (*Kernel, *fakeTable, *fakeTracker) {
	table := &fakeTable{t: t, sets: make(map[string]map[string]string)}
	track := new(fakeTracker)
	k := New(config, table, track, slog.New(slog.DiscardHandler))
	k.forwards.read = time.Now() // there are none
	return k, table, track
}

// apply makes changes of the stream between phone and public, which must succeed.
func apply(t *testing.T, k *Kernel, verbs ...nat.Verb) {
	t.Helper()
	if err := k.Apply(changes(verbs...)); err != nil {
		t.Fatal(err)
	}
}

func changes(verbs ...nat.Verb) (all []nat.Change) {
	for _, v := range verbs {
		all = append(all, nat.Change{Verb: v, Inside: phone, Public: public, Far: far, Lease: time.Hour})
	}
	return all
}

// second lets a second pass: what Run does in it.
func second(k *Kernel) {
	sweep := k.tick(time.Now())
	k.renewAnchors(time.Now())
	if sweep {
		k.sweep()
	}
}
