package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// readmeFirewall is the firewall of siproxd's README as contrib/iptables has it. From
// outside it lets in nothing but SIP to port 5060.
func readmeFirewall(t *testing.T, backend lab.Backend) lab.Firewall {
	t.Helper()
	text, err := os.ReadFile("../../../contrib/iptables/firewall.rules")
	if err != nil {
		t.Fatal(err)
	}
	return lab.Firewall{Backend: backend, Load: func(fw *lab.Host) error {
		_, err := fw.Pipe(string(text), string(backend)+"-restore")
		return err
	}}
}

// readmePorts is the configuration that goes with it.
var readmePorts = []string{"rtp_port_low = 7070", "rtp_port_high = 7080"}

// TestProxyReadme is the picture of siproxd's README: a phone at 10.0.0.10 registers
// at the firewall as sip:johndoe@foo.bar.org, which is the name of the firewall's
// address. Whoever calls that address from the Internet reaches it, and it calls any
// address of the Internet.
func TestProxyReadme(t *testing.T) {
	t.Parallel()
	for _, backend := range []lab.Backend{lab.IPTablesNFT, lab.IPTablesLegacy} {
		t.Run(string(backend), func(t *testing.T) {
			t.Parallel()
			l := proxied(t, lab.Options{
				Firewall: readmeFirewall(t, backend), Outside: []string{"203.0.113.10", "198.51.100.20", "192.0.2.30"},
			})
			dns := l.Outside[0].DNS(
				"foo.bar.org A 203.0.113.1",
				"sip.example.net A 203.0.113.10",
				"_sip._udp.example.net SRV 10 50 5060 sip.example.net",
				`example.net NAPTR 10 50 "s" "SIP+D2U" "" _sip._udp.example.net`,
			)
			for _, h := range []*lab.Host{l.FW, l.Outside[0]} {
				h.UseDNS(dns)
			}
			settings := slices.Clone(readmePorts)
			if backend == lab.IPTablesNFT { // where nobody has told the name, the DNS does
				settings = append(settings, "host_outbound = foo.bar.org")
			}
			l.StartProxy(settings...)
			k := l.Outside[0].Kamailio(lab.KamailioOptions{Domain: "example.net", RecordRoute: true})

			john := l.Phones[0].Baresip(lab.BaresipOptions{
				User: "johndoe", Domain: "foo.bar.org", Outbound: throughProxy, Asks: "none", Answer: true,
			})
			bob := l.Outside[1].Baresip(lab.BaresipOptions{
				User: "bob", Domain: "example.net", Outbound: "sip:" + k.Addr.String(), Answer: true, Frequency: 880,
			})
			if ps := l.Wire.SIP(lab.Request("REGISTER")); len(ps) != 0 {
				t.Errorf("the registration has left: %v", ps)
			}

			// The users of another domain, by its proxy.
			converse(l, bob, john, "sip:johndoe@foo.bar.org")
			converse(l, john, bob, "sip:bob@example.net")
			if asked := dns.Asked(); !slices.Contains(asked, "example.net NAPTR") {
				t.Errorf("the other domain is not looked up as RFC 3263 says: %q", asked)
			}

			// Somebody who has no domain.
			carol := l.Outside[2].Baresip(lab.BaresipOptions{User: "carol", NoReg: true, Answer: true})
			converse(l, carol, john, "sip:johndoe@203.0.113.1")
			converse(l, john, carol, "sip:carol@192.0.2.30")

			for _, p := range l.Wire.SIP(lab.Request("INVITE")) {
				if from := p.SIP.Get("From"); p.Out && lab.URIOf(from) != "sip:johndoe@foo.bar.org" {
					t.Errorf("the phone calls as %s", from)
				}
			}
		})
	}
}

// TestProxyPeer: another domain is called over the transport that its records in the
// DNS ask for; of its two servers the better one is not there. It calls back over TCP.
func TestProxyPeer(t *testing.T) {
	t.Parallel()
	for transport, service := range map[string]string{"UDP": "SIP+D2U", "TCP": "SIP+D2T"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			l := proxied(t, lab.Options{
				Firewall: lab.Firewall{Extra: "add rule inet firewall input iifname ppp0 meta l4proto { tcp, udp } th dport 5060 accept\n"},
				Outside:  []string{"203.0.113.10", "198.51.100.20"},
			})
			if l.Firewall.Backend != lab.Nftables {
				t.Skip("the opening is written for nftables")
			}
			srv := "_sip._" + strings.ToLower(transport) + ".example.net"
			dns := l.Outside[0].DNS(
				"foo.bar.org A 203.0.113.1", "sip.example.net A 203.0.113.10",
				srv+" SRV 10 50 5999 sip.example.net", srv+" SRV 20 50 5060 sip.example.net",
				`example.net NAPTR 10 50 "s" "`+service+`" "" `+srv,
			)
			for _, h := range []*lab.Host{l.FW, l.Outside[0]} {
				h.UseDNS(dns)
			}
			l.StartProxy("host_outbound = foo.bar.org")
			k := l.Outside[0].Kamailio(lab.KamailioOptions{Domain: "example.net", RecordRoute: true, TCP: true})
			john := l.Phones[0].Baresip(lab.BaresipOptions{
				User: "johndoe", Domain: "foo.bar.org", Outbound: throughProxy, Asks: "none", Answer: true,
			})
			bob := l.Outside[1].Baresip(lab.BaresipOptions{
				User: "bob", Domain: "example.net", Outbound: "sip:" + k.Addr.String(), Answer: true, Asks: strings.ToLower(transport),
			})
			converse(l, john, bob, "sip:bob@example.net")
			converse(l, bob, john, "sip:johndoe@foo.bar.org")
			for _, p := range l.Wire.SIP() {
				if p.Over() != transport {
					t.Errorf("not over %s: %v", transport, p)
				}
			}
			l.Wire.WaitSIP(0, lab.Request("INVITE"), func(m *lab.Message) bool { return m.From.Addr() == k.Addr.Addr() })
		})
	}
}
