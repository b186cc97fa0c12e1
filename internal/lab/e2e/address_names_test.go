package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// TestAnnouncedNameChanges: the firewall is behind another NAT, and dynamic DNS has its
// name follow the address outside. The line gets another address, and the name too:
// messages name the new one.
func TestAnnouncedNameChanges(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there are no public addresses")
	}
	dns := d.Outside[0].DNS("voice.example.org A 192.0.2.98")
	d.FW.UseDNS(dns)
	daemon := d.StartDaemon("host_outbound = voice.example.org")
	contact := func() string {
		m := d.alice.Request("OPTIONS", "sip:203.0.113.10")
		d.alice.Send(d.bob.Addr, m)
		return lab.HostPortOf(d.bob.Recv(lab.Request("OPTIONS"), lab.CallID(m.CallID())).Get("Contact")).String()
	}
	if got := contact(); got != "192.0.2.98:5060" {
		t.Errorf("announced: %s", got)
	}
	dns.Set(t, "voice.example.org A 192.0.2.99")
	offline(d.Lab, "ppp0")
	online(d.Lab, "ppp0", nextAddr)
	daemon.WaitLine("host_outbound.*announced=192.0.2.99 before=192.0.2.98", lab.Moment())
	daemon.WaitLine("the outside address has changed.*new="+nextAddr.String(), lab.Moment())
	daemon.WaitLine("moved to the new outside address", lab.Moment()) // the name may have been looked up before
	if got := contact(); got != "192.0.2.99:5060" {
		t.Errorf("announced: %s", got)
	}
	if got := publicOf(d.Lab, d.alice.Addr); got.Addr() != nextAddr {
		t.Errorf("translated to %v", got)
	}

	// A name for the firewall's own address is followed, whatever DNS still says.
	dns.Set(t, "voice.example.org A "+nextAddr.String())
	configure(t, daemon, done, "host_outbound = other.example.org")
	configure(t, daemon, done, "host_outbound = voice.example.org")
	daemon.WaitLine("host_outbound.*announced=\"the outside interface's own\"", lab.Moment())
	third := netip.MustParseAddr("203.0.113.6")
	offline(d.Lab, "ppp0")
	online(d.Lab, "ppp0", third)
	daemon.WaitLine("the outside address has changed.*new="+third.String(), lab.Moment())
	if got := contact(); got != third.String()+":5060" {
		t.Errorf("announced: %s", got)
	}
}

// TestInterfaceIsRenamed: the outside interface gets a name that the configuration does
// not have, and then the configuration the name. Its call goes on in between.
func TestInterfaceIsRenamed(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables,
		Extra: "add rule inet firewall forward iifname eth0 oifname dsl0 accept\n"}})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon()
	d.register()
	d.connect()
	before := d.announced()
	rename := func(from, to string) {
		d.FW.Run("ip", "link", "set", from, "down")
		d.FW.Run("ip", "link", "set", from, "name", to)
		d.FW.Run("ip", "link", "set", to, "up")
		d.FW.Run("ip", "route", "replace", "default", "via", "203.0.113.254", "dev", to)
	}
	daemon.Mark()
	rename("ppp0", "dsl0")
	daemon.WaitLine("the outside interface ppp0 does not exist", lab.Moment())
	heard := d.converse() // media needs no daemon
	d.audible()
	heard()
	rewrite(t, daemon, done, strings.ReplaceAll(lab.Config, "ppp0", "dsl0")+"mode = transparent\n")
	if n := strings.Count(daemon.Log(), "the outside interface ppp0 does not exist"); n != 1 {
		t.Errorf("the log says %d times that ppp0 does not exist", n)
	}
	d.exchange("INVITE", d.alice, d.bob, d.alice.sdp(), d.bob.sdp())
	if d.announced() != before {
		t.Errorf("media is announced at %v, was %v", d.announced(), before)
	}
	d.talk()
	d.hangUp(d.bob, d.alice)
	d.incoming().call()
}

// TestLineDialledAnew: two real phones and a real provider. The line is dialled anew and gets
// another address; nobody touches the phones. Soon the inside one can be called again.
func TestLineDialledAnew(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}, Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !l.NAT() {
		t.Skip("there are no public addresses")
	}
	const soon = 4 // seconds
	daemon := l.StartDaemon(fmt.Sprint("register_expires_max = ", soon))
	k := l.Outside[0].Kamailio(lab.KamailioOptions{Auth: true, RecordRoute: true})
	p := &pair{l, l.Phones[0].Baresip(lab.BaresipOptions{User: "alice", Registrar: k.Addr, Answer: true}),
		l.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: k.Addr, Answer: true})}
	p.connect()
	l.Unplug("ppp0")
	daemon.WaitLine("an outside address is gone", lab.Moment())
	l.PlugOutside("ppp0")
	mark := l.Inside.Mark()
	online(l, "ppp0", nextAddr)
	daemon.WaitLine("the outside address has changed", lab.Moment())
	began := time.Now()

	// Registered from the new address, within the time that is set.
	registered := func(ps []*lab.Packet) bool {
		for _, packet := range ps {
			if packet.SIP != nil && packet.SIP.Status() == 200 && packet.SIP.Method() == "REGISTER" {
				return true
			}
		}
		return false
	}
	if err := l.Inside.Wait(mark, lab.Patience(2*soon*time.Second), registered); err != nil {
		t.Fatalf("the phone has not registered again: %v", err)
	}
	t.Logf("registered again after %v", time.Since(began).Round(100*time.Millisecond))
	if seen := l.Wire.WaitSIP(0, lab.Request("REGISTER")).SIP; lab.HostPortOf(seen.Get("Contact")).Addr() != nextAddr {
		t.Errorf("it has registered %s", seen.Get("Contact"))
	}

	// The running call is heard again when the phone renews its offer.
	mark = l.Inside.Mark()
	p.alice.Hold()
	l.Inside.WaitSIP(mark, lab.Status(200, "INVITE"))
	mark = l.Inside.Mark()
	p.alice.Resume()
	l.Inside.WaitSIP(mark, lab.Status(200, "INVITE"))
	l.AudioBothWaysSince(l.Inside.Mark(), l.Wire.Mark(), 25)
	p.hangUp()

	p.bob.Dial(p.alice.AOR)
	p.bob.WaitEvent("CALL_ESTABLISHED")
	l.AudioBothWaysSince(l.Inside.Mark(), l.Wire.Mark(), 25)
	p.hangUp()
}
