package e2e

import (
	"net/netip"
	"regexp"
	"testing"

	"sipnatd/internal/lab"
)

// TestAttackerBeforeTheAnswer: somebody sends to the port that the offer names
// before the answer comes, when early media may come from anywhere. The answer
// says who may send: his flow is stopped although it is established, and the
// log says whom the guard has dropped. With media_source = any he may go on.
func TestAttackerBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"signalled", "any"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{Outside: []string{"203.0.113.10", "203.0.113.66"}})
			if !l.NAT() {
				t.Skip("there is no guard")
			}
			daemon := l.StartDaemon("media_source = " + source)
			d := between(l, newSide(l.Phones[0], "alice", 5060, 4000), newSide(l.Outside[0], "bob", 5060, 6000))
			d.register()
			mallory := l.Outside[1].RTP(6000)

			d.invite(d.alice.sdp())
			d.reply(180)
			hears := func() {
				t.Helper()
				d.alice.rtp.Forget()
				mallory.SendRTP(d.announced(), 5)
				d.alice.rtp.Expect(mallory.Addr, 5)
			}
			hears()
			d.alice.rtp.SendRTP(mallory.Addr, 5) // the phone may even answer him
			mallory.Expect(d.announced(), 5)

			d.reply(200, d.bob.sdp())
			d.ack()
			if source == "any" {
				hears()
				d.talk()
				d.hangUp(d.alice, d.bob)
				l.CheckSilent(mallory.Socket, d.announced())
				return
			}
			l.CheckSilent(mallory.Socket, d.announced())
			l.CheckSilent(l.Outside[1].Socket(0), d.announced()) // nor another of his ports
			d.talk()
			line := daemon.WaitLine(`.*`+regexp.QuoteMeta("203.0.113.66")+`.*`, lab.Moment())[0]
			for _, word := range []string{d.alice.dialog.CallID, "203.0.113.10", d.announced().String(), "dropped"} {
				if !regexp.MustCompile(regexp.QuoteMeta(word)).MatchString(line) {
					t.Errorf("the log does not tell of %s: %s", word, line)
				}
			}
			d.hangUp(d.alice, d.bob)
			l.CheckSilent(mallory.Socket, d.announced())
		})
	}
}

// TestUnroutableFarAddress: the far SDP names an address that no packet can come
// from. The host that sent it may send media, nobody else may.
func TestUnroutableFarAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"10.9.9.9", "192.168.1.2", "0.0.0.0", "100.64.0.9"} {
		t.Run(c, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{Outside: []string{"203.0.113.10", "203.0.113.66"}})
			d.StartDaemon()
			d.register()
			d.invite(d.alice.sdp())
			d.reply(200, lab.WithSDP(lab.Audio(netip.MustParseAddr(c), 6000)))
			d.ack()
			d.bob.rtp.SendRTP(d.announced(), 5)
			d.alice.rtp.Expect(d.bob.rtp.Addr, 5)
			d.alice.rtp.SendRTP(d.bob.rtp.Addr, 5) // as a phone does that answers to where media comes from
			d.bob.rtp.Expect(d.announced(), 5)
			d.CheckSilent(d.Outside[1].Socket(6000), d.announced())
			d.hangUp(d.bob, d.alice)
		})
	}
}
