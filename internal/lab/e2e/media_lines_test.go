package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestMediaLines: many forms of session descriptions, offered from inside and
// from outside. Media of every m-line runs both ways.
func TestMediaLines(t *testing.T) {
	t.Parallel()
	video := func(port int, attrs ...string) lab.Line {
		return lab.Line{Kind: "video", Port: port, Attrs: attrs}
	}
	audio := func(port int, attrs ...string) lab.Line { return lab.Line{Port: port, Attrs: attrs} }
	bundle := []string{"t=0 0", "t=0 0\r\na=group:BUNDLE 0 1"}
	for _, x := range []struct {
		name       string
		alice, bob []lab.Line
		about      []string // what is to be replaced in the session descriptions
	}{
		{"audio and video", []lab.Line{audio(4000), video(4002)}, []lab.Line{audio(6000), video(6002)}, nil},
		{"five m-lines",
			[]lab.Line{audio(4000), video(4002), audio(4010), {Kind: "image", Port: 4020, Proto: "udptl", Fmt: "t38"}, video(4004)},
			[]lab.Line{audio(6000), video(6002), audio(6010), {Kind: "image", Port: 6020, Proto: "udptl", Fmt: "t38"}, video(6004)}, nil},
		{"a=rtcp with a port", []lab.Line{audio(4000, "a=rtcp:4011")}, []lab.Line{audio(6000, "a=rtcp:6021")}, nil},
		{"a=rtcp with an address",
			[]lab.Line{audio(4000, "a=rtcp:4011 IN IP4 10.0.0.10")}, []lab.Line{audio(6000, "a=rtcp:6021 IN IP4 203.0.113.10")}, nil},
		{"a=rtcp inside only", []lab.Line{audio(4000, "a=rtcp:4011"), video(4002)}, []lab.Line{audio(6000), video(6002)}, nil},
		{"two m-lines with one RTCP port", []lab.Line{audio(4000, "a=rtcp:4011"), video(4010)}, []lab.Line{audio(6000), video(6002)}, nil},
		{"odd RTP port", []lab.Line{audio(4001)}, []lab.Line{audio(6001)}, nil},
		{"rtcp-mux", []lab.Line{audio(4000, "a=rtcp-mux")}, []lab.Line{audio(6000, "a=rtcp-mux")}, nil},
		{"rtcp-mux and a=rtcp", []lab.Line{audio(4000, "a=rtcp:4000", "a=rtcp-mux")}, []lab.Line{audio(6000, "a=rtcp:6000", "a=rtcp-mux")}, nil},
		{"BUNDLE before it is agreed",
			[]lab.Line{audio(4000, "a=mid:0", "a=rtcp-mux"), video(4002, "a=mid:1", "a=rtcp-mux")},
			[]lab.Line{audio(6000, "a=mid:0", "a=rtcp-mux"), video(6000, "a=mid:1", "a=rtcp-mux")}, bundle},
		{"BUNDLE on one port",
			[]lab.Line{audio(4000, "a=mid:0", "a=rtcp-mux"), video(4000, "a=mid:1", "a=rtcp-mux")},
			[]lab.Line{audio(6000, "a=mid:0", "a=rtcp-mux"), video(6000, "a=mid:1", "a=rtcp-mux")}, bundle},
		{"c= in each section", []lab.Line{audio(4000, "c=IN IP4 10.0.0.10"), video(4002, "c=IN IP4 10.0.0.10")},
			[]lab.Line{audio(6000, "c=IN IP4 203.0.113.10"), video(6002, "c=IN IP4 203.0.113.10")},
			[]string{"s=-\r\nc=IN IP4 10.0.0.10", "s=-", "s=-\r\nc=IN IP4 203.0.113.10", "s=-"}},
		{"b= after a=, LF only", []lab.Line{audio(4000, "a=ptime:20", "b=AS:64")}, []lab.Line{audio(6000, "a=ptime:20", "b=AS:64")},
			[]string{"\r\n", "\n"}},
		{"secure RTP", []lab.Line{{Port: 4000, Proto: "UDP/TLS/RTP/SAVPF", Fmt: "0"}}, []lab.Line{{Port: 6000, Proto: "UDP/TLS/RTP/SAVPF", Fmt: "0"}}, nil},
		{"refused in the answer of bob", []lab.Line{audio(4000), video(4002)}, []lab.Line{audio(6000), video(0)}, nil},
		{"refused in the answer of alice", []lab.Line{audio(4000), video(0)}, []lab.Line{audio(6000), video(6002)}, nil},
		{"far ports below 1024", []lab.Line{audio(4000)}, []lab.Line{audio(500)}, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newConversation(t, lab.Options{})
			for _, way := range c.ways() {
				text := map[*party]string{c.alice: c.alice.sdp(x.alice, x.about...), c.bob: c.bob.sdp(x.bob, x.about...)}
				c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
				c.onlyAgreed()
				c.talk()
				c.hangUp(way[0], way[1])
			}
		})
	}
}

