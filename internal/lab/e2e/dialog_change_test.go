package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"sipnatd/internal/lab"
)

// TestHold: calls that are on hold, in each style and by each side, outlive a
// silence that ends a call which is not; the audio runs through the same public
// port afterwards.
func TestHold(t *testing.T) {
	t.Parallel()
	whole := newDuo(t, true, lab.Options{}, "rtp_timeout = 10")
	rtp := func(n int) (alice, bob *lab.RTP) {
		return whole.Phones[0].RTP(4100 + 2*n), whole.Outside[0].RTP(6100 + 2*n)
	}
	type held struct {
		*duo
		name   string
		holder *side
		other  *side
	}
	var calls []held
	for _, inside := range []bool{true, false} {
		for _, style := range []string{"c=0.0.0.0", "sendonly", "inactive"} {
			h := held{duo: whole.again(rtp(len(calls))), name: fmt.Sprintf("%s from inside %v", style, inside)}
			h.holder, h.other = h.bob, h.alice
			if inside {
				h.holder, h.other = h.alice, h.bob
			}
			h.connect()
			before := h.announced()
			offer, answer := h.holder.sdp("a="+style), h.other.sdp("a=recvonly")
			switch style {
			case "c=0.0.0.0":
				offer, answer = lab.WithSDP(lab.Audio(netip.IPv4Unspecified(), h.holder.rtp.Port())), h.other.sdp()
			case "inactive":
				answer = h.other.sdp("a=inactive")
			}
			h.exchange("INVITE", h.holder, h.other, offer, answer)
			if now := h.announced(); now.Port() != before.Port() {
				t.Errorf("%s: the public port changes from %v to %v", h.name, before, now)
			}
			if addr := h.other.peer.RTP.Addr(); style == "c=0.0.0.0" && !addr.IsUnspecified() {
				t.Errorf("%s: the other side is told to send to %v", h.name, addr)
			}
			calls = append(calls, h)
		}
	}
	silent := whole.again(rtp(len(calls)))
	silent.connect()
	last := silent.announced()
	if whole.NAT() && !whole.Until(lab.Moment()*3, func() bool { return !whole.streams()[last] }) {
		t.Errorf("a call without audio is not closed")
	}
	for _, h := range calls {
		h.exchange("INVITE", h.holder, h.other, h.holder.sdp(), h.other.sdp())
		h.talk()
		h.bye(h.holder, h.other)
	}
	silent.bye(silent.alice, silent.bob)
	whole.WaitClosed()
	for _, h := range calls {
		h.CheckSilent(h.bob.rtp.Socket, h.announced())
	}
}

// TestHoldMusic: the far party's media are at another host than its signalling.
// It puts the call on hold in each style and plays music from there.
func TestHoldMusic(t *testing.T) {
	t.Parallel()
	d := newDuo(t, true, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}})
	d.bob.moves(d.Outside[1].RTP(6000))
	d.connect()
	for name, hold := range map[string]lab.Mod{
		"c=0.0.0.0": lab.WithSDP(lab.Audio(netip.IPv4Unspecified(), d.bob.rtp.Port())),
		"sendonly":  d.bob.sdp("a=sendonly"),
	} {
		d.step(name, func() {
			d.exchange("INVITE", d.bob, d.alice, hold, d.alice.sdp("a=recvonly"))
			d.alice.rtp.Forget()
			d.bob.rtp.SendRTP(d.announced(), 10)
			d.alice.rtp.Expect(d.bob.rtp.Addr, 10)
			d.exchange("INVITE", d.bob, d.alice, d.bob.sdp(), d.alice.sdp())
			d.talk()
		})
	}
	d.hangUp(d.bob, d.alice)
}

// TestMediaChange: the media of a call move to other ports and hosts, by
// re-INVITE and by UPDATE from both sides; what is not used any more is closed.
func TestMediaChange(t *testing.T) {
	eachWay(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}}, func(d *duo) {
		d.connect()
		for _, method := range []string{"INVITE", "UPDATE"} {
			for _, inside := range []bool{true, false} {
				from, to, where := d.bob, d.alice, "outside"
				if inside {
					from, to, where = d.alice, d.bob, "inside"
				}
				d.step(method+" from "+where+", nothing new", func() {
					before := d.announced()
					d.exchange(method, from, to, from.sdp(), to.sdp())
					d.talk()
					if d.announced() != before {
						d.T.Errorf("the public port changes from %v to %v", before, d.announced())
					}
				})
				d.step(method+" from "+where+", alice's port moves", func() {
					old := d.announced()
					defer d.alice.moves(d.alice.Host.RTP(4100))()
					d.exchange(method, from, to, from.sdp(), to.sdp())
					d.talk()
					if d.announced() == old {
						d.T.Errorf("%v is announced for another port", old)
					}
					d.CheckSilent(d.bob.rtp.Socket, old)
				})
				d.step(method+" from "+where+", bob's media move to another host", func() {
					old := d.bob.rtp
					back := d.bob.moves(d.Outside[1].RTP(6200))
					d.exchange(method, from, to, from.sdp(), to.sdp())
					d.talk()
					d.CheckSilent(old.Socket, d.announced())
					back()
					d.exchange(method, from, to, from.sdp(), to.sdp())
					d.talk()
				})
			}
		}
		d.hangUp(d.called, d.caller)
	})
}

