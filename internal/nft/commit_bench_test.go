package nft

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"

	"sipnatd/internal/netspace"
)

// BenchmarkCommit opens an answered audio stream and closes it again: twice 10
// elements.
func BenchmarkCommit(b *testing.B) {
	netspace.New(b)
	for _, way := range []struct {
		name string
		how  renewal
	}{{"best", 255}, {"reinsert", renewReinsert}} {
		b.Run(way.name, func(b *testing.B) {
			table := open(b, reference())
			if way.how != 255 {
				table.features, table.elements.renewal = Features{}, way.how
			}
			var add, remove Batch
			audioStream(&add, 7070)
			for i := range uint16(2) {
				inside := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, 2}), 7070+i)
				remove.Unmap(inside, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 1}), 7070+i), true)
				remove.RevokeSource(netip.AddrFrom4([4]byte{198, 51, 100, 2}), inside)
			}
			var adding time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				must(b, table.Commit(&add))
				adding += time.Since(start)
				must(b, table.Commit(&remove))
			}
			b.ReportMetric(float64(adding.Microseconds())/float64(b.N), "µs/add")
		})
	}
}

// BenchmarkLibrary does the same through the library, for comparison.
func BenchmarkLibrary(b *testing.B) {
	netspace.New(b)
	table := open(b, reference())
	var add Batch
	audioStream(&add, 7070)
	conn := table.slow.conn
	apply := func(do func(*nftables.Set, []nftables.SetElement) error) {
		for s := firstLeased; s <= lastLeased; s++ {
			var elems []nftables.SetElement
			for _, o := range add.ops {
				if o.set == s {
					e := nftables.SetElement{Key: o.key[:s.spec().key.size()], Timeout: time.Hour}
					if s.spec().data != none {
						e.Val = o.data[:s.spec().data.size()]
					}
					elems = append(elems, e)
				}
			}
			if elems != nil {
				must(b, do(s.declare(table.table), elems))
			}
		}
		must(b, conn.Flush())
	}
	var adding time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		apply(conn.SetAddElements)
		adding += time.Since(start)
		apply(conn.SetDeleteElements)
	}
	b.ReportMetric(float64(adding.Microseconds())/float64(b.N), "µs/add")
}