// onlyAgreed checks that the kernel's streams lead to m-lines that both parties
// have: what an answer refused is closed.
func (c *conversation) onlyAgreed() {
	c.T.Helper()
	var allowed []netip.AddrPort
	for i, a := range c.alice.has {
		if a.RTP.Port() != 0 && c.bob.has[i].RTP.Port() != 0 {
			allowed = append(allowed, a.RTP, a.RTCP)
			if rtp := a.RTP; a.RTCP == rtp { // the offer of rtcp-mux may be declined
				allowed = append(allowed, netip.AddrPortFrom(rtp.Addr(), rtp.Port()+1))
			}
		}
	}
	for public, inside := range c.Streams() {
		if !slices.Contains(allowed, inside) {
			c.T.Errorf("stream %v leads to %v, which no agreed m-line names", public, inside)
		}
	}
}

// TestMediaBundleOnly: a bundled m-line with port 0 is not refused (RFC 9143
// section 6).
func TestMediaBundleOnly(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	group := []string{"t=0 0", "t=0 0\r\na=group:BUNDLE 0 1"}
	lines := func(port, second int, attrs ...string) []lab.Line {
		return []lab.Line{
			{Port: port, Attrs: []string{"a=mid:0", "a=rtcp-mux"}},
			{Kind: "video", Port: second, Attrs: append([]string{"a=mid:1", "a=rtcp-mux"}, attrs...)},
		}
	}
	for _, way := range c.ways() {
		port := map[*party]int{c.alice: 4000, c.bob: 6000}
		offer := way[0].sdp(lines(port[way[0]], 0, "a=bundle-only"), group...)
		answer := way[1].sdp(lines(port[way[1]], port[way[1]]), group...)
		c.negotiate(way[0], way[1], offer, answer)
		if got := way[0].told; got[1].RTP != got[0].RTP {
			t.Errorf("the bundled m-line is at %v, its bundle at %v", got[1].RTP, got[0].RTP)
		}
		c.talk()
		c.hangUp(way[0], way[1])
	}
}

// TestMediaContiguousPorts: m=audio 5000/2 asks for two pairs of ports in a row
// (RFC 8866 section 5.14).
func TestMediaContiguousPorts(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	for _, way := range c.ways() {
		text := map[*party]string{
			c.alice: c.alice.sdp([]lab.Line{{Port: 4000}}, "audio 4000", "audio 4000/2"),
			c.bob:   c.bob.sdp([]lab.Line{{Port: 6000}}, "audio 6000", "audio 6000/2"),
		}
		c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
		c.talk()
		for i := range 4 {
			next := func(ep netip.AddrPort) netip.AddrPort {
				return netip.AddrPortFrom(ep.Addr(), ep.Port()+uint16(i))
			}
			c.announced[next(c.bob.told[0].RTP)] = true
			c.both(c.at(next(c.alice.has[0].RTP)), next(c.alice.told[0].RTP),
				c.at(next(c.bob.has[0].RTP)), next(c.bob.told[0].RTP), (*lab.Socket).SendRTP)
		}
		if sdp := c.bob.dialog.Invite.Body; way[0] == c.alice && !strings.Contains(sdp, "/2 RTP/AVP") {
			t.Errorf("the number of ports is lost:\n%s", sdp)
		}
		c.hangUp(way[0], way[1])
	}
}

// TestMediaFax: in a running call a re-INVITE goes over to T.38 (ITU-T T.38
// annex D), on the same ports or on others, and back to audio.
func TestMediaFax(t *testing.T) {
	t.Parallel()
	audio := func(port int) lab.Line { return lab.Line{Port: port} }
	fax := func(port int) lab.Line {
		return lab.Line{Kind: "image", Port: port, Proto: "udptl", Fmt: "t38", Attrs: []string{"a=T38FaxVersion:0"}}
	}
	for _, x := range []struct {
		name       string
		alice, bob []lab.Line
	}{
		{"in the place of audio", []lab.Line{fax(4000)}, []lab.Line{fax(6000)}},
		{"on other ports", []lab.Line{fax(4100)}, []lab.Line{fax(6100)}},
		{"beside audio of port 0", []lab.Line{audio(0), fax(4101)}, []lab.Line{audio(0), fax(6101)}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newConversation(t, lab.Options{})
			for _, way := range c.ways() {
				talk := map[*party]string{c.alice: c.alice.sdp([]lab.Line{audio(4000)}), c.bob: c.bob.sdp([]lab.Line{audio(6000)})}
				text := map[*party]string{c.alice: c.alice.sdp(x.alice), c.bob: c.bob.sdp(x.bob)}
				c.negotiate(way[0], way[1], talk[way[0]], talk[way[1]])
				c.talk()
				c.negotiate(way[1], way[0], text[way[1]], text[way[0]])
				c.onlyAgreed()
				c.talk()
				c.negotiate(way[1], way[0], talk[way[1]], talk[way[0]])
				c.talk()
				c.hangUp(way[0], way[1])
			}
		})
	}
}
