package conntrack

import (
	"net/netip"
	"testing"
	"time"

	"sipnatd/internal/netspace"
)

// BenchmarkStream opens and closes what an audio stream needs: an anchor for
// RTP and one for RTCP.
func BenchmarkStream(b *testing.B) {
	for _, helper := range []Helper{HelperOwn, HelperSIP} {
		for _, test := range []struct {
			name   string
			egress bool
		}{{"offer", false}, {"offer+answer", true}} {
			b.Run(helper.String()+"/"+test.name, func(b *testing.B) {
				netspace.New(b)
				c := open(b, helper)
				rtcp := netip.AddrPortFrom(public.Addr(), public.Port()+1)
				farRTCP := netip.AddrPortFrom(far.Addr(), far.Port()+1)
				var batch Batch
				commit := func() time.Duration {
					start := time.Now()
					if err := c.Commit(&batch); err != nil {
						b.Fatal(err)
					}
					return time.Since(start)
				}
				var opening, closing time.Duration
				b.ReportAllocs()
				for b.Loop() {
					batch.OpenAnchor(public, time.Minute)
					batch.OpenAnchor(rtcp, time.Minute)
					if test.egress {
						batch.Expect(public, far)
						batch.Expect(rtcp, farRTCP)
					}
					opening += commit()
					batch.CloseAnchor(public)
					batch.CloseAnchor(rtcp)
					closing += commit()
				}
				report := func(d time.Duration, unit string) {
					b.ReportMetric(float64(d.Nanoseconds())/1e3/float64(b.N), unit)
				}
				report(opening, "µs/open")
				report(closing, "µs/close")
			})
		}
	}
}

func BenchmarkRenew(b *testing.B) {
	netspace.New(b)
	c := open(b)
	var batch Batch
	batch.OpenAnchor(public, time.Minute)
	if err := c.Commit(&batch); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		batch.Renew(public, time.Minute)
		if err := c.Commit(&batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	netspace.New(b)
	c := open(b, HelperNone)
	t := Tuple{Src: phone, Dst: far}
	createFlow(b, c, t, time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Lookup(t); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSelect selects one of a hundred thousand flows.
func BenchmarkSelect(b *testing.B) {
	netspace.New(b)
	c := open(b)
	fillTable(b, c, 100_000)
	t := Tuple{Src: phone, Dst: far}
	createFlow(b, c, t, time.Hour)
	for b.Loop() {
		if f, err := c.Select(Filter{Orig: Tuple{Src: phone}}); err != nil || len(f) != 1 {
			b.Fatal(f, err)
		}
	}
}

// fillTable makes n entries.
func fillTable(t testing.TB, c *Conn, n int) {
	t.Helper()
	for i := range n {
		if i%maxMessages == 0 {
			exchange(t, c)
		}
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 16), byte(i >> 8)})
		c.ch.enc.newAnchor(c.ch.next(), netip.AddrPortFrom(addr, uint16(1+i&0xff)), c.policy.name, 3600)
	}
	exchange(t, c)
}
