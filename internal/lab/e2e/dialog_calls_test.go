package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestEarlyMedia: audio runs both ways from the 183 on, before the call is
// answered. What the called sends before it has said from where is heard, too.
func TestEarlyMedia(t *testing.T) {
	eachWay(t, lab.Options{}, func(d *duo) {
		d.invite(d.caller.sdp())
		if d.called == d.bob {
			d.bob.rtp.SendRTP(d.announced(), 3)
			d.alice.rtp.Expect(d.bob.rtp.Addr, 3)
		}
		d.reply(183, d.called.sdp())
		d.talk()
		d.reply(200, d.called.sdp())
		d.ack()
		d.talk()
		d.hangUp(d.called, d.caller)
	})
}

// TestLateOffer: the INVITE has no offer, so the 200 makes it and the ACK
// answers (RFC 3261 section 13.2.1). Then a re-INVITE does the same.
func TestLateOffer(t *testing.T) {
	eachWay(t, lab.Options{}, func(d *duo) {
		d.invite()
		d.reply(180)
		d.reply(200, d.called.sdp())
		d.ack(d.caller.sdp())
		d.talk()
		before := d.announced()

		for _, from := range []*side{d.caller, d.called} {
			to := d.called
			if from == d.called {
				to = d.caller
			}
			from.dialog.Send("INVITE")
			to.recv(lab.Request("INVITE"))
			to.dialog.Reply(200, to.sdp())
			from.learn(from.dialog.Expect(200))
			from.dialog.Ack(from.sdp())
			to.recv(lab.Request("ACK"), lab.CSeq(from.dialog.Seq))
			d.talk()
		}
		if d.announced() != before {
			d.T.Errorf("the public port changes from %v to %v", before, d.announced())
		}
		d.hangUp(d.caller, d.called)
	})
}

// TestReliableProvisional: offers and answers in reliable responses and their
// PRACKs (RFC 3262 section 5), audio before the 200.
func TestReliableProvisional(t *testing.T) {
	reliable := func(mods ...lab.Mod) []lab.Mod {
		return append(mods, lab.With("Require", "100rel"), lab.With("RSeq", "1"))
	}
	eachWay(t, lab.Options{}, func(d *duo) {
		prack := func(mods ...lab.Mod) {
			d.caller.dialog.Send("PRACK", append(mods, lab.With("RAck", "1 1 INVITE"))...)
			d.called.recv(lab.Request("PRACK"))
		}
		finish := func(mods ...lab.Mod) {
			d.called.dialog.Reply(200, mods...) // to the PRACK
			d.caller.learn(d.caller.dialog.Expect(200))
			d.talk()
			d.reply(200) // to the INVITE
			d.ack()
			d.talk()
			d.hangUp(d.caller, d.called)
		}
		d.step("the 183 answers", func() {
			d.invite(d.caller.sdp())
			d.reply(183, reliable(d.called.sdp())...)
			prack()
			finish()
		})
		d.step("the 183 offers, PRACK answers", func() {
			d.invite()
			d.reply(183, reliable(d.called.sdp())...)
			prack(d.caller.sdp())
			finish()
		})
		d.step("PRACK offers again", func() {
			d.invite(d.caller.sdp())
			d.reply(183, reliable(d.called.sdp())...)
			old := d.announced()
			defer d.caller.moves(d.caller.Host.RTP(4100))()
			prack(d.caller.sdp())
			finish(d.called.sdp())
			if d.caller == d.alice {
				d.CheckSilent(d.bob.rtp.Socket, old)
			}
		})
	})
}

// TestRefusedCalls: a final failure closes what the call had opened, before and
// after early media; a redirected call goes on elsewhere.
func TestRefusedCalls(t *testing.T) {
	eachWay(t, lab.Options{}, func(d *duo) {
		redirect := lab.With("Contact", "<sip:bob@192.0.2.99>")
		for _, code := range []int{302, 404, 408, 486, 503, 603} {
			d.step(fmt.Sprint(code), func() {
				d.invite(d.caller.sdp())
				d.reply(180)
				d.fail(code, redirect)
				d.closed()
			})
			d.step(fmt.Sprint(code, " after early media"), func() {
				d.invite(d.caller.sdp())
				d.reply(183, d.called.sdp())
				d.talk()
				d.fail(code, redirect)
				d.closed()
			})
		}
		for _, code := range []int{180, 183} {
			d.step(fmt.Sprint("CANCEL after ", code), func() {
				d.invite(d.caller.sdp())
				if code == 183 {
					d.reply(code, d.called.sdp())
					d.talk()
				} else {
					d.reply(code)
				}
				d.caller.dialog.SendCancel()
				d.called.dialog.ExpectRequest("CANCEL")
				d.called.dialog.Reply(200)
				d.caller.dialog.Recv(lab.Status(200, "CANCEL"))
				if code == 183 {
					d.talk() // CANCEL closes nothing, the final response does
				}
				d.fail(487)
				d.closed()
			})
		}
	})
}

