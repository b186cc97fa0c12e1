package conntrack

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ct "github.com/florianl/go-conntrack"
	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

// A flow from outside passes a firewall that drops all but what is established
// or related, as soon as there is an anchor, through the NAT rules, and without
// a helper.
func TestKernelInboundIsRelated(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		w := newWorld(t)
		c := open(t, h)
		in, out := w.listen(w.inside, phone.String()), w.listen(w.outside, far.String())

		out.send(public, "too early")
		w.awaitDrops(1)
		commitBatch(t, c, func(b *Batch) { b.OpenAnchor(public, time.Minute) })
		out.send(public, "rtp")
		in.want("rtp", far)
		in.send(far, "answer")
		out.want("answer", public)

		f := lookup(t, c, Tuple{Src: far, Dst: public})
		if !f.Related() {
			t.Errorf("status %#x, want it expected", f.Status)
		}
		if f.Helper != "" {
			t.Errorf("the flow was given the helper %q", f.Helper)
		}
		if got, ok := f.Translation(phone); !ok || got != public {
			t.Errorf("translation of %v is %v, want %v", phone, got, public)
		}

		// The expectation is permanent: another source comes in by it too.
		other := w.listen(w.outside, farther.String())
		other.send(public, "second source")
		in.want("second source", farther)
		if e := expected(t, c); len(e) != 1 || e[public].public != public {
			t.Errorf("expectations %v, want the one of %v", e, public)
		}
	})
}

// A flow from inside to the far media address passes a firewall that filters
// what goes out.
func TestKernelOutboundIsRelated(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		w := newWorld(t)
		c := open(t, h)
		in, out := w.listen(w.inside, phone.String()), w.listen(w.outside, far.String())
		commitBatch(t, c, func(b *Batch) { b.OpenAnchor(public, time.Minute) })
		in.send(far, "too early")
		w.awaitDrops(1)
		commitBatch(t, c, func(b *Batch) { b.Expect(public, far) })
		in.send(far, "rtp")
		out.want("rtp", public)
		if f := lookup(t, c, Tuple{Src: phone, Dst: far}); !f.Related() || f.Helper != "" || f.Anchor != public {
			t.Errorf("flow %+v, want it expected under the anchor of %v and without a helper", f, public)
		}

		commitBatch(t, c, func(b *Batch) { b.Unexpect(public, far) })
		if e := expected(t, c); len(e) != 1 || e[public].public != public {
			t.Errorf("expectations %v, want the one of %v", e, public)
		}
	})
}

// Closing an anchor takes its expectations along; a flow that began by one goes
// on until it is deleted.
func TestKernelCloseAnchor(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		w := newWorld(t)
		c := open(t, h)
		in, out := w.listen(w.inside, phone.String()), w.listen(w.outside, far.String())
		late := w.listen(w.outside, farther.String())
		commitBatch(t, c, func(b *Batch) {
			b.OpenAnchor(public, time.Minute)
			b.Expect(public, farther)
		})
		out.send(public, "1")
		in.want("1", far)

		commitBatch(t, c, func(b *Batch) { b.CloseAnchor(public) })
		if e := expected(t, c); len(e) != 0 {
			t.Errorf("expectations left: %v", e)
		}
		if _, err := c.Lookup(anchorTuple(public)); !errors.Is(err, ErrNotFound) {
			t.Errorf("the anchor is still there (%v)", err)
		}
		if got := c.Anchors(); len(got) != 0 {
			t.Errorf("anchors %v", got)
		}

		late.send(public, "from a new source")
		w.awaitDrops(1)
		out.send(public, "2")
		in.want("2", far)
		if err := c.Delete(Tuple{Src: far, Dst: public}); err != nil {
			t.Fatal(err)
		}
		out.send(public, "after the deletion")
		w.awaitDrops(2)
		commitBatch(t, c, func(b *Batch) { b.OpenAnchor(public, time.Minute) })
		out.send(public, "3")
		in.want("3", far)

		commitBatch(t, c, func(b *Batch) { b.CloseAnchor(public) })
		commitBatch(t, c, func(b *Batch) { b.CloseAnchor(public) }) // no error
	})
}

