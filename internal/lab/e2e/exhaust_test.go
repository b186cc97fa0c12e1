package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sipnatd/internal/lab"
)

// twoPorts is a range that one call fills.
const twoPorts = "rtp_port_low = 7070\nrtp_port_high = 7071"

// refuses fails the test unless the caller reads why it can not call.
func (d *duo) refuses(caller *side) {
	d.T.Helper()
	answer := caller.dialog.Expect(488)
	if warning := answer.Get("Warning"); !strings.Contains(warning, "no port for the media") {
		d.T.Errorf("the caller is not told why:\n%v", answer)
	}
	caller.dialog.AckFailure(answer)
}

// TestNoPortLeft: a call that no public port is left for fails, with words that lead to
// the cause, in place of connecting two who do not hear each other. The one that runs
// goes on, and when it has ended the next one gets its ports.
func TestNoPortLeft(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]bool{"out": true, "in": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{})
			if !d.NAT() {
				t.Skip("there are no ports to run out of")
			}
			daemon := d.StartDaemon(twoPorts)
			d.register()
			d.connect()
			second := d.again(d.Phones[0].RTP(4100), d.Outside[0].RTP(6100))
			if !out {
				second.incoming()
			}
			uri := "sip:bob@" + d.bob.Addr.Addr().String()
			if !out {
				uri = d.contact
			}
			second.caller.dialog = second.caller.Invite(uri, second.caller.sdp())
			second.called.dialog = second.called.RecvInvite(lab.CallID(second.caller.dialog.CallID))
			if asked := second.called.dialog.Invite.Get("Require"); asked != "no-media-port" {
				t.Errorf("the called can accept it: Require is %q", asked)
			}
			second.called.dialog.Reply(420, lab.With("Unsupported", "no-media-port"))
			second.refuses(second.caller)
			second.called.recv(lab.Request("ACK"))
			daemon.WaitLine(`a call is refused, since it could have no media: no public port is left \(rtp_port_low and rtp_port_high\)`, lab.Moment())
			d.talk()
			d.hangUp(d.alice, d.bob)
			second.connect()
			second.hangUp(second.caller, second.called)
		})
	}
}

// TestNoPortLeftProxy is TestNoPortLeft where phones use the firewall as their proxy,
// which refuses by itself.
func TestNoPortLeftProxy(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there are no ports to run out of")
	}
	d.StartProxy(twoPorts)
	d.alice.Proxy = insideSIP
	d.connect()
	second := d.again(d.Phones[0].RTP(4100), d.Outside[0].RTP(6100))
	second.alice.Proxy = insideSIP
	second.caller.dialog = second.caller.Invite("sip:bob@"+d.bob.Addr.Addr().String(), second.caller.sdp())
	second.refuses(second.caller)
	d.talk()
	d.hangUp(d.alice, d.bob)
	second.connect()
	second.hangUp(second.alice, second.bob)
}

// TestExpectationsAgain: the calls that begin when the expectation table has room again
// have expectations.
func TestExpectationsAgain(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !d.NAT() {
		t.Skip("there are no expectations")
	}
	daemon := d.StartDaemon()
	d.register()
	fill(d.Lab)
	d.invite(d.caller.sdp())
	daemon.WaitLine(`nf_conntrack_expect_max`, lab.Moment())
	d.fail(486)
	d.FW.Run("conntrack", "-F", "expect")
	d.invite(d.caller.sdp())
	d.reply(183, d.called.sdp())
	d.bob.rtp.SendRTP(d.announced(), 1) // before alice has sent any
	d.alice.rtp.Expect(d.bob.rtp.Addr, 1)
	d.reply(200, d.called.sdp())
	d.ack()
	d.talk()
	d.bye(d.alice, d.bob)
}

// TestNoDescriptorLeft: a daemon that can open no file any more serves calls all the
// same.
func TestNoDescriptorLeft(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon("sip_tcp = yes")
	none := unix.Rlimit{Cur: 3, Max: 3}
	if err := unix.Prlimit(daemon.Cmd.Process.Pid, unix.RLIMIT_NOFILE, &none, nil); err != nil {
		t.Fatal(err)
	}
	d.register()
	d.connect()
	d.talk()
	d.hangUp(d.bob, d.alice)
}