// TestEarlyUpdate: UPDATE moves the media while the call still rings (RFC 3311
// section 5.1). The 200 then repeats the first answer, as some do, which means
// nothing any more (RFC 3261 section 13.2.1).
func TestEarlyUpdate(t *testing.T) {
	eachWay(t, lab.Options{}, func(d *duo) {
		for _, c := range []struct {
			name   string
			caller bool // sends the UPDATE
			repeat bool
		}{
			{"from the caller", true, false}, {"from the called", false, false},
			{"from the caller, answer repeated", true, true}, {"from the called, answer repeated", false, true},
		} {
			d.step(c.name, func() {
				from, to := d.called, d.caller
				if c.caller {
					from, to = d.caller, d.called
				}
				first := d.called.sdp()
				d.invite(d.caller.sdp())
				d.reply(183, first, lab.With("Require", "100rel"), lab.With("RSeq", "1"))
				d.caller.dialog.Send("PRACK", lab.With("RAck", "1 1 INVITE"))
				d.called.recv(lab.Request("PRACK"))
				d.called.dialog.Reply(200)
				d.caller.dialog.Expect(200)
				d.talk()
				old := d.announced()
				defer d.alice.moves(d.alice.Host.RTP(4100))()
				defer d.bob.moves(d.bob.Host.RTP(6100))()
				d.exchange("UPDATE", from, to, from.sdp(), to.sdp())
				d.talk()
				d.called.Reply(d.called.dialog.Invite, 200, func(m *lab.Message) {
					if c.repeat {
						first(m)
					}
				})
				d.caller.dialog.Recv(lab.Status(200, "INVITE"))
				d.ack()
				d.talk()
				d.CheckSilent(d.bob.rtp.Socket, old)
				d.hangUp(d.caller, d.called)
			})
		}
	})
}

// TestFailedChange: a re-INVITE or UPDATE that fails leaves the session as it
// was (RFC 3261 section 14.1): audio goes on, and what the failed offer had
// added is closed.
func TestFailedChange(t *testing.T) {
	eachWay(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}}, func(d *duo) {
		d.connect()
		before := d.streams()
		unchanged := func() {
			d.T.Helper()
			if d.NAT() && !d.Until(lab.CloseTime, func() bool { return maps.Equal(d.streams(), before) }) {
				d.T.Errorf("streams %v are open, before the change there were %v", d.streams(), before)
			}
			d.talk()
		}
		for _, c := range []struct {
			method string
			early  bool // the new session is in use before the failure
			code   int
		}{
			{"INVITE", false, 491}, {"INVITE", false, 488}, {"INVITE", false, 408}, {"INVITE", false, 401},
			{"INVITE", true, 488}, {"INVITE", true, 408}, {"INVITE", true, 487},
			{"UPDATE", false, 491}, {"UPDATE", false, 488}, {"UPDATE", false, 408},
		} {
			for _, inside := range []bool{true, false} {
				from, to, where := d.bob, d.alice, "outside"
				if inside {
					from, to, where = d.alice, d.bob, "inside"
				}
				d.step(fmt.Sprintf("%d to %s from %s, early %v", c.code, c.method, where, c.early), func() {
					fromPeer, toPeer := from.peer, to.peer
					backAlice := d.alice.moves(d.alice.Host.RTP(4100))
					backBob := d.bob.moves(d.Outside[1].RTP(6200))
					from.dialog.Send(c.method, from.sdp())
					to.recv(lab.Request(c.method))
					if c.early {
						to.dialog.Reply(183, to.sdp())
						from.learn(from.dialog.Expect(183))
						d.talk()
					}
					newRTP, newPeer := d.bob.rtp, d.announced()
					to.dialog.Reply(c.code)
					failure := from.dialog.Expect(c.code)
					if c.method == "INVITE" {
						from.dialog.AckFailure(failure)
						to.dialog.ExpectRequest("ACK")
					}
					backAlice()
					backBob()
					from.peer, to.peer = fromPeer, toPeer
					if c.code != 401 { // which waits for credentials
						unchanged()
					}
					d.talk()
					d.CheckSilent(newRTP.Socket, d.announced())
					if newPeer != d.announced() && c.code != 401 {
						d.CheckSilent(d.bob.rtp.Socket, newPeer)
					}
				})
			}
		}
		unchanged()
		d.hangUp(d.caller, d.called)
	})
}

// TestGlare: both sides send a re-INVITE at the same moment and refuse the
// other's with 491 (RFC 3261 section 14.2); one tries again and succeeds.
func TestGlare(t *testing.T) {
	eachWay(t, lab.Options{}, func(d *duo) {
		d.connect()
		old := d.announced()
		d.alice.moves(d.alice.Host.RTP(4100))
		sides := []*side{d.alice, d.bob}
		for _, s := range sides {
			s.dialog.Send("INVITE", s.sdp())
		}
		for _, s := range sides {
			s.dialog.Recv(lab.Request("INVITE"))
			s.dialog.Reply(491)
		}
		for _, s := range sides {
			s.dialog.AckFailure(s.dialog.Expect(491))
			s.dialog.Recv(lab.Request("ACK"))
		}
		d.exchange("INVITE", d.alice, d.bob, d.alice.sdp(), d.bob.sdp())
		d.talk()
		d.CheckSilent(d.bob.rtp.Socket, old)
		d.hangUp(d.caller, d.called)
	})
}
