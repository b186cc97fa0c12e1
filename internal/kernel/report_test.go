package kernel

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sipnatd/conntrack"
	"sipnatd/nat"
)

// TestStreamReport: when a stream is over, the debug log tells what went in and
// out, the last packets of its flows included.
func TestStreamReport(t *testing.T) {
	k, _, _ := newFake(t)
	var log bytes.Buffer
	k.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	apply(t, k, nat.OpenStream)
	out, in := outgoing(phone, far, public), incoming(far, public, phone)
	k.Event(conntrack.Event{Flow: out})
	k.Event(conntrack.Event{Flow: in})
	apply(t, k, nat.CloseStream)
	out.OrigPackets, out.OrigBytes, out.ReplyPackets, out.ReplyBytes = 100, 20000, 1, 200
	in.OrigPackets, in.OrigBytes, in.ReplyPackets, in.ReplyBytes = 7, 1400, 5, 1000
	k.Event(conntrack.Event{Flow: out, Destroyed: true})
	k.Event(conntrack.Event{Flow: in, Destroyed: true})
	k.tick(time.Now().Add(guardLinger + time.Second))
	const want = `msg="stream ended" class=rtp inside=10.0.0.10:4000 public=203.0.113.1:7070 "packets in"=8 "bytes in"=1600 "packets out"=105 "bytes out"=21000`
	if got := log.String(); !strings.Contains(got, want) {
		t.Errorf("log:\n%s\nwant %s", got, want)
	}
}
