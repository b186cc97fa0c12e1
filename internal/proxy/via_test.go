package proxy

import (
	"bytes"
	"net/netip"
	"testing"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// TestAckAgain: the ACK of a 2xx that comes again leaves as it did before (RFC 3261
// section 16.11), or the other side would not know it again; another ACK does not.
func TestAckAgain(t *testing.T) {
	w := newWorld(t, Config{})
	branches := make([]string, 3)
	for i, branch := range []string{"a", "a", "b"} {
		w.proxy.Arrived(transport.Arrival{
			Hop: transport.Hop{
				Local: netip.MustParseAddrPort(insideAddr + ":5060"), Remote: netip.MustParseAddrPort("10.0.0.10:5060"),
			},
			Data: bytes.Clone(call("ACK", "sip:bob@198.51.100.7", branch)),
		})
		if len(w.sent) != i+1 {
			t.Fatalf("%d messages are sent for %d", len(w.sent), i+1)
		}
		var m sipmsg.Message
		if err := m.Index(w.sent[i].data); err != nil {
			t.Fatal(err)
		}
		branches[i] = string(m.Bytes(m.Via.Branch))
	}
	if branches[0] != branches[1] || branches[1] == branches[2] {
		t.Errorf("%q", branches)
	}
}
