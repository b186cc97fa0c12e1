package nft

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

// wantMappings compares the translations in the kernel.
func wantMappings(t *testing.T, table *Table, want ...Mapping) {
	t.Helper()
	got, err := table.Mappings()
	must(t, err)
	order := func(a, b Mapping) int { return cmp.Or(a.Public.Compare(b.Public), a.Inside.Compare(b.Inside)) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if diff := gocmp.Diff(want, got, cmpopts.IgnoreFields(Mapping{}, "Expires", "Hosts", "Open"),
		cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("mappings: want (-), got (+):\n%s", diff)
	}
}

// elementsOf dumps a set as "key" or "key : data", sorted.
func elementsOf(t *testing.T, table *Table, s set) []string {
	t.Helper()
	elems, err := table.read(s)
	must(t, err)
	var all []string
	text := func(b []byte) string {
		switch len(b) {
		case 1:
			return fmt.Sprint("protocol ", b[0])
		case 4:
			return netip.AddrFrom4([4]byte(b)).String()
		case 12:
			return netip.AddrFrom4([4]byte(b)).String() + " " + readEndpoint(b[4:]).String()
		}
		return readEndpoint(b).String()
	}
	for _, e := range elems {
		line := text(e.Key)
		if len(e.Val) > 0 {
			line += " : " + text(e.Val)
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

func wantElements(t *testing.T, table *Table, want map[set][]string) {
	t.Helper()
	got := make(map[set][]string)
	for s := firstLeased; s <= lastLeased; s++ {
		if all := elementsOf(t, table, s); all != nil {
			got[s] = all
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("elements: want (-), got (+):\n%s", diff)
	}
}

// renewals runs a test in every way to renew elements that the kernel can do.
func renewals(t *testing.T, test func(t *testing.T, table *Table)) {
	netspace.New(t)
	f, err := Probe()
	must(t, err)
	for _, way := range []struct {
		name     string
		features Features
		can      bool
	}{
		{"update", Features{ElementUpdate: true, ElementDestroy: true}, f.ElementUpdate},
		{"destroy", Features{ElementDestroy: true}, f.ElementDestroy},
		{"reinsert", Features{}, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			if !way.can {
				t.Skip("this kernel, probed, can not: ", f)
			}
			netspace.New(t)
			table := open(t, reference())
			table.features.ElementUpdate, table.features.ElementDestroy = way.features.ElementUpdate, way.features.ElementDestroy
			table.elements.renewal = table.features.renewal()
			test(t, table)
		})
	}
}

var (
	inside1, public1 = ap("10.1.0.2:4000"), ap("198.51.100.1:7070")
	inside2, public2 = ap("10.1.0.3:4000"), ap("198.51.100.1:7072")
	sip1, sipPublic1 = ap("10.1.0.2:5060"), ap("198.51.100.1:5060")
	far1, far2       = netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.3")
)

// TestBatch: every call and its reverse, also when there is nothing to reverse.
func TestBatch(t *testing.T) {
	renewals(t, func(t *testing.T, table *Table) {
		var b Batch
		undo := func() {
			b.Reset()
			b.Unmap(sip1, sipPublic1, false)
			b.Unmap(inside1, public1, true)
			b.RevokePeer(far1, sipPublic1)
			b.RevokeSource(far1, inside1)
			b.CloseSource(inside1)
			must(t, table.Commit(&b))
		}
		undo()
		wantElements(t, table, map[set][]string{})

		for range 2 {
			b.Reset()
			b.MapBinding(sip1, sipPublic1, time.Hour)
			b.AllowPeer(far1, sipPublic1, time.Hour)
			b.MapStream(inside1, public1, time.Hour)
			b.OpenSource(inside1, time.Hour)
			b.AllowSource(far1, inside1, time.Hour)
			must(t, table.Commit(&b))
			wantElements(t, table, map[set][]string{
				setSignalling: {"10.1.0.2:5060"},
				mapBindings:   {"198.51.100.1:5060 : 10.1.0.2:5060"},
				setBound:      {"198.51.100.1:5060"},
				setPeers:      {"198.51.100.2 198.51.100.1:5060"},
				setKnown:      {"198.51.100.2"},
				mapStreams:    {"198.51.100.1:7070 : 10.1.0.2:4000"},
				mapPublics:    {"10.1.0.2:4000 : 198.51.100.1:7070", "10.1.0.2:5060 : 198.51.100.1:5060"},
				setGuarded:    {"10.1.0.2:4000"},
				setSources:    {"198.51.100.2 10.1.0.2:4000"},
				setOpen:       {"10.1.0.2:4000"},
			})
		}
		wantMappings(t, table,
			Mapping{Inside: sip1, Public: sipPublic1},
			Mapping{Inside: inside1, Public: public1, Stream: true})

		undo()
		wantElements(t, table, map[set][]string{setKnown: {"198.51.100.2"}})
	})
}

// TestBatchOrder: of two changes to one element in a batch the later one counts.
func TestBatchOrder(t *testing.T) {
	renewals(t, func(t *testing.T, table *Table) {
		var b Batch
		b.MapStream(inside1, public1, time.Hour)
		b.Unmap(inside1, public1, true)
		b.KeepGuard(inside1, time.Minute)
		must(t, table.Commit(&b))
		wantElements(t, table, map[set][]string{setGuarded: {"10.1.0.2:4000"}})

		b.Reset()
		b.OpenSource(inside1, time.Hour)
		b.OpenSource(inside1, 2*time.Hour)
		b.CloseSource(inside1)
		b.CloseSource(inside1)
		b.OpenSource(inside2, time.Hour)
		b.OpenSource(inside2, 3*time.Hour)
		must(t, table.Commit(&b))
		wantElements(t, table, map[set][]string{setGuarded: {"10.1.0.2:4000"}, setOpen: {"10.1.0.3:4000"}})
		wantLease(t, table, setOpen, 3*time.Hour)
	})
}

// TestBatchMoves: an endpoint that has another translation gets the new one, and
// the old element does not stand in the way.
func TestBatchMoves(t *testing.T) {
	renewals(t, func(t *testing.T, table *Table) {
		var b Batch
		b.MapStream(inside1, public1, time.Hour)
		b.MapStream(inside2, public2, time.Hour)
		must(t, table.Commit(&b))

		b.Reset()
		b.MapStream(inside1, public2, time.Hour)
		b.AllowSource(far1, inside1, time.Hour)
		must(t, table.Commit(&b))
		want := map[set][]string{
			mapStreams: {"198.51.100.1:7070 : 10.1.0.2:4000", "198.51.100.1:7072 : 10.1.0.2:4000"},
			mapPublics: {"10.1.0.2:4000 : 198.51.100.1:7072", "10.1.0.3:4000 : 198.51.100.1:7072"},
			setGuarded: {"10.1.0.2:4000", "10.1.0.3:4000"},
			setSources: {"198.51.100.2 10.1.0.2:4000"},
		}
		wantElements(t, table, want)

		// Back and forth in one batch.
		b.Reset()
		b.MapStream(inside1, public1, time.Hour)
		b.MapStream(inside1, public2, time.Hour)
		must(t, table.Commit(&b))
		wantElements(t, table, want)

		// Removal goes by the key.
		b.Reset()
		b.Unmap(inside1, public1, true)
		must(t, table.Commit(&b))
		want[mapStreams] = want[mapStreams][1:]
		want[mapPublics] = want[mapPublics][1:]
		want[setGuarded] = want[setGuarded][1:]
		wantElements(t, table, want)
	})
}

// wantLease wants the only element of a set to have been leased for want, just now.
func wantLease(t *testing.T, table *Table, s set, want time.Duration) {
	t.Helper()
	elems, err := table.read(s)
	must(t, err)
	if len(elems) != 1 {
		t.Fatalf("%v has %d elements, want 1", s, len(elems))
	}
	if got := elems[0].Expires; got > want || got < want-5*time.Second {
		t.Errorf("%v: the lease ends in %v, want %v", s, got, want)
	}
}

// TestRenewal: adding again renews, to a longer time, to a shorter one, and to the
// same.
func TestRenewal(t *testing.T) {
	renewals(t, func(t *testing.T, table *Table) {
		var b Batch
		for _, lease := range []time.Duration{time.Minute, time.Hour, 10 * time.Second} {
			b.Reset()
			b.OpenSource(inside1, lease)
			must(t, table.Commit(&b))
			wantLease(t, table, setOpen, lease)
		}

		b.Reset()
		b.OpenSource(inside1, 2*time.Second)
		must(t, table.Commit(&b))
		first := expires(t, table, setOpen)
		for waited := first; waited > first-100*time.Millisecond; waited = expires(t, table, setOpen) {
			time.Sleep(10 * time.Millisecond) // the kernel's clock has to go on
		}
		must(t, table.Commit(&b))
		if again := expires(t, table, setOpen); again <= first-100*time.Millisecond {
			t.Errorf("renewed for the same time: %v left, %v at first", again, first)
		}
	})
}

func expires(t *testing.T, table *Table, s set) time.Duration {
	t.Helper()
	elems, err := table.read(s)
	must(t, err)
	if len(elems) != 1 {
		t.Fatalf("%v has %d elements, want 1", s, len(elems))
	}
	return elems[0].Expires
}

// TestExpiry: a lease ends by itself, and what has expired can be renewed and
// removed.
func TestExpiry(t *testing.T) {
	renewals(t, func(t *testing.T, table *Table) {
		var b Batch
		expire := func() {
			t.Helper()
			b.Reset()
			b.MapStream(inside1, public1, time.Second)
			must(t, table.Commit(&b))
			for start := time.Now(); len(elementsOf(t, table, mapStreams))+len(elementsOf(t, table, mapPublics)) > 0; {
				if time.Since(start) > 5*time.Second {
					t.Fatal("a lease of one second is still there after five")
				}
				time.Sleep(20 * time.Millisecond) // nothing tells when an element expires
			}
		}
		expire()
		b.Reset()
		b.Unmap(inside1, public1, true)
		must(t, table.Commit(&b))

		expire()
		b.Reset()
		b.MapStream(inside1, public2, time.Hour)
		must(t, table.Commit(&b))
		wantMappings(t, table, Mapping{Inside: inside1, Public: public2, Stream: true})
	})
}

// TestManyElements: a batch of thousands, as after a flush of the ruleset.
func TestManyElements(t *testing.T) {
	renewals(t, func(t *testing.T, table *Table) {
		const streams = 3000
		var b Batch
		for range 2 {
			b.Reset()
			for i := range uint16(streams) {
				b.MapStream(netip.AddrPortFrom(far1, 1024+i), netip.AddrPortFrom(far2, 1024+i), time.Hour)
			}
			must(t, table.Commit(&b))
			got, err := table.Mappings()
			must(t, err)
			if len(got) != streams {
				t.Fatalf("%d streams in the kernel, want %d", len(got), streams)
			}
		}
	})
}

// TestExchangeRefused: a batch that the kernel refuses leaves nothing behind and
// does not confuse the next one.
func TestExchangeRefused(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	var b Batch
	b.MapStream(inside1, public1, time.Hour)
	must(t, table.Commit(&b))

	// Without the second attempt that Commit makes.
	b.Reset()
	b.MapStream(inside2, public2, time.Hour)
	b.MapStream(inside1, public2, time.Hour)
	b.OpenSource(inside2, time.Hour)
	for range 2 {
		err := table.elements.exchange(b.ops, renewReinsert)
		if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "streams") {
			t.Errorf("error %v, want EEXIST about streams", err)
		}
		wantMappings(t, table, Mapping{Inside: inside1, Public: public1, Stream: true})
	}

	b.Reset()
	b.OpenSource(inside1, time.Hour)
	must(t, table.Commit(&b))
	wantLease(t, table, setOpen, time.Hour)
}

// TestExchangeWhole: a refusal that no single message is to blame for.
func TestExchangeWhole(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	dropCapabilities(t)
	var b Batch
	b.OpenSource(inside1, time.Hour)
	if err := table.Commit(&b); !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v, want EPERM", err)
	}
}

// dropCapabilities gives up the test thread's right to change the ruleset until
// the test ends.
func dropCapabilities(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	must(t, unix.Capget(&header, &before[0]))
	after := before
	for i := range after {
		after[i].Effective = 0
	}
	must(t, unix.Capset(&header, &after[0]))
	t.Cleanup(func() { must(t, unix.Capset(&header, &before[0])) })
}

// TestCommitFamily: an address that the table has no place for is refused before
// the kernel sees it.
func TestCommitFamily(t *testing.T) {
	var b Batch
	b.AllowSource(netip.MustParseAddr("2001:db8::1"), inside1, time.Hour)
	if err := new(Table).Commit(&b); err == nil {
		t.Error("no error for an IPv6 source")
	}
	b.Reset()
	b.AllowSource(netip.MustParseAddr("::ffff:192.0.2.1"), inside1, time.Hour)
	if b.err != nil {
		t.Errorf("an IPv4 address in IPv6 form: %v", b.err)
	}
}

// TestCommitLost: without the table Commit says so.
func TestCommitLost(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	var b Batch
	b.MapStream(inside1, public1, time.Hour)
	for _, loss := range []string{
		"flush ruleset",
		"delete table ip sipnatd; table ip sipnatd",
	} {
		nftRun(t, loss)
		if err := table.Commit(&b); !errors.Is(err, ErrLost) {
			t.Errorf("%s: %v, want %v", loss, err, ErrLost)
		}
		must(t, table.Install(reference()))
		must(t, table.Commit(&b))
		wantMappings(t, table, Mapping{Inside: inside1, Public: public1, Stream: true})
	}
	must(t, Delete())
	must(t, Delete())
	if err := table.Commit(&b); !errors.Is(err, ErrLost) {
		t.Errorf("after Remove: %v, want %v", err, ErrLost)
	}
}

// TestOpenAgain: a second Open changes rules and configured sets and keeps leases.
func TestOpenAgain(t *testing.T) {
	netspace.New(t)
	first := open(t, reference())
	var b Batch
	b.MapBinding(sip1, sipPublic1, time.Hour)
	b.MapStream(inside1, public1, time.Minute)
	must(t, first.Commit(&b))
	handle := tableHandle(t)

	cfg := reference()
	cfg.Inside = []string{"lan0", "lan1"}
	cfg.SIPPorts = []uint16{5060, 5070}
	cfg.SIPPeers = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("224.0.0.0/3")}
	cfg.AcceptAny, cfg.Queues = true, 2
	second := open(t, cfg)
	if got := tableHandle(t); got != handle {
		t.Errorf("table handle %v, was %v: it was made anew", got, handle)
	}
	wantMappings(t, second, Mapping{Inside: sip1, Public: sipPublic1}, Mapping{Inside: inside1, Public: public1, Stream: true})
	wantLease(t, second, mapStreams, time.Minute)
	must(t, second.verify())

	for s, want := range map[string]string{
		"inside":    `elements = { "lan0", "lan1" }`,
		"sip_ports": "elements = { 5060, 5070 }",
		"sip_peers": "elements = { 0.0.0.0/1, 192.0.2.0/24, 224.0.0.0/3 }",
	} {
		got := strings.Join(strings.Fields(nftList(t, "list", "set", "ip", tableName, s)), " ")
		if !strings.Contains(got, want) {
			t.Errorf("set %s: want %s in\n%s", s, want, got)
		}
	}
}

// TestOpenForeign: a table of another version is replaced; leases that fit are
// carried over.
func TestOpenForeign(t *testing.T) {
	netspace.New(t)
	nftRun(t, `table ip sipnatd {
		map streams {
			type ipv4_addr . inet_service : ipv4_addr . inet_service
			flags timeout
			elements = { 198.51.100.1 . 7070 timeout 1h expires 59m : 10.1.0.2 . 4000 }
		}
		map bindings {
			type ipv4_addr . inet_service : ipv4_addr . inet_service
			flags timeout
			elements = { 198.51.100.1 . 5060 timeout 1h expires 58m : 10.1.0.2 . 5060 }
		}
		set guarded {
			type ipv4_addr
			flags timeout
			elements = { 10.1.0.2 timeout 1h }
		}
		set serving {
			type inet_proto
			flags timeout
			elements = { udp timeout 15s expires 14s }
		}
		set novelty {
			type ipv4_addr
		}
		chain forward {
			type filter hook forward priority 300; policy drop;
		}
		chain olden {
			ip saddr @novelty drop
		}
	}`)
	table := open(t, reference())
	must(t, table.verify())
	wantElements(t, table, map[set][]string{
		mapStreams:  {"198.51.100.1:7070 : 10.1.0.2:4000"},
		mapBindings: {"198.51.100.1:5060 : 10.1.0.2:5060"},
		setBound:    {"198.51.100.1:5060"},
		setServing:  {"protocol 17"},
	})
	wantLease(t, table, mapStreams, 59*time.Minute)
	wantLease(t, table, setBound, 58*time.Minute)
}

// TestOpenRepairs: a table that lacks a chain or rules is made whole.
func TestOpenRepairs(t *testing.T) {
	netspace.New(t)
	open(t, reference())
	nftRun(t, "flush chain ip sipnatd inbound; flush chain ip sipnatd guard; delete chain ip sipnatd guard")
	table := open(t, reference())
	must(t, table.verify())
}

// TestProbeTraceless: probing leaves nothing.
func TestProbeTraceless(t *testing.T) {
	netspace.New(t)
	f, err := Probe()
	must(t, err)
	t.Log(f)
	if got := nftList(t, "list", "ruleset"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
	if !f.NativeQueue && !f.XTQueue {
		t.Error("no way to queue packets was found")
	}
	if f.ElementUpdate && !f.ElementDestroy {
		t.Error("a kernel of 6.12 can do what one of 6.3 can")
	}
}
