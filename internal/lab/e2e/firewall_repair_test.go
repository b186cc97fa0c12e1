package e2e

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// An injury is something that an administrator, or a program of theirs, does to what the
// daemon has in the kernel.
type injury struct {
	name   string
	injure func(*duo)
}

// nft is an injury by that program.
func nft(name, script string) injury {
	return injury{name, func(d *duo) {
		d.T.Helper()
		s := strings.NewReplacer("$public", d.announced().Addr().String()+" . "+fmt.Sprint(d.announced().Port()),
			"$inside", d.alice.rtp.Addr.Addr().String()+" . "+fmt.Sprint(d.alice.rtp.Port())).Replace(script)
		if _, err := d.FW.Pipe(s, "nft", "-f", "-"); err != nil {
			d.T.Fatalf("%v", err)
		}
	}}
}

// command is an injury by another program.
func command(name string, argv ...string) injury {
	return injury{name, func(d *duo) { d.FW.Output(argv...) }}
}

// firewallLoads is what loads the firewall's rules once more.
func firewallLoads(name string, options ...string) injury {
	return injury{name, func(d *duo) {
		d.T.Helper()
		script, load := d.Firewall.Script()
		if _, err := d.FW.Pipe(script, append(load, options...)...); err != nil {
			d.T.Fatalf("%v", err)
		}
	}}
}

var ruleInjuries = []injury{
	{"the firewall is reloaded", func(d *duo) { reload(d.Lab) }},
	nft("the table is deleted", "delete table ip sipnatd"),
	nft("all rules are deleted", "flush table ip sipnatd"),
	nft("a chain loses its rules", "flush chain ip sipnatd prerouting"),
	nft("a chain and a set are deleted", "flush table ip sipnatd\ndelete chain ip sipnatd guard\ndelete set ip sipnatd sources"),
	{"a rule is deleted", func(d *duo) {
		rules := d.FW.Run("nft", "-a", "list", "chain", "ip", "sipnatd", "inbound")
		handle := regexp.MustCompile(`@guarded .*handle (\d+)`).FindStringSubmatch(rules)
		d.FW.Run("nft", "delete", "rule", "ip", "sipnatd", "inbound", "handle", handle[1])
	}},
	nft("a counter is deleted", "flush chain ip sipnatd guard\ndelete counter ip sipnatd guard_drops"),
	nft("a rule drops media", "insert rule ip sipnatd forward ip protocol udp drop"),
}

var foreignInjuries = []injury{
	nft("a chain drops", "add chain ip sipnatd mine { type filter hook forward priority 0; policy drop; }"),
	nft("a chain's policy is to drop", "chain ip sipnatd forward { policy drop; }"),
	nft("the table is dormant", "table ip sipnatd { flags dormant; }"),
	nft("a set that a rule looks at", "add set ip sipnatd mine { type ipv4_addr; elements = { 192.0.2.1 }; }\nadd rule ip sipnatd guard ip saddr @mine drop\nadd counter ip sipnatd mine"),
	nft("there are foreign elements", "add element ip sipnatd sources { 192.0.2.1 . $inside timeout 1h }\nadd element ip sipnatd streams { 192.0.2.1 . 7070 timeout 1h : 10.0.0.99 . 4000 }"),
	nft("a stream is another host's", "delete element ip sipnatd streams { $public }\nadd element ip sipnatd streams { $public timeout 1h : 10.0.0.99 . 4000 }"),
	nft("no interface is inside", "flush set ip sipnatd inside"),
	nft("another interface is outside", "flush set ip sipnatd outside\nadd element ip sipnatd outside { eth9 }"),
}

var elementInjuries = []injury{
	nft("the streams are flushed", "flush map ip sipnatd streams"),
	nft("the public endpoints are flushed", "flush map ip sipnatd publics"),
	nft("the allowed sources are flushed", "flush set ip sipnatd sources"),
	nft("the guarded endpoints are flushed", "flush set ip sipnatd guarded"),
	nft("the bindings are flushed", "flush map ip sipnatd bindings\nflush set ip sipnatd bound\nflush set ip sipnatd peers\nflush set ip sipnatd signalling"),
	nft("a stream is deleted", "delete element ip sipnatd streams { $public }"),
	nft("a source is deleted", "delete element ip sipnatd sources { 203.0.113.10 . $inside }"),
	nft("the SIP ports are flushed", "flush set ip sipnatd sip_ports"),
}

