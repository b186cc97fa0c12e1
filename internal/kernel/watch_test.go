package kernel

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
	"sipnatd/nat"
)

// TestEvents: what becomes of a flow that begins near an open stream.
func TestEvents(t *testing.T) {
	other := netip.MustParseAddrPort("10.0.0.11:4000")
	elsewhere := netip.MustParseAddrPort("203.0.113.1:4000")
	for _, c := range []struct {
		name         string
		flow         conntrack.Flow
		stays, after bool // while the stream is open, and after its end
	}{
		{"out through the mapping", outgoing(phone, far, public), true, false},
		{"in through the mapping", incoming(far, public, phone), true, false},
		{"out through a masquerade", outgoing(phone, far, elsewhere), false, false},
		{"in by another translation", incoming(far, elsewhere, phone), false, false},
		{"to the firewall itself", incoming(far, public, public), false, false},
		{"not translated at all", outgoing(phone, far, phone), true, true},
		{"another host's from the same port", outgoing(other, far, public), true, true},
		{"of others", outgoing(other, far, elsewhere), true, true},
		{"by an egress expectation, from another port", func() conntrack.Flow {
			f := outgoing(netip.MustParseAddrPort("10.0.0.10:9999"), far, netip.MustParseAddrPort("203.0.113.1:9999"))
			f.Anchor = public
			return f
		}(), true, false},
	} {
		for _, how := range []string{"event", "search"} {
			t.Run(c.name+" by "+how, func(t *testing.T) {
				k, _, track := newFake(t)
				track.flows = []conntrack.Flow{c.flow}
				apply(t, k, nat.OpenStream)
				if how == "event" {
					k.Event(conntrack.Event{Flow: c.flow})
				} else {
					second(k)
				}
				if stays := len(track.flows) == 1; stays != c.stays {
					t.Errorf("with the stream open the flow stays: %v", stays)
				}
				apply(t, k, nat.CloseStream)
				if stays := len(track.flows) == 1; stays != c.after {
					t.Errorf("after its end the flow stays: %v", stays)
				}
			})
		}
	}
}

// TestTraffic: the packets of flows that have ended count, too.
func TestTraffic(t *testing.T) {
	k, _, track := newFake(t)
	apply(t, k, nat.OpenStream)
	ended, lives := outgoing(phone, far, public), incoming(far, public, phone)
	k.Event(conntrack.Event{Flow: ended})
	k.Event(conntrack.Event{Flow: lives})
	ended.OrigPackets, ended.ReplyPackets = 10, 20
	k.Event(conntrack.Event{Flow: ended, Destroyed: true})
	lives.OrigPackets, lives.ReplyPackets = 3, 4
	track.flows = []conntrack.Flow{lives}
	if in, out := k.Traffic(public); in != 23 || out != 14 {
		t.Errorf("%d packets in, %d out, want 23 and 14", in, out)
	}
	if in, out := k.Traffic(far); in != 0 || out != 0 {
		t.Errorf("%d packets in, %d out of an endpoint that is no mapping", in, out)
	}
}

// TestLateFlow: a flow that begins while its stream is being closed goes at once;
// later the endpoint is nobody's.
func TestLateFlow(t *testing.T) {
	k, table, track := newFake(t)
	apply(t, k, nat.OpenStream, nat.OpenGuard, nat.AllowSource, nat.CloseStream)
	table.has("guarded", phone.String())
	for _, set := range []string{"streams", "publics", "sources", "open"} {
		table.has(set)
	}
	flow := incoming(far, public, phone)
	track.flows = []conntrack.Flow{flow}
	k.Event(conntrack.Event{Flow: flow})
	if len(track.flows) > 0 {
		t.Error("the flow stays")
	}
	k.tick(time.Now().Add(guardLinger + time.Second))
	track.flows = []conntrack.Flow{flow}
	k.Event(conntrack.Event{Flow: flow})
	if len(track.flows) == 0 {
		t.Error("a flow that is nobody's was deleted")
	}
}

// TestReopened: the public endpoint of a stream that has just been closed serves
// another one; what is left of the first does not end the second.
func TestReopened(t *testing.T) {
	k, table, track := newFake(t)
	apply(t, k, nat.OpenStream, nat.CloseStream, nat.OpenStream)
	k.tick(time.Now().Add(guardLinger + time.Second))
	flow := incoming(far, public, phone)
	track.flows = []conntrack.Flow{flow}
	k.Event(conntrack.Event{Flow: flow})
	if len(track.flows) != 1 {
		t.Error("the second stream's flow was deleted")
	}
	table.has("streams", public.String())
	apply(t, k, nat.CloseStream)
	if len(track.flows) != 0 {
		t.Error("the second stream's flow outlives it")
	}
}

