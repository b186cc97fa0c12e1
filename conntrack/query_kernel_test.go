package conntrack

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	ct "github.com/florianl/go-conntrack"
	"golang.org/x/sys/unix"
)

// A flow that was masqueraded before anybody asked is found by the tuples that
// are seen on each side, with its translation.
func TestKernelLookupMasqueraded(t *testing.T) {
	w := newWorld(t)
	c := open(t)
	phone := netip.MustParseAddrPort("10.0.0.2:5060")
	registrar := netip.MustParseAddrPort("198.51.100.2:5060")
	in, out := w.listen(w.inside, phone.String()), w.listen(w.outside, registrar.String())

	seen := Tuple{Src: phone, Dst: registrar}
	if _, err := c.Lookup(seen); !errors.Is(err, ErrNotFound) {
		t.Fatalf("before the first packet: %v, want ErrNotFound", err)
	}
	in.send(registrar, "REGISTER")
	f := lookup(t, c, seen)
	public, ok := f.Translation(phone)
	if !ok || public.Addr() != netip.MustParseAddr("198.51.100.1") {
		t.Fatalf("translation %v, %v of %+v", public, ok, f)
	}
	out.want("REGISTER", public)
	if f.Orig != seen || f.Reply != (Tuple{Src: registrar, Dst: public}) {
		t.Errorf("tuples %v, %v", f.Orig, f.Reply)
	}
	if f.Status&(StatusSrcNAT|StatusConfirmed) != StatusSrcNAT|StatusConfirmed || f.Related() {
		t.Errorf("status %#x", f.Status)
	}
	if f.Timeout <= 0 || f.Timeout > 5*time.Minute {
		t.Errorf("timeout %v", f.Timeout)
	}
	if got := lookup(t, c, Tuple{Src: registrar, Dst: public}); got.ID != f.ID {
		t.Errorf("by the reply's tuple: %+v, want %+v", got, f)
	}

	if err := c.Delete(Tuple{Src: registrar, Dst: public}); err != nil { // by the other direction
		t.Fatal(err)
	}
	if _, err := c.Lookup(seen); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the deletion: %v, want ErrNotFound", err)
	}
	if err := c.Delete(seen); err != nil {
		t.Errorf("deletion of what is gone: %v", err)
	}
}

func TestKernelIncompleteTuples(t *testing.T) {
	newWorld(t)
	c := open(t, HelperNone)
	createFlow(t, c, Tuple{Src: phone, Dst: far}, time.Minute)
	for _, tuple := range []Tuple{{}, {Src: phone}, {Dst: far}, {Src: phone, Dst: netip.MustParseAddrPort("[2001:db8::1]:1")}} {
		if err := c.Delete(tuple); !errors.Is(err, ErrTuple) {
			t.Errorf("Delete(%v): %v", tuple, err)
		}
		if _, err := c.Lookup(tuple); !errors.Is(err, ErrTuple) {
			t.Errorf("Lookup(%v): %v", tuple, err)
		}
	}
	lookup(t, c, Tuple{Src: phone, Dst: far}) // must have survived
}

func TestKernelSelect(t *testing.T) {
	newWorld(t)
	c := open(t, HelperNone)
	endpoint := netip.MustParseAddrPort
	flows := []Tuple{
		{Src: phone, Dst: far},
		{Src: phone, Dst: farther},
		{Src: endpoint("10.0.0.2:4002"), Dst: far},
		{Src: endpoint("10.0.0.3:4000"), Dst: far},
		{Src: endpoint("[2001:db8::2]:4000"), Dst: endpoint("[2001:db8::1]:6000")},
	}
	for _, tuple := range flows {
		createFlow(t, c, tuple, time.Minute)
	}
	createTCP(t, c, Tuple{Src: phone, Dst: far})
	anyPort := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }
	for _, test := range []struct {
		name   string
		filter Filter
		want   []Tuple
	}{
		{"all of IPv4", Filter{}, flows[:4]},
		{"original source", Filter{Orig: Tuple{Src: phone}}, flows[:2]},
		{"original destination", Filter{Orig: Tuple{Dst: farther}}, flows[1:2]},
		{"reply source", Filter{Reply: Tuple{Src: far}}, []Tuple{flows[0], flows[2], flows[3]}},
		{"reply destination", Filter{Reply: Tuple{Dst: phone}}, flows[:2]},
		{"host", Filter{Orig: Tuple{Src: anyPort(phone)}}, flows[:3]},
		{"port", Filter{Orig: Tuple{Src: netip.AddrPortFrom(netip.Addr{}, 4000)}}, []Tuple{flows[0], flows[1], flows[3]}},
		{"both directions", Filter{Orig: Tuple{Src: phone}, Reply: Tuple{Src: farther}}, flows[1:2]},
		{"IPv6", Filter{Orig: flows[4]}, flows[4:]},
		{"none", Filter{Orig: Tuple{Src: endpoint("10.9.9.9:1")}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			selected, err := c.Select(test.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got []Tuple
			for _, f := range selected {
				got = append(got, f.Orig)
			}
			byTuple := func(a, b Tuple) int { return cmp.Or(a.Src.Compare(b.Src), a.Dst.Compare(b.Dst)) }
			want := slices.SortedFunc(slices.Values(test.want), byTuple)
			slices.SortFunc(got, byTuple)
			if !slices.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
			raw, err := c.selectRaw(test.filter)
			if err != nil || len(raw) != len(want) {
				t.Errorf("the kernel handed over %d flows, want %d (%v)", len(raw), len(want), err)
			}
		})
	}
}

