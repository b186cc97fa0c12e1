package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// newSide is a party with its user agent and its media on ports of a host.
func newSide(h *lab.Host, user string, sip, rtp int) *side {
	return &side{Agent: h.Agent(user, sip), rtp: h.RTP(rtp)}
}

// strangers is alice inside and bob outside, who have not met: no daemon runs.
func strangers(t *testing.T, opt lab.Options) *duo {
	l := lab.New(t, opt)
	return between(l, newSide(l.Phones[0], "alice", 5060, 4000), newSide(l.Outside[0], "bob", 5060, 6000))
}

// between is a call from an inside party to an outside one, yet to be made.
func between(l *lab.Lab, alice, bob *side) *duo {
	return &duo{Lab: l, alice: alice, bob: bob, caller: alice, called: bob}
}

// register has alice register with bob, and returns what he saw.
func (d *duo) register() *lab.Message {
	d.T.Helper()
	seen, _ := d.alice.Register(d.bob.Agent, 3600)
	d.contact = lab.URIOf(seen.Get("Contact"))
	return seen
}

// incoming makes bob the one who calls.
func (d *duo) incoming() *duo {
	d.caller, d.called = d.bob, d.alice
	return d
}

// call makes a whole call, which the caller ends.
func (d *duo) call() {
	d.T.Helper()
	d.connect()
	d.hangUp(d.caller, d.called)
}

// TestTwoPhonesOnOnePort: the second phone on port 5060 gets another public
// port, and both are called.
func TestTwoPhonesOnOnePort(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Phones: 2})
	l.StartDaemon()
	bob := newSide(l.Outside[0], "bob", 5060, 6000)
	calls := []*duo{
		between(l, newSide(l.Phones[0], "alice", 5060, 4000), bob).incoming(),
		between(l, newSide(l.Phones[1], "carol", 5060, 4000), bob).incoming(),
	}
	ports := make(map[uint16]bool)
	for _, d := range calls {
		seen := d.register()
		if contact := lab.HostPortOf(d.contact); contact != seen.From {
			t.Errorf("%s registers %v from %v", d.alice.User, contact, seen.From)
		}
		ports[seen.From.Port()] = true
	}
	if l.NAT() && (len(ports) != 2 || !ports[5060]) {
		t.Errorf("the phones' public ports are %v", ports)
	}
	for _, d := range calls {
		d.call()
	}
}

// TestCalledAfterSilence: the SIP flow's conntrack has gone long before the
// registration, and the phone is called all the same.
func TestCalledAfterSilence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		silence func(d *duo)
	}{
		{"expired", func(d *duo) {
			d.FW.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "1")
			d.FW.Sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "1")
			d.register()
			if !d.Until(lab.Moment(), func() bool { return len(d.flows(d.alice)) == 0 }) {
				d.T.Fatalf("the flow does not expire: %v", d.flows(d.alice))
			}
			d.FW.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "30")
			d.FW.Sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "120")
		}},
		{"deleted", func(d *duo) {
			d.register()
			d.DeleteConntracks(func(f lab.Flow) bool { return f.Touches(d.alice.Addr) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{}).incoming()
			d.StartDaemon()
			c.silence(d)
			d.call()
		})
	}
}

// flows are the conntracks of a party's signalling.
func (d *duo) flows(s *side) (flows []string) {
	for _, f := range d.Conntracks() {
		if f.Touches(s.Addr) {
			flows = append(flows, f.Line)
		}
	}
	return flows
}

