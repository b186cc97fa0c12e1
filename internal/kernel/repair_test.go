package kernel

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
	"sipnatd/nat"
)

// TestElementsChanged: elements that others have deleted come back, foreign ones go, and
// flows that began wrongly meanwhile are deleted.
func TestElementsChanged(t *testing.T) {
	for _, c := range []struct {
		name   string
		injure func(sets map[string]map[string]string)
	}{
		{"a stream is gone", func(sets map[string]map[string]string) { delete(sets["streams"], public.String()) }},
		{"all of a set is gone", func(sets map[string]map[string]string) { sets["guarded"] = nil }},
		{"a peer is gone", func(sets map[string]map[string]string) { sets["peers"] = nil }},
		{"a stream is another's", func(sets map[string]map[string]string) { sets["streams"][public.String()] = far.String() }},
		{"a foreign source", func(sets map[string]map[string]string) { sets["sources"]["192.0.2.1 . "+phone.String()] = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, table, track := newFake(t)
			bind(t, k)
			k.tick(time.Now().Add(guardLinger + time.Second)) // of the closed stream nothing is left
			delete(table.sets, "open")
			second(k)
			c.injure(table.sets)
			track.flows = []conntrack.Flow{outgoing(phone, far, netip.MustParseAddrPort("203.0.113.1:4000"))}
			k.Changed(t.Context(), nft.Change{Elements: true})
			bound(table)
			if data := table.sets["streams"][public.String()]; data != phone.String() {
				t.Errorf("the stream leads to %s", data)
			}
			second(k)
			if len(track.flows) > 0 {
				t.Errorf("a flow that began meanwhile stays: %v", track.flows)
			}
			if table.installs > 0 {
				t.Error("the table was installed anew")
			}
		})
	}
}

// TestFirewallChanged: the administrator's forwards are read again.
func TestFirewallChanged(t *testing.T) {
	k, _, _ := newFake(t)
	k.Changed(t.Context(), nft.Change{Firewall: true})
	if !k.forwards.read.IsZero() {
		t.Error("the forwards that were known are still believed")
	}
}

// TestAnchorsGone: anchors that others have deleted are created again, those of streams
// that have ended are not.
func TestAnchorsGone(t *testing.T) {
	for _, how := range []string{"event", "events were lost", "by the clock"} {
		t.Run(how, func(t *testing.T) {
			k, _, track := newFake(t)
			apply(t, k, nat.OpenStream)
			ended := netip.MustParseAddrPort("203.0.113.1:7072")
			now := time.Now()
			k.mend(now) // looks at all of them once
			track.batches = nil
			switch how {
			case "event":
				k.Event(conntrack.Event{Anchor: public})
				k.Event(conntrack.Event{Anchor: ended})
			case "events were lost":
				track.missing = []netip.AddrPort{public, ended}
				k.Event(conntrack.Event{Lost: true})
			default:
				track.missing = []netip.AddrPort{public, ended}
				now = now.Add(anchorsEvery)
			}
			if how != "by the clock" && len(k.woken) == 0 {
				t.Error("nobody is woken")
			}
			k.mend(now)
			if got := strings.Join(track.batches, ""); !strings.HasPrefix(got, "renew "+public.String()) || strings.Count(got, "\n") != 1 {
				t.Errorf("renewed: %q", got)
			}
		})
	}
}

// TestAnchorRunsOut: the kernel may forget an anchor whose mapping has run out before it is
// told to, which is nobody's doing.
func TestAnchorRunsOut(t *testing.T) {
	k, _, track := newFake(t)
	var log bytes.Buffer
	k.log = slog.New(slog.NewTextHandler(&log, nil))
	apply(t, k, nat.OpenStream)
	now := time.Now()
	k.mend(now) // looks at all of them once
	track.batches = nil
	k.Event(conntrack.Event{Anchor: public})
	k.mend(now.Add(2 * time.Hour))
	if len(track.batches) > 0 || log.Len() > 0 || len(k.missing) > 0 {
		t.Errorf("renewed %q, told:\n%s", track.batches, &log)
	}
}

// TestFight: what others do again and again is repaired with pauses, and told of now and
// then, with how often it was.
func TestFight(t *testing.T) {
	var f fight
	now := time.Now()
	pauses, told := 0, 0
	for range 100 {
		pause, times := f.repaired(now, repairBurst, repairPause)
		if pause > 0 {
			pauses++
		}
		if times > 0 {
			told++
		}
		now = now.Add(pause)
	}
	if pauses < 40 || told != reportBurst {
		t.Errorf("%d pauses, told of %d times", pauses, told)
	}
	_, last := f.repaired(now.Add(reportPause), repairBurst, repairPause)
	if last != 100-reportBurst+1 {
		t.Errorf("the last time %d repairs are told of", last)
	}
}

// TestTellChange: the log names who changes the table, and what.
func TestTellChange(t *testing.T) {
	k, table, _ := newFake(t)
	var log bytes.Buffer
	k.log = slog.New(slog.NewTextHandler(&log, nil))
	apply(t, k, nat.OpenStream)
	delete(table.sets["streams"], public.String())
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits
	k.Changed(ctx, nft.Change{Elements: true, By: "nft (4711)"})
	table.flush()
	k.Changed(ctx, nft.Change{Table: true, By: "nft (4712)"})
	k.Changed(ctx, nft.Change{Elements: true})
	for _, want := range []string{`elements of the table ip sipnatd; they are restored" by="nft (4711)" missing=1 foreign=0`, `as a firewall reload does; it is restored" by="nft (4712)"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("not told: %s\n%s", want, &log)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines are told:\n%s", n, &log)
	}
}

// TestGuardComesWithSources: an endpoint whose stream has just been closed has another
// one when the table is put back. The guard is not there before those who may pass it.
func TestGuardComesWithSources(t *testing.T) {
	k, _, _ := newFake(t)
	inside := netip.MustParseAddrPort("10.0.0.10:4000")
	for i, public := range []string{"203.0.113.1:7070", "203.0.113.1:7080"} {
		c := nat.Change{Verb: nat.OpenStream, Inside: inside, Public: netip.MustParseAddrPort(public), Lease: time.Minute}
		allow := c
		allow.Verb, allow.Far = nat.AllowSource, netip.MustParseAddrPort("198.51.100.20:0")
		if err := k.Apply([]nat.Change{c, allow}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			c.Verb = nat.CloseStream
			if err := k.Apply([]nat.Change{c}); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.elements.Reset()
	k.want(time.Now(), func() {
		batch := k.elements.String()
		k.elements.Reset()
		if strings.Contains(batch, "guarded") != strings.Contains(batch, "sources") {
			t.Errorf("put in at once:\n%s", batch)
		}
	})
}
