package e2e

import (
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestFindingsAfterReload: a firewall is reloaded with rules that keep calls from working.
// The log says so, once; and nothing where the rules are as before.
func TestFindingsAfterReload(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon()
	script, load := d.Firewall.Script()
	const related = "ct state established,related accept"
	broken := strings.ReplaceAll(script, related, "ct state established accept")
	apply := func(rules string) {
		t.Helper()
		if _, err := d.FW.Pipe("flush ruleset\n"+rules, load...); err != nil {
			t.Fatal(err)
		}
	}
	const says = `level=WARN msg="chain forward of table inet firewall drops .* check=`
	daemon.Mark()
	apply(script)
	apply(broken)
	daemon.WaitLine(says, lab.Moment())
	apply(broken + "add chain inet firewall other\n")
	late := "add table ip late\nadd chain ip late c { type filter hook forward priority 300; policy drop; }\n"
	apply(broken + late)
	daemon.WaitLine(`chain c of table ip late filters forwarded packets`, lab.Moment())
	if n := strings.Count(daemon.Log(), "chain forward of table inet firewall drops"); n != 1 {
		t.Errorf("it is told %d times:\n%s", n, daemon.Log())
	}
}
