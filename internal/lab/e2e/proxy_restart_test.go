package e2e

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestProxyRestart: registrations outlive the daemon in registration_file, without a
// state_dir, and a call goes on meanwhile and ends as it should.
func TestProxyRestart(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT), Phones: 2, Outside: []string{"203.0.113.10", "198.51.100.20"}})
	file := filepath.Join(l.Dir, "registrations")
	config := []string{"host_outbound = 203.0.113.1", "registration_file = " + file, "autosave_registrations = 1", "state_dir ="}
	daemon := l.StartProxy(config...)
	provider := l.Outside[0].Kamailio(lab.KamailioOptions{Auth: true, RecordRoute: true})
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: provider.Addr, Outbound: throughProxy, Answer: true})
	john := l.Phones[1].Baresip(lab.BaresipOptions{User: "johndoe", Domain: "203.0.113.1", Outbound: throughProxy, Answer: true})
	bob := l.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: provider.Addr, Answer: true})

	connect(l, bob, alice, alice.AOR)
	daemon.Stop()
	daemon = l.StartProxy(config...)
	l.AudioBothWaysSince(l.Inside.Mark(), l.Wire.Mark(), 25)
	bob.Hangup()
	alice.WaitEvent("CALL_CLOSED")

	// The same after a crash, with what was written until then.
	text := func() string { b, _ := os.ReadFile(file); return string(b) }
	if !l.Until(lab.Moment(), func() bool { return strings.Contains(text(), "johndoe") && strings.Contains(text(), "alice") }) {
		t.Fatalf("registration_file is not written:\n%s", text())
	}
	for range 2 {
		// (The streams of the first call stay until they are silent for rtp_timeout.)
		for _, to := range []*lab.Baresip{john, alice} {
			connect(l, bob, to, to.AOR)
			to.Hangup()
			bob.WaitEvent("CALL_CLOSED")
		}
		daemon.Kill()
		daemon = l.StartProxy(config...)
	}
	if ps := l.Inside.SIP(lab.Request("REGISTER")); len(ps) > 3 { // one was challenged
		t.Errorf("the phones have registered again: %v", ps)
	}
}

// TestProxyKilled: the daemon is killed at once and started again, without a
// registration_file. A call goes on and ends as it should, each phone is reached without
// having said anything since, whether it is registered here or outside.
func TestProxyKilled(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT), Phones: 2, Outside: []string{"203.0.113.10", "198.51.100.20"}})
	config := []string{"host_outbound = 203.0.113.1"}
	daemon := l.StartProxy(config...)
	provider := l.Outside[0].Kamailio(lab.KamailioOptions{Auth: true, RecordRoute: true})
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: provider.Addr, Outbound: throughProxy, Answer: true})
	john := l.Phones[1].Baresip(lab.BaresipOptions{User: "johndoe", Domain: "203.0.113.1", Outbound: throughProxy, Answer: true})
	bob := l.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: provider.Addr, Answer: true})
	again := func() {
		daemon.Kill()
		daemon = l.StartProxy(config...)
		daemon.WaitLine(`the proxy mode goes on where an earlier daemon ended" contacts=1 tokens=[12] `, lab.Moment())
	}
	for _, to := range []*lab.Baresip{alice, john} {
		connect(l, bob, to, to.AOR)
		again()
		l.AudioBothWaysSince(l.Inside.Mark(), l.Wire.Mark(), 25)
		bob.Hangup()
		to.WaitEvent("CALL_CLOSED")
		l.WaitClosed()
	}
	again()
	for _, to := range []*lab.Baresip{john, alice} {
		connect(l, bob, to, to.AOR)
		again()
		to.Hangup()
		bob.WaitEvent("CALL_CLOSED")
		l.WaitClosed()
	}
	if ps := l.Inside.SIP(lab.Request("REGISTER")); len(ps) > 3 { // one was challenged
		t.Errorf("the phones have registered again: %v", ps)
	}
}