var flowInjuries = []injury{
	command("all flows are deleted", "conntrack", "-F"),
	command("all expectations are deleted", "conntrack", "-F", "expect"),
	command("all anchors are deleted", "conntrack", "-D", "-s", "127.0.0.0/8"),
	{"the flows of media are deleted", func(d *duo) {
		d.DeleteConntracks(func(f lab.Flow) bool { return f.Touches(d.alice.rtp.Addr) })
	}},
	command("all flows are deleted again", "conntrack", "-F"),
}

// state is what the daemon keeps in the kernel for the present calls: rules, the keys of
// elements and the expectations.
func (d *duo) state() string {
	d.T.Helper()
	rules, _ := d.FW.Output("nft", "-s", "-t", "list", "table", "ip", "sipnatd")
	var lines []string
	for set, elements := range d.Table() {
		switch set {
		case "known", "serving", "strays", "unknown", "newcomers", "senders", "floods":
			continue
		}
		for _, e := range elements {
			lines = append(lines, set+" "+e.Key+" "+e.Value)
		}
	}
	for _, e := range d.Expectations() {
		lines = append(lines, fmt.Sprint("expectation ", e.Dst, " below ", e.Master))
	}
	slices.Sort(lines)
	return sortedBlocks(rules) + strings.Join(lines, "\n")
}

// sortedBlocks brings the chains and sets of a table into an order of their own: those
// that were made anew are listed as the last.
func sortedBlocks(table string) string {
	blocks := strings.Split(table, "\n\t}\n")
	for i := range blocks {
		blocks[i] = strings.TrimSpace(strings.TrimPrefix(blocks[i], "table ip sipnatd {\n"))
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n") + "\n"
}

// rtpInterval is that of a phone: 50 packets a second.
const rtpInterval = 20 * time.Millisecond

// missed is how many packets a side has not heard of those sent between the first and the
// last that it has.
func (s *side) missed() int {
	received := s.rtp.Received()
	heard := make(map[uint16]bool)
	var first, last uint16
	for i, p := range received {
		n := binary.BigEndian.Uint16(p.Payload[2:])
		heard[n] = true
		if i == 0 {
			first, last = n, n
		}
		if int16(n-last) > 0 {
			last = n
		}
	}
	return int(last-first) + 1 - len(heard)
}

// TestRepair: while both sides of a call talk, as phones do, somebody changes what the
// daemon has in the kernel. It is as it was within a second, only what was sent in the gap
// is lost, and the call can be ended.
func TestRepair(t *testing.T) {
	t.Parallel()
	for name, group := range map[string]struct {
		firewall lab.Firewall
		injuries []injury
	}{
		"rules":    {lab.Firewall{Backend: lab.Nftables}, ruleInjuries},
		"foreign":  {lab.Firewall{}, foreignInjuries},
		"elements": {lab.Firewall{}, elementInjuries},
		"flows":    {lab.Firewall{}, flowInjuries},
		"iptables-legacy": {lab.Firewall{Backend: lab.IPTablesLegacy}, []injury{
			firewallLoads("restore"), firewallLoads("without a flush", "--noflush"), command("all flows are deleted", "conntrack", "-F"),
		}},
		"iptables-nft": {lab.Firewall{Backend: lab.IPTablesNFT}, []injury{
			firewallLoads("restore"), firewallLoads("without a flush", "--noflush"), command("all flows are deleted", "conntrack", "-F"),
			nft("the daemon's table is deleted", "delete table ip sipnatd"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{Firewall: group.firewall})
			if !d.NAT() {
				t.Skip("there is no table")
			}
			d.StartDaemon()
			d.register()
			d.connect()
			before := d.state()
			silence := []func(){
				d.alice.rtp.Stream(d.alice.peer.RTP, rtpInterval),
				d.bob.rtp.Stream(d.bob.peer.RTP, rtpInterval),
			}
			for _, i := range group.injuries {
				d.step(i.name, func() { d.suffer(i, before) })
			}
			for _, stop := range silence {
				stop()
			}
			d.hangUp(d.bob, d.alice)
			d.incoming().call()
		})
	}
}

// suffer has an injury repaired.
func (d *duo) suffer(i injury, before string) {
	d.T.Helper()
	sides := []*side{d.alice, d.bob}
	for _, s := range sides {
		s.rtp.Forget()
		s.rtp.Expect(s.peer.RTP, 1)
	}
	begin := time.Now()
	i.injure(d)
	var now string
	if !d.Until(lab.Patience(repairTime), func() bool { now = d.state(); return now == before }) {
		d.T.Errorf("not repaired within %v", repairTime)
		same(d.T.(*testing.T), "after the repair", before, now)
	}
	took := time.Since(begin)
	for _, s := range sides {
		s.rtp.Expect(s.peer.RTP, len(s.rtp.Received())+3)
		// As many as are sent within the time in which it is to be repaired.
		if missed := s.missed(); missed > int(lab.Patience(repairTime)/rtpInterval) {
			d.T.Errorf("%s has missed %d packets", s.User, missed)
		}
	}
	d.T.Logf("%s: seen to be repaired after %v; missed: inside %d, outside %d", i.name, took.Round(time.Millisecond), d.alice.missed(), d.bob.missed())
}

// gap returns a call that has just been answered, whose daemon is stopped: what is done to
// the kernel stays as it is until it may go on.
func gap(t *testing.T) (*duo, *lab.Daemon) {
	t.Helper()
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables,
		// A firewall that lets media in to itself, so that the flow is confirmed.
		Extra: "add rule inet firewall input udp dport 1024-65535 accept\n"}})
	if !d.NAT() {
		t.Skip("there is no table")
	}
	daemon := d.StartDaemon()
	d.register()
	d.invite(d.alice.sdp())
	d.reply(200, d.bob.sdp())
	d.ack()
	daemon.Signal(syscall.SIGSTOP)
	return d, daemon
}