// TestLostEvents: when events were missed, the flows of a stream that has ended
// are found by the next search, which no packet waits for.
func TestLostEvents(t *testing.T) {
	for _, c := range []struct {
		name     string
		searched bool // before the stream ends
		again    bool // events are lost during that search
		left     int  // at the end of the stream
	}{
		{"not searched since", false, false, 2},
		{"searched since", true, false, 0},
		{"lost during the search", true, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, _, track := newFake(t)
			apply(t, k, nat.OpenStream)
			late := outgoing(phone, netip.MustParseAddrPort("198.51.100.21:6000"), public)
			track.flows = []conntrack.Flow{incoming(far, public, phone), outgoing(phone, far, public)}
			k.Event(conntrack.Event{Lost: true})
			if c.searched {
				if c.again {
					track.searched = func() {
						k.Event(conntrack.Event{Lost: true})
						track.flows = append(track.flows, late)
					}
				}
				if !k.tick(time.Now()) {
					t.Fatal("no search is due")
				}
				k.sweep()
			}
			track.searched = func() { t.Error("the end of the stream searches itself") }
			apply(t, k, nat.CloseStream)
			track.searched = nil
			want := c.left
			if c.again {
				want++
			}
			if len(track.flows) != want {
				t.Errorf("%d flows are left at the end, want %d", len(track.flows), want)
			}
			if !k.tick(time.Now().Add(guardLinger / 2)) {
				if want > 0 {
					t.Error("no search is due")
				}
				return
			}
			k.sweep()
			if len(track.flows) > 0 {
				t.Errorf("flows outlive the stream: %v", track.flows)
			}
		})
	}
}

// TestManyFlows: while an offer is open, anybody may begin flows. What is listed
// of them is bounded, and all go with the stream.
func TestManyFlows(t *testing.T) {
	k, _, track := newFake(t)
	apply(t, k, nat.OpenStream)
	e := k.public[public]
	second(k)
	for port := range uint16(3 * maxFlows) {
		f := incoming(netip.AddrPortFrom(far.Addr(), 10000+port), public, phone)
		track.flows = append(track.flows, f)
		k.Event(conntrack.Event{Flow: f})
	}
	if len(e.flows) != maxFlows {
		t.Errorf("%d flows are listed", len(e.flows))
	}
	k.Event(conntrack.Event{Flow: track.flows[0], Destroyed: true})
	track.flows = track.flows[1:]
	k.sweepNext = time.Time{}
	second(k)
	if len(e.flows) != maxFlows {
		t.Errorf("%d flows are listed after one has ended and the next was searched for", len(e.flows))
	}
	apply(t, k, nat.CloseStream)
	k.sweepNext = time.Time{}
	second(k)
	if len(track.flows) > 0 {
		t.Errorf("%d flows outlive the stream", len(track.flows))
	}
}

// TestStrangers: what strangers send to a binding is not answered with work for
// each packet; their flows are deleted together.
func TestStrangers(t *testing.T) {
	k, _, track := newFake(t)
	bind(t, k)
	second(k)
	for port := range uint16(3) {
		f := incoming(netip.AddrPortFrom(far.Addr(), 7000+port), sipPublic, sipPublic)
		track.flows = append(track.flows, f)
		k.Event(conntrack.Event{Flow: f})
	}
	if len(track.flows) != 3 {
		t.Errorf("%d flows were deleted one by one", 3-len(track.flows))
	}
	k.sweepNext = time.Time{}
	second(k)
	if len(track.flows) != 0 {
		t.Errorf("%d flows to the firewall stay", len(track.flows))
	}
}

// TestPrune: a flow whose end nobody told of does not stay listed for ever.
func TestPrune(t *testing.T) {
	k, _, track := newFake(t)
	apply(t, k, nat.OpenStream)
	other := incoming(far, public, phone)
	stray := outgoing(netip.MustParseAddrPort("10.0.0.10:9999"), far, netip.MustParseAddrPort("203.0.113.1:9999"))
	stray.Anchor = public
	track.flows = []conntrack.Flow{other}
	k.Event(conntrack.Event{Flow: other})
	k.Event(conntrack.Event{Flow: stray})
	for range 3 {
		k.sweep()
	}
	if e := k.public[public]; len(e.flows) != 1 || e.flows[0].orig != other.Orig || len(k.strays) != 0 {
		t.Errorf("listed: %v, strays %v", e.flows, k.strays)
	}
}

