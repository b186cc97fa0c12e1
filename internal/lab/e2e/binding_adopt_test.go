package e2e

import (
	"net/netip"
	"slices"
	"testing"

	"sipnatd/internal/lab"
)

// TestRegisteredBeforeTheDaemon: two phones on one port registered through the
// firewall's masquerade, before the daemon was there. It takes over what the
// firewall has given them.
func TestRegisteredBeforeTheDaemon(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Phones: 2, Outside: []string{"203.0.113.10", "203.0.113.11"}})
	if !l.NAT() {
		t.Skip("there is no masquerade")
	}
	bob, other := newSide(l.Outside[0], "bob", 5060, 6000), l.Outside[1].Agent("other", 5060)
	calls := []*duo{
		between(l, newSide(l.Phones[0], "alice", 5060, 4000), bob).incoming(),
		between(l, newSide(l.Phones[1], "carol", 5060, 4000), bob).incoming(),
	}
	// The second phone has another flow, which keeps port 5060.
	carol := calls[1].alice
	ask := func() netip.AddrPort {
		carol.Send(other.Addr, carol.Request("OPTIONS", "sip:203.0.113.11"))
		m := other.Recv(lab.Request("OPTIONS"))
		other.Reply(m, 200)
		carol.Recv(lab.Status(200, "OPTIONS"))
		return m.From
	}
	elsewhere := ask()
	var masqueraded []netip.AddrPort
	for _, d := range calls {
		masqueraded = append(masqueraded, d.register().From)
	}
	if masqueraded[0] == masqueraded[1] || masqueraded[1] == elsewhere {
		t.Fatalf("the flows are masqueraded as %v, the second phone's other one as %v", masqueraded, elsewhere)
	}

	l.JudgeFromHere()
	l.StartDaemon()
	for i, d := range calls {
		if seen := d.register(); seen.From != masqueraded[i] {
			t.Errorf("%s was %v, and is %v with the daemon", d.alice.User, masqueraded[i], seen.From)
		}
		if contact := lab.HostPortOf(d.contact); contact != masqueraded[i] {
			t.Errorf("%s: Contact %v from %v", d.alice.User, contact, masqueraded[i])
		}
	}
	// The second phone's other flow goes, and comes back through the binding.
	gone := l.Until(lab.Moment(), func() bool {
		return !slices.ContainsFunc(l.Conntracks(), func(f lab.Flow) bool {
			return f.Orig.Src == carol.Addr && f.Orig.Dst == other.Addr
		})
	})
	if !gone {
		t.Errorf("the phone's other flow stays: %v", calls[1].flows(carol))
	}
	if from := ask(); from != masqueraded[1] {
		t.Errorf("the phone's other flow still leaves as %v, not as %v", from, masqueraded[1])
	}
	for _, d := range calls {
		d.call()
	}
}

// TestCalledBeforeRefresh: the phone that registered before the daemon is
// called before it says anything itself.
func TestCalledBeforeRefresh(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{}).incoming()
	seen := d.register()
	d.JudgeFromHere()
	d.StartDaemon()
	d.contact = "sip:alice@" + seen.From.String() // as a registrar that minds NAT has it
	d.call()
}

// TestMediaBeforeTheDaemon: a call is on, and its media flows as the masquerade
// has it, when the daemon starts. From the next offer on, and in the next call,
// media goes where the daemon says.
func TestMediaBeforeTheDaemon(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		media func(d *duo)
	}{
		{"the next call", func(d *duo) {
			d.bye(d.alice, d.bob)
			d.register()
			d.connect()
		}},
		{"re-INVITE from inside", func(d *duo) {
			d.exchange("INVITE", d.alice, d.bob, d.alice.sdp(), d.bob.sdp())
			d.talk()
		}},
		{"re-INVITE from outside", func(d *duo) {
			d.exchange("INVITE", d.bob, d.alice, d.bob.sdp(), d.alice.sdp())
			d.talk()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// One that lets RTP out unexpected.
			d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
			d.register()
			d.invite(d.alice.sdp())
			d.reply(200, d.bob.sdp())
			d.ack()
			// The phone's RTP and RTCP are on their way as the masquerade has them, on
			// ports that nobody announced.
			d.alice.rtp.SendRTP(d.bob.rtp.Addr, 5)
			d.alice.rtp.RTCP.SendRTCP(d.bob.rtp.RTCP.Addr)
			d.bob.rtp.Expect(netip.AddrPort{}, 5)
			d.bob.rtp.RTCP.Expect(netip.AddrPort{}, 1)
			d.JudgeFromHere()
			d.StartDaemon()
			// The dialog's routes are as they were without the daemon: private.
			d.bob.dialog.Target = "sip:alice@" + d.Reach(d.Phones[0], 5060).String()
			c.media(d)
			d.hangUp(d.alice, d.bob)
		})
	}
}
