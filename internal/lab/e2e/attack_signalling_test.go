package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// TestFloodOfStrangers: a scanner floods a phone that anybody may call. What the
// daemon is given of it is limited, and those whom the phone knows are served.
func TestFloodOfStrangers(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Outside: []string{"203.0.113.10", "203.0.113.66"}})
	if !l.NAT() {
		t.Skip("there is no limit")
	}
	l.StartDaemon("sip_accept = any")
	d := between(l, newSide(l.Phones[0], "alice", 5060, 4000), newSide(l.Outside[0], "bob", 5060, 6000))
	d.register()
	scanner := l.Outside[1].Agent("100", 5060)
	public := lab.HostPortOf(d.contact)

	// The rate limit of DESIGN: 100 a second, bursts of 200.
	const flood, rate, burst = 2000, 100, 200
	mark, wire, begin := l.Inside.Mark(), l.Wire.Mark(), time.Now()
	m := scanner.Request("OPTIONS", "sip:100@203.0.113.1")
	for i := range flood {
		m.Set("Via", scanner.Via())
		m.Set("Call-ID", fmt.Sprint("scan", i))
		scanner.SendRaw(public, []byte(m.String()))
		if i%(flood/4) == 0 { // in the midst of it
			d.register()
		}
	}
	if err := l.Wire.Wait(wire, lab.Moment(), func(ps []*lab.Packet) bool { return from(ps, scanner) == flood }); err != nil {
		t.Fatal(err)
	}
	d.incoming().connect() // proves that the queue is empty
	if got, most := from(l.Inside.Since(mark), scanner), burst+int(rate*(time.Since(begin).Seconds()+1)); got == 0 || got > most {
		t.Errorf("%d of %d messages of a scanner pass, at most %d may", got, flood, most)
	}
	d.hangUp(d.bob, d.alice)
}

// from counts the packets of an agent.
func from(ps []*lab.Packet, a *lab.Agent) (n int) {
	for _, p := range ps {
		if p.Src == a.Addr {
			n++
		}
	}
	return n
}

// TestRefusedByTheFirewall: SIP that the firewall's own policy drops opens
// nothing, in either direction, at whatever priority the policy has its say.
func TestRefusedByTheFirewall(t *testing.T) {
	t.Parallel()
	for _, priority := range []int{0, 10, 289} {
		t.Run(fmt.Sprint("priority ", priority), func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{
				Outside: []string{"203.0.113.10", "203.0.113.66"},
				Firewall: lab.Firewall{Backend: lab.Nftables, Extra: fmt.Sprintf(`table ip refusals {
	chain forward {
		type filter hook forward priority %d; policy accept;
		ip daddr 203.0.113.66 drop
		ip saddr 203.0.113.66 drop
	}
}
`, priority)},
			})
			if !l.NAT() {
				t.Skip("there is no policy")
			}
			l.StartDaemon("sip_accept = any")
			alice, mallory := l.Phones[0].Agent("alice", 5060), l.Outside[1].Agent("mallory", 5060)
			mark := l.Inside.Mark()
			alice.Invite("sip:mallory@203.0.113.66", lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
			l.Inside.WaitSIP(mark, lab.Request("INVITE"))
			// Others are served; the one queue keeps the order.
			d := between(l, &side{Agent: alice, rtp: l.Phones[0].RTP(4000)}, newSide(l.Outside[0], "bob", 5060, 6000))
			d.register()
			if got := l.Wire.SIP(lab.Request("INVITE")); len(got) > 0 {
				t.Errorf("the policy is passed by: %v", got)
			}
			if open := l.StillOpen(); len(open) > 0 {
				t.Errorf("what the policy drops opens %v", open)
			}
			for _, e := range l.Elements("peers") {
				if strings.Contains(e.Key, "203.0.113.66") {
					t.Errorf("a peer by a message that the policy dropped: %v", e.Key)
				}
			}
			d.refused(mallory)
		})
	}
}

// TestOtherNetworks: SIP between two inside networks, and into a network that is
// neither inside nor outside, passes without the daemon and as it is.
func TestOtherNetworks(t *testing.T) {
	t.Parallel()
	for _, inside := range []string{"eth0", "eth0 vpn0"} {
		t.Run("inside "+inside, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables, Extra: `
add rule inet firewall forward iifname "vpn0" accept
add rule inet firewall forward oifname "vpn0" accept
`}})
			if !l.NAT() {
				t.Skip("there is no daemon")
			}
			// A tunnel from the firewall to the outside host.
			far := l.Outside[0]
			l.FW.Run("ip", "link", "add", "vpn0", "type", "veth", "peer", "name", "vpn0", "netns", far.NS)
			l.FW.Run("ip", "address", "add", "10.8.0.1/24", "dev", "vpn0")
			far.Run("ip", "address", "add", "10.8.0.2/24", "dev", "vpn0")
			far.Run("ip", "link", "set", "vpn0", "up")
			l.FW.Run("ip", "link", "set", "vpn0", "up")
			far.Run("ip", "route", "add", lab.InsideNet.String(), "via", "10.8.0.1")
			if _, err := l.TryDaemon("if_inbound = " + inside + "\nif_outbound = ppp0\n"); err != nil {
				t.Fatal(err)
			}

			far.Addr = netip.MustParseAddr("10.8.0.2")
			alice, bob := l.Phones[0].Agent("alice", 5060), far.Agent("bob", 5060)
			out := alice.Invite("sip:bob@10.8.0.2", lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
			in := bob.RecvInvite()
			if got, sent := in.Invite.String(), out.Invite.String(); got != sent {
				t.Errorf("changed on the way:\n%s\nwas\n%s", got, sent)
			}
			in.Reply(180)
			out.Expect(180)
			for _, q := range l.Queues() {
				if q.Packets > 0 {
					t.Errorf("queue %d was given %d packets", q.Number, q.Packets)
				}
			}
			if open, bindings := l.StillOpen(), l.Bindings(); len(open) > 0 || len(bindings) > 0 {
				t.Errorf("bindings %v, and open are %v", bindings, open)
			}
		})
	}
}
