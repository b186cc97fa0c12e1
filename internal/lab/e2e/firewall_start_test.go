package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipnatd/conntrack"
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

// TestExpectationTableFull: the kernel takes no more expectations. The log says
// what to do about it, and calls go on as far as they can without: media comes
// in as soon as the phone has sent some.
func TestExpectationTableFull(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !d.NAT() {
		t.Skip("there are no expectations")
	}
	daemon := d.StartDaemon()
	d.register()
	fill(d.Lab)
	d.invite(d.alice.sdp())
	d.reply(200, d.bob.sdp())
	d.ack()
	daemon.WaitLine(`nf_conntrack_expect_max`, lab.Moment())
	if n := strings.Count(daemon.Log(), "refused"); n != 1 {
		t.Errorf("the refusal is reported %d times:\n%s", n, daemon.Log())
	}
	d.alice.rtp.SendRTP(d.alice.peer.RTP, 1)
	d.alice.rtp.RTCP.SendRTCP(d.alice.peer.RTCP)
	d.bob.rtp.Expect(d.announced(), 1)
	d.bob.rtp.RTCP.Expect(d.bob.peer.RTCP, 1)
	d.talk()
	d.bye(d.alice, d.bob)
	closed := d.Until(lab.Patience(lab.CloseTime), func() bool { return len(d.Streams()) == 0 })
	if !closed {
		t.Errorf("not closed: %v", d.Streams())
	}
	d.CheckSilent(d.bob.rtp.Socket, d.announced())
}

// fill makes expectations in the firewall until it takes no more.
func fill(l *lab.Lab) {
	l.T.Helper()
	err := l.FW.Do(func() error {
		c, err := conntrack.Open(conntrack.Options{})
		if err != nil {
			return err
		}
		defer c.Close()
		var b conntrack.Batch
		for port := uint16(10000); port < 60000; port++ {
			b.OpenAnchor(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.200"), port), time.Hour)
			if b.Len() == 128 && c.Commit(&b) != nil {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		l.T.Fatalf("%v", err)
	}
}
