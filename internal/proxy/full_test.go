package proxy

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/transport"
)

// What the proxy may take when its limits are reached: for what is on its way, and for
// what it remembers of dialogs.
const (
	fullRequests = 56 << 20
	fullDialogs  = 36 << 20
)

func heap() int {
	runtime.GC()
	runtime.GC() // what was in use when the first one began
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestFull fills the limits with requests from inside that nobody answers, ordinary ones
// and the longest that there are, and measures the memory.
func TestFull(t *testing.T) {
	for method, paddings := range map[string][]int{"INVITE": {0, 60000}, "MESSAGE": {500}, "OPTIONS": {500}} {
		for _, padding := range paddings {
			t.Run(fmt.Sprint(method, " ", padding), func(t *testing.T) {
				w := newWorld(t, Config{})
				empty := heap()
				uri := "sip:bob@203.0.113.10"
				if method == "OPTIONS" {
					uri = "sip:10.0.0.1" // answered at once
				}
				for i := 0; i < 20000 && w.proxy.Stats().Stats.Refused < 100; i++ {
					from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i%200)}), 5060)
					text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %v;branch=z9hG4bK%d\r\nMax-Forwards: 70\r\n"+
						"From: <sip:alice@10.0.0.1>;tag=%[4]d\r\nTo: <%[2]s>\r\nCall-ID: full%[4]d\r\nCSeq: 1 %[1]s\r\n"+
						"Contact: <sip:alice@%[3]v>\r\nX-Padding: %[5]s\r\nContent-Length: 0\r\n\r\n", method, uri, from, i, strings.Repeat("x", padding))
					w.proxy.Arrived(transport.Arrival{
						Hop:  transport.Hop{Kind: transport.UDP, Local: netip.MustParseAddrPort("10.0.0.1:5060"), Remote: from},
						Data: []byte(text),
					})
					w.sent = w.sent[:0]
					w.log.Reset()
				}
				w.sent, w.tokens, w.lines = nil, nil, nil
				took, s := heap()-empty, w.proxy.Stats()
				t.Logf("%.1f MiB: %d server and %d client transactions, %d bytes of messages, %d refused",
					float64(took)/(1<<20), s.Servers, s.Clients, w.proxy.layer.Bytes(), s.Stats.Refused)
				if took > fullRequests {
					t.Errorf("%d bytes, more than %d", took, fullRequests)
				}
			})
		}
	}
}

// TestFullDialogs fills what is remembered of dialogs, with the longest texts.
func TestFullDialogs(t *testing.T) {
	d := new(dialogs)
	empty := heap()
	for i := range 2 * maxDialogs {
		host := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		if x := d.remember(host, fmt.Append(nil, i), []byte("tag")); x != nil {
			text := func() string { return strings.Repeat("x", maxDialogText) }
			x.local, x.remote, x.callID, x.routes = text(), text(), text(), []byte(text())
			d.save(d.key(fmt.Append(nil, i), []byte("tag")), x)
		}
	}
	took := heap() - empty
	t.Logf("%.1f MiB: %d dialogs", float64(took)/(1<<20), len(d.list))
	if took > fullDialogs {
		t.Errorf("%d bytes, more than %d", took, fullDialogs)
	}
	d.expire(time.Now().Add(2 * dialogTime))
	if len(d.list) != 0 {
		t.Errorf("%d dialogs are left", len(d.list))
	}
}