// Events tell of UDP flows from the first packet to the last, with the counts
// of each direction.
func TestKernelWatch(t *testing.T) {
	w := newWorld(t)
	c := open(t)
	switch already, err := EnableAccounting(); {
	case err != nil:
		t.Fatal(err)
	case already:
		t.Error("accounting is on in a new namespace")
	}
	if already, err := EnableAccounting(); err != nil || !already {
		t.Errorf("second time: %v, %v", already, err)
	}
	events := watch(t, c, func(Event) bool { return true })
	if e := <-events; !e.Lost {
		t.Fatalf("first event %+v, want it to say that earlier ones are not known", e)
	}

	in, out := w.listen(w.inside, phone.String()), w.listen(w.outside, far.String())
	createTCP(t, c, Tuple{Src: phone, Dst: far}) // of no interest
	commitBatch(t, c, func(b *Batch) { b.OpenAnchor(public, time.Minute) })
	for range 3 {
		out.send(public, "1234567890")
		in.want("1234567890", far)
	}
	in.send(far, "12345")
	out.want("12345", public)

	e := receive(t, events)
	if e.Destroyed || e.Lost || e.Flow.Orig != (Tuple{Src: far, Dst: public}) || !e.Flow.Related() {
		t.Fatalf("event %+v, want the flow to begin", e)
	}
	if got, _ := e.Flow.Translation(phone); got != public {
		t.Errorf("translation %v", got)
	}
	f := lookup(t, c, Tuple{Src: phone, Dst: far})
	if f.OrigPackets != 3 || f.OrigBytes != 3*38 || f.ReplyPackets != 1 || f.ReplyBytes != 33 {
		t.Errorf("counts while it lasts: %+v", f)
	}
	commitBatch(t, c, func(b *Batch) { b.CloseAnchor(public) })
	if err := c.Delete(Tuple{Src: phone, Dst: far}); err != nil {
		t.Fatal(err)
	}
	e = receive(t, events)
	if !e.Destroyed || e.Flow.ID != f.ID || e.Flow.OrigPackets != 3 || e.Flow.OrigBytes != 3*38 ||
		e.Flow.ReplyPackets != 1 || e.Flow.ReplyBytes != 33 {
		t.Errorf("event %+v, want the flow to end with its counts", e)
	}
}

// The socket filter passes events of UDP alone: those of others are never read.
func TestKernelWatchFilter(t *testing.T) {
	newWorld(t)
	c := open(t, HelperNone)
	if err := subscribe(c.events); err != nil {
		t.Fatal(err)
	}
	v6 := Tuple{Src: netip.MustParseAddrPort("[2001:db8::2]:4000"), Dst: netip.MustParseAddrPort("[2001:db8::1]:6000")}
	createTCP(t, c, Tuple{Src: phone, Dst: far})
	createFlow(t, c, Tuple{Src: phone, Dst: far}, time.Minute)
	createTCP(t, c, Tuple{Src: phone, Dst: farther})
	createFlow(t, c, v6, time.Minute)
	for _, want := range []Tuple{{Src: phone, Dst: far}, v6} {
		msgs, err := c.events.Con.Receive()
		if err != nil || len(msgs) != 1 {
			t.Fatal(len(msgs), err)
		}
		entry, err := ct.ParseAttributes(c.quiet, msgs[0].Data)
		if f, ok := flowOf(&entry); err != nil || !ok || f.Orig != want {
			t.Errorf("event of %+v (%v), want %v", entry.Origin, err, want)
		}
	}
}