// TestOtherAddressOfTheProvider: a host that the phone has never sent to calls
// it. That is refused until the phone has sent there, or the configuration
// says otherwise.
func TestOtherAddressOfTheProvider(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config string
		before func(d *duo, other *side)
		served bool
	}{
		{name: "by default", config: "sip_accept = peers"},
		{name: "sip_peers of others", config: "sip_peers = 203.0.113.11/32"},
		{name: "after a message to it", before: func(d *duo, other *side) {
			d.alice.Send(other.Addr, d.alice.Request("OPTIONS", "sip:203.0.113.12"))
			other.Reply(other.Recv(lab.Request("OPTIONS")), 200)
			d.DeleteConntracks(func(f lab.Flow) bool { return f.Touches(d.alice.Addr) })
		}, served: true},
		{name: "sip_peers", config: "sip_peers = 203.0.113.12/30", served: true},
		{name: "sip_accept", config: "sip_accept = any", served: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{Outside: []string{"203.0.113.10", "203.0.113.12"}})
			d.StartDaemon(c.config)
			d.register()
			other := newSide(d.Outside[1], "other", 5060, 6000)
			if c.before != nil {
				c.before(d, other)
			}
			if c.served || !d.NAT() {
				o := between(d.Lab, d.alice, other).incoming()
				o.contact = d.contact
				o.call()
				return
			}
			d.refused(other.Agent)
		})
	}
}

// refused has a stranger call alice, who must not hear of it.
func (d *duo) refused(stranger *lab.Agent) {
	d.T.Helper()
	mark := d.Wire.Mark()
	stranger.Invite(d.contact, lab.WithSDP(lab.Audio(stranger.Addr.Addr(), 6000)))
	d.Wire.WaitSIP(mark, lab.Request("INVITE"))
	// What follows it proves that it does not come.
	d.bob.Send(lab.HostPortOf(d.contact), d.bob.Request("OPTIONS", d.contact))
	d.alice.Recv(lab.Request("OPTIONS"))
	if got := d.alice.Pending(lab.Request("INVITE")); len(got) > 0 {
		d.T.Errorf("the phone is called by a stranger, %v", stranger.Addr)
	}
	if open := d.StillOpen(); len(open) > 0 {
		d.T.Errorf("a stranger's INVITE opens %v", open)
	}
}

// TestContactOnAnotherPort: a phone sends from one port and wants to be called
// on another (an adapter's usual way): each has its binding.
func TestContactOnAnotherPort(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{}).incoming()
	d.StartDaemon()
	mouth := d.Phones[0].Agent("alice", 5070)
	mouth.Contact = d.alice.Contact
	seen, _ := mouth.Register(d.bob.Agent, 3600)
	d.contact = lab.URIOf(seen.Get("Contact"))
	d.CheckPublic("the Contact", lab.HostPortOf(d.contact), d.Phones[0])
	if lab.HostPortOf(d.contact) == seen.From {
		t.Errorf("source and Contact are both %v", seen.From)
	}
	d.call()
}

// TestHostOutbound: the outside address is behind another NAT, whose address
// messages name instead.
func TestHostOutbound(t *testing.T) {
	t.Parallel()
	const far = "192.0.2.99"
	for _, out := range []bool{true, false} {
		t.Run(map[bool]string{true: "out", false: "in"}[out], func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{})
			if !d.NAT() {
				t.Skip("there is no NAT")
			}
			d.StartDaemon("host_outbound = " + far)
			// The other NAT, as bob meets it.
			_, err := d.Outside[0].Pipe(`table ip other {
				chain output { type nat hook output priority -100; ip daddr `+far+` dnat to 203.0.113.1; }
				chain input { type nat hook input priority 100; ip saddr 203.0.113.1 snat to `+far+`; }
			}`, "nft", "-f", "-")
			if err != nil {
				t.Fatal(err)
			}
			seen := d.register()
			if contact := lab.HostPortOf(d.contact); contact != seen.From || contact.Addr().String() != far {
				t.Errorf("the phone registers %v from %v", contact, seen.From)
			}
			if !out {
				d.incoming()
			}
			d.connect()
			if got := d.announced().Addr().String(); got != far {
				t.Errorf("media is announced at %v", got)
			}
			d.bye(d.caller, d.called)
			d.WaitClosed()
		})
	}
}
