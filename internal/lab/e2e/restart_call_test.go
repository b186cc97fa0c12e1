package e2e

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sipnatd/internal/lab"
)

// interruption is how a daemon ends, and what happens before the next one starts.
type interruption struct {
	name    string
	end     func(*lab.Daemon)
	between func(*duo)
}

// interruptions are an orderly end, a crash, and an upgrade, after which the next daemon
// finds a table that is not laid out as its own.
var interruptions = []interruption{
	{"SIGTERM", (*lab.Daemon).Stop, func(*duo) {}},
	{"crash", (*lab.Daemon).Kill, func(*duo) {}},
	{"upgrade", (*lab.Daemon).Stop, (*duo).downgradeTable},
}

// downgradeTable gives the daemon's table the layout of another version, leases and all:
// a chain at another priority, one more and one set less.
func (d *duo) downgradeTable() {
	d.T.Helper()
	var old strings.Builder
	old.WriteString("delete table ip sipnatd\n")
	within := "" // a set that is left out
	for line := range strings.Lines(d.FW.Run("nft", "list", "table", "ip", "sipnatd")) {
		switch word := strings.TrimSpace(line); {
		case word == "set serving {":
			within = "serving"
		case within != "":
			if word == "}" {
				within = ""
			}
		case strings.Contains(word, "queue"): // nobody listens, and nft cannot load the target of xtables
			old.WriteString("drop\n")
		default:
			old.WriteString(strings.Replace(line, "hook forward priority 290", "hook forward priority 280", 1))
		}
	}
	old.WriteString("add chain ip sipnatd ancient { type filter hook forward priority 281; policy accept; }\n")
	if _, err := d.FW.Pipe(old.String(), "nft", "-f", "-"); err != nil {
		d.T.Fatalf("%v\n%s", err, old.String())
	}
}

// restart ends the daemon and starts another one.
func (d *duo) restart(old *lab.Daemon, how interruption, config ...string) *lab.Daemon {
	d.T.Helper()
	how.end(old)
	how.between(d)
	return d.StartDaemon(config...)
}

// eachInterruption runs a scenario for each of them, for a call out and for a call in.
func eachInterruption(t *testing.T, opt lab.Options, scenario func(d *duo, restart func())) {
	t.Parallel()
	for _, how := range interruptions {
		for _, out := range []bool{true, false} {
			name := how.name + " in"
			if out {
				name = how.name + " out"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := strangers(t, opt)
				if !d.NAT() {
					t.Skip("there is no daemon")
				}
				daemon := d.StartDaemon()
				d.register()
				if !out {
					d = d.incoming()
				}
				scenario(d, func() { daemon = d.restart(daemon, how) })
			})
		}
	}
}

// TestRestartTalk: the daemon ends and another one starts while two talk. Neither misses
// a packet, and the BYE, whoever sends it, closes the call as if nothing had happened.
func TestRestartTalk(t *testing.T) {
	eachInterruption(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}}, func(d *duo, restart func()) {
		d.connect()
		announced := d.announced()
		stop := d.converse()
		d.audible()
		restart()
		d.audible()
		stop()
		if len(d.Streams()) != 2 {
			d.T.Errorf("the streams are %v", d.Streams())
		}
		d.hangUp(d.called, d.caller)
		d.connect() // the same two, again
		if d.announced() == announced {
			d.T.Logf("the next call has the same port, %v", announced)
		}
		d.hangUp(d.caller, d.called)
	})
}

// TestRestartRinging: the call rings when the daemon ends, with early media, and is
// answered after it is back. The guard then lets nobody in but the called.
func TestRestartRinging(t *testing.T) {
	opt := lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}}
	eachInterruption(t, opt, func(d *duo, restart func()) {
		d.invite(d.caller.sdp())
		if d.caller == d.alice {
			d.reply(183, d.called.sdp())
		} else {
			d.reply(180)
		}
		restart()
		d.reply(200, d.called.sdp())
		d.ack()
		d.talk()
		d.CheckSilent(d.Outside[1].Socket(6000), d.announced())
		d.hangUp(d.caller, d.called)
	})
}

// TestRestartUnanswered: the daemon ends between an INVITE and its answer, or its end.
// What was opened for the call is closed when it has failed.
func TestRestartUnanswered(t *testing.T) {
	eachInterruption(t, lab.Options{}, func(d *duo, restart func()) {
		d.invite(d.caller.sdp())
		restart()
		d.fail(486)
		d.closed()

		d.invite(d.caller.sdp())
		d.reply(180)
		restart()
		d.caller.dialog.SendCancel()
		cancel := d.called.recv(lab.Request("CANCEL"))
		d.called.Reply(cancel, 200)
		d.caller.recv(lab.Status(200, "CANCEL"))
		d.fail(487)
		d.closed()
	})
}

