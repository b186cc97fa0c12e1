package e2e

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sipnatd/internal/lab"
)

// configure writes another configuration and has the daemon read it. says is what
// it must say then.
func configure(t *testing.T, d *lab.Daemon, says string, config ...string) {
	t.Helper()
	rewrite(t, d, says, lab.Config+strings.Join(config, "\n")+"\n")
}

func rewrite(t *testing.T, d *lab.Daemon, says, config string) {
	t.Helper()
	if err := d.Write(config); err != nil {
		t.Fatal(err)
	}
	d.Mark()
	if err := d.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.WaitLine(says, lab.Moment())
}

// done is what the log says of a reload that has worked.
const done = `msg="configuration read again"`

// TestReload: the configuration changes while a call is on, setting by setting.
// Each change counts at once, the call hears nothing of it, and a file that is
// wrong changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Outside: []string{"203.0.113.10", "203.0.113.66"}})
	if !l.NAT() {
		t.Skip("there is no daemon")
	}
	d := between(l, newSide(l.Phones[0], "alice", 5060, 4000), newSide(l.Outside[0], "bob", 5060, 6000))
	daemon := d.StartDaemon()
	d.register()
	d.connect()
	before := d.Streams()
	stop := d.converse()
	d.audible()

	mallory := l.Outside[1]
	media := mallory.RTP(6000)
	unheard := func() {
		t.Helper()
		l.CheckSilent(media.Socket, d.announced())
	}
	unheard()
	configure(t, daemon, done, "media_source = any")
	media.SendRTP(d.announced(), 5)
	d.alice.rtp.Expect(media.Addr, 5)
	d.alice.rtp.Forget()
	configure(t, daemon, done)
	unheard()

	// Ports of new streams.
	configure(t, daemon, `setting=rtp_port_low old=7070 new=20000`, "rtp_port_low = 20000", "rtp_port_high = 20099")
	other := d.again(l.Phones[0].RTP(4100), l.Outside[0].RTP(6100))
	other.connect()
	if p := other.announced().Port(); p < 20000 || p > 20099 {
		t.Errorf("a new stream is announced at %d", p)
	}
	other.bye(other.alice, other.bob)

	// Whoever may call.
	stranger := mallory.Agent("mallory", 5060)
	options := func() { stranger.Send(lab.HostPortOf(d.contact), stranger.Request("OPTIONS", d.contact)) }
	mark := l.Wire.Mark()
	options()
	l.Wire.WaitSIP(mark, lab.Request("OPTIONS"))
	configure(t, daemon, done, "sip_peers = 203.0.113.64/28", "rtp_port_low = 20000", "rtp_port_high = 20099")
	if got := d.alice.Pending(lab.Request("OPTIONS")); len(got) > 0 {
		t.Errorf("the phone has heard of a stranger")
	}
	options()
	d.alice.Recv(lab.Request("OPTIONS"))

	// A port of SIP.
	l.JudgeFromHere()
	configure(t, daemon, done, "sip_ports = 5060 5070")
	carol := l.Outside[0].Agent("carol", 5070)
	alice := l.Phones[0].Agent("alice", 5080)
	alice.Send(carol.Addr, alice.Request("OPTIONS", "sip:carol@203.0.113.10:5070"))
	if seen := carol.Recv(lab.Request("OPTIONS")); !strings.Contains(seen.Get("Contact"), lab.PublicAddr.String()) {
		t.Errorf("on the new port it leaves with Contact %s", seen.Get("Contact"))
	}

	// What is wrong changes nothing, and the reason is told.
	wrong := func(says, config string) {
		t.Helper()
		rewrite(t, daemon, says, config)
		alice.Send(carol.Addr, alice.Request("OPTIONS", "sip:carol@203.0.113.10:5070"))
		if seen := carol.Recv(lab.Request("OPTIONS")); !strings.Contains(seen.Get("Contact"), lab.PublicAddr.String()) {
			t.Errorf("after a wrong file it leaves with Contact %s", seen.Get("Contact"))
		}
	}
	wrong(`not in force.*sipnatd\.conf:2: sip_prots.*did you mean sip_ports\?`, lab.Config[:strings.Index(lab.Config, "\n")+1]+"sip_prots = 5060\n")
	rewrite(t, daemon, `not in force.*sipnatd\.conf:1: .*\n.*not in force.*sipnatd\.conf:2: `, "hairpin = never\nsip_ports = 0\n")
	if err := os.Remove(daemon.ConfigFile); err != nil {
		t.Fatal(err)
	}
	daemon.Mark()
	daemon.Signal(syscall.SIGHUP)
	daemon.WaitLine(`not in force.*no such file`, lab.Moment())
	wrong(done, lab.Config+"sip_ports = 5060 5070\n")

	// What the log tells.
	for _, c := range []struct{ level, tells, keeps string }{
		{"sip, dns", "class=sip what=OPTIONS", "class=nettraf"},
		{"nettraf", "class=nettraf", "class=sip"},
	} {
		configure(t, daemon, done, "sip_ports = 5060 5070", "debug_level = "+c.level)
		daemon.Mark()
		before := len(daemon.Log())
		alice.Send(carol.Addr, alice.Request("OPTIONS", "sip:carol@203.0.113.10:5070"))
		carol.Recv(lab.Request("OPTIONS"))
		daemon.WaitLine(c.tells, lab.Moment())
		if log := daemon.Log()[before:]; strings.Contains(log, c.keeps) {
			t.Errorf("debug_level = %s tells\n%s", c.level, log)
		}
	}

	// What needs a start says so, and does no harm.
	configure(t, daemon, `takes effect with the next start" setting=queue_num "in force"=5060 then=77`, "queue_num = 77")

	d.audible()
	stop()
	for inside, public := range before {
		if l.Streams()[inside] != public {
			t.Errorf("the stream %v = %v has not lived through it: %v", inside, public, l.Streams())
		}
	}
	d.bye(d.bob, d.alice)
	d.closed()
	d.incoming().call()
}

