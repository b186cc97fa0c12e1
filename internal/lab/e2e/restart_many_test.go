package e2e

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/kernel"
	"sipnatd/internal/lab"
	nftables "sipnatd/internal/nft"
	"sipnatd/nat"
)

// takeoverTime is within which a daemon serves that has a thousand calls to take over.
const takeoverTime = time.Second

// TestRestartThousandCalls: a daemon that starts where another has left a thousand
// bindings, and a thousand calls of two streams each, serves at once; also where it has
// to replace the table.
func TestRestartThousandCalls(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(*duo){"crash": func(*duo) {}, "upgrade": (*duo).downgradeTable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			thousandCalls(t, between)
		})
	}
}

func thousandCalls(t *testing.T, between func(*duo)) {
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon("rtp_port_high = 20000")
	d.register()
	daemon.Kill()
	const calls = 1000
	populate(d.Lab, calls)
	between(d)
	took := make(chan time.Duration, 1)
	begin := time.Now()
	go func() { // a phone that does not wait for the daemon
		request := d.alice.Request("OPTIONS", "sip:bob@"+d.bob.Addr.Addr().String())
		for n := 0; ; n++ {
			m := *request
			m.Set("CSeq", fmt.Sprint(n+2, " OPTIONS"))
			d.alice.SendRaw(d.bob.Addr, []byte(m.String()))
			if len(d.bob.Pending(lab.Request("OPTIONS"))) > 0 {
				took <- time.Since(begin)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	d.StartDaemon("rtp_port_high = 20000")
	ready := time.Since(begin)
	first := <-took
	t.Logf("ready after %v, the first packet is rewritten after %v", ready, first)
	if limit := lab.Patience(takeoverTime); first > limit || ready > limit {
		t.Errorf("ready after %v, the first packet is rewritten after %v, want %v", ready, first, limit)
	}
	if n := len(d.Streams()); n != 4*calls {
		t.Errorf("%d streams are left of %d", n, 4*calls)
	}
	if n := len(d.Bindings()); n != calls+1 {
		t.Errorf("%d bindings are left of %d", n, calls+1)
	}
}

// populate makes bindings in the firewall, and as many calls of two streams, as a daemon
// would have done it. The kernel has no room for all of their expectations.
func populate(l *lab.Lab, calls int) {
	l.T.Helper()
	err := l.FW.Do(func() error {
		log := slog.New(slog.DiscardHandler)
		table, err := nftables.Open(nftables.Config{Inside: []string{"eth0"}, Outside: []string{"ppp0"},
			SIPPorts: []uint16{5060}, QueueFirst: 5060, Bypass: true}, log)
		if err != nil {
			return err
		}
		defer table.Close()
		track, err := conntrack.Open(conntrack.Options{Logger: log})
		if err != nil {
			return err
		}
		defer track.Close()
		k := kernel.New(nftables.Config{}, table, track, log)
		far := netip.MustParseAddrPort("203.0.113.10:5060")
		public := func(port int) netip.AddrPort { return netip.AddrPortFrom(lab.PublicAddr, uint16(port)) }
		for i := range calls {
			host := netip.AddrFrom4([4]byte{10, 0, byte(1 + i/200), byte(1 + i%200)})
			at := func(port int) netip.AddrPort { return netip.AddrPortFrom(host, uint16(port)) }
			changes := []nat.Change{
				{Verb: nat.OpenBinding, Inside: at(5060), Public: public(20000 + i), Lease: time.Hour},
				{Verb: nat.AllowPeer, Inside: at(5060), Public: public(20000 + i), Far: far},
			}
			for s := range 4 {
				c := nat.Change{Verb: nat.OpenStream, Inside: at(4000 + s), Public: public(8000 + 4*i + s), Lease: time.Hour}
				changes = append(changes, c)
				c.Verb, c.Lease, c.Far = nat.AllowSource, 0, far
				changes = append(changes, c)
			}
			if err := k.Apply(changes); err != nil && !errors.Is(err, conntrack.ErrExpectTableFull) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.T.Fatalf("%v", err)
	}
}
