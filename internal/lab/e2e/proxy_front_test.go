package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sipnatd/internal/lab"
)

// ipchainsRule is one of the two rules that siproxd's README has for ipchains.
var ipchainsRule = regexp.MustCompile(`ipchains -A input --proto udp --dport (\S+) .*-j ACCEPT`)

// TestProxyBehindIPChains: in front of the firewall is a box with the two ipchains
// rules of siproxd's README. As with Linux 2.2 it looks at packets, not at connections:
// nothing else comes in, answers neither.
func TestProxyBehindIPChains(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../../../contrib/ipchains/ipchains.sh")
	if err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	found := ipchainsRule.FindAllStringSubmatch(string(file), -1)
	for _, rule := range found {
		fmt.Fprintf(&rules, "iifname eth0 udp dport %s accept\n", strings.ReplaceAll(rule[1], ":", "-"))
	}
	if len(found) != 2 {
		t.Fatalf("contrib has not the two rules: %q", found)
	}
	l := proxied(t, lab.Options{
		Outside: []string{"203.0.113.10", "198.51.100.20"}, Firewall: readmeFirewall(t, lab.IPTablesNFT),
		Front: "table ip front {\nchain forward {\ntype filter hook forward priority 0; policy drop;\niifname fw accept\n" + rules.String() + "}\n}\n",
	})
	l.StartProxy(readmePorts...)
	provider := l.Outside[0].Kamailio(lab.KamailioOptions{Auth: true, AuthCalls: true, RecordRoute: true})
	alice := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: provider.Addr, Outbound: throughProxy, Answer: true})
	bob := l.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: provider.Addr, Answer: true})
	converse(l, alice, bob, bob.AOR)
	converse(l, bob, alice, alice.AOR)

	probe := l.Outside[0].Socket(9000)
	mark := l.Wire.Mark()
	for _, port := range []int{5061, 7069, 7081, 7070} {
		probe.SendRTP(l.FW.At(port), 1)
	}
	err = l.Wire.Wait(mark, lab.Moment(), func(ps []*lab.Packet) bool {
		for _, p := range ps {
			if p.Src == probe.Addr {
				return p.Dst.Port() == 7070
			}
		}
		return false
	})
	if err != nil {
		t.Errorf("the box in front lets in what it should not, or not what it should: %v", err)
	}
	for _, p := range l.Wire.Packets() {
		if in := p.Dst.Port(); !p.Out && p.Proto == unix.IPPROTO_UDP && in != 5060 && (in < 7070 || in > 7080) {
			t.Errorf("this comes in: %v", p)
		}
	}
}
