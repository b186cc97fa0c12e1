package nft

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/internal/netspace"
)

// TestAnswersLost: a socket that is too small for what the kernel has to say about a
// batch neither has Commit wait nor mixes up the next one.
func TestAnswersLost(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	size := func(bytes int) {
		t.Helper()
		must(t, unix.SetsockoptInt(table.elements.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes))
	}
	var b Batch
	for n := range uint16(200) {
		b.MapStream(netip.AddrPortFrom(inside1.Addr(), 10000+n), netip.AddrPortFrom(public1.Addr(), 10000+n), time.Hour)
	}
	nftRun(t, "delete table ip sipnatd")
	size(1)
	if err := table.Commit(&b); !errors.Is(err, ErrLost) {
		t.Errorf("without the table: %v", err)
	}
	size(1 << 18)
	must(t, table.Install(reference()))
	b.Reset()
	b.MapStream(inside1, public1, time.Hour)
	must(t, table.Commit(&b))
	wantMappings(t, table, Mapping{Inside: inside1, Public: public1, Stream: true})
}