// TestProxyKilledRinging: the daemon is killed while a call rings, out or in. The called
// phone goes on ringing; when it answers, before there is another daemon or after that,
// both hear each other; and the caller can give up.
func TestProxyKilledRinging(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]bool{"out": false, "in": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT)})
			config := []string{"host_outbound = 203.0.113.1"}
			daemon := l.StartProxy(config...)
			john := l.Phones[0].Baresip(lab.BaresipOptions{User: "johndoe", Domain: "203.0.113.1", Outbound: throughProxy})
			bob := l.Outside[0].Baresip(lab.BaresipOptions{User: "bob", NoReg: true})
			from, to, side := john, bob, l.Wire
			if in {
				from, to, side = bob, john, l.Inside
			}
			rung := 0
			ring := func() {
				t.Helper()
				from.Mark()
				to.Mark()
				from.Dial(to.AOR)
				to.WaitEvent("CALL_INCOMING")
				from.WaitEvent("CALL_RINGING")
				rung++
			}
			start := func() {
				t.Helper()
				daemon = l.StartProxy(config...)
				daemon.WaitLine(`calls that wait for their answer are sent on once more" calls=1`, lab.Moment())
			}
			for _, early := range []bool{false, true} {
				ring()
				daemon.Kill()
				inside, wire := l.Inside.Mark(), l.Wire.Mark()
				if early {
					to.Accept()
				}
				start()
				if !early {
					to.Accept()
				}
				from.WaitEvent("CALL_ESTABLISHED")
				l.AudioBothWaysSince(inside, wire, 25)
				hangUp(l, to, from)
			}
			for _, early := range []bool{false, true} {
				ring()
				daemon.Kill()
				if early {
					from.Hangup()
				}
				start()
				if !early {
					from.Hangup()
				}
				to.WaitEvent("CALL_CLOSED")
				l.WaitClosed()
			}
			daemon.Kill()
			if log := l.StartProxy(config...).Log(); strings.Contains(log, "wait for their answer") {
				t.Errorf("a call that is over is taken for one that rings:\n%s", log)
			}
			branches := make(map[string]bool)
			for _, p := range side.SIP(lab.Request("INVITE")) {
				if p.Out {
					branches[p.SIP.Branch()] = true
				}
			}
			if len(branches) != rung {
				t.Errorf("%d calls have reached the called as %d", rung, len(branches))
			}
		})
	}
}

// TestProxyAway: who sends to the firewall while the daemon starts anew is not told that
// nobody is there, and so repeats it. If no daemon comes, it is told.
func TestProxyAway(t *testing.T) {
	t.Parallel()
	l := proxied(t, lab.Options{Firewall: readmeFirewall(t, lab.IPTablesNFT)})
	daemon := l.StartProxy("host_outbound = 203.0.113.1")
	alice := l.Phones[0].Agent("alice", 5060)
	media := l.Phones[0].Socket(6000)
	refused := func(mark int) bool {
		alice.Send(insideSIP, alice.Request("OPTIONS", "sip:203.0.113.1"))
		media.Send(netip.AddrPortFrom(insideSIP.Addr(), 9), []byte("comes after it, and is refused"))
		sip := false
		err := l.Inside.Wait(mark, lab.Moment(), func(ps []*lab.Packet) bool {
			for _, p := range ps {
				sip = sip || p.Inner.Dst == insideSIP
				if p.Inner.Dst.Port() == 9 {
					return true
				}
			}
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
		return sip
	}
	daemon.Kill()
	if refused(l.Inside.Mark()) {
		t.Error("the phone is told that nobody is there")
	}
	l.FW.Run("nft", "flush", "set", "ip", "sipnatd", "serving") // as time does
	if !refused(l.Inside.Mark()) {
		t.Error("the phone is not told, though no daemon came")
	}
	l.StartProxy("host_outbound = 203.0.113.1")
	if answer := alice.Do(alice.Request("OPTIONS", "sip:203.0.113.1")); answer.Status() != 200 {
		t.Errorf("the next daemon answers %d", answer.Status())
	}
}