// When events are lost, Watch says so and goes on.
func TestKernelWatchLoss(t *testing.T) {
	newWorld(t)
	c := open(t)
	began, release := make(chan struct{}), make(chan struct{})
	events := make(chan Event, 1)
	last := Tuple{Src: phone, Dst: farther}
	first, lost := true, 0
	runWatch(t, c, func(e Event) {
		if first {
			first = false
			close(began)
			<-release
		}
		if e.Lost {
			lost++
		}
		if e.Flow.Orig == last {
			events <- e
		}
	})
	<-began
	fillTable(t, c, 12000)
	close(release)
	// The kernel tells of a loss once for all that came until it was read.
	for {
		createFlow(t, c, last, time.Minute)
		select {
		case <-events:
			if lost < 2 {
				t.Errorf("%d losses were told, want the first and one more", lost)
			}
			return
		case <-time.After(20 * time.Millisecond):
			if err := c.Delete(last); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestKernelWatchOnce(t *testing.T) {
	newWorld(t)
	c := open(t, HelperNone)
	events := watch(t, c, func(Event) bool { return true })
	receive(t, events)
	if err := c.Watch(t.Context(), func(Event) {}); err == nil {
		t.Error("a second Watch: no error")
	}
}

func TestKernelLimits(t *testing.T) {
	newWorld(t)
	c := open(t, HelperNone)
	createFlow(t, c, Tuple{Src: phone, Dst: far}, time.Minute)
	expectMax, expectCount, max, count, err := Limits()
	if err != nil {
		t.Fatal(err)
	}
	if expectMax < 64 || expectCount != 0 || max < 1024 || count != 1 {
		t.Errorf("Limits() = %d, %d, %d, %d", expectMax, expectCount, max, count)
	}
}

// Options.NetNS opens the connection in another namespace.
func TestKernelNetNS(t *testing.T) {
	w := newWorld(t)
	var c *Conn
	w.in(w.inside, func() {
		var err error
		if c, err = Open(Options{NetNS: w.firewall}); err != nil {
			t.Fatal(err)
		}
	})
	defer c.Close()
	commitBatch(t, c, func(b *Batch) { b.OpenAnchor(public, time.Minute) })
	lookup(t, open(t), anchorTuple(public))
}

// A message waits for a look-up, which must not wait until a large table has been
// read.
func TestKernelLookupDuringSelect(t *testing.T) {
	newWorld(t)
	c := open(t)
	tuple := Tuple{Src: netip.MustParseAddrPort("192.0.2.1:1000"), Dst: netip.MustParseAddrPort("192.0.2.2:2000")}
	createFlow(t, c, tuple, time.Minute)
	c.dumpMu.Lock() // as Select does while it reads
	defer c.dumpMu.Unlock()
	lookup(t, c, tuple)
	if err := c.Delete(tuple); err != nil {
		t.Error(err)
	}
}

// createFlow makes a UDP entry without a packet.
func createFlow(t testing.TB, c *Conn, tuple Tuple, timeout time.Duration) {
	t.Helper()
	create(t, c, tuple, ct.Con{Origin: libraryTuple(tuple), Reply: libraryTuple(tuple.Reverse())}, timeout)
}

func createTCP(t testing.TB, c *Conn, tuple Tuple) {
	t.Helper()
	proto, state := uint8(unix.IPPROTO_TCP), uint8(3)
	con := ct.Con{Origin: libraryTuple(tuple), Reply: libraryTuple(tuple.Reverse()), ProtoInfo: &ct.ProtoInfo{TCP: &ct.TCPInfo{State: &state}}}
	con.Origin.Proto.Number, con.Reply.Proto.Number = &proto, &proto
	create(t, c, tuple, con, time.Minute)
}

func create(t testing.TB, c *Conn, tuple Tuple, con ct.Con, timeout time.Duration) {
	t.Helper()
	seconds := uint32(timeout / time.Second)
	con.Timeout = &seconds
	c.queryMu.Lock()
	defer c.queryMu.Unlock()
	if err := c.query.nfct.Create(ct.Conntrack, ct.Family(tuple.family()), con); err != nil {
		t.Fatalf("create %v: %v", tuple, err)
	}
}

// libraryTuple converts a tuple to the library's form.
func libraryTuple(t Tuple) *ct.IPTuple {
	src, dst := net.IP(t.Src.Addr().AsSlice()), net.IP(t.Dst.Addr().AsSlice())
	proto, sport, dport := uint8(unix.IPPROTO_UDP), t.Src.Port(), t.Dst.Port()
	return &ct.IPTuple{Src: &src, Dst: &dst, Proto: &ct.ProtoTuple{Number: &proto, SrcPort: &sport, DstPort: &dport}}
}

// watch passes on the events that keep wants; it is subscribed when it returns.
func watch(t testing.TB, c *Conn, keep func(Event) bool) <-chan Event {
	t.Helper()
	events := make(chan Event, 100)
	began := make(chan struct{})
	first := true
	runWatch(t, c, func(e Event) {
		if keep(e) {
			events <- e
		}
		if first {
			first = false
			close(began)
		}
	})
	<-began
	return events
}

// runWatch runs Watch until the test ends.
func runWatch(t testing.TB, c *Conn, fn func(Event)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Watch(ctx, fn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("Watch:", err)
		}
	})
}

func receive(t testing.TB, events <-chan Event) Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("no event")
		return Event{}
	}
}

func TestSysctlMissing(t *testing.T) {
	if _, err := sysctl("no_such_setting"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
