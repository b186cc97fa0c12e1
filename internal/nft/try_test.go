package nft

import (
	"strings"
	"testing"

	"sipnatd/internal/netspace"
)

// TestTry: what is tried leaves nothing behind. Maps are there in every kernel that
// the daemon works with.
func TestTry(t *testing.T) {
	netspace.New(t)
	must(t, ProbeMaps())
	if err := ProbeFlowtable(); err != nil && !strings.Contains(err.Error(), "the kernel refuses a flowtable") {
		t.Error(err)
	}
	if got := nftList(t, "list", "ruleset"); got != "" {
		t.Errorf("left:\n%s", got)
	}
}
