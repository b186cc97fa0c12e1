package e2e

import (
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// repairTime is within which the table is back after a firewall reload.
const repairTime = time.Second

// reload does what the administrator's firewall script does: it throws away all
// rules, the daemon's too, and loads its own, in one transaction.
func reload(l *lab.Lab) {
	script, load := l.Firewall.Script()
	if _, err := l.FW.Pipe("flush ruleset\n"+script, load...); err != nil {
		l.T.Fatalf("%v", err)
	}
}

// TestFirewallReload: the firewall is reloaded while a call is on. The daemon's
// table is back at once, the call's audio goes on, and it can be ended.
func TestFirewallReload(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !d.NAT() {
		t.Skip("there is no table")
	}
	d.StartDaemon()
	d.register()
	d.connect()
	before := d.Table()
	stop := d.converse()
	d.audible()
	reload(d.Lab)
	restored := d.Until(lab.Patience(repairTime), func() bool {
		now := d.Table()
		for _, set := range []string{"bindings", "peers", "streams", "publics", "signalling", "guarded", "sources"} {
			if len(now[set]) != len(before[set]) {
				return false
			}
		}
		return true
	})
	if !restored {
		t.Errorf("not restored within %v: %v, was %v", repairTime, d.Table(), before)
	}
	d.audible()
	stop()
	d.DeleteConntracks(func(f lab.Flow) bool { return !f.Anchor() })
	d.talk() // through the table's own work
	d.hangUp(d.bob, d.alice)
	d.incoming().call()
}

// TestRestart: the daemon ends, or crashes, and comes back while a call is on. No
// packet of it is lost; the next daemon takes the call's streams over, and ends
// them when nobody talks any more.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		end      func(*lab.Daemon)
		reloaded bool // the firewall is, meanwhile
	}{{"SIGTERM", (*lab.Daemon).Stop, false}, {"crash", (*lab.Daemon).Kill, false}, {"reload meanwhile", (*lab.Daemon).Stop, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
			if !d.NAT() {
				t.Skip("there is no daemon")
			}
			const timeout = "rtp_timeout = 10"
			daemon := d.StartDaemon(timeout)
			d.register()
			d.connect()
			stop := d.converse()
			d.audible()
			c.end(daemon)
			d.audible()
			if c.reloaded {
				reload(d.Lab)
			}
			d.StartDaemon(timeout)
			d.audible()
			stop()

			// What was announced still is, unless the rules have gone with it.
			before := d.announced()
			d.exchange("INVITE", d.alice, d.bob, d.alice.sdp(), d.bob.sdp())
			if !c.reloaded && d.announced() != before {
				t.Errorf("media was announced at %v, and after the restart at %v", before, d.announced())
			}
			d.talk()
			d.hangUp(d.bob, d.alice)
			d.incoming().call()
		})
	}
}

// TestEndedMeanwhile: a call ends while no daemon runs. The next one closes its
// streams when they have been silent for rtp_timeout.
func TestEndedMeanwhile(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Leaky: true}) // the BYE passes as it is
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	const timeout = "rtp_timeout = 10"
	daemon := d.StartDaemon(timeout)
	d.register()
	d.connect()
	daemon.Stop()
	d.FW.Run("nft", "flush", "set", "ip", "sipnatd", "serving") // as time does
	d.bye(d.alice, d.bob)
	d.StartDaemon(timeout)
	if n := len(d.Streams()); n != 2 {
		t.Errorf("%d streams are taken over", n)
	}
	if !d.Until(lab.Patience(20*time.Second), func() bool { return len(d.StillOpen()) == 0 }) {
		t.Errorf("still open: %v", d.StillOpen())
	}
	d.CheckSilent(d.bob.rtp.Socket, d.announced())
}
