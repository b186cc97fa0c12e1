package nft

import (
	"context"
	"errors"
	"testing"
	"time"

	"sipnatd/internal/netspace"
)

// watch runs Watch until the test ends. Each loss is reported, then answered by
// restoring the table.
func watch(t *testing.T, table *Table) (losses <-chan struct{}) {
	t.Helper()
	lost := make(chan struct{}, 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- table.Watch(ctx, func(c Change) {
			if !c.Table {
				return
			}
			if err := table.Install(reference()); err != nil {
				t.Error(err)
			}
			lost <- struct{}{}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	})
	return lost
}

func TestWatch(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	lost := watch(t, table)
	var b Batch
	b.MapStream(inside1, public1, time.Hour)
	for _, loss := range []string{
		"flush ruleset",
		"flush ruleset\ntable ip fw {\nchain forward {\ntype filter hook forward priority 0;\n}\n}",
		"delete table ip sipnatd",
		"flush table ip sipnatd",
		"flush chain ip sipnatd guard",
		"flush chain ip sipnatd inbound\ndelete chain ip sipnatd guard",
		"table ip fw\ndelete table ip sipnatd",
	} {
		nftRun(t, loss)
		select {
		case <-lost:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not noticed", loss)
		}
		if err := table.verify(); err != nil {
			t.Errorf("%s: after the repair: %v", loss, err)
		}
		must(t, table.Commit(&b))
	}

	// Other people's changes and our own are none.
	nftRun(t, "flush table ip fw\ndelete table ip fw\ntable ip other")
	b.Unmap(inside1, public1, true)
	must(t, table.Commit(&b))
	must(t, table.Install(reference()))
	nftRun(t, "delete table ip sipnatd")
	<-lost // of this
	must(t, table.verify())
	select {
	case <-lost:
		t.Error("a loss was reported that was none")
	default:
	}
}

// TestWatchLate: what was lost between Open and Watch is noticed.
func TestWatchLate(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	nftRun(t, "flush ruleset")
	<-watch(t, table)
}

// TestWatchOverrun: when there were too many changes to be heard, Watch looks for
// itself.
func TestWatchOverrun(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	must(t, table.monitor.conn.SetReadBuffer(1)) // the kernel makes it a little more
	heard := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	losses := 0
	done := make(chan error, 1)
	go func() {
		done <- table.Watch(ctx, func(c Change) {
			if !c.Table {
				return
			}
			if losses++; losses == 1 {
				// Watch hears nothing meanwhile.
				if err := table.Install(reference()); err != nil {
					t.Error(err)
				}
				heard <- struct{}{}
				<-heard
				return
			}
			cancel()
		})
	}()
	nftRun(t, "flush ruleset")
	<-heard
	for range 20 {
		nftRun(t, "table ip other {\nset s {\ntype ipv4_addr\n}\n}\ndelete table ip other")
	}
	nftRun(t, "flush ruleset")
	heard <- struct{}{}
	if err := <-done; !errors.Is(err, context.Canceled) || losses != 2 {
		t.Errorf("Watch returned %v after %d losses, want 2", err, losses)
	}
}
