package nat

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// successorOf has the firewall lose an address and get another one.
func (w *world) successorOf(old, to string) Renumbered {
	a, b := netip.MustParseAddr(old), netip.MustParseAddr(to)
	w.engine.cfg.Networks = &renumberedNetworks{public: b}
	return w.engine.Renumber(func(lost netip.Addr) (netip.Addr, bool) { return b, lost == a })
}

// TestRenumber gives the firewall another public address during a call. Everything
// moves there, with its ports, its peers and its sources, and nothing else does.
func TestRenumber(t *testing.T) {
	w, l := newLedgerWorld(t, Config{})
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	left := Change{Verb: OpenStream, Inside: netip.MustParseAddrPort("10.0.0.77:4000"), // by an earlier daemon
		Public: netip.MustParseAddrPort(publicAddr + ":7998"), Lease: time.Hour}
	kept := Change{Verb: OpenStream, Inside: netip.MustParseAddrPort("10.0.0.78:4000"),
		Public: netip.MustParseAddrPort("203.0.113.2:7998"), Lease: time.Hour}
	for _, c := range []Change{left, kept} {
		l.apply(c)
		w.engine.Adopt(c)
	}
	type host struct {
		inside netip.AddrPort
		port   uint16
		hosts  int
		open   bool
	}
	hosts := func(public string) map[host]bool {
		all := make(map[host]bool)
		for ep, k := range l.entries {
			if ep.Addr().String() == public {
				all[host{k.inside, ep.Port(), len(k.hosts), k.open}] = true
			}
		}
		return all
	}
	before := hosts(publicAddr)
	l.translated = true // the old flow is still there
	const fresh = "203.0.113.5"
	if r := w.successorOf(publicAddr, fresh); r != (Renumbered{Bindings: 1, Streams: 3, Calls: 1}) {
		t.Errorf("moved: %+v", r)
	}
	after := hosts(fresh)
	for h := range before {
		if !after[h] {
			t.Errorf("%+v has not moved: %+v", h, after)
		}
	}
	if len(after) != 4 || len(before) != 4 || len(hosts(publicAddr)) != 0 || len(hosts("203.0.113.2")) != 1 {
		t.Errorf("before %+v, after %+v, left %+v", before, after, hosts(publicAddr))
	}
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
	p := packet(phoneA, provider, []byte(strings.Replace(string(inviteA), "CSeq: 1", "CSeq: 2", 1)))
	p.Public = netip.MustParseAddr(fresh)
	out := string(w.worker.Handle(p))
	if !strings.Contains(out, "c=IN IP4 "+fresh) || strings.Contains(out, publicAddr+"\r") || strings.Contains(out, publicAddr+":") {
		t.Errorf("the next message leaves as\n%s", out)
	}
	w.wait(10 * time.Minute)
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
	if _, n := w.engine.Stats(); n.Calls != 0 || n.Mappings != 2 {
		t.Errorf("after ten minutes of silence: %+v", n)
	}
}

// TestRenumberToTakenPorts moves to an address on which another line's calls have the
// ports already: signalling and streams get others, RTP and RTCP side by side.
func TestRenumberToTakenPorts(t *testing.T) {
	w, l := newLedgerWorld(t, Config{})
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	const fresh = "203.0.113.5"
	was := w.engine.mappings[netip.MustParseAddrPort("10.0.0.10:4000")].public
	for _, c := range []Change{
		{Verb: OpenStream, Inside: netip.MustParseAddrPort("10.0.0.99:4001"), Public: netip.AddrPortFrom(netip.MustParseAddr(fresh), was.Port()+1)},
		{Verb: OpenBinding, Inside: netip.MustParseAddrPort("10.0.0.98:5060"), Public: netip.MustParseAddrPort(fresh + ":5060")},
	} {
		c.Lease = time.Hour
		l.apply(c)
		w.engine.Adopt(c)
	}
	if r := w.successorOf(publicAddr, fresh); r != (Renumbered{Bindings: 1, Streams: 2, Calls: 1}) {
		t.Errorf("moved: %+v", r)
	}
	rtp := w.engine.mappings[netip.MustParseAddrPort("10.0.0.10:4000")].public
	rtcp := w.engine.mappings[netip.MustParseAddrPort("10.0.0.10:4001")].public
	if rtp.Port() == was.Port() || rtp.Port()%2 != 0 || rtcp != addPort(rtp, 1) {
		t.Errorf("RTP has moved from %v to %v, RTCP to %v", was, rtp, rtcp)
	}
	if b := w.engine.bindings[netip.MustParseAddrPort(phoneA)]; b.public.Port() == 5060 || b.public.Addr().String() != fresh {
		t.Errorf("signalling has moved to %v", b.public)
	}
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
}

// TestRenumberWithoutPorts: the new address has no free ports. The call ends, and its
// phone can have another one.
func TestRenumberWithoutPorts(t *testing.T) {
	w, l := newLedgerWorld(t, Config{PortLow: 7070, PortHigh: 7073})
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	const fresh = "203.0.113.5"
	for _, port := range []string{"7070", "7071", "7072", "7073"} {
		c := Change{Verb: OpenStream, Inside: netip.MustParseAddrPort("10.0.0.99:" + port),
			Public: netip.MustParseAddrPort(fresh + ":" + port), Lease: time.Hour}
		l.apply(c)
		w.engine.Adopt(c)
	}
	if r := w.successorOf(publicAddr, fresh); r != (Renumbered{Bindings: 1, Calls: 1, Ended: 1}) {
		t.Errorf("moved: %+v", r)
	}
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
	if _, n := w.engine.Stats(); n.Calls != 0 || n.Mappings != 4 || n.Bindings != 1 {
		t.Errorf("left: %+v", n)
	}
}
