package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// unplugged is a lab whose firewall has no interfaces when its daemon starts.
func unplugged(t *testing.T, config ...string) (*lab.Lab, *lab.Daemon) {
	l := lab.New(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !l.NAT() {
		t.Skip("there is no daemon")
	}
	l.Unplug("ppp0")
	l.Unplug("eth0")
	return l, l.StartProxy(config...)
}

func plugInside(l *lab.Lab) {
	l.PlugInside("eth0")
	l.FW.Run("ip", "address", "add", "10.0.0.1/24", "dev", "eth0")
}

func plugOutside(l *lab.Lab) {
	l.PlugOutside("ppp0")
	online(l, "ppp0", lab.PublicAddr)
}

// TestInterfacesComeLate: the daemon starts before its interfaces are there, as at
// the boot of a router with PPPoE. In each mode it serves as soon as they are.
func TestInterfacesComeLate(t *testing.T) {
	t.Parallel()
	const both = `sides="inside eth0 \(10.0.0.1\); outside ppp0 \(203.0.113.1\)"`
	for _, c := range []struct {
		name, mode           string
		transparent, proxied bool
	}{
		{"transparent", "mode = transparent", true, false},
		{"proxy", "mode = proxy", false, true},
		{"both", "mode = both", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, daemon := unplugged(t, c.mode, "sip_tcp = yes")
			for _, says := range []string{"the outside interface ppp0 does not exist", "the inside interface eth0 does not exist"} {
				if n := strings.Count(daemon.Log(), says); n != 1 {
					t.Errorf("the log says %d times that %s", n, says)
				}
			}
			if c.mode == "mode = proxy" {
				plugOutside(l)
				plugInside(l)
			} else {
				plugInside(l)
				plugOutside(l)
			}
			daemon.WaitLine(both, lab.Moment())
			d := between(l, newSide(l.Phones[0], "alice", 5062, 4000), newSide(l.Outside[0], "bob", 5060, 6000))
			if c.transparent {
				d.register()
				d.call()
				d.incoming().call()
			}
			if c.proxied {
				phone := l.Phones[0].Agent("carol", 5064)
				phone.Proxy, phone.Domain = insideSIP, "203.0.113.10"
				m := phone.Request("REGISTER", "sip:203.0.113.10")
				phone.Send(phone.Proxy, m)
				seen := d.bob.Recv(lab.Request("REGISTER"), lab.CallID(m.CallID()))
				if contact := lab.HostPortOf(seen.Get("Contact")); contact != netip.AddrPortFrom(lab.PublicAddr, 5060) {
					t.Errorf("the proxy registers %v", contact)
				}
				d.bob.Reply(seen, 200, lab.With("Contact", seen.Get("Contact")+";expires=600"))
				phone.Recv(lab.Status(200, "REGISTER"))
			}
		})
	}
}

// TestTCPComesLate: connections are joined on an inside interface that comes after the
// start, and on the one that takes its place.
func TestTCPComesLate(t *testing.T) {
	t.Parallel()
	l, daemon := unplugged(t, "sip_tcp = yes", "mode = transparent")
	plugOutside(l)
	listener := tcpListen(t, l.Outside[0], 5060)
	for range 2 {
		plugInside(l)
		daemon.WaitLine(`sides="inside eth0 \(10.0.0.1\); outside ppp0 \(203.0.113.1\)`, lab.Moment())
		phone, err := l.Phones[0].DialTCP(l.Outside[0].At(5060))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { phone.Close() })
		listener.SetDeadline(time.Now().Add(lab.Moment()))
		far, err := listener.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { far.Close() })
		inside, public := addrPort(phone.LocalAddr()), addrPort(far.RemoteAddr())
		if public.Addr() != lab.PublicAddr {
			t.Errorf("the connection comes from %v", public)
		}
		c := &connection{l, phone, far}
		options := func(from netip.AddrPort) string {
			return fmt.Sprintf("OPTIONS sip:203.0.113.10 SIP/2.0\r\nVia: SIP/2.0/TCP %[1]v;branch=z9hG4bK1\r\nFrom: <sip:alice@example.org>;tag=a\r\n"+
				"To: <sip:bob@example.org>\r\nCall-ID: late\r\nCSeq: 1 OPTIONS\r\nContact: <sip:alice@%[1]v;transport=tcp>\r\nContent-Length: 0\r\n\r\n", from)
		}
		far.SetDeadline(time.Now().Add(lab.Moment()))
		c.send(t, phone, options(inside))
		c.want(t, far, options(public))
		daemon.Mark()
		l.Unplug("eth0")
		daemon.WaitLine("eth0 does not exist", lab.Moment())
	}
}

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }
