package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestHairpin: two inside phones call each other through an outside Kamailio
// that stays in the dialog, with ACK, re-INVITEs, UPDATEs and BYE from both
// sides. Each is told the other's inside address, or with hairpin = router the
// public one, through which the media then run.
func TestHairpin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, config string
		router       bool
	}{{"direct", "", false}, {"router", "hairpin = router", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{Phones: 2})
			l.StartDaemon(c.config)
			k := l.Outside[0].Kamailio(lab.KamailioOptions{RecordRoute: true})
			probe := l.Outside[0].Socket(6000)
			alice := &side{Agent: l.Phones[0].Agent("alice", 5060), rtp: l.Phones[0].RTP(4000)}
			carol := &side{Agent: l.Phones[1].Agent("carol", 5060), rtp: l.Phones[1].RTP(4000)}
			for _, s := range []*side{alice, carol} {
				s.RegisterWith(k.Addr, 3600)
			}
			for _, ending := range []string{"the caller", "the called"} {
				d := &duo{Lab: l, alice: alice, bob: carol, caller: alice, called: carol}
				d.step(ending+" hangs up", func() {
					told := func() {
						d.T.Helper()
						for _, s := range [][2]*side{{alice, carol}, {carol, alice}} {
							got, want := s[0].peer.RTP, s[1].rtp.Addr
							switch {
							case c.router:
								l.CheckPublic("the media that an inside phone is told", got, s[1].Host)
							case got != want:
								d.T.Errorf("%s is told %v, the media are at %v", s[0].User, got, want)
							}
						}
						d.talk()
					}
					alice.dialog = alice.Invite("sip:carol@203.0.113.10", alice.sdp())
					carol.dialog = carol.RecvInvite()
					carol.learn(carol.dialog.Invite)
					d.reply(183, carol.sdp())
					told()
					d.reply(200, carol.sdp())
					d.ack()
					told()
					d.exchange("INVITE", alice, carol, alice.sdp(), carol.sdp())
					told()
					d.exchange("INVITE", carol, alice, carol.sdp(), alice.sdp())
					told()
					backA, backC := alice.moves(alice.Host.RTP(4100)), carol.moves(carol.Host.RTP(4200))
					d.exchange("INVITE", carol, alice, carol.sdp(), alice.sdp())
					told()
					backA()
					d.exchange("UPDATE", alice, carol, alice.sdp(), carol.sdp())
					told()
					backC()
					d.exchange("INVITE", alice, carol, alice.sdp("a=sendonly"), carol.sdp("a=recvonly"))
					d.exchange("INVITE", alice, carol, alice.sdp(), carol.sdp())
					told()
					if ending == "the caller" {
						d.bye(alice, carol)
					} else {
						d.bye(carol, alice)
					}
					l.WaitClosed()
					if c.router {
						l.CheckSilent(probe, alice.peer.RTP)
						l.CheckSilent(probe, carol.peer.RTP)
					}
				})
			}
		})
	}
}
