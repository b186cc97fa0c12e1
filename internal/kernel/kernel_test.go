package kernel

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/netspace"
	"sipnatd/internal/nft"
	"sipnatd/nat"
)

var config = nft.Config{Inside: []string{"eth0"}, Outside: []string{"ppp0"}, SIPPorts: []uint16{5060}, QueueFirst: 5060, Queues: 1}

func newKernel(t testing.TB) (*Kernel, *nft.Table, *conntrack.Conn) {
	t.Helper()
	netspace.New(t)
	log := slog.New(slog.DiscardHandler)
	track, err := conntrack.Open(conntrack.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { track.Close() })
	table, err := nft.Open(config, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return New(config, table, track, log), table, track
}

func endpoint(host string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port))
}

// stream returns the changes that an offer with one audio stream makes, and
// those of its answer and its end.
func stream(n int) (offer, answer, end []nat.Change) {
	source := endpoint("198.51.100.20", 0)
	for i := range 2 {
		in, pub := endpoint("10.0.0.10", 4000+2*n+i), endpoint("203.0.113.1", 7070+2*n+i)
		offer = append(offer,
			nat.Change{Verb: nat.OpenStream, Inside: in, Public: pub, Lease: 4 * time.Minute},
			nat.Change{Verb: nat.OpenGuard, Inside: in, Public: pub})
		answer = append(answer,
			nat.Change{Verb: nat.RenewStream, Inside: in, Public: pub, Lease: 30 * time.Minute},
			nat.Change{Verb: nat.AllowSource, Inside: in, Public: pub, Far: source},
			nat.Change{Verb: nat.CloseGuard, Inside: in, Public: pub},
			nat.Change{Verb: nat.AllowEgress, Inside: in, Public: pub, Far: endpoint("198.51.100.20", 6000+2*n+i)})
		end = append(end, nat.Change{Verb: nat.CloseStream, Inside: in, Public: pub})
	}
	return offer, answer, end
}

// BenchmarkStream is the price of an audio stream, before the verdict of the
// message that makes each step. The bound is 400 µs for a step.
func BenchmarkStream(b *testing.B) {
	k, _, _ := newKernel(b)
	apply := func(c []nat.Change) time.Duration {
		begin := time.Now()
		if err := k.Apply(c); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
	var spent [3]time.Duration
	for i := 0; b.Loop(); i++ {
		offer, answer, end := stream(i % 400)
		for step, c := range [][]nat.Change{offer, answer, end} {
			spent[step] += apply(c)
		}
	}
	for step, name := range []string{"offer", "answer", "end"} {
		b.ReportMetric(float64(spent[step].Microseconds())/float64(b.N), name+"-µs")
	}
}

// TestApply checks the whole life of a stream in the kernel, with many others
// around it.
func TestApply(t *testing.T) {
	k, table, track := newKernel(t)
	const streams = 50
	for n := range streams {
		offer, answer, _ := stream(n)
		for _, c := range [][]nat.Change{offer, answer} {
			if err := k.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	mappings, err := table.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	if len(mappings) != 2*streams {
		t.Fatalf("%d mappings, want %d", len(mappings), 2*streams)
	}
	for _, m := range mappings {
		if !m.Stream || m.Open || fmt.Sprint(m.Hosts) != "[198.51.100.20]" || m.Expires < 29*time.Minute {
			t.Errorf("answered stream %+v", m)
		}
	}
	if track.Helper() != conntrack.HelperNone && len(track.Anchors()) != 2*streams {
		t.Errorf("%d anchors, want %d", len(track.Anchors()), 2*streams)
	}
	for n := range streams {
		_, _, end := stream(n)
		if err := k.Apply(end); err != nil {
			t.Fatal(err)
		}
	}
	if mappings, _ := table.Mappings(); len(mappings) != 0 || len(track.Anchors()) != 0 {
		t.Errorf("left after the end: %v, anchors %v", mappings, track.Anchors())
	}
}
