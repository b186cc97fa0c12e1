package e2e

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// The address that the firewall gets in place of lab.PublicAddr in these tests.
var nextAddr = netip.MustParseAddr("203.0.113.5")

// online gives the firewall's outside interface an address and the way out.
func online(l *lab.Lab, ifname string, address netip.Addr) {
	l.T.Helper()
	l.FW.Run("ip", "address", "add", address.String()+"/24", "dev", ifname)
	l.FW.Run("ip", "route", "replace", "default", "via", "203.0.113.254", "dev", ifname)
}

// offline takes all addresses of the outside interface away.
func offline(l *lab.Lab, ifname string) {
	l.T.Helper()
	l.FW.Run("ip", "address", "flush", "dev", ifname)
}

// stale are the flows and mappings that are left on an address.
func stale(l *lab.Lab, a netip.Addr) (left []string) {
	for _, f := range l.Conntracks() {
		for _, ep := range []netip.AddrPort{f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Reply.Dst} {
			if ep.Addr() == a {
				left = append(left, f.Line)
				break
			}
		}
	}
	for _, all := range []map[netip.AddrPort]netip.AddrPort{l.Bindings(), l.Streams()} {
		for public := range all {
			if public.Addr() == a {
				left = append(left, public.String())
			}
		}
	}
	for _, e := range l.Expectations() {
		if e.Dst.Addr() == a {
			left = append(left, e.Line)
		}
	}
	return left
}

// TestAddressChange: the outside line gets another address during a call, in each of
// the ways in which lines do. The phone's audio goes on from the new one, its next
// messages leave from there, and a re-INVITE brings the other direction back, in the
// same dialog. No phone has to be told anything.
func TestAddressChange(t *testing.T) {
	t.Parallel()
	const moved = "the outside address has changed.*old=203.0.113.1 new=203.0.113.5"
	for _, c := range []struct {
		name   string
		config string
		change func(l *lab.Lab)
	}{
		{"DHCP", "", func(l *lab.Lab) {
			offline(l, "ppp0")
			online(l, "ppp0", nextAddr)
		}},
		{"DHCP with the new one first", "", func(l *lab.Lab) {
			l.FW.Run("sysctl", "-qw", "net.ipv4.conf.ppp0.promote_secondaries=1")
			online(l, "ppp0", nextAddr)
			l.FW.Run("ip", "address", "del", lab.PublicAddr.String()+"/24", "dev", "ppp0")
		}},
		{"redial", "", func(l *lab.Lab) {
			l.Unplug("ppp0")
			l.PlugOutside("ppp0")
			online(l, "ppp0", nextAddr)
		}},
		{"redial with another name", "if_outbound = ppp0 ppp1", func(l *lab.Lab) {
			l.FW.Run("nft", "add rule inet firewall forward iifname eth0 oifname ppp1 accept")
			l.Unplug("ppp0")
			l.PlugOutside("ppp1")
			online(l, "ppp1", nextAddr)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{Outside: []string{"198.51.100.20"}, Firewall: lab.Firewall{Backend: lab.Nftables}})
			if !d.NAT() {
				t.Skip("there are no public addresses")
			}
			daemon := d.StartDaemon(c.config)
			d.register()
			d.connect()
			port := d.announced().Port()
			stop := d.alice.rtp.Stream(d.alice.peer.RTP, 5*time.Millisecond)
			d.bob.rtp.Expect(d.announced(), 20)
			daemon.Mark()
			c.change(d.Lab)
			daemon.WaitLine(moved, lab.Moment())
			daemon.WaitLine("moved to the new outside address.*bindings=1 streams=2 calls=1", lab.Moment())

			// What the phone sends goes on, from the same port.
			rtp := netip.AddrPortFrom(nextAddr, port)
			d.bob.rtp.Expect(rtp, 20)
			stop()
			if !d.Until(lab.Moment(), func() bool { return len(stale(d.Lab, lab.PublicAddr)) == 0 }) {
				t.Errorf("left on the old address:\n%s", strings.Join(stale(d.Lab, lab.PublicAddr), "\n"))
			}
			if got := publicOf(d.Lab, d.alice.Addr); got != netip.AddrPortFrom(nextAddr, 5060) {
				t.Errorf("the phone's public endpoint is %v", got)
			}
			// A provider that sends back to where it hears the phone from is heard.
			d.bob.rtp.SendRTP(rtp, 3)
			d.alice.rtp.Expect(d.alice.peer.RTP, 3)

			// The phone's next message is answered where it comes from.
			mark := d.Inside.Mark()
			d.alice.Send(d.bob.Addr, d.alice.Request("OPTIONS", "sip:"+d.bob.Addr.Addr().String()))
			seen := d.bob.Recv(lab.Request("OPTIONS"))
			if contact := lab.HostPortOf(seen.Get("Contact")); contact != seen.From || contact.Addr() != nextAddr {
				t.Errorf("it names %v, and comes from %v", contact, seen.From)
			}
			d.bob.Reply(seen, 200)
			d.Inside.WaitSIP(mark, lab.Status(200, "OPTIONS"))

			d.renew(rtp)
			d.hangUp(d.bob, d.alice)
			d.register()
			d.incoming().call()
			if strings.Count(daemon.Log(), "the outside address has changed") != 1 {
				t.Error("the log does not tell once of the change")
			}
		})
	}
}

