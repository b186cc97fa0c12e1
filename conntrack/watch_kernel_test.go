package conntrack

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// What others do to anchors and expectations is told, and Renew mends it. What we do
// ourselves is not told.
func TestKernelWatchAnchors(t *testing.T) {
	newWorld(t)
	c := open(t)
	stranger := open(t).ch
	other := netip.MustParseAddrPort("198.51.100.1:7072")
	open := func(b *Batch) {
		for _, p := range []netip.AddrPort{public, other} {
			b.OpenAnchor(p, time.Minute)
			b.Expect(p, far)
		}
	}
	events := watch(t, c, func(e Event) bool { return !e.Lost })
	// Which anchors are told of, until a flow begins.
	marks := uint16(0)
	told := func() (lost []netip.AddrPort) {
		marks++
		mark := Tuple{Src: phone, Dst: netip.AddrPortFrom(farther.Addr(), marks)}
		createFlow(t, c, mark, time.Minute)
		for {
			switch e := receive(t, events); {
			case e.Anchor.IsValid() && !slices.Contains(lost, e.Anchor):
				lost = append(lost, e.Anchor)
			case e.Flow.Orig == mark && !e.Destroyed:
				slices.SortFunc(lost, netip.AddrPort.Compare)
				return lost
			}
		}
	}
	for _, injury := range []struct {
		name   string
		injure func()
		lost   []netip.AddrPort
	}{
		{"everything", func() { run(t, "", "conntrack", "-F") }, []netip.AddrPort{public, other}},
		{"expectations", func() { run(t, "", "conntrack", "-F", "expect") }, []netip.AddrPort{public, other}},
		{"an anchor", func() { run(t, "", "conntrack", "-D", "-p", "udp", "--sport", "7072") }, []netip.AddrPort{other}},
		{"an expectation", func() {
			stranger.enc.deleteExpectation(stranger.next(), public)
			if err := stranger.request(nil); err != nil {
				t.Fatal(err)
			}
		}, []netip.AddrPort{public}},
	} {
		commitBatch(t, c, open)
		told()
		injury.injure()
		if lost := told(); !slices.Equal(lost, injury.lost) {
			t.Errorf("%s: %v are told of, want %v", injury.name, lost, injury.lost)
		}
		missing, err := c.Missing()
		if err != nil || len(missing) != len(injury.lost) {
			t.Errorf("%s: missing %v (%v), want %v", injury.name, missing, err, injury.lost)
		}
		commitBatch(t, c, func(b *Batch) {
			for _, p := range injury.lost {
				b.Renew(p, time.Minute)
			}
		})
		if missing, err := c.Missing(); err != nil || len(missing) > 0 {
			t.Errorf("%s: missing still %v (%v)", injury.name, missing, err)
		}
	}
	told()
	commitBatch(t, c, func(b *Batch) {
		b.CloseAnchor(public)
		b.CloseAnchor(other)
	})
	if lost := told(); lost != nil {
		t.Errorf("our own closing of %v is told", lost)
	}
	if missing, err := c.Missing(); err != nil || len(missing) > 0 {
		t.Errorf("of what was closed is missing %v (%v)", missing, err)
	}
}

// A Watch outlives its socket: it says that events may have been missed, and tells
// of those that come then.
func TestKernelWatchReopens(t *testing.T) {
	w := newWorld(t)
	c, err := Open(Options{NetNS: w.firewall}) // Watch has a thread of its own
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	losses, flows := make(chan struct{}, 10), make(chan Tuple, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(ctx, func(e Event) {
			if e.Lost {
				losses <- struct{}{}
				return
			}
			flows <- e.Flow.Orig
		})
	}()
	for _, tuple := range []Tuple{{Src: phone, Dst: far}, {Src: phone, Dst: farther}, {Src: public, Dst: far}} {
		<-losses
		createFlow(t, c, tuple, time.Minute)
		if got := <-flows; got != tuple {
			t.Errorf("told of %v instead of %v", got, tuple)
		}
		socket, err := c.listener()
		if err != nil {
			t.Fatal(err)
		}
		socket.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
