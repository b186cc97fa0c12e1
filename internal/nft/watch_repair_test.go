package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/netspace"
)

// changes runs Watch until the test ends; what it tells is repaired as a daemon does, with
// one stream and one binding, and then handed over.
func changes(t *testing.T, table *Table) <-chan Change {
	t.Helper()
	told := make(chan Change, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- table.Watch(ctx, func(c Change) {
			if c.Table {
				if err := table.Install(reference()); err != nil {
					t.Error(err)
				}
			}
			if c.Table || c.Elements {
				there, err := table.Leases()
				if err != nil {
					t.Error(err)
				}
				if _, _, err := table.Settle(there, mapped(), time.Second); err != nil {
					t.Error(err)
				}
			}
			told <- c
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	})
	if c := <-told; c != (Change{Elements: true, Firewall: true}) {
		t.Errorf("at first is told %+v", c)
	}
	return told
}

// mapped is everything that is leased.
func mapped() *Batch {
	b := new(Batch)
	b.MapStream(inside1, public1, time.Hour)
	b.AllowSource(netip.MustParseAddr(provider), inside1, time.Hour)
	b.MapBinding(sip1, sipPublic1, time.Hour)
	b.AllowPeer(netip.MustParseAddr(provider), sipPublic1, time.Hour)
	return b
}

// next is the next change that is told.
func next(t *testing.T, told <-chan Change) Change {
	t.Helper()
	select {
	case c := <-told:
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("nothing is told")
		return Change{}
	}
}

// TestWatchChanges: whatever others do to the table is told, with who did it, and can be
// repaired; what we do, and what rules do, is not.
func TestWatchChanges(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	must(t, table.Commit(mapped()))
	told := changes(t, table)
	inside := strings.Replace(inside1.String(), ":", " . ", 1)
	public := strings.Replace(public1.String(), ":", " . ", 1)
	lease := regexp.MustCompile(`(timeout|expires) [0-9]\S*`) // which goes on
	header := regexp.MustCompile(`(?s)^.*table ip sipnatd \{\n`)
	listing := func() string {
		list := nftList(t, "-s", "list", "table", "ip", "sipnatd")
		blocks := make(map[string]bool)
		for _, b := range strings.Split(list, "\n\t}\n") {
			b = lease.ReplaceAllString(header.ReplaceAllString(b, ""), "")
			words := strings.Fields(strings.ReplaceAll(b, ",", ""))
			if words[0] == "map" || words[0] == "set" {
				slices.Sort(words)
			}
			blocks[strings.Join(words, " ")] = true
		}
		return fmt.Sprint(blocks) // sorted
	}
	before := listing()
	structure, elements := Change{Table: true}, Change{Elements: true}
	for _, c := range []struct {
		script string
		want   Change
	}{
		{"flush chain ip sipnatd guard", structure},
		{"add rule ip sipnatd guard accept", structure},
		{"insert rule ip sipnatd forward drop", structure},
		{"chain ip sipnatd forward { policy drop; }", structure},
		{"table ip sipnatd { flags dormant; }", structure},
		{"add chain ip sipnatd mine { type filter hook input priority 0; policy drop; }", structure},
		{"add chain ip sipnatd mine\nadd chain ip sipnatd other\nadd rule ip sipnatd mine goto other\nadd rule ip sipnatd guard goto mine", structure},
		{"add set ip sipnatd mine { type ipv4_addr; }\nadd rule ip sipnatd guard ip saddr @mine drop", structure},
		{"add counter ip sipnatd mine", structure},
		{"flush chain ip sipnatd guard\ndelete counter ip sipnatd guard_drops", structure},
		{"flush table ip sipnatd\ndelete map ip sipnatd publics\ndelete chain ip sipnatd guard", structure},
		{"flush set ip sipnatd inside", structure},
		{"add element ip sipnatd sip_ports { 5070 }", structure},
		{"flush set ip sipnatd guarded", elements},
		{"flush map ip sipnatd streams\nflush map ip sipnatd publics\nflush set ip sipnatd sources", elements},
		{"flush map ip sipnatd bindings\nflush set ip sipnatd bound\nflush set ip sipnatd peers\nflush set ip sipnatd signalling", elements},
		{"delete element ip sipnatd streams { " + public + " }", elements},
		{"delete element ip sipnatd publics { " + inside + " }\nadd element ip sipnatd publics { " + inside + " : 192.0.2.1 . 9 }", elements},
		{"add element ip sipnatd sources { 192.0.2.1 . " + inside + " }", elements},
		{"add element ip sipnatd open { " + inside + " timeout 1h }", elements},
		{"add element ip sipnatd streams { 192.0.2.1 . 9 timeout 1h : 10.0.0.99 . 9 }", elements},
		{"add table ip fw\nflush set ip sipnatd guarded\nadd chain ip fw c", Change{Elements: true, Firewall: true}},
		{"delete table ip sipnatd", structure},
		{"flush ruleset\ntable ip fw { }", Change{Table: true, Firewall: true}},
	} {
		nftRun(t, c.script)
		got := next(t, told)
		if !strings.HasPrefix(got.By, "nft (") {
			t.Errorf("%s: by %q", c.script, got.By)
		}
		if got.By = ""; got != c.want {
			t.Errorf("%s: told %+v, want %+v", c.script, got, c.want)
		}
		if now := listing(); now != before {
			t.Fatalf("%s: after the repair\n%s\nbefore\n%s", c.script, now, before)
		}
		must(t, table.verify())
	}

	must(t, table.Install(reference()))
	must(t, table.Commit(mapped()))
	nftRun(t, "add set ip fw s { type ipv4_addr; }\nadd element ip fw s { 192.0.2.1 }")
	nftRun(t, "add chain ip fw d") // the mark
	if c := next(t, told); c.Table || c.Elements {
		t.Errorf("our own changes are told: %+v", c)
	}
	if len(told) > 0 {
		t.Errorf("too much is told: %+v", <-told)
	}
}

// TestWatchFlood: 100,000 elements of another table change at once, more than the socket
// holds. The damage that is done meanwhile is found, and what comes later is heard.
func TestWatchFlood(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	must(t, table.monitor.conn.SetReadBuffer(64<<10))
	must(t, table.Commit(mapped()))
	told := changes(t, table)
	var script strings.Builder
	script.WriteString("add table ip fw\nadd set ip fw s { type ipv4_addr; }\n")
	for i := range 100 {
		fmt.Fprintf(&script, "add element ip fw s { ")
		for j := range 1000 {
			fmt.Fprintf(&script, "10.%d.%d.%d, ", i, j/250, j%250)
		}
		script.WriteString("}\n")
	}
	script.WriteString("flush chain ip sipnatd guard\nflush map ip sipnatd streams\n")
	nftRun(t, script.String())
	for c := next(t, told); !c.Table; c = next(t, told) {
	}
	must(t, table.verify())
	must(t, unseen(table))
	nftRun(t, "delete table ip sipnatd")
	for c := next(t, told); !c.Table; c = next(t, told) {
	}
	must(t, table.verify())
	must(t, unseen(table))
}

// unseen is an error if the stream is not there.
func unseen(table *Table) error {
	streams, err := table.read(mapStreams)
	if err == nil && len(streams) != 1 {
		err = fmt.Errorf("streams are %v", streams)
	}
	return err
}

// TestSettleLateChanges: what the daemon itself changes between the reading of the
// elements and their repair is nobody else's doing, and stays.
func TestSettleLateChanges(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	must(t, table.Commit(mapped()))
	there, err := table.Leases()
	must(t, err)
	late := new(Batch)
	late.Unmap(inside1, public1, true)
	late.RevokeSource(netip.MustParseAddr(provider), inside1)
	late.MapStream(netip.AddrPortFrom(inside1.Addr(), inside1.Port()+10), public1, time.Hour)
	must(t, table.Commit(late))
	want := new(Batch)
	want.MapStream(netip.AddrPortFrom(inside1.Addr(), inside1.Port()+10), public1, time.Hour)
	want.MapBinding(sip1, sipPublic1, time.Hour)
	want.AllowPeer(netip.MustParseAddr(provider), sipPublic1, time.Hour)
	missing, foreign, err := table.Settle(there, want, time.Second)
	if must(t, err); missing+foreign != 0 {
		t.Errorf("%d elements are missing, %d foreign", missing, foreign)
	}
	streams, err := table.read(mapStreams)
	if must(t, err); len(streams) != 1 || readEndpoint(streams[0].Val).Port() != inside1.Port()+10 {
		t.Errorf("streams are %v", streams)
	}
}

// TestWatchReopens: the monitor fails, and is opened again.
func TestWatchReopens(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	must(t, table.Commit(mapped()))
	// In this thread, whose namespace a new monitor is for.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	step := 0
	err := table.Watch(ctx, func(c Change) {
		switch step++; step {
		case 1:
			// Damage that is not told of, since the monitor fails.
			nftRun(t, "flush chain ip sipnatd guard")
			must(t, table.monitor.conn.Close())
		case 2:
			if !c.Table {
				t.Errorf("the new monitor does not look at what happened before: %+v", c)
			}
			must(t, table.Install(reference()))
			nftRun(t, "flush chain ip sipnatd inbound")
		default:
			if !c.Table || c.By == "" {
				t.Errorf("the new monitor tells %+v", c)
			}
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || step != 3 {
		t.Errorf("Watch ends with %v after %d calls", err, step)
	}
}
