package e2e

import (
	"strings"
	"testing"

	"sipnatd/internal/lab"
	"sipnatd/rules"
)

// TestManagedFirewall: programs that manage a firewall's rules are given what
// "sipnatd rules" writes for them, and nothing else. Calls have audio, also while the
// program puts its rules in place anew. The kernel's own SIP helper, which two of the
// programs assign, is out of the way, and sipnatd check finds nothing wrong any more.
// What is not SIP is refused as before. A proxy on the firewall is reached. And all of
// it can be taken away again.
func TestManagedFirewall(t *testing.T) {
	t.Parallel()
	for name, manage := range map[string]func(*lab.Lab) *lab.Managed{
		"ufw": (*lab.Lab).Ufw, "firewalld": (*lab.Lab).Firewalld, "shorewall": (*lab.Lab).Shorewall,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{
				Firewall: lab.Firewall{Backend: lab.Bare},
				Outside:  []string{"203.0.113.10", "203.0.113.11"},
			})
			if !d.NAT() {
				t.Skip("there is no firewall")
			}
			m := manage(d.Lab)
			before := m.State()
			if wrong := examine(t, d.Lab); wrong == nil {
				t.Error("sipnatd check finds nothing wrong with the firewall as it is shipped")
			}

			m.Script(m.Rules())
			once := m.State()
			if wrong := examine(t, d.Lab); wrong != nil {
				t.Errorf("sipnatd check still says %q", wrong)
			}
			m.Script(m.Rules())
			same(t, "put in place a second time", once, m.State())

			daemon := d.StartDaemon()
			d.register()
			d.connect()
			stop := d.converse()
			d.audible()
			m.Reload()
			d.audible()
			stop()
			d.hangUp(d.bob, d.alice)
			d.incoming().call()

			// Port 5060 is open, and masqueraded for whoever is no SIP endpoint.
			phone := d.Phones[0].Socket(40000)
			open, closed := d.Outside[1].Socket(5060), d.Outside[1].Socket(5070)
			for n := range 2 {
				phone.Send(closed.Addr, []byte("not SIP"))
				phone.Send(open.Addr, []byte("not SIP"))
				open.Expect(d.FW.At(40000), n+1)
			}
			if got := closed.Received(); len(got) > 0 {
				t.Errorf("what no rule lets out gets out: %v", got)
			}

			// With a proxy on the firewall itself, that is reached, too.
			daemon.Stop()
			d.FW.Run("nft", "delete", "table", "ip", "sipnatd")
			proxy := d.FW.Socket(5090)
			open.Send(proxy.Addr, []byte("refused"))
			m.Script(withProxy(t, m.Name, proxy.Addr.Port()))
			open.Send(proxy.Addr, []byte("let in"))
			proxy.Expect(open.Addr, 1)
			phone.Send(proxy.Addr, []byte("let in"))
			proxy.Expect(phone.Addr, 1)
			if got := proxy.Received(); len(got) != 2 {
				t.Errorf("the proxy has heard %d packets before it was to: %v", len(got)-2, got)
			}

			m.Script(m.Rules("-remove"))
			same(t, "taken away", before, m.State())
			m.Script(m.Rules("-remove"))
			same(t, "taken away a second time", before, m.State())
		})
	}
}

// withProxy are the rules of a format for a lab whose daemon is a proxy as well.
func withProxy(t *testing.T, format string, port uint16) string {
	t.Helper()
	var b strings.Builder
	err := rules.Write(&b, format, rules.Config{
		Inside: []string{"eth0"}, Outside: []string{"ppp0"}, SIPPorts: []uint16{5060}, ListenPort: port, Callers: true,
	}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// same compares two states, line by line.
func same(t *testing.T, when, want, got string) {
	t.Helper()
	if got == want {
		return
	}
	var b strings.Builder
	has := func(sign, these, those string) {
		lines := make(map[string]int)
		for line := range strings.Lines(those) {
			lines[line]++
		}
		for line := range strings.Lines(these) {
			if lines[line]--; lines[line] < 0 {
				b.WriteString(sign + line)
			}
		}
	}
	has("-", want, got)
	has("+", got, want)
	t.Errorf("%s, it is not what it was:\n%s", when, &b)
}