// TestOthersFlows: a phone's socket may have flows that are not ours.
func TestOthersFlows(t *testing.T) {
	forward := netip.MustParseAddrPort("203.0.113.1:5062")
	for _, c := range []struct {
		name  string
		flow  conntrack.Flow
		stays bool
	}{
		{"into a VPN", outgoing(phone, far, netip.MustParseAddrPort("10.8.0.2:4000")), true},
		{"from a VPN", incoming(far, netip.MustParseAddrPort("10.8.0.2:4000"), phone), true},
		{"by the administrator's forward", incoming(far, forward, phone), true},
		{"by nobody's forward", incoming(far, netip.MustParseAddrPort("203.0.113.1:5063"), phone), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, _, track := newFake(t)
			k.forwards = forwards{[]nft.Redirect{{Low: forward.Port(), High: forward.Port(), To: phone}}, time.Now()}
			apply(t, k, nat.OpenStream)
			track.flows = []conntrack.Flow{c.flow}
			k.Event(conntrack.Event{Flow: c.flow})
			if stays := len(track.flows) == 1; stays != c.stays {
				t.Errorf("it stays: %v", stays)
			}
		})
	}
}

// TestSearchPause: a search that took long is not followed by another one at once.
func TestSearchPause(t *testing.T) {
	k, _, track := newFake(t)
	const took = 20 * time.Millisecond
	track.searched = func() { time.Sleep(took) }
	apply(t, k, nat.OpenStream)
	now := time.Now()
	if !k.tick(now) {
		t.Fatal("a new stream is not searched for")
	}
	k.sweep()
	if k.tick(now.Add(took)) {
		t.Error("a search is due without a reason")
	}
	apply(t, k, nat.CloseStream, nat.OpenStream)
	if k.tick(now.Add(sweepPause / 2 * took)) {
		t.Error("the next search comes too soon")
	}
	if !k.tick(now.Add(time.Minute)) {
		t.Error("the next search does not come")
	}
}

// bound is everything that a stream and a binding put into the table.
func bound(table *fakeTable) {
	table.t.Helper()
	table.has("streams", public.String())
	table.has("publics", phone.String(), sipPhone.String())
	table.has("guarded", phone.String())
	table.has("sources", far.Addr().String()+" . "+phone.String())
	table.has("open")
	table.has("bindings", sipPublic.String())
	table.has("peers", far.Addr().String()+" . "+sipPublic.String())
	table.has("signalling", sipPhone.String())
}

var (
	sipPhone  = netip.MustParseAddrPort("10.0.0.10:5060")
	sipPublic = netip.MustParseAddrPort("203.0.113.1:5060")
)

// bind opens a binding with a peer and an answered stream, and closes another one.
func bind(t *testing.T, k *Kernel) {
	t.Helper()
	for _, c := range []nat.Change{
		{Verb: nat.OpenBinding, Inside: sipPhone, Public: sipPublic, Lease: time.Hour},
		{Verb: nat.AllowPeer, Inside: sipPhone, Public: sipPublic, Far: far},
		{Verb: nat.OpenStream, Inside: phone, Public: netip.MustParseAddrPort("203.0.113.1:7100"), Lease: time.Hour},
		{Verb: nat.CloseStream, Inside: phone, Public: netip.MustParseAddrPort("203.0.113.1:7100")},
	} {
		if err := k.Apply([]nat.Change{c}); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, k, nat.OpenStream, nat.OpenGuard, nat.AllowSource, nat.CloseGuard)
}

// TestConfigure: a configuration that the kernel refuses is not the one that a lost
// table comes back with.
func TestConfigure(t *testing.T) {
	k, table, _ := newFake(t)
	other := config
	other.SIPPorts = []uint16{5060, 5070}
	for _, refused := range []bool{true, false} {
		if table.failing = nil; refused {
			table.failing = errors.New("busy")
		}
		if err := k.Configure(other); (err != nil) != refused {
			t.Fatalf("refused %v: %v", refused, err)
		}
		table.failing = nil
		table.flush()
		k.Changed(t.Context(), nft.Change{Table: true})
		if got := slices.Equal(table.config.SIPPorts, other.SIPPorts); got == refused {
			t.Errorf("refused %v: the table is restored with %v", refused, table.config.SIPPorts)
		}
	}
}

