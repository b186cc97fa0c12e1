package e2e

import (
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestMechanisms: what the daemon says of the kernel's means that it has chosen
// is what it uses, and of those that a distribution's kernel has the best ones.
func TestMechanisms(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{})
	daemon := l.StartDaemon()
	if daemon == nil {
		t.Skip("there is no daemon on a router")
	}
	queue := daemon.WaitLine(`kernel="queue ([^,]+), spread ([^;]+);`, lab.Moment())
	helper := daemon.WaitLine(`msg=conntrack helper=(\w+)`, lab.Moment())[1]
	t.Logf("queue %s, spread %s; helper %s", queue[1], queue[2], helper)
	if lab.StockKernel() && (queue[1] != "native" || queue[2] != "by flow" || helper != "own") {
		t.Errorf("on a stock kernel: %s, helper %s", queue[0], helper)
	}

	rules := l.FW.Run("nft", "list", "table", "ip", "sipnatd")
	// As nft writes the statement, and the target of xtables.
	statement := map[string]string{"native": "queue flags bypass to 5060", "xt NFQUEUE": "queue num 5060 bypass"}[queue[1]]
	if statement == "" || !strings.Contains(rules, statement) {
		t.Errorf("queue %s, and the table is:\n%s", queue[1], rules)
	}
	alice, bob := l.Phones[0].Agent("alice", 5060), l.Outside[0].Agent("bob", 5060)
	alice.Register(bob, 3600)
	name := map[string]string{"own": "sipnatd", "sip": "sip"}[helper]
	expectations := l.Expectations()
	if (len(expectations) > 0) != (name != "") {
		t.Errorf("helper %s, and %d expectations", helper, len(expectations))
	}
	for _, e := range expectations {
		if e.Helper != name {
			t.Errorf("the helper should be %s: %s", name, e.Line)
		}
	}
}
