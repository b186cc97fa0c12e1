package transaction

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sipnatd/internal/transport"
)

// flood lets requests arrive, each from a host of its own, and returns how many of them
// were let in.
func (w *world) flood(n int, network byte, padding int) (in int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.layer.Stats().Requests
	for i := range n {
		h := hop(transport.UDP)
		h.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{network, 0, byte(i >> 8), byte(i)}), 5060)
		m := bytes.Replace(message("", "OPTIONS"), []byte("Call-ID"), fmt.Appendf(nil, "X: %0*d\r\nCall-ID", padding, i), 1)
		if err := w.layer.Arrived(transport.Arrival{Hop: h, Data: m}); err != nil {
			w.t.Error(err)
		}
	}
	w.notes = nil
	return int(w.layer.Stats().Requests - before)
}

// TestStrangers: a flood from outside, of any number of hosts and of messages of any
// size, leaves room for those inside, and memory is bounded.
func TestStrangers(t *testing.T) {
	outside := func(h transport.Hop) bool { return h.Remote.Addr().As4()[0] != 10 }
	end := func(w *world) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range w.layer.servers {
			s.GiveUp()
		}
		if w.layer.held != 0 {
			t.Errorf("%d bytes are held by nobody", w.layer.held)
		}
	}
	t.Run("requests", func(t *testing.T) {
		in(t, Limits{Servers: 400, Stranger: outside}, func(w *world) {
			if n := w.flood(1000, 100, 1); n != 300 {
				t.Errorf("%d requests of strangers are let in", n)
			}
			if n := w.flood(1000, 10, 1); n != 100 {
				t.Errorf("%d requests from inside are let in", n)
			}
			end(w)
		})
	})
	t.Run("bytes", func(t *testing.T) {
		in(t, Limits{Stranger: outside}, func(w *world) {
			if n := w.flood(1000, 100, 60000); n < 80 || n > 110 {
				t.Errorf("%d requests of strangers are let in", n)
			}
			if n := w.flood(1000, 10, 60000); n < 25 || n > 40 {
				t.Errorf("%d requests from inside are let in", n)
			}
			if held := w.layer.held; held > 16<<20 {
				t.Errorf("%d bytes are held", held)
			}
			end(w)
		})
	})
}

// TestRefuse: a refused sender costs no memory and gets one answer for each request, the
// same if it asks again.
func TestRefuse(t *testing.T) {
	in(t, Limits{}, func(w *world) {
		var tags []string
		for range 2 {
			w.arrive(transport.UDP, "", "INVITE")
			tags = append(tags, w.last.Tag())
			w.mu.Lock()
			w.last.Refuse(message("403 Forbidden", "INVITE"))
			if s := w.layer.Stats(); s.Servers != 0 {
				t.Errorf("%d transactions are left", s.Servers)
			}
			w.mu.Unlock()
		}
		w.wait(time.Minute)
		answer := at(0, "> 203.0.113.10:5062 SIP/2.0 403 Forbidden")
		w.expect(at(0, "request"), answer, at(0, "request"), answer)
		if tags[0] != tags[1] {
			t.Errorf("the answers have the tags %q", tags)
		}
	})
}