// An anchor expires by itself if nobody renews it, with its expectations.
func TestKernelAnchorExpires(t *testing.T) {
	newWorld(t)
	c := open(t)
	ended := watch(t, c, func(e Event) bool { return e.Destroyed && e.Flow.Orig.Src == phone })
	commitBatch(t, c, func(b *Batch) { b.OpenAnchor(public, time.Second) })
	// An ordinary flow that expires later tells when to look.
	createFlow(t, c, Tuple{Src: phone, Dst: far}, 3*time.Second)
	deadline := time.After(60 * time.Second) // the kernel's garbage collector takes its time
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ended:
			done = true
		case <-tick.C: // looking it up is what removes an expired entry at once
			_, _ = c.Lookup(Tuple{Src: phone, Dst: far})
			_, _ = c.Lookup(anchorTuple(public))
		case <-deadline:
			t.Fatal("the flow did not expire")
		}
	}
	if _, err := c.Lookup(anchorTuple(public)); !errors.Is(err, ErrNotFound) {
		t.Errorf("anchor: %v, want it expired", err)
	}
	if e := expected(t, c); len(e) != 0 {
		t.Errorf("expectations left: %v", e)
	}
}

// Renewal prolongs an anchor and its expectations, and creates what is lost.
func TestKernelRenew(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		newWorld(t)
		c := open(t, h)
		commitBatch(t, c, func(b *Batch) {
			b.OpenAnchor(public, 30*time.Second)
			b.Expect(public, far)
		})
		check := func(atLeast time.Duration) {
			t.Helper()
			f := lookup(t, c, anchorTuple(public))
			if f.Timeout <= atLeast-10*time.Second || f.Timeout > atLeast {
				t.Errorf("anchor expires in %v, want %v", f.Timeout, atLeast)
			}
			if f.Helper != c.policy.name || f.Status&StatusAssured == 0 {
				t.Errorf("anchor %+v, want helper %q, assured", f, c.policy.name)
			}
			e := expected(t, c)
			if len(e) != 2 || e[public].public != public || e[far].public != public {
				t.Errorf("expectations %v, want those of %v and %v", e, public, far)
			}
			for _, e := range e {
				if e.timeout < expectTimeout-time.Minute {
					t.Errorf("expectation of %v expires in %v", e.dst, e.timeout)
				}
			}
		}
		check(30 * time.Second)
		commitBatch(t, c, func(b *Batch) { b.Renew(public, time.Hour) })
		check(time.Hour)
		commitBatch(t, c, func(b *Batch) { b.OpenAnchor(public, 2*time.Hour) })
		check(2 * time.Hour)

		if err := c.query.nfct.Flush(ct.Conntrack, ct.IPv4); err != nil { // conntrack -F
			t.Fatal(err)
		}
		if e := expected(t, c); len(e) != 0 {
			t.Fatalf("expectations %v survived the flush", e)
		}
		commitBatch(t, c, func(b *Batch) { b.Renew(public, time.Hour) })
		check(time.Hour)

		// An expectation below an anchor that was flushed brings all back.
		if err := c.query.nfct.Flush(ct.Conntrack, ct.IPv4); err != nil {
			t.Fatal(err)
		}
		commitBatch(t, c, func(b *Batch) { b.Expect(public, far) })
		check(time.Hour)
	})
}

// The kernel gives a new expectation its helper's timeout, whatever the message
// says, and one that exists that of the message.
func TestKernelTimeoutOfExpectation(t *testing.T) {
	newWorld(t)
	c := open(t, HelperSIP)
	send := func() time.Duration {
		c.ch.enc.newExpectation(c.ch.next(), public, far, 1, 1000)
		exchange(t, c)
		return expected(t, c)[far].timeout
	}
	c.ch.enc.newAnchor(c.ch.next(), public, "sip", 60)
	if got := send(); got > 180*time.Second || got < 170*time.Second {
		t.Errorf("a new expectation expires in %v, want the helper's 180 s", got)
	}
	if got := send(); got > 1000*time.Second || got < 990*time.Second {
		t.Errorf("the renewed expectation expires in %v, want 1000 s", got)
	}
}

