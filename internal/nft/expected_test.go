package nft

import (
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"sipnatd/conntrack"
)

// expect opens an anchor for a public endpoint, as the daemon does for each binding:
// whatever comes to the endpoint is RELATED.
func expect(t *testing.T, public string) {
	t.Helper()
	track, err := conntrack.Open(conntrack.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, track.Close()) })
	if track.Helper() == conntrack.HelperNone {
		t.Skip("no expectations: ", track.HelperReason())
	}
	var b conntrack.Batch
	b.OpenAnchor(ap(public), time.Hour)
	must(t, track.Commit(&b))
}

// ownHelper has the helper of our own registered, or skips the test where the
// kernel has no place for one.
func ownHelper(t *testing.T) {
	t.Helper()
	track, err := conntrack.Open(conntrack.Options{Helpers: []conntrack.Helper{conntrack.HelperOwn}})
	must(t, err)
	defer track.Close()
	if track.Helper() != conntrack.HelperOwn {
		t.Skip(track.HelperReason())
	}
}

// TestBoundInput: what makes a binding reachable for its peers does not make the
// firewall's own services reachable for strangers, even in a firewall that admits
// what is related.
func TestBoundInput(t *testing.T) {
	w := newWorld(t)
	nftRun(t, `table inet fw {
		chain input {
			type filter hook input priority 0; policy drop;
			ct state established,related accept
			udp dport 7000 accept
		}
	}`)
	cfg := w.config()
	cfg.Bypass = true
	table := open(t, cfg)
	idle(t)
	a := w.host(w.phone, phone+":5060")
	b, c := w.host(w.provider, provider+":5061"), w.host(w.provider, stranger+":5061")
	lease(t, table, func(b *Batch) {
		b.MapBinding(a.addr, ap(public+":5060"), time.Hour)
		b.AllowPeer(far1, ap(public+":5060"), time.Hour)
	})
	expect(t, public+":5060")
	fw, err := netns.Get()
	must(t, err)
	defer fw.Close()
	service, other := w.host(fw, public+":5060"), w.host(fw, public+":7000")

	for range 2 { // nor is a second packet taken for a part of an established flow
		c.send(public+":5060", "stranger")
		c.send(public+":7000", "to what the firewall offers")
		other.receive(stranger+":5061", "to what the firewall offers")
		service.silent()
	}
	if n, err := table.BoundDrops(); n != 2 || err != nil {
		t.Errorf("%d packets counted as dropped, %v, want 2", n, err)
	}
	b.send(public+":5060", "peer")
	a.receive(provider+":5061", "peer")

	// The firewall's policy decides again when the binding is gone.
	lease(t, table, func(b *Batch) { b.Unmap(a.addr, ap(public+":5060"), false) })
	nftRun(t, "add rule inet fw input udp dport 5060 accept")
	c.send(public+":5060", "admitted")
	service.receive(stranger+":5061", "admitted")
}
