package kernel

import (
	"net/netip"
	"testing"
	"time"
)

// TestKnowWhenFull: where there are too many hosts, they are not all looked at for each
// one that comes: packets wait for that.
func TestKnowWhenFull(t *testing.T) {
	k, table, _ := newFake(t)
	a := netip.MustParseAddr("198.51.0.0")
	for range maxHosts {
		k.hosts[a] = time.Now().Add(time.Hour)
		a = a.Next()
	}
	know := func() int {
		t.Helper()
		a = a.Next()
		if err := k.Know(a); err != nil {
			t.Fatal(err)
		}
		return len(table.sets["known"])
	}
	if know() != 0 {
		t.Error("one too many is known")
	}
	for host := range k.hosts { // their time is over
		k.hosts[host] = time.Now().Add(-time.Second)
	}
	if know() != 0 {
		t.Error("they are looked at again at once")
	}
	k.hostsRead = time.Now().Add(-hostsEvery)
	if know() != 1 || len(k.hosts) != 1 {
		t.Error("there is no room again")
	}
}
