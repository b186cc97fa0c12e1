package e2e

import (
	"net/netip"
	"testing"

	"sipnatd/internal/lab"
)

// TestFlowtable: the firewall takes established UDP flows off the forward hook.
// SIP is rewritten all through the call, and audio runs, as it does before.
func TestFlowtable(t *testing.T) {
	t.Parallel()
	d := newDuo(t, true, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if _, err := d.FW.Output("nft", "add flowtable inet firewall fast { hook ingress priority 0; devices = { eth0, ppp0 }; }"); err != nil {
		t.Skip("probe: the kernel has no flowtables: ", err)
	}
	d.FW.Run("nft", "insert rule inet firewall forward meta l4proto udp ct state established flow add @fast")
	d.connect() // in the flow of the registration, which is established
	for range 2 {
		d.exchange("INVITE", d.alice, d.bob, lab.WithSDP(lab.Audio(netip.IPv4Unspecified(), d.alice.rtp.Port())), d.bob.sdp())
		d.exchange("INVITE", d.bob, d.alice, d.bob.sdp(), d.alice.sdp())
		d.talk()
	}
	d.hangUp(d.alice, d.bob)
}
