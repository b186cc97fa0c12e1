package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/internal/lab"
)

// TestMessageSizes: INVITEs of every size within 100 bytes of the outside MTU
// arrive intact, each at once, whether rewriting makes them longer or shorter
// than the MTU; phones set DF on what is not fragmented.
func TestMessageSizes(t *testing.T) {
	t.Parallel()
	const headers = 20 + 8 // IP and UDP
	for _, mtu := range []int{1500, 1492} {
		for _, outbound := range []bool{true, false} {
			t.Run(fmt.Sprintf("MTU %d, from inside %v", mtu, outbound), func(t *testing.T) {
				t.Parallel()
				c := newConversation(t, lab.Options{MTU: mtu})
				from, to, uri, port := c.bob, c.alice, c.contact, 6000
				if outbound {
					from, to, uri, port = c.alice, c.bob, "sip:bob@203.0.113.10", 4000
				}
				c.bob.Domain = "203.0.113.10"
				again := 0
				for size := mtu - 100; size <= mtu+100; size++ {
					call := from.Invite(uri, lab.WithSDP(from.sdp([]lab.Line{{Port: port}})), lab.Padded(size-headers))
					here := []lab.Filter{lab.Request("INVITE"), lab.CallID(call.CallID)}
					seen, err := to.Await(500*time.Millisecond, here...)
					if err != nil { // it did not fit, and is sent once more as a UDP client does after T1
						again++
						from.Send(from.NextHop(call.Invite), call.Invite)
						seen = to.Recv(here...)
					}
					c.measure(seen)
					if outbound { // the port is the firewall's choice
						seen.Raw = []byte(strings.Replace(string(seen.Raw), fmt.Sprintf("m=audio %d ", seen.Media()[0].RTP.Port()), "m=audio 4000 ", 1))
						if c.NAT() {
							call.Invite.Set("Content-Length", seen.Get("Content-Length"))
						}
					}
					c.intact(call.Invite, seen, outbound)
					to.Reply(seen, 486)
					call.AckFailure(call.Expect(486))
					to.Recv(lab.Request("ACK"), lab.CallID(call.CallID))
				}
				// Only what was too long for the outside before it was rewritten
				// may be sent back, and only until the phone knows the path's MTU.
				if allowed := map[bool]int{true: 1}[outbound && mtu < 1500]; again > allowed {
					t.Errorf("%d INVITEs had to be sent again, at most %d may", again, allowed)
				}
				for _, p := range c.Inside.Packets() {
					if p.Out && p.Proto == unix.IPPROTO_ICMP && again == 0 {
						t.Errorf("the firewall tells the phone: %v", p)
					}
				}
				// A message that has grown may have to be fragmented, so that DF
				// goes; others keep it.
				arrived, left := c.Inside, c.Wire
				if !outbound {
					arrived, left = c.Wire, c.Inside
				}
				came := make(map[string]*lab.Packet)
				for _, p := range arrived.SIP(lab.Request("INVITE")) {
					came[p.SIP.CallID()] = p
				}
				whole, fragmented := 0, 0
				for _, p := range left.SIP(lab.Request("INVITE")) {
					was := came[p.SIP.CallID()]
					grown := len(p.Payload) > len(was.Payload)
					switch {
					case p.Fragments > 1:
						fragmented++
					case was.Fragments == 1:
						whole++
						if p.DF != (was.DF && !grown) {
							t.Errorf("DF is %v in %v, it was %v before", p.DF, p, was.DF)
						}
					}
				}
				if whole == 0 || outbound && fragmented == 0 {
					t.Errorf("of the INVITEs that the firewall sent, %d are whole, %d fragmented", whole, fragmented)
				}
				c.WaitClosed()
			})
		}
	}
}

// TestMessageFragments: messages of several fragments each way, and the media
// that they agree on.
func TestMessageFragments(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3001, 4500, 9000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			c := newConversation(t, lab.Options{})
			for _, way := range c.ways() {
				text := map[*party]string{c.alice: c.alice.sdp([]lab.Line{{Port: 4000}}), c.bob: c.bob.sdp([]lab.Line{{Port: 6000}})}
				wire, inside := c.Wire.Mark(), c.Inside.Mark()
				c.negotiate(way[0], way[1], text[way[0]], text[way[1]], lab.Padded(size))
				for _, p := range []*lab.Packet{c.Wire.WaitSIP(wire, lab.Request("INVITE")), c.Inside.WaitSIP(inside, lab.Request("INVITE"))} {
					if want := size/1480 + 1; p.Fragments < want {
						t.Errorf("%v: not in %d fragments", p, want)
					}
				}
				c.talk()
				c.hangUp(way[1], way[0])
			}
		})
	}
}