// TestMediaInTheGap: media begins while the table is away. The flows that it has
// got then are wrong for ever, unless the repair deletes them.
func TestMediaInTheGap(t *testing.T) {
	t.Parallel()
	d, daemon := gap(t)
	reload(d.Lab)
	mark := d.Wire.Mark()
	for _, s := range []*side{d.alice, d.bob} {
		s.rtp.SendRTP(s.peer.RTP, 3)
		s.rtp.RTCP.SendRTCP(s.peer.RTCP)
	}
	if err := d.Wire.Wait(mark, lab.Moment(), func(ps []*lab.Packet) bool { return len(ps) >= 8 }); err != nil {
		t.Fatal(err)
	}
	// Bob's socket has what came by the masquerade: none of it comes up later.
	d.bob.rtp.Expect(netip.AddrPort{}, 3)
	d.bob.rtp.RTCP.Expect(netip.AddrPort{}, 1)
	wrong := func() (n int) {
		for _, f := range d.Conntracks() {
			if f.Orig.Src == d.alice.rtp.Addr && f.Reply.Dst != d.announced() || f.Orig.Dst == d.announced() && f.Reply.Src == d.announced() {
				n++
			}
		}
		return n
	}
	if wrong() != 2 {
		t.Fatalf("%d wrong flows of RTP instead of 2:\n%v", wrong(), d.StillOpen())
	}
	daemon.Signal(syscall.SIGCONT)
	if !d.Until(lab.Patience(2*repairTime), func() bool { return wrong() == 0 && len(d.Streams()) == 2 }) {
		t.Fatalf("%d wrong flows are left:\n%v", wrong(), d.StillOpen())
	}
	d.talk()
	d.hangUp(d.alice, d.bob)
}

// TestMediaBeginsInTheGap: what the daemon has in the kernel is changed, and media begins
// before that is repaired. Both sides hear each other within a second of the repair, though
// one of their flows may have begun wrongly.
func TestMediaBeginsInTheGap(t *testing.T) {
	t.Parallel()
	injuries := map[string]injury{}
	for _, i := range []injury{ruleInjuries[0], ruleInjuries[3], elementInjuries[0], elementInjuries[1], flowInjuries[0], flowInjuries[1]} {
		injuries[i.name] = i
	}
	for _, name := range slices.Sorted(maps.Keys(injuries)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, daemon := gap(t)
			injuries[name].injure(d)
			// Bob first: without a mapping, he reaches the firewall itself.
			mark := d.Wire.Mark()
			d.bob.rtp.SendRTP(d.bob.peer.RTP, 1)
			if err := d.Wire.Wait(mark, lab.Moment(), func(ps []*lab.Packet) bool { return len(ps) >= 1 }); err != nil {
				t.Fatal(err)
			}
			defer d.bob.rtp.Stream(d.bob.peer.RTP, rtpInterval)()
			defer d.alice.rtp.Stream(d.alice.peer.RTP, rtpInterval)()
			if err := d.Wire.Wait(mark, lab.Moment(), func(ps []*lab.Packet) bool { return len(ps) >= 8 }); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			daemon.Signal(syscall.SIGCONT)
			for _, s := range []*side{d.alice, d.bob} {
				s.rtp.Forget()
				if err := s.rtp.Await(s.peer.RTP, 5, lab.Patience(repairTime+5*rtpInterval)); err != nil {
					t.Errorf("after the repair: %v\n%v", err, d.StillOpen())
				}
			}
			t.Logf("audio both ways %v after the daemon could go on", time.Since(begin).Round(time.Millisecond))
		})
	}
}