// TestRestore: the table has gone, with everything in it, and comes back: at the
// monitor's word, with the next change, and as soon as it can be installed.
func TestRestore(t *testing.T) {
	for _, c := range []struct {
		name    string
		restore func(t *testing.T, k *Kernel, table *fakeTable)
	}{
		{"at the monitor's word", func(t *testing.T, k *Kernel, _ *fakeTable) { k.Changed(t.Context(), nft.Change{Table: true}) }},
		{"with the next change", func(t *testing.T, k *Kernel, _ *fakeTable) { apply(t, k, nat.RenewStream) }},
		{"when it cannot be installed at first", func(t *testing.T, k *Kernel, table *fakeTable) {
			table.failing = errors.New("busy")
			k.Changed(t.Context(), nft.Change{Table: true})
			second(k)
			if err := k.Apply(changes(nat.RenewStream)); err == nil {
				t.Error("a change without a table succeeds")
			}
			table.failing = nil
			second(k)
		}},
		{"lost again in the midst of it", func(t *testing.T, k *Kernel, table *fakeTable) {
			table.gone = false
			table.refusal = errors.New("lost")
			k.Changed(t.Context(), nft.Change{Table: true})
			second(k)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, table, track := newFake(t)
			bind(t, k)
			bound(table)
			second(k)
			table.flush()
			track.flows = []conntrack.Flow{outgoing(phone, far, netip.MustParseAddrPort("203.0.113.1:4000"))}
			c.restore(t, k, table)
			bound(table)
			second(k)
			if len(track.flows) > 0 {
				t.Errorf("a flow that began meanwhile stays: %v", track.flows)
			}
		})
	}
}

// TestRefusedBatch: the kernel refuses a batch as a whole. With the next tick the
// table is what it should be: what was to come has come, what was to go has gone.
func TestRefusedBatch(t *testing.T) {
	refuse := func(t *testing.T, k *Kernel, table *fakeTable, changes ...nat.Change) {
		t.Helper()
		table.refusal = errors.New("no memory")
		if err := k.Apply(changes); err == nil {
			t.Error("the refusal is not reported")
		}
		k.tick(time.Now())
	}
	for _, c := range []struct {
		name   string
		before []nat.Verb
		change nat.Verb
		sets   map[string]string
	}{
		{"a stream opens", nil, nat.OpenStream,
			map[string]string{"streams": public.String(), "publics": phone.String(), "guarded": phone.String()}},
		{"a stream closes", []nat.Verb{nat.OpenStream, nat.OpenGuard, nat.AllowSource}, nat.CloseStream,
			map[string]string{"streams": "", "publics": "", "sources": "", "open": "", "guarded": phone.String()}},
		{"the guard opens", []nat.Verb{nat.OpenStream}, nat.OpenGuard,
			map[string]string{"open": phone.String()}},
		{"the guard closes", []nat.Verb{nat.OpenStream, nat.OpenGuard}, nat.CloseGuard,
			map[string]string{"open": ""}},
		{"a source may send", []nat.Verb{nat.OpenStream}, nat.AllowSource,
			map[string]string{"sources": "198.51.100.20 . 10.0.0.10:4000"}},
		{"a source may send no more", []nat.Verb{nat.OpenStream, nat.AllowSource}, nat.RevokeSource,
			map[string]string{"sources": ""}},
		{"a binding closes", []nat.Verb{nat.OpenBinding, nat.AllowPeer}, nat.CloseBinding,
			map[string]string{"bindings": "", "publics": "", "signalling": "", "peers": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, table, _ := newFake(t)
			apply(t, k, c.before...)
			refuse(t, k, table, changes(c.change)...)
			for set, key := range c.sets {
				if key == "" {
					table.has(set)
				} else {
					table.has(set, key)
				}
			}
		})
	}
}

// TestRenewal: anchors are renewed before their expectations run out, those of
// closed streams and of port-forwards are not.
func TestRenewal(t *testing.T) {
	k, _, track := newFake(t)
	apply(t, k, nat.OpenStream)
	closed := nat.Change{Verb: nat.OpenStream, Inside: far, Public: netip.MustParseAddrPort("203.0.113.1:7072"), Lease: time.Hour}
	forward := nat.Change{Verb: nat.OpenForwarded, Inside: sipPhone, Public: sipPublic, Lease: time.Hour}
	k.Apply([]nat.Change{closed, forward})
	closed.Verb, forward.Verb = nat.CloseStream, nat.RenewBinding
	k.Apply([]nat.Change{closed, forward})

	now := time.Now()
	for _, after := range []time.Duration{0, 59 * time.Second, 61 * time.Second, 62 * time.Second, 2*time.Minute + 2*time.Second} {
		track.batches = nil
		k.renewAnchors(now.Add(after))
		due := after == 0 || after == 61*time.Second || after > 2*time.Minute
		if got := track.said("renew " + public.String()); got != due {
			t.Errorf("after %v the anchor is renewed: %v", after, got)
		}
		for _, not := range []netip.AddrPort{closed.Public, forward.Public} {
			if track.said("renew "+not.String()) || track.said("open anchor "+not.String()) {
				t.Errorf("an anchor for %v", not)
			}
		}
	}
}

