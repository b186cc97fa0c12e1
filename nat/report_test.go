package nat

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestReportsAreFew: ever other hosts do not fill the log, and what is left out is told.
func TestReportsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		r := newReporter(slog.New(slog.NewTextHandler(&out, nil)))
		flood := func() {
			for i := range 10_000 {
				r.warn("notsip", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "no SIP")
			}
		}
		flood()
		if n := strings.Count(out.String(), "\n"); n != reportsOfKind {
			t.Errorf("%d lines, want %d", n, reportsOfKind)
		}
		r.warn("limit", netip.Addr{}, "another kind")
		if !strings.Contains(out.String(), "another kind") {
			t.Error("another kind is not written")
		}
		time.Sleep(reportsTime)
		out.Reset()
		flood()
		first, _, _ := strings.Cut(out.String(), "\n")
		if want := fmt.Sprintf(`"others that were not written"=%d`, 10_000-reportsOfKind); !strings.Contains(first, want) {
			t.Errorf("first line %q, want %s in it", first, want)
		}
		if n := strings.Count(out.String(), "\n"); n != reportsOfKind {
			t.Errorf("%d lines in the next minute, want %d", n, reportsOfKind)
		}
	})
}
