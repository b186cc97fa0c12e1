package e2e

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipnatd/internal/lab"
	"sipnatd/rules"
)

// openWrt is a firewall in the form that OpenWrt's fw4 gives it, with the zones lan on
// eth0 and wan on ppp0, and no way between them but the rule for SIP that "sipnatd rules
// openwrt" configures. The include of those rules is where fw4 has it: in front of all
// chains. With offload every flow is offloaded as soon as the kernel takes it.
func openWrt(t *testing.T, offload bool) func(fw *lab.Host) error {
	var script bytes.Buffer
	err := rules.Write(&script, "openwrt", rules.Config{
		Inside: []string{"eth0"}, Outside: []string{"ppp0"}, SIPPorts: []uint16{5060}, PortLow: 7070, PortHigh: 7999,
	}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, include, _ := strings.Cut(script.String(), "cat >$include <<EOF\n")
	include, _, found := strings.Cut(include, "\nEOF\n")
	if !found {
		t.Fatalf("there is no include in\n%s", &script)
	}
	file := filepath.Join(t.TempDir(), "20-sipnatd.nft")
	if err := os.WriteFile(file, []byte(include+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	flowtable, statement := "", ""
	if offload {
		flowtable = "flowtable ft { hook ingress priority 0; devices = { eth0, ppp0 }; }"
		statement = "meta l4proto { tcp, udp } flow offload @ft;"
	}
	ruleset := `table inet fw4
flush table inet fw4
table inet fw4 {
	` + flowtable + `
	include "` + file + `"
	chain input {
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		ct state established,related accept
		iifname "eth0" accept
		jump handle_reject
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		` + statement + `
		ct state established,related accept
		iifname "eth0" jump forward_lan
		iifname "ppp0" jump forward_wan
		jump handle_reject
	}
	chain prerouting {
		type filter hook prerouting priority filter; policy accept;
		iifname "eth0" jump helper_lan
	}
	chain handle_reject {
		meta l4proto tcp reject with tcp reset
		reject with icmpx type port-unreachable
	}
	chain forward_lan {
		meta nfproto ipv4 udp dport 5060 counter jump accept_to_wan
		meta nfproto ipv4 udp sport 5060 counter jump accept_to_wan
	}
	chain forward_wan {
		ct status dnat accept
	}
	chain accept_to_wan {
		meta nfproto ipv4 oifname "ppp0" ct state invalid counter drop
		oifname "ppp0" counter accept
	}
	chain helper_lan {
	}
	chain srcnat {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "ppp0" jump srcnat_wan
	}
	chain srcnat_wan {
		meta nfproto ipv4 masquerade
	}
}
`
	return func(fw *lab.Host) error {
		_, err := fw.Pipe(ruleset, "nft", "-c", "-f", "-")
		for range 2 { // as a reload does
			if err == nil {
				_, err = fw.Pipe(ruleset, "nft", "-f", "-")
			}
		}
		return err
	}
}

// TestOpenWrt: a call through a firewall as OpenWrt has it, with the rules that are
// written for it, while it is reloaded.
func TestOpenWrt(t *testing.T) {
	t.Parallel()
	load := openWrt(t, false)
	d := newDuo(t, true, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables, Load: load}})
	if !d.NAT() {
		t.Skip("there is no firewall")
	}
	d.connect()
	before := d.FW.Run("nft", "--stateless", "list", "table", "inet", "fw4")
	stop := d.converse()
	d.audible()
	if err := load(d.FW); err != nil {
		t.Fatal(err)
	}
	d.audible()
	stop()
	same(t, "reloaded", before, d.FW.Run("nft", "--stateless", "list", "table", "inet", "fw4"))
	d.hangUp(d.bob, d.alice)
	d.incoming().call()
}

// TestOpenWrtOffload: where OpenWrt's firewall offloads flows, the rules that are
// written for it keep SIP and media on their way through the firewall, and nothing else.
// No daemon runs, which might see to that, too.
func TestOpenWrtOffload(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Bare}})
	if !l.NAT() {
		t.Skip("there is no firewall")
	}
	l.FW.Run("nft", "add table inet probe")
	if _, err := l.FW.Output("nft", "add flowtable inet probe ft { hook ingress priority 0; devices = { eth0, ppp0 }; }"); err != nil {
		if lab.StockKernel() {
			t.Fatal(err)
		}
		t.Skip("probe: the kernel has no flowtables: ", err)
	}
	l.FW.Run("nft", "delete table inet probe")
	if err := openWrt(t, true)(l.FW); err != nil {
		t.Fatal(err)
	}
	// Anything gets out; and media comes in to a public port.
	phone := l.Phones[0]
	l.FW.Run("nft", "insert rule inet fw4 forward_lan jump accept_to_wan")
	l.FW.Run("nft", "add chain inet fw4 dstnat { type nat hook prerouting priority dstnat; }")
	l.FW.Run("nft", "add rule inet fw4 dstnat iifname ppp0 udp dport 7070 dnat ip to "+phone.At(4000).String())

	for _, c := range []struct {
		name      string
		from, to  *lab.Socket
		at        netip.AddrPort // to's, as from knows it
		offloaded bool
	}{
		{"SIP", phone.Socket(40001), l.Outside[0].Socket(5060), l.Outside[0].At(5060), false},
		{"SIP from 5060", phone.Socket(5060), l.Outside[0].Socket(40002), l.Outside[0].At(40002), false},
		{"media", l.Outside[0].Socket(6000), phone.Socket(4000), l.FW.At(7070), false},
		{"other", phone.Socket(40003), l.Outside[0].Socket(40004), l.Outside[0].At(40004), true},
	} {
		c.to.Echo()
		for n := range 4 {
			c.from.Send(c.at, []byte("packet"))
			c.from.Expect(c.at, n+1)
		}
		flows := 0
		for _, f := range l.Conntracks() {
			if f.Orig.Src == c.from.Addr {
				flows++
				if got := strings.Contains(f.Line, "[OFFLOAD]"); got != c.offloaded {
					t.Errorf("%s: offloaded is %v: %s", c.name, got, f.Line)
				}
			}
		}
		if flows != 1 {
			t.Errorf("%s: %d flows", c.name, flows)
		}
	}
}