// Beyond a class's limit the kernel evicts silently; Commit refuses before that.
func TestKernelNoSilentEviction(t *testing.T) {
	newWorld(t)
	c := open(t, HelperSIP)
	dst := func(i int) netip.AddrPort { return netip.AddrPortFrom(far.Addr(), uint16(6000+2*i)) }
	c.ch.enc.newAnchor(c.ch.next(), public, "sip", 60)
	for i := range 5 {
		c.ch.enc.newExpectation(c.ch.next(), public, dst(i), 1, 60)
	}
	exchange(t, c)
	if n := len(expected(t, c)); n != 4 {
		t.Errorf("%d of 5 expectations of class audio, want 4", n)
	}
	commitBatch(t, c, func(b *Batch) { b.CloseAnchor(public) })

	if c.MaxExpectations() != 8 {
		t.Fatalf("at most %d expectations, want 8", c.MaxExpectations())
	}
	commitBatch(t, c, func(b *Batch) {
		b.OpenAnchor(public, time.Minute)
		for i := range 7 {
			b.Expect(public, dst(i))
		}
	})
	err := tryCommit(c, func(b *Batch) { b.Expect(public, dst(7)) })
	var op *Error
	if !errors.Is(err, ErrAnchorFull) || !errors.As(err, &op) || op.Public != public || op.Far != dst(7) {
		t.Errorf("ninth expectation: %v, want ErrAnchorFull of %v to %v", err, public, dst(7))
	}
	if n := len(expected(t, c)); n != 8 {
		t.Errorf("%d expectations, want 8", n)
	}
	commitBatch(t, c, func(b *Batch) { // makes room
		b.Unexpect(public, dst(2))
		b.Expect(public, dst(7))
	})
	if e := expected(t, c); len(e) != 8 || e[dst(7)].public != public {
		t.Errorf("expectations %v, want 8, with %v", e, dst(7))
	}
}

// Two calls may go to one far endpoint; the end of one leaves the other's
// expectation in place.
func TestKernelCommonDestination(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		newWorld(t)
		c := open(t, h)
		second := netip.AddrPortFrom(public.Addr(), 7072)
		commitBatch(t, c, func(b *Batch) {
			for _, p := range []netip.AddrPort{public, second} {
				b.OpenAnchor(p, time.Minute)
				b.Expect(p, far)
			}
		})
		if e := expected(t, c); len(e) != 3 || e[far].public != public {
			t.Fatalf("expectations %v, want three, that of %v below %v", e, far, public)
		}
		commitBatch(t, c, func(b *Batch) { b.CloseAnchor(public) })
		if e := expected(t, c); len(e) != 2 || e[far].public != second || e[second].public != second {
			t.Fatalf("expectations %v, want two below %v", e, second)
		}
		commitBatch(t, c, func(b *Batch) { b.CloseAnchor(second) })
		if e := expected(t, c); len(e) != 0 {
			t.Fatalf("expectations left: %v", e)
		}
	})
}

// A process that starts again finds the anchors of the one before.
func TestKernelTakeover(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		newWorld(t)
		before := open(t, h)
		commitBatch(t, before, func(b *Batch) {
			b.OpenAnchor(public, time.Minute)
			b.Expect(public, far)
		})
		before.Close()

		c := open(t, h)
		if got := c.Anchors(); !slices.Equal(got, []netip.AddrPort{public}) {
			t.Fatalf("anchors %v, want %v", got, public)
		}
		if got := len(c.state.anchors[public].claims); got != 2 {
			t.Errorf("%d expectations were taken over, want 2", got)
		}
		if got := c.policy; got.name != before.policy.name || !slices.Equal(got.classes, before.policy.classes) || got.timeout != before.policy.timeout {
			t.Errorf("policy %+v, want %+v", got, before.policy)
		}
		commitBatch(t, c, func(b *Batch) { b.Renew(public, time.Hour) })
		if f := lookup(t, c, anchorTuple(public)); f.Timeout < 59*time.Minute {
			t.Errorf("anchor expires in %v, want an hour", f.Timeout)
		}
		commitBatch(t, c, func(b *Batch) { b.CloseAnchor(public) })
		if e := expected(t, c); len(e) != 0 {
			t.Errorf("expectations left: %v", e)
		}
	})
}

