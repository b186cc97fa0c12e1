package kernel

import (
	"testing"
	"time"

	"sipnatd/internal/nft"
)

// TestServe: SIP that may bypass the queue waits for the daemon as long as one runs;
// where it may not, there is nothing to be done.
func TestServe(t *testing.T) {
	for _, bypass := range []bool{true, false} {
		k, table, _ := newFake(t)
		k.config.Bypass = bypass
		now := time.Now()
		k.tick(now)
		if got := len(table.sets["serving"]) > 0; got != bypass {
			t.Fatalf("bypass %v: the sets are %v", bypass, table.sets)
		}
		delete(table.sets, "serving")
		k.tick(now.Add(nft.ServingRenewal - time.Second))
		if len(table.sets["serving"]) > 0 {
			t.Error("renewed too early")
		}
		k.tick(now.Add(nft.ServingRenewal))
		if got := len(table.sets["serving"]) > 0; got != bypass {
			t.Errorf("bypass %v: after a while the sets are %v", bypass, table.sets)
		}
	}
}
