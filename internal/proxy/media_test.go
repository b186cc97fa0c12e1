package proxy

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"sipnatd/internal/transport"
	"sipnatd/nat"
)

// TestNoMedia: a call that could have no media is refused before anything rings, with
// words that lead to the cause. The next one, when there are ports again, goes on.
func TestNoMedia(t *testing.T) {
	const phone, provider = "10.0.0.10:5060", "203.0.113.10:5060"
	for name, way := range map[string]struct{ from, uri string }{
		"out": {phone, "sip:bob@203.0.113.10"},
		"in":  {provider, "sip:johndoe@foo.bar.org"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				w.bound["johndoe"] = []Contact{{URI: []byte("sip:johndoe@" + phone),
					Hop: transport.Hop{Kind: transport.UDP, Local: netip.MustParseAddrPort("10.0.0.1:5060"), Remote: netip.MustParseAddrPort(phone)}}}
				invite := func(branch string) {
					w.request(way.from, "INVITE", way.uri, "X-Try: "+branch)
					synctest.Wait()
				}
				w.noMedia = "no public port is left"
				invite("one")
				var answer string
				for _, s := range w.sent {
					if strings.HasPrefix(string(s.data), "INVITE") {
						t.Errorf("it goes on:\n%s", s.data)
					}
					answer = string(s.data)
				}
				if !strings.HasPrefix(answer, "SIP/2.0 488 Not Acceptable Here\r\n") || !strings.Contains(answer, nat.NoMediaWarning) {
					t.Errorf("the answer is\n%s", answer)
				}
				w.noMedia, w.sent = "", nil
				invite("two")
				if len(w.sent) == 0 || !strings.HasPrefix(string(w.sent[0].data), "INVITE") {
					t.Errorf("the next one is not sent on: %d messages", len(w.sent))
				}
			})
		})
	}
}