// renew has the phone renew its offer, in which its media is at rtp now, and both hear
// each other there.
func (d *duo) renew(rtp netip.AddrPort) {
	d.T.Helper()
	d.exchange("INVITE", d.alice, d.bob, d.alice.sdp(), d.bob.sdp())
	if d.announced() != rtp {
		d.T.Errorf("media is announced at %v, want %v", d.announced(), rtp)
	}
	heard := d.converse()
	d.audible()
	heard()
}

// TestAddressChangeProxied is TestAddressChange for a phone that uses the firewall as
// its proxy.
func TestAddressChangeProxied(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Outside: []string{"198.51.100.20"}})
	if !d.NAT() {
		t.Skip("there are no public addresses")
	}
	daemon := d.StartProxy()
	d.alice.Proxy = insideSIP
	d.connect()
	rtp := netip.AddrPortFrom(nextAddr, d.announced().Port())
	offline(d.Lab, "ppp0")
	online(d.Lab, "ppp0", nextAddr)
	daemon.WaitLine("moved to the new outside address.*bindings=0 streams=2 calls=1", lab.Moment())
	d.renew(rtp)
	d.hangUp(d.alice, d.bob)
	d.call()
}

// TestAddressReturns: the outside line goes and comes back with its address. That
// costs no call, and no registration.
func TestAddressReturns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		away, back   func(l *lab.Lab)
		gone, onLine string // what the log says
	}{
		{"address", func(l *lab.Lab) { offline(l, "ppp0") }, func(l *lab.Lab) { online(l, "ppp0", lab.PublicAddr) },
			"an outside address is gone.*203.0.113.1", "an outside address is back.*203.0.113.1"},
		{"address beside another one", func(l *lab.Lab) {
			l.FW.Run("ip", "address", "del", lab.PublicAddr.String()+"/24", "dev", "ppp0")
		}, func(l *lab.Lab) { online(l, "ppp0", lab.PublicAddr) },
			"an outside address is gone.*203.0.113.1", "an outside address is back.*203.0.113.1"},
		{"link", func(l *lab.Lab) { l.Unplug("ppp0") }, func(l *lab.Lab) { l.PlugOutside("ppp0"); online(l, "ppp0", lab.PublicAddr) },
			"an outside address is gone.*203.0.113.1", "an outside address is back.*203.0.113.1"},
		{"down", func(l *lab.Lab) { l.FW.Run("ip", "link", "set", "ppp0", "down") },
			func(l *lab.Lab) {
				l.FW.Run("ip", "link", "set", "ppp0", "up")
				l.FW.Run("ip", "route", "replace", "default", "via", "203.0.113.254", "dev", "ppp0")
			},
			"the outside interface ppp0 is down", "ppp0.*up"},
		{"inside link", func(l *lab.Lab) { l.Unplug("eth0") },
			func(l *lab.Lab) { l.PlugInside("eth0"); l.FW.Run("ip", "address", "add", "10.0.0.1/24", "dev", "eth0") },
			"the inside interface eth0 does not exist", `inside eth0 \(10.0.0.1\)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{
				Outside: []string{"198.51.100.20"},
				Leaky:   c.name == "inside link", // what comes in for the phones has no way but the default route
			})
			if !d.NAT() {
				t.Skip("there are no public addresses")
			}
			if c.name == "address beside another one" { // by which a modem is configured, say
				d.FW.Run("ip", "address", "add", "192.0.2.130/28", "dev", "ppp0")
			}
			daemon := d.StartDaemon()
			d.register()
			d.connect()
			before := d.announced()
			stop := []func(){d.alice.rtp.Stream(d.alice.peer.RTP, 5*time.Millisecond), d.bob.rtp.Stream(d.bob.peer.RTP, 5*time.Millisecond)}
			d.audible()
			daemon.Mark()
			c.away(d.Lab)
			daemon.WaitLine(c.gone, lab.Moment())
			c.back(d.Lab)
			daemon.WaitLine(c.onLine, lab.Moment())
			for _, f := range stop {
				f()
			}
			if !d.streams()[before] || len(d.streams()) != 2 {
				t.Fatalf("streams: %v, want %v", d.streams(), before)
			}
			heard := d.converse()
			d.audible()
			heard()
			d.exchange("INVITE", d.alice, d.bob, d.alice.sdp(), d.bob.sdp())
			if d.announced() != before {
				t.Errorf("media is announced at %v, was %v", d.announced(), before)
			}
			d.talk()
			d.hangUp(d.bob, d.alice)
			d.incoming().call() // by the old registration
		})
	}
}
