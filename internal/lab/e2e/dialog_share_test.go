package e2e

import (
	"testing"

	"sipnatd/internal/lab"
)

// TestTwoCallsOnePort: an adapter with a fixed RTP port has two calls at once,
// to two hosts or to two ports of one. The end of the first leaves the second
// alone, and takes away what only the first had.
func TestTwoCallsOnePort(t *testing.T) {
	eachWay(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}}, func(one *duo) {
		for _, host := range []int{0, 1} {
			one.step(one.Outside[host].Name, func() {
				two := one.again(one.alice.rtp, one.Outside[host].RTP(6100))
				one.connect()
				two.connect()
				if one.announced() != two.announced() {
					one.T.Errorf("one inside port is announced as %v and %v", one.announced(), two.announced())
				}
				one.talk()
				one.bye(one.alice, one.bob)
				two.talk()
				if host == 1 {
					two.CheckSilent(one.bob.rtp.Socket, two.announced())
				}
				two.hangUp(two.bob, two.alice)
			})
		}
	})
}

// TestRefusedSecondCall: a second call from the same RTP port is refused, while
// the first one talks.
func TestRefusedSecondCall(t *testing.T) {
	eachWay(t, lab.Options{}, func(one *duo) {
		two := one.again(one.alice.rtp, one.Outside[0].RTP(6100))
		one.connect()
		two.invite(two.caller.sdp())
		two.reply(183, two.called.sdp())
		two.talk()
		two.fail(486)
		one.talk()
		one.hangUp(one.alice, one.bob)
	})
}

// TestRedial: the next call from the same RTP port begins while the BYE of the
// last one has no answer yet, and once more right after it was closed.
func TestRedial(t *testing.T) {
	eachWay(t, lab.Options{}, func(d *duo) {
		old := d.again(d.alice.rtp, d.bob.rtp)
		old.connect()
		for _, early := range []bool{true, false} {
			old.alice.dialog.Send("BYE")
			old.bob.dialog.ExpectRequest("BYE")
			next := d.again(d.alice.rtp, d.bob.rtp)
			if early {
				next.invite(next.caller.sdp())
				next.reply(183, next.called.sdp())
				next.talk()
			}
			old.bob.dialog.Reply(200)
			old.alice.dialog.Expect(200)
			if !early {
				next.invite(next.caller.sdp())
				next.reply(180)
			}
			next.reply(200, next.called.sdp())
			next.ack()
			next.talk()
			if early && next.announced() != old.announced() {
				d.T.Errorf("the public port changes from %v to %v", old.announced(), next.announced())
			}
			old = next
		}
		old.hangUp(old.bob, old.alice)
	})
}

// TestSpoofedBye: a BYE from outside that is not the other party's closes
// nothing, whether the firewall lets it in or not.
func TestSpoofedBye(t *testing.T) {
	t.Parallel()
	for _, config := range []string{"sip_accept = peers", "sip_accept = any"} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			d := newDuo(t, true, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}}, config)
			mallory := d.Outside[1].Agent("mallory", 5060)
			d.connect()
			open := d.streams()
			still := func() {
				d.T.Helper()
				if now := d.streams(); len(now) != len(open) {
					d.T.Errorf("streams %v remain of %v", now, open)
				}
				d.talk()
			}
			forged := func(from *lab.Agent, change lab.Mod) *lab.Message {
				m := d.bob.dialog.Build("BYE")
				m.Set("Via", from.Via())
				if change != nil {
					change(m)
				}
				from.Send(d.bob.NextHop(m), m)
				return m
			}
			for name, tags := range map[string]lab.Mod{
				"no tags of the dialog": func(m *lab.Message) {
					m.Set("From", "<sip:bob@203.0.113.10>;tag=no")
					m.Set("To", "<sip:alice@203.0.113.10>;tag=such")
				},
				"the wrong From tag": lab.With("From", "<sip:bob@203.0.113.10>;tag=wrong"),
				"the wrong To tag":   lab.With("To", "<sip:alice@203.0.113.10>;tag=wrong"),
				"tags swapped": func(m *lab.Message) {
					from, to := m.Get("From"), m.Get("To")
					m.Set("From", to)
					m.Set("To", from)
				},
			} {
				d.step(name, func() {
					m := forged(d.bob.Agent, tags)
					got := d.alice.Recv(lab.Request("BYE"), lab.CSeq(m.CSeq()))
					d.alice.Reply(got, 481)
					d.bob.Recv(lab.Status(481, "BYE"), lab.CSeq(m.CSeq()))
					still()
				})
			}
			for _, code := range []int{481, 200} {
				m := forged(mallory, nil)
				if config == "sip_accept = peers" && d.NAT() {
					d.Wire.WaitSIP(0, lab.Request("BYE"), lab.CSeq(m.CSeq()))
				} else {
					got := d.alice.Recv(lab.Request("BYE"), lab.CSeq(m.CSeq()))
					d.alice.Reply(got, code)
					mallory.Recv(lab.Status(code, "BYE"), lab.CSeq(m.CSeq()))
				}
				still()
			}
			if config == "sip_accept = peers" && d.NAT() && len(d.alice.Pending(lab.Request("BYE"))) > 0 {
				t.Errorf("a stranger's BYE reaches the phone")
			}
			d.hangUp(d.bob, d.alice)
		})
	}
}