// TestReloadInterfaces: an inside interface is named that comes later, and one is
// taken away.
func TestReloadInterfaces(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Phones: 2, Firewall: lab.Firewall{Backend: lab.Nftables, Extra: `
add rule inet firewall forward iifname "eth1" accept
`}})
	if !l.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := l.StartDaemon()
	bob := newSide(l.Outside[0], "bob", 5060, 6000)
	d := between(l, newSide(l.Phones[0], "alice", 5060, 4000), bob)
	d.register()
	d.connect()
	stop := d.converse()
	d.audible()
	rewrite(t, daemon, done, "if_inbound = eth0 eth1\nif_outbound = ppp0\n")
	daemon.WaitLine(`inside interface eth1 does not exist`, lab.Moment())

	// The second phone moves behind eth1, which comes now.
	phone := l.Phones[1]
	phone.Run("ip", "link", "delete", "eth0")
	daemon.Mark()
	l.FW.Run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", phone.NS)
	l.FW.Run("ip", "address", "add", "10.0.1.1/24", "dev", "eth1")
	phone.Run("ip", "address", "add", "10.0.1.20/24", "dev", "eth1")
	phone.Run("ip", "link", "set", "eth1", "up")
	phone.Run("ip", "route", "add", "default", "via", "10.0.1.1")
	l.FW.Run("ip", "link", "set", "eth1", "up")
	phone.Addr = netip.MustParseAddr("10.0.1.20")
	daemon.WaitLine(`inside eth0 \(10\.0\.0\.1\) eth1 \(10\.0\.1\.1\)`, lab.Moment())
	other := between(l, newSide(phone, "dave", 5060, 4000), newSide(l.Outside[0], "carol", 5062, 6200))
	other.register()
	other.connect()
	other.bye(other.bob, other.alice)

	rewrite(t, daemon, done, lab.Config)
	names := func() (names []string) {
		for _, e := range l.Elements("inside") {
			names = append(names, e.Key)
		}
		return names
	}
	if got := names(); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("inside are %v", got)
	}
	d.audible()
	stop()
	d.hangUp(d.alice, d.bob)
}

// TestReloadStorm: reloads come one after the other, and no packet of a call is
// lost, nor a message.
func TestReloadStorm(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon()
	d.register()
	d.connect()
	stop := d.converse()
	for i := range 20 {
		lines := []string{"media_source = any", "hairpin = router", "sip_ports = 5060 5070", "on_failure = drop"}
		configure(t, daemon, done, lines[:i%(len(lines)+1)]...)
		d.register()
	}
	d.audible()
	stop()
	d.hangUp(d.alice, d.bob)
}