// TestRestartChange: calls that are changed after the restart: a re-INVITE with other
// media, one that fails, a call on hold that goes on, and an offer that is on its way
// when the daemon ends.
func TestRestartChange(t *testing.T) {
	eachInterruption(t, lab.Options{}, func(d *duo, restart func()) {
		d.connect()
		announced := d.announced()
		d.exchange("INVITE", d.caller, d.called, d.caller.sdp("a=sendonly"), d.called.sdp("a=recvonly"))
		restart()
		d.exchange("INVITE", d.caller, d.called, d.caller.sdp(), d.called.sdp())
		if d.announced() != announced {
			d.T.Errorf("media was announced at %v, and after the restart at %v", announced, d.announced())
		}
		d.talk()

		back := d.alice.moves(d.Phones[0].RTP(4200))
		sent := d.alice.dialog.Send("INVITE", d.alice.sdp())
		d.bob.recv(lab.Request("INVITE"))
		restart()
		d.bob.dialog.Reply(488)
		d.alice.dialog.AckFailure(d.alice.dialog.Recv(lab.Status(488, "INVITE"), lab.CSeq(sent.CSeq())))
		d.bob.dialog.Recv(lab.Request("ACK"))
		back()
		d.bob.peer.RTP, d.bob.peer.RTCP = announced, netip.AddrPortFrom(announced.Addr(), announced.Port()+1)
		d.talk()

		d.alice.moves(d.Phones[0].RTP(4300))
		sent = d.alice.dialog.Send("INVITE", d.alice.sdp())
		d.bob.recv(lab.Request("INVITE"))
		restart()
		d.bob.dialog.Reply(200, d.bob.sdp())
		d.alice.learn(d.alice.dialog.Expect(200))
		d.alice.dialog.Ack()
		d.bob.recv(lab.Request("ACK"), lab.CSeq(sent.CSeq()))
		d.talk()
		d.hangUp(d.bob, d.alice)
	})
}

// TestRestartFork: two phones of the called ring with early media when the daemon ends.
// One of them answers when it is back, and goes on alone.
func TestRestartFork(t *testing.T) {
	t.Parallel()
	for _, how := range interruptions {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, farHosts)
			if !d.NAT() {
				t.Skip("there is no daemon")
			}
			daemon := d.StartDaemon()
			d.register()
			d.invite(d.alice.sdp())
			a, b := d.branches()
			toA, toB := d.ring(a, 183), d.ring(b, 183)
			d.restart(daemon, how)
			d.Talk(toA.party(), a.party())
			d.Talk(toB.party(), b.party())
			toB = d.ring(b, 200)
			toB.dialog.Ack()
			b.dialog.Recv(lab.Request("ACK"))
			d.Talk(toB.party(), b.party())
			d.CheckSilent(a.rtp.Socket, a.peer.RTP)
			d.bye(toB, b.side)
			d.WaitClosed()
			d.CheckSilent(b.rtp.Socket, b.peer.RTP)
		})
	}
}

// TestRestartRegistration: the daemon ends while a registration is with the registrar.
// The phone gets its own Contact back, and can be called for as long as was granted.
func TestRestartRegistration(t *testing.T) {
	t.Parallel()
	for _, how := range interruptions {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{})
			if !d.NAT() {
				t.Skip("there is no daemon")
			}
			daemon := d.StartDaemon()
			d.alice.Proxy = d.bob.Addr
			m := d.alice.Request("REGISTER", "sip:"+d.bob.Addr.Addr().String())
			d.alice.Send(d.bob.Addr, m, lab.With("Expires", "3600"))
			seen := d.bob.Recv(lab.Request("REGISTER"))
			d.restart(daemon, how)
			d.bob.Reply(seen, 200, lab.With("Contact", seen.Get("Contact")+";expires=1800"))
			answer := d.alice.Recv(lab.Status(200, "REGISTER"))
			if got := lab.URIOf(answer.Get("Contact")); got != lab.URIOf(m.Get("Contact")) {
				t.Errorf("the phone sees its Contact as %s, it was %s", got, m.Get("Contact"))
			}
			lease := 0
			for _, e := range d.Elements("bindings") {
				lease = max(lease, e.Expires)
			}
			if lease < 1000 || lease > 2000 {
				t.Errorf("the binding's lease is %d s, 1800 s were granted", lease)
			}
			d.contact = lab.URIOf(seen.Get("Contact"))
			d.incoming().call()
		})
	}
}

// TestRestartSessionTimer: a call whose parties refresh it (RFC 4028) is refreshed by a
// re-INVITE without an offer, and by an UPDATE, after the daemon has been replaced.
func TestRestartSessionTimer(t *testing.T) {
	eachInterruption(t, lab.Options{}, func(d *duo, restart func()) {
		expires := lab.With("Session-Expires", "90;refresher=uac")
		d.invite(d.caller.sdp(), expires)
		d.reply(200, d.called.sdp(), expires)
		d.ack()
		restart()
		d.caller.dialog.Send("UPDATE", expires)
		d.called.recv(lab.Request("UPDATE"))
		d.called.dialog.Reply(200, expires)
		d.caller.dialog.Expect(200)
		d.talk()
		restart()
		sent := d.caller.dialog.Send("INVITE", expires)
		d.called.recv(lab.Request("INVITE"))
		d.called.dialog.Reply(200, d.called.sdp(), expires)
		d.caller.learn(d.caller.dialog.Expect(200))
		d.caller.dialog.Ack(d.caller.sdp())
		d.called.recv(lab.Request("ACK"), lab.CSeq(sent.CSeq()))
		d.talk()
		d.hangUp(d.caller, d.called)
	})
}

// TestRestartOtherBinary: the daemon is replaced by another build of it.
func TestRestartOtherBinary(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	other := filepath.Join(t.TempDir(), "sipnatd")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=99.0", "-o", other, "sipnatd/cmd/sipnatd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("no other one can be built here: %v\n%s", err, out)
	}
	old := d.StartDaemon()
	d.register()
	d.connect()
	stop := d.converse()
	d.audible()
	old.Stop()
	d.downgradeTable()
	next := d.FW.Start("sipnatd-99", []string{other, "-c", old.ConfigFile})
	next.WaitLine(`another version is in the kernel`, lab.Moment())
	next.WaitLine(`\bready\b`, lab.Moment())
	d.audible()
	stop()
	d.exchange("INVITE", d.alice, d.bob, d.alice.sdp(), d.bob.sdp())
	d.talk()
	d.hangUp(d.bob, d.alice)
	next.Signal(syscall.SIGTERM)
	next.Wait(lab.Moment())
}
