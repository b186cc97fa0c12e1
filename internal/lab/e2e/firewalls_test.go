package e2e

import (
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"

	"sipnatd/internal/lab"
)

// scenarios are the main cases, which have to work on every firewall.
var scenarios = []struct {
	name string
	run  func(*testing.T, lab.Firewall)
}{
	{"an agent calls out", agentCallsOut},
	{"an agent is called", agentIsCalled},
	{"an agent is called after a silence", agentIsCalledAfterSilence},
	{"agents hold", agentsHold},
	{"agents at Kamailio", agentsAtKamailio},
	{"inside to inside", insideToInside},
	{"long messages", longMessages},
	{"baresip calls out", baresipCallsOut},
	{"baresip is called", baresipIsCalled},
	{"baresip holds", baresipHolds},
	{"SIPp", sippCalls},
}

// TestFirewalls runs the main cases on each kind of firewall, or with
// SIPNATD_LAB on the one that it names.
func TestFirewalls(t *testing.T) {
	t.Parallel()
	firewalls := lab.Flavours()
	delete(firewalls, string(lab.Routed)) // proves scenarios, when it is asked for
	if name := os.Getenv("SIPNATD_LAB"); name != "" {
		firewalls = map[string]lab.Firewall{name: {}}
	}
	for _, name := range slices.Sorted(maps.Keys(firewalls)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, s := range scenarios {
				t.Run(s.name, func(t *testing.T) {
					t.Parallel()
					s.run(t, firewalls[name])
				})
			}
		})
	}
}

// agentIsCalledAfterSilence: the conntrack of the registration has expired, and
// the phone is called all the same.
func agentIsCalledAfterSilence(t *testing.T, fw lab.Firewall) {
	d := newDuo(t, false, lab.Options{Firewall: fw})
	d.DeleteConntracks(func(f lab.Flow) bool { return f.Touches(d.alice.Addr) })
	d.connect()
	d.hangUp(d.bob, d.alice)
}

// agentsHold: each side holds the call in either style and takes it back; audio
// runs again, through the same public port.
func agentsHold(t *testing.T, fw lab.Firewall) {
	d := newDuo(t, true, lab.Options{Firewall: fw})
	d.connect()
	port := d.announced().Port()
	for _, sides := range [][2]*side{{d.alice, d.bob}, {d.bob, d.alice}} {
		holder, other := sides[0], sides[1]
		d.exchange("INVITE", holder, other, holder.sdp("a=sendonly"), other.sdp("a=recvonly"))
		d.exchange("INVITE", holder, other, holder.sdp(), other.sdp())
		d.talk()
		d.exchange("INVITE", holder, other, lab.WithSDP(lab.Audio(netip.IPv4Unspecified(), holder.rtp.Port())), other.sdp())
		d.exchange("INVITE", holder, other, holder.sdp(), other.sdp())
		d.talk()
	}
	if got := d.announced().Port(); got != port {
		t.Errorf("the public port was %d and is now %d", port, got)
	}
	d.hangUp(d.alice, d.bob)
}

// insideToInside: two inside phones call each other through the provider's
// server, which stays in the dialog; their media take the short way.
func insideToInside(t *testing.T, fw lab.Firewall) {
	l := lab.New(t, lab.Options{Firewall: fw, Phones: 2})
	l.StartProxy()
	k := l.Outside[0].Kamailio(lab.KamailioOptions{RecordRoute: true})
	alice := &side{Agent: l.Phones[0].Agent("alice", 5060), rtp: l.Phones[0].RTP(4000)}
	carol := &side{Agent: l.Phones[1].Agent("carol", 5060), rtp: l.Phones[1].RTP(4000)}
	alice.RegisterWith(k.Addr, 3600)
	carol.RegisterWith(k.Addr, 3600)

	alice.dialog = alice.Invite("sip:carol@203.0.113.10", alice.sdp())
	carol.dialog = carol.RecvInvite()
	carol.learn(carol.dialog.Invite)
	carol.dialog.Reply(200, carol.sdp())
	alice.recv(lab.Status(200, "INVITE"))
	alice.dialog.Ack()
	carol.recv(lab.Request("ACK"))
	if carol.peer.RTP != alice.rtp.Addr || alice.peer.RTP != carol.rtp.Addr {
		t.Errorf("alice at %v is announced at %v, carol at %v is at %v",
			alice.rtp.Addr, carol.peer.RTP, carol.rtp.Addr, alice.peer.RTP)
	}
	l.Talk(alice.party(), carol.party())

	carol.dialog.Send("BYE")
	alice.dialog.AnswerBye()
	carol.dialog.Expect(200)
	l.WaitClosed()
}

// longMessages: an INVITE and its answer that take three packets each.
func longMessages(t *testing.T, fw lab.Firewall) {
	for _, out := range []bool{true, false} {
		d := newDuo(t, out, lab.Options{Firewall: fw})
		d.invite(d.caller.sdp(), lab.Padded(3100))
		d.reply(200, d.called.sdp(), lab.Padded(3100))
		d.ack()
		d.talk()
		d.hangUp(d.caller, d.called)
	}
}
