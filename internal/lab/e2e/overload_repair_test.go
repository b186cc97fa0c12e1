package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// checkWithin is within which sipnatd check has its answer, during a flood too.
const checkWithin = 10 * time.Second

// TestOverloadRepair: while ten thousand hosts flood the firewall, both what is forwarded
// and what is for the daemon itself, the table is removed: it is repaired as fast as
// ever, and media goes on. And sipnatd check gives its answer.
func TestOverloadRepair(t *testing.T) {
	l := proxied(t, lab.Options{Outside: []string{"203.0.113.10", "203.0.113.66"}, Leaky: true, Firewall: lab.Firewall{
		Backend: lab.Nftables,
		Extra:   `add rule inet firewall input iifname "ppp0" meta l4proto { tcp, udp } th dport 5060 accept` + "\n",
	}})
	d := l.StartProxy()
	alice, bob := newRobot(l.Phones[0], "alice", 5060), newRobot(l.Outside[0], "bob", 5060)
	alice.Proxy, alice.Domain = insideSIP, "10.0.0.1"
	alice.start(t)
	bob.start(t)
	call := newTalk(t, l, alice, bob, 4000, 6000)

	a := proxyAttack{
		host: outsideHost, source: sources("198.18.0.1", 10000, 5060), to: publicA,
		kinds: []string{"REGISTER", "INVITE", "OPTIONS"},
	}
	stop := a.begin(t, l, 20000)
	for range 3 {
		l.FW.Run("nft", "delete", "table", "ip", "sipnatd")
		begin := time.Now()
		if !l.Until(lab.Moment(), func() bool {
			text, err := l.FW.Output("nft", "list", "chain", "ip", "sipnatd", "sockets")
			return err == nil && strings.Contains(text, "@senders")
		}) {
			t.Fatal("the table does not come back")
		}
		took := time.Since(begin)
		t.Logf("the table is back after %v", took)
		if took > lab.Patience(repairTime) {
			t.Errorf("the table is back after %v, more than %v", took, repairTime)
		}
	}
	bin, err := lab.BuildDaemon()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	text, err := l.FW.Output(bin, "check", "-c", d.ConfigFile)
	took := time.Since(begin)
	if _, exited := err.(*exec.ExitError); err != nil && !exited && text == "" {
		t.Errorf("check: %v", err)
	}
	t.Logf("check takes %v during the flood of %d packets", took, stop())
	if took > lab.Patience(checkWithin) {
		t.Errorf("check takes %v, more than %v", took, checkWithin)
	}
	call.check(t)
	if _, err := call.bye(); err != nil {
		t.Errorf("BYE: %v", err)
	}
}
