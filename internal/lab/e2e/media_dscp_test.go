package e2e

import (
	"fmt"
	"testing"

	"sipnatd/internal/lab"
)

// TestDSCP: SIP and media of both directions leave the firewall with the code points
// of the configuration, or with their own where it names none. ECN stays as it was.
// That checksums are right then, the lab checks by itself.
func TestDSCP(t *testing.T) {
	t.Parallel()
	// What the hosts send has code point 8 and ECT(1).
	const own, ecn = 8, 1
	marking := fmt.Sprintf(`table ip marking {
	chain output {
		type filter hook output priority 0; policy accept;
		ip dscp set %d ip ecn set %d
	}
}
`, own, ecn)
	for _, test := range []struct {
		name       string
		config     []string
		sip, media uint8 // code points
	}{
		{"both", []string{"sip_dscp = 24", "rtp_dscp = 46"}, 24, 46},
		{"SIP", []string{"sip_dscp = 63"}, 63, own},
		{"media, of anybody", []string{"rtp_dscp = 1", "media_source = any"}, own, 1},
		{"none", nil, own, own},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDuo(t, true, lab.Options{}, test.config...)
			sip, media := test.sip, test.media
			if !d.NAT() {
				sip, media = own, own
			}
			for _, h := range []*lab.Host{d.Phones[0], d.Outside[0]} {
				if _, err := h.Pipe(marking, "nft", "-f", "-"); err != nil {
					t.Fatal(err)
				}
			}
			mark := map[*lab.Capture]int{d.Inside: d.Inside.Mark(), d.Wire: d.Wire.Mark()}
			d.connect()
			d.hangUp(d.alice, d.bob)
			for c, from := range mark {
				messages, packets := 0, 0
				for _, p := range c.Since(from) {
					want := uint8(own<<2 | ecn)
					switch {
					case p.SIP != nil:
						if p.Out {
							want = sip<<2 | ecn
							messages++
						}
					case !p.IsMedia():
						continue
					case p.Out:
						want = media<<2 | ecn
						packets++
					}
					if p.TOS != want {
						t.Errorf("%s: TOS %#02x, want %#02x: %v", c.Name, p.TOS, want, p)
					}
				}
				if messages == 0 || packets == 0 {
					t.Errorf("%s: %d SIP messages and %d packets of media have left", c.Name, messages, packets)
				}
			}
		})
	}
}
