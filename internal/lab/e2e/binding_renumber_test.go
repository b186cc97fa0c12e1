package e2e

import (
	"net/netip"
	"slices"
	"testing"

	"sipnatd/internal/lab"
)

// TestRenumbering: the firewall's line gets another address, as a dial-up line
// does, while a phone is registered and talks. Its next registration and its next
// call go out under the new one.
func TestRenumbering(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{})
	if !l.NAT() {
		t.Skip("there are no public addresses")
	}
	l.StartDaemon()
	alice, bob := l.Phones[0].Agent("alice", 5060), l.Outside[0].Agent("bob", 5060)
	alice.Register(bob, 3600)
	out := alice.Invite("sip:bob@203.0.113.10", lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
	in := bob.RecvInvite()
	in.Reply(200, lab.WithSDP(lab.Audio(bob.Addr.Addr(), 6000)))
	out.Expect(200)
	out.Ack()
	in.ExpectRequest("ACK")

	l.FW.Run("ip", "address", "flush", "dev", "ppp0")
	l.FW.Run("ip", "address", "add", "203.0.113.5/24", "dev", "ppp0")
	l.WaitClosed()
	old := netip.AddrPortFrom(lab.PublicAddr, 5060)
	gone := func() bool {
		return len(l.Bindings()) == 0 && !slices.ContainsFunc(l.Conntracks(), func(f lab.Flow) bool { return f.Touches(old) })
	}
	if !l.Until(lab.Moment(), gone) {
		t.Errorf("left on the old address: bindings %v, flows %v", l.Bindings(), l.Conntracks())
	}

	seen, _ := alice.Register(bob, 3600)
	want := netip.MustParseAddrPort("203.0.113.5:5060")
	if got := lab.HostPortOf(seen.Get("Contact")); got != want {
		t.Errorf("the phone is registered as %v, want %v", got, want)
	}
	out = alice.Invite("sip:bob@203.0.113.10", lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
	in = bob.RecvInvite()
	aliceRTP, bobRTP := l.Phones[0].RTP(4000), l.Outside[0].RTP(6000)
	in.Reply(200, lab.WithSDP(lab.Audio(bob.Addr.Addr(), 6000)))
	answer := out.Expect(200).Media()[0]
	out.Ack()
	in.ExpectRequest("ACK")
	l.Talk(lab.Party{RTP: aliceRTP, Peer: answer}, lab.Party{RTP: bobRTP, Peer: in.Invite.Media()[0]})
	out.Send("BYE")
	in.AnswerBye()
	out.Expect(200)
	l.WaitClosed()
}
