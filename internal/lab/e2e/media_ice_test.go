package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// candidate is an a=candidate line as far as the cases look at it.
type candidate struct {
	foundation, kind string
	addr             netip.AddrPort
	related          string // raddr:rport
}

type candidates []candidate

func candidatesOf(m lab.Media) (cs candidates) {
	for _, line := range m.Lines {
		rest, ok := strings.CutPrefix(line, "a=candidate:")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		c := candidate{foundation: f[0], kind: f[7]}
		c.addr, _ = netip.ParseAddrPort(f[4] + ":" + f[5])
		if i := slices.Index(f, "raddr"); i > 0 {
			c.related = f[i+1] + ":" + f[i+3]
		}
		cs = append(cs, c)
	}
	return cs
}

// named is the candidate with a foundation, which the cases use as a name; the
// zero value if there is none.
func (cs candidates) named(foundation string) candidate {
	for _, c := range cs {
		if c.foundation == foundation {
			return c
		}
	}
	return candidate{}
}

// iceOffer is what a phone with several interfaces, a STUN and a TURN server
// gathers. The first candidate is the default one.
var iceOffer = []string{
	"a=ice-ufrag:abcd",
	"a=candidate:host 1 UDP 2130706431 10.0.0.10 4000 typ host",
	"a=candidate:host-rtcp 2 UDP 2130706430 10.0.0.10 4001 typ host",
	"a=candidate:second 1 udp 2130706175 10.0.0.10 4100 typ host",
	"a=candidate:foreign 1 UDP 2130705919 172.17.0.1 4000 typ host",
	"a=candidate:other 1 UDP 2130705663 10.0.0.99 4000 typ host",
	"a=candidate:tcp 1 TCP 2128609279 10.0.0.10 9 typ host tcptype active",
	"a=candidate:passive 1 tcp 2128609023 10.0.0.10 4000 typ host tcptype passive",
	hiddenByName,
	"a=candidate:reflexive 1 UDP 1694498815 203.0.113.1 4000 typ srflx raddr 10.0.0.10 rport 4000 generation 0",
	"a=candidate:hidden 1 UDP 1694498559 203.0.113.1 4200 typ srflx raddr 172.17.0.1 rport 4200",
	"a=candidate:relay 1 UDP 16777215 198.51.100.20 50000 typ relay raddr 10.0.0.10 rport 4000",
}

// hiddenByName is a candidate of a browser that keeps its address to itself.
const hiddenByName = "a=candidate:name 1 UDP 2130705407 4a8b3c.local 4000 typ host"

// TestMediaICE: each candidate that leaves can be reached at what it says, the
// default one among them; what cannot be reached from outside does not leave.
func TestMediaICE(t *testing.T) {
	t.Parallel()
	opt := lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20", "192.0.2.30"}, Leaky: true}
	c := newConversation(t, opt)
	relay, stranger := c.Outside[1].Socket(3478), c.Outside[2].Socket(3478)
	far := []string{
		"a=ice-ufrag:efgh",
		"a=candidate:1 1 UDP 2130706431 203.0.113.10 6000 typ host",
		"a=candidate:2 1 UDP 2130706175 203.0.113.10 6100 typ host",
		"a=candidate:3 1 UDP 2130705919 192.168.1.5 6000 typ host",
	}
	for _, way := range c.ways() {
		text := map[*party]string{
			c.alice: c.alice.sdp([]lab.Line{{Port: 4000, Attrs: iceOffer}}),
			c.bob:   c.bob.sdp([]lab.Line{{Port: 6000, Attrs: far}}),
		}
		c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
		c.talk()

		line := c.bob.told[0]
		got := candidatesOf(line)
		c.both(c.at(c.bob.Host.At(6000)), got.named("second").addr, c.at(c.alice.Host.At(4100)), c.bob.has[0].RTP, (*lab.Socket).SendRTP)
		c.both(c.at(c.bob.Host.At(6100)), got.named("host").addr, c.at(c.alice.Host.At(4000)), c.bob.Host.At(6100), (*lab.Socket).SendRTP)
		for _, x := range []struct {
			foundation string
			addr       netip.AddrPort
		}{{"host", line.RTP}, {"host-rtcp", line.RTCP}, {"relay", netip.MustParseAddrPort("198.51.100.20:50000")}} {
			if c := got.named(x.foundation); c.addr != x.addr {
				t.Errorf("candidate %q is at %v, want %v", x.foundation, c.addr, x.addr)
			}
		}
		if !slices.Contains(line.Lines, hiddenByName) {
			t.Errorf("the candidate with a name has changed: %q", line.Lines)
		}
		if c.NAT() {
			for _, gone := range []string{"foreign", "other", "tcp", "passive"} {
				if got.named(gone) != (candidate{}) {
					t.Errorf("the candidate %q leaves: %q", gone, line.Lines)
				}
			}
			for foundation, want := range map[string]string{
				"reflexive": line.RTP.String(), "relay": line.RTP.String(), "hidden": "0.0.0.0:9",
			} {
				if base := got.named(foundation).related; base != want {
					t.Errorf("the base of candidate %q is %s, want %s", foundation, base, want)
				}
			}
		}
		if sdp := strings.Join(c.alice.told[0].Lines, "\n"); !strings.Contains(sdp, strings.Join(far, "\n")) {
			t.Errorf("the candidates from outside have changed:\n%s", sdp)
		}

		// What comes by the phone's TURN server comes to the port that the
		// candidate was gathered on. The same from elsewhere is dropped.
		c.both(relay, line.RTP, c.at(c.alice.Host.At(4000)), relay.Addr, (*lab.Socket).SendRTP)
		c.CheckSilent(stranger, line.RTP)
		c.hangUp(way[0], way[1])
		c.CheckSilent(relay, line.RTP)
	}
	for _, fault := range c.WireFaults() {
		if !c.NAT() || strings.Contains(fault, "192.168.1.5") && strings.Contains(fault, "a=candidate:3") {
			continue // bob's own, which is his to tell
		}
		t.Errorf("on the wire: %s", fault)
	}
}

// TestMediaRemoteCandidates: the offer that ends ICE repeats the chosen pair
// (RFC 8839 section 5.2). Each sees its own end of it as it knows it.
func TestMediaRemoteCandidates(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	audio := func(p *party, port int, attrs ...string) string {
		return p.sdp([]lab.Line{{Port: port, Attrs: attrs}})
	}
	remote := func(of lab.Media) string {
		return fmt.Sprintf("a=remote-candidates:1 %v %d 2 %v %d", of.RTP.Addr(), of.RTP.Port(), of.RTCP.Addr(), of.RTCP.Port())
	}
	c.negotiate(c.alice, c.bob, audio(c.alice, 4000), audio(c.bob, 6000))
	for _, way := range c.ways() {
		ports := map[*party]int{c.alice: 4000, c.bob: 6000}
		c.negotiate(way[0], way[1], audio(way[0], ports[way[0]], remote(way[0].told[0])), audio(way[1], ports[way[1]]))
		if want := remote(way[1].has[0]); !slices.Contains(way[1].told[0].Lines, want) {
			t.Errorf("%s is told %q of itself, want %q", way[1].User, way[1].told[0].Lines, want)
		}
		c.talk()
	}
	c.hangUp(c.alice, c.bob)
}