// An anchor that another helper was attached to (before a module was loaded,
// say) is created anew.
func TestKernelHelperChanges(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		newWorld(t)
		c := open(t, h)
		c.ch.enc.newAnchor(c.ch.next(), public, "tftp", 60)
		if err := c.ch.request(nil); err != nil {
			t.Skipf("this kernel has no other helper to begin with (tftp: %v)", err)
		}
		commitBatch(t, c, func(b *Batch) {
			b.OpenAnchor(public, time.Minute)
			b.Expect(public, far)
		})
		if f := lookup(t, c, anchorTuple(public)); f.Helper != c.policy.name {
			t.Errorf("helper %q, want %q", f.Helper, c.policy.name)
		}
		if e := expected(t, c); len(e) != 2 {
			t.Errorf("expectations %v, want 2", e)
		}
	})
}

// What an earlier process with the kernel's helper left can be renewed by one
// that has our own.
func TestKernelHelperUpgrade(t *testing.T) {
	newWorld(t)
	before := open(t, HelperSIP)
	commitBatch(t, before, func(b *Batch) {
		b.OpenAnchor(public, time.Minute)
		b.Expect(public, far)
	})
	c := open(t, HelperOwn)
	commitBatch(t, c, func(b *Batch) { b.Renew(public, time.Minute) })
	if f := lookup(t, c, anchorTuple(public)); f.Helper != "sipnatd" {
		t.Errorf("helper %q, want our own", f.Helper)
	}
	if e := expected(t, c); len(e) != 2 || e[far].public != public {
		t.Errorf("expectations %v, want 2", e)
	}
}

func TestKernelExpectTableFull(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		newWorld(t)
		c := open(t, h)
		limit, _, _, _, err := Limits()
		if err != nil {
			t.Fatal(err)
		}
		endpoint := func(i int) netip.AddrPort { return netip.AddrPortFrom(public.Addr(), uint16(1024+i)) }
		var b Batch
		for i := range limit {
			b.OpenAnchor(endpoint(i), time.Minute)
		}
		if err := c.Commit(&b); err != nil {
			t.Fatal(err)
		}
		if max, n, _, count, err := Limits(); err != nil || n != max || count != n {
			t.Errorf("%d of %d expectations, %d flows, error %v; want %[2]d of each", n, max, count, err)
		}
		err = tryCommit(c, func(b *Batch) {
			b.OpenAnchor(endpoint(limit), time.Minute)
			b.CloseAnchor(endpoint(0))
		})
		var op *Error
		if !errors.Is(err, ErrExpectTableFull) || !errors.As(err, &op) || op.Public != endpoint(limit) {
			t.Fatalf("%v, want ErrExpectTableFull of %v", err, endpoint(limit))
		}
		// The rest of the batch was done, and made room for another try.
		commitBatch(t, c, func(b *Batch) { b.Renew(endpoint(limit), time.Minute) })
		if e := expected(t, c); len(e) != limit || e[endpoint(limit)].public != endpoint(limit) {
			t.Errorf("%d expectations, want %d, with the last", len(e), limit)
		}
		// Opening works at the limit too: the helper is not to blame.
		if again := open(t, h); again.Helper() != h {
			t.Errorf("helper %v", again.Helper())
		}
	})
}

func TestKernelNoHelper(t *testing.T) {
	newWorld(t)
	c := open(t, HelperNone)
	if c.Helper() != HelperNone || c.MaxExpectations() != 0 || c.HelperReason() == "" {
		t.Errorf("helper %v (%s)", c.Helper(), c.HelperReason())
	}
	commitBatch(t, c, func(b *Batch) {
		b.OpenAnchor(public, time.Minute)
		b.Expect(public, far)
		b.Renew(public, time.Minute)
		b.CloseAnchor(public)
	})
	if _, n, _, count, err := Limits(); err != nil || n != 0 || count != 0 {
		t.Errorf("%d expectations, %d flows, %v; want none", n, count, err)
	}
}