// TestRedirect: a phone that a 302 sends to another server calls there.
func TestRedirect(t *testing.T) {
	t.Parallel()
	d := newDuo(t, true, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}})
	carl := &side{Agent: d.Outside[1].Agent("carl", 5060), rtp: d.Outside[1].RTP(6000)}
	d.invite(d.caller.sdp())
	d.fail(302, lab.With("Contact", "<sip:carl@198.51.100.20>"))
	d.alice.Proxy = carl.Addr
	d.bob, d.called = carl, carl
	d.connect()
	d.hangUp(d.alice, carl)
}

// TestCancelCrossesOK: the caller cancels while the 200 is under way. The call
// is up, and the caller has to end it with BYE (RFC 3261 section 15).
func TestCancelCrossesOK(t *testing.T) {
	eachWay(t, lab.Options{}, func(d *duo) {
		d.invite(d.caller.sdp())
		d.reply(180)
		d.called.Reply(d.called.dialog.Invite, 200, d.called.sdp())
		d.caller.dialog.SendCancel()
		d.caller.recv(lab.Status(200, "INVITE"))
		d.called.dialog.ExpectRequest("CANCEL")
		d.called.dialog.Reply(481)
		d.caller.dialog.Recv(lab.Status(481, "CANCEL"))
		d.ack()
		d.talk()
		d.hangUp(d.caller, d.called)
	})
}

// TestNoRecordRoute: the provider's proxy passes the INVITE and then leaves the
// dialog, so ACK and BYE come from a host that inside has never heard of before.
func TestNoRecordRoute(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}})
	l.StartDaemon()
	k := l.Outside[0].Kamailio(lab.KamailioOptions{})
	d := &duo{
		Lab:   l,
		alice: &side{Agent: l.Phones[0].Agent("alice", 5060), rtp: l.Phones[0].RTP(4000)},
		bob:   &side{Agent: l.Outside[1].Agent("bob", 5060), rtp: l.Outside[1].RTP(6000)},
	}
	d.alice.RegisterWith(k.Addr, 3600)
	d.bob.RegisterWith(k.Addr, 3600)
	for _, c := range []struct {
		name                   string
		caller, called, ending *side
	}{
		{"in, hung up outside", d.bob, d.alice, d.bob},
		{"in, hung up inside", d.bob, d.alice, d.alice},
		{"out, hung up outside", d.alice, d.bob, d.bob},
		{"out, hung up inside", d.alice, d.bob, d.alice},
	} {
		d.caller, d.called = c.caller, c.called
		d.step(c.name, func() {
			c.caller.dialog = c.caller.Invite("sip:"+c.called.User+"@203.0.113.10", c.caller.sdp())
			c.called.dialog = c.called.RecvInvite(lab.CallID(c.caller.dialog.CallID))
			c.called.learn(c.called.dialog.Invite)
			d.reply(180)
			d.reply(200, c.called.sdp())
			d.ack()
			d.talk()
			if c.ending == c.caller {
				d.hangUp(c.caller, c.called)
			} else {
				d.hangUp(c.called, c.caller)
			}
			if c.ending == d.bob && c.caller == d.bob && l.NAT() {
				l.Until(lab.Moment(), func() bool { return !admitted(l, d.bob.Addr) })
				if admitted(l, d.bob.Addr) {
					t.Errorf("%v may still call, though alice has never sent to it outside of the call", d.bob.Addr)
				}
			}
		})
	}
}

// admitted reports whether an outside host may begin to signal to a binding.
func admitted(l *lab.Lab, host netip.AddrPort) bool {
	return slices.ContainsFunc(l.Elements("peers"), func(e lab.Element) bool {
		return strings.HasPrefix(e.Key, host.Addr().String()+" ")
	})
}
