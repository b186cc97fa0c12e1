package e2e

import (
	"fmt"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestRefusesToStart: what is wrong is said in words that lead to it, and nothing
// is installed.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	helper := `table ip raw {
	ct helper sip-5060 { type "sip" protocol udp; }
	chain calls {
		type filter hook prerouting priority raw; policy accept;
		udp dport 5060 ct helper set "sip-5060"
	}
}
`
	target := func(program string) func(*lab.Lab) {
		return func(l *lab.Lab) {
			l.FW.Run(program, "-t", "raw", "-A", "PREROUTING", "-p", "udp", "--dport", "5060", "-j", "CT", "--helper", "sip")
		}
	}
	for _, c := range []struct {
		name   string
		before func(*lab.Lab)
		config string
		says   []string
	}{
		{name: "unknown setting", config: "rtp_port_lo = 7070", says: []string{"sipnatd.conf:3", "rtp_port_lo", "did you mean rtp_port_low?"}},
		{name: "wrong value", config: "\n\nhairpin = never", says: []string{"sipnatd.conf:5", "never", "direct or router"}},
		{name: "kernel's helper by nft", before: func(l *lab.Lab) {
			if _, err := l.FW.Pipe(helper, "nft", "-f", "-"); err != nil {
				l.T.Fatalf("%v", err)
			}
		}, says: []string{"SIP helper", "table raw", "chain calls"}},
		{name: "kernel's helper by iptables-nft", before: target("iptables-nft"), says: []string{"SIP helper", "table raw", "chain PREROUTING"}},
		{name: "kernel's helper by iptables-legacy", before: target("iptables-legacy"), says: []string{"SIP helper", "table raw", "chain PREROUTING"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{})
			if !l.NAT() {
				t.Skip("there is no daemon")
			}
			if c.before != nil {
				c.before(l)
			}
			d, err := l.TryDaemon(lab.Config + c.config + "\n")
			if err == nil {
				t.Fatal("it starts")
			}
			if err := d.Wait(lab.Moment()); err == nil {
				t.Error("its exit status is 0")
			}
			for _, words := range c.says {
				if !strings.Contains(d.Log(), words) {
					t.Errorf("it does not say %q:\n%s", words, d.Log())
				}
			}
			if table := l.Table(); len(table) > 0 {
				t.Errorf("left in the kernel: %v", table)
			}
		})
	}
}

// TestSecondStart: a second daemon, whatever queue it would have, finds the first
// one, says so, and leaves its work alone.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	first := d.StartDaemon("queue_num = 7", "queues = 2")
	d.register()
	d.connect()
	second, err := d.TryDaemon(lab.Config + "queue_num = 9\n")
	if err == nil {
		t.Fatal("a second daemon serves")
	}
	second.WaitLine(fmt.Sprintf(`another sipnatd runs .*process %d \(`, first.Cmd.Process.Pid), lab.Moment())
	d.talk()
	d.hangUp(d.alice, d.bob)
}