// TestEgress: the inside endpoint may send to the far ones, to the latest where the
// helper has no room for all. A flow between the two that has another translation
// goes.
func TestEgress(t *testing.T) {
	k, _, track := newFake(t)
	apply(t, k, nat.OpenStream)
	wrong := outgoing(phone, far, netip.MustParseAddrPort("203.0.113.1:4000"))
	track.flows = []conntrack.Flow{wrong}
	for i := range 4 {
		c := changes(nat.AllowEgress)
		c[0].Far = netip.AddrPortFrom(far.Addr(), far.Port()+uint16(i))
		if err := k.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	if len(track.flows) > 0 {
		t.Errorf("a flow with another translation stays: %v", track.flows)
	}
	got := strings.Join(track.batches[1:], "")
	const want = `expect 203.0.113.1:7070 far 198.51.100.20:6000
expect 203.0.113.1:7070 far 198.51.100.20:6001
expect 203.0.113.1:7070 far 198.51.100.20:6002
unexpect 203.0.113.1:7070 far 198.51.100.20:6000
expect 203.0.113.1:7070 far 198.51.100.20:6003
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestTranslation: what a flow that is older than the daemon tells.
func TestTranslation(t *testing.T) {
	related := incoming(far, public, phone)
	related.Status = conntrack.StatusExpected
	for _, c := range []struct {
		name          string
		flow          conntrack.Flow
		forwarded, ok bool
	}{
		{"masqueraded", outgoing(phone, far, public), false, true},
		{"port-forward", incoming(far, public, phone), true, true},
		{"an earlier daemon's binding", related, false, true},
		{"not translated", outgoing(phone, far, phone), false, false},
		{"none", outgoing(far, phone, public), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, _, track := newFake(t)
			track.flows = []conntrack.Flow{c.flow}
			got, forwarded, ok := k.Translation(phone, far)
			if ok != c.ok || forwarded != c.forwarded || ok && got != public {
				t.Errorf("%v, forwarded %v, ok %v", got, forwarded, ok)
			}
		})
	}
}

// TestAdopt: what an earlier daemon has left comes back as the changes that made
// it, and lives on as if this one had.
func TestAdopt(t *testing.T) {
	k, table, _ := newFake(t)
	bind(t, k)
	apply(t, k, nat.OpenGuard)
	orphan := netip.MustParseAddrPort("203.0.113.1:7200")
	track := &fakeTracker{anchors: []netip.AddrPort{public, sipPublic, orphan}}
	next := New(config, table, track, k.log)
	var got []string
	if err := next.Adopt(func(c nat.Change) { got = append(got, c.String()) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{
		"allow peer 10.0.0.10:5060 = 203.0.113.1:5060 far 198.51.100.20",
		"allow source 10.0.0.10:4000 = 203.0.113.1:7070 far 198.51.100.20",
		"open binding 10.0.0.10:5060 = 203.0.113.1:5060 for 1h0m0s",
		"open guard 10.0.0.10:4000 = 203.0.113.1:7070",
		"open stream 10.0.0.10:4000 = 203.0.113.1:7070 for 1h0m0s",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := strings.Join(track.batches, ""); got != "close anchor 203.0.113.1:7200\n" {
		t.Errorf("of the anchors that are left: %s", got)
	}
	// Flows that it has not seen begin end with the stream.
	track.flows = []conntrack.Flow{incoming(far, public, phone)}
	apply(t, next, nat.CloseGuard, nat.CloseStream)
	second(next)
	if len(track.flows) > 0 {
		t.Errorf("a flow outlives the stream: %v", track.flows)
	}
	table.has("streams")
	table.has("bindings", sipPublic.String())
	table.flush()
	next.Changed(t.Context(), nft.Change{Table: true})
	table.has("peers", far.Addr().String()+" . "+sipPublic.String())
}
