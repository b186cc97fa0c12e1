package e2e

import (
	"net/netip"
	"testing"

	"sipnatd/internal/lab"
)

// TestMediaThirdHost: one m-line names another inside host, a media gateway.
// Without media_hosts that line is refused, and the rest of the call goes on.
func TestMediaThirdHost(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name, config string
		admitted     bool
	}{
		{"not set", "", false},
		{"set", "media_hosts = 10.0.0.11", true},
		{"another one set", "media_hosts = 10.0.0.12", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newConversation(t, lab.Options{Phones: 2}, x.config)
			for _, way := range c.ways() {
				text := map[*party]string{
					c.alice: c.alice.sdp([]lab.Line{{Port: 4000, Attrs: []string{"c=IN IP4 10.0.0.11"}}, {Kind: "video", Port: 4002}}),
					c.bob:   c.bob.sdp([]lab.Line{{Port: 6000}, {Kind: "video", Port: 6002}}),
				}
				c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
				if c.NAT() && !x.admitted {
					if port := c.bob.told[0].RTP.Port(); port != 0 {
						t.Errorf("the stream to a third host has port %d, not 0", port)
					}
					c.warned("refused", "media_hosts", "10.0.0.11")
					c.alice.has[0].RTP = netip.AddrPort{} // as bob sees it
					c.onlyAgreed()
				}
				c.talk()
				c.hangUp(way[0], way[1])
			}
		})
	}
}

// TestMediaAsymmetric: a party sends from another port than the one it receives
// on. Media runs all the same, and none after the call.
func TestMediaAsymmetric(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	for _, way := range c.ways() {
		text := map[*party]string{c.alice: c.alice.sdp([]lab.Line{{Port: 4000}}), c.bob: c.bob.sdp([]lab.Line{{Port: 6000}})}
		c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
		atAlice, atBob := c.at(c.alice.Host.At(4000)), c.at(c.bob.Host.At(6000))
		fromAlice, fromBob := c.at(c.alice.Host.At(4500)), c.at(c.bob.Host.At(6500))

		c.oneWay(fromBob, c.bob.told[0].RTP, atAlice, fromBob.Addr, (*lab.Socket).SendRTP)
		atBob.Forget()
		fromAlice.SendRTP(c.alice.told[0].RTP, 3)
		atBob.Expect(netip.AddrPort{}, 3)
		for heard := range atBob.Heard() {
			c.CheckPublic("RTP from another port", heard, c.alice.Host)
		}
		c.talk()
		c.hangUp(way[0], way[1])
	}
}

// TestMediaFarPrivate: the far party is behind a NAT and names its private
// address. What it sends comes from the host that it signals from, and only that
// one is let in; the phone answers to where it comes from.
func TestMediaFarPrivate(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{Outside: []string{"203.0.113.10", "192.0.2.30"}})
	for _, way := range c.ways() {
		text := map[*party]string{
			c.alice: c.alice.sdp([]lab.Line{{Port: 4000}}),
			c.bob:   c.bob.sdp([]lab.Line{{Port: 6000}}, "IP4 203.0.113.10", "IP4 192.168.1.5"),
		}
		c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
		if c.alice.told[0].RTP != netip.MustParseAddrPort("192.168.1.5:6000") {
			t.Errorf("alice is told %v", c.alice.told[0].RTP)
		}
		bob := c.at(c.bob.Host.At(41000))
		c.both(bob, c.bob.told[0].RTP, c.at(c.alice.Host.At(4000)), bob.Addr, (*lab.Socket).SendRTP)
		c.CheckSilent(c.at(c.Outside[1].At(6000)), c.bob.told[0].RTP)
		c.hangUp(way[1], way[0])
	}
}

// TestMediaAfterSilence: RTP stops until the kernel has forgotten its flows.
// Whoever speaks first afterwards is heard, and from the same address as before.
func TestMediaAfterSilence(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name  string
		first func(c *conversation) *party
	}{
		{"outside speaks first", func(c *conversation) *party { return c.bob }},
		{"inside speaks first", func(c *conversation) *party { return c.alice }},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newConversation(t, lab.Options{})
			if c.NAT() {
				c.FW.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "2")
				c.FW.Sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "2")
			}
			c.negotiate(c.alice, c.bob, c.alice.sdp([]lab.Line{{Port: 4000}}), c.bob.sdp([]lab.Line{{Port: 6000}}))
			c.talk()
			media := func(f lab.Flow) bool {
				return f.Touches(c.alice.has[0].RTP) || f.Touches(c.alice.has[0].RTCP)
			}
			if c.NAT() && !c.Until(lab.Moment(), func() bool {
				for _, f := range c.Conntracks() {
					if media(f) && !f.Anchor() {
						return false
					}
				}
				return true
			}) {
				t.Fatalf("the flows of media do not expire: %v", c.Conntracks())
			}
			a, b := c.at(c.alice.has[0].RTP), c.at(c.bob.has[0].RTP)
			if x.first(c) == c.bob {
				c.oneWay(b, c.bob.told[0].RTP, a, c.alice.told[0].RTP, (*lab.Socket).SendRTP)
			} else {
				c.oneWay(a, c.alice.told[0].RTP, b, c.bob.told[0].RTP, (*lab.Socket).SendRTP)
			}
			c.talk()
			c.hangUp(c.bob, c.alice)
		})
	}
}