func TestKernelRefusals(t *testing.T) {
	newWorld(t)
	c := open(t)
	err := tryCommit(c, func(b *Batch) {
		b.Expect(public, far) // before its anchor
		b.OpenAnchor(public, time.Minute)
		b.Expect(public, netip.AddrPortFrom(far.Addr(), 0))
		b.OpenAnchor(netip.MustParseAddrPort("[2001:db8::1]:7070"), time.Minute)
		b.Expect(public, netip.MustParseAddrPort("[::ffff:198.51.100.2]:6000"))
	})
	for _, want := range []string{
		"conntrack: expect 198.51.100.1:7070 to 198.51.100.2:6000: the anchor was not opened",
		"conntrack: expect 198.51.100.1:7070 to 198.51.100.2:0: not an IPv4 address and port",
		"conntrack: open anchor [2001:db8::1]:7070: not an IPv4 address and port",
	} {
		if err == nil || !slices.Contains(lines(err), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if e := expected(t, c); len(e) != 2 || e[far].public != public {
		t.Errorf("expectations %v, want those that were valid", e)
	}
}

// Without CAP_NET_ADMIN, Open says so.
func TestKernelNoCapability(t *testing.T) {
	netspace.New(t)
	// For this thread alone, which ends with the test.
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
		t.Fatal(errno)
	}
	c, err := Open(Options{})
	if err == nil {
		c.Close()
		t.Fatal("no error")
	}
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("%v, want EPERM", err)
	}
}

// Many operations take several exchanges, which must not be noticed.
func TestKernelLargeBatch(t *testing.T) {
	newWorld(t)
	c := open(t)
	const n = 3*maxMessages + 1
	var b Batch
	for i := range n {
		b.OpenAnchor(netip.AddrPortFrom(public.Addr(), uint16(7000+i)), time.Minute)
	}
	if b.Len() != n {
		t.Errorf("%d operations, want %d", b.Len(), n)
	}
	if err := c.Commit(&b); err != nil {
		t.Fatal(err)
	}
	if b.Len() != 0 {
		t.Errorf("%d operations after the commit", b.Len())
	}
	if e := expected(t, c); len(e) != n {
		t.Errorf("%d expectations, want %d", len(e), n)
	}
	for _, public := range c.Anchors() {
		b.CloseAnchor(public)
	}
	if err := c.Commit(&b); err != nil {
		t.Fatal(err)
	}
	if e := expected(t, c); len(e) != 0 {
		t.Errorf("%d expectations left", len(e))
	}
}

// All that an audio stream needs goes to the kernel in one system call.
func TestKernelOneExchange(t *testing.T) {
	newWorld(t)
	c := open(t)
	writes := func() (n int) {
		t.Helper()
		io, err := os.ReadFile("/proc/thread-self/io")
		if err != nil {
			t.Skipf("this kernel does not count system calls: %v", err)
		}
		_, count, _ := strings.Cut(string(io), "syscw: ")
		if _, err := fmt.Sscan(count, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	least := math.MaxInt // the Go runtime may write something too
	for range 5 {
		before := writes()
		commitBatch(t, c, func(b *Batch) {
			for i := range uint16(2) {
				p := netip.AddrPortFrom(public.Addr(), public.Port()+i)
				b.OpenAnchor(p, time.Minute)
				b.Expect(p, netip.AddrPortFrom(far.Addr(), far.Port()+i))
			}
		})
		least = min(least, writes()-before)
	}
	if least != 1 {
		t.Errorf("%d system calls, want 1", least)
	}
}

func TestKernelConcurrentUse(t *testing.T) {
	newWorld(t)
	c := open(t)
	const workers, rounds = 8, 25
	errs := make(chan error, workers)
	for w := range workers {
		go func() {
			errs <- func() error {
				var b Batch
				p := netip.AddrPortFrom(public.Addr(), uint16(7000+w))
				for range rounds {
					b.OpenAnchor(p, time.Minute)
					b.Expect(p, far) // one that all have in common
					if err := c.Commit(&b); err != nil {
						return err
					}
					if f, err := c.Lookup(anchorTuple(p)); err != nil || f.Orig != anchorTuple(p) {
						return fmt.Errorf("%v: %+v, %w", p, f, err)
					}
					b.CloseAnchor(p)
					if err := c.Commit(&b); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if e := expected(t, c); len(e) != 0 {
		t.Errorf("expectations left: %v", e)
	}
	if len(c.state.claimants) != 0 || len(c.state.anchors) != 0 {
		t.Errorf("state left: %+v", c.state)
	}
}

// exchange sends what was encoded by hand.
func exchange(t testing.TB, c *Conn) {
	t.Helper()
	if err := c.ch.exchange(func(i int, errno unix.Errno) { t.Errorf("message %d: %v", i, errno) }, nil); err != nil {
		t.Fatal(err)
	}
}

// lines returns the messages of joined errors.
func lines(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var all []string
	for _, err := range joined.Unwrap() {
		all = append(all, err.Error())
	}
	return all
}
