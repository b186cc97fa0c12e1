package divert

import (
	"bytes"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/google/nftables"
)

func TestOverload(t *testing.T) {
	kind := queueKinds(t)[0]
	const packets = 400
	for _, tc := range []struct {
		name    string
		cfg     Config
		dropped func(KernelStats) uint64
	}{
		{"queue full", Config{MaxLen: 32}, func(k KernelStats) uint64 { return k.QueueDropped }},
		{"socket full", Config{MaxLen: 4096, ReceiveBuffer: 4096}, func(k KernelStats) uint64 { return k.UserDropped }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t, 1500, 1500)
			r := n.router.rules(t, nftables.ChainHookForward)
			r.queue(t, kind, outside4.Port(), testQueue)
			passed := r.counted(t, outside4.Port())
			server, client := n.outside.listen(t, outside4), n.inside.dial(t, inside4, outside4)
			gate := make(chan struct{})
			tc.cfg.First = testQueue
			d, stop := n.router.serve(t, tc.cfg, HandlerFunc(func(int, *Packet) Result {
				<-gate
				return Result{}
			}))
			for range packets {
				if _, err := client.Write(pattern(1000)); err != nil {
					t.Fatal(err)
				}
			}
			var k KernelStats
			await(t, "all queued or dropped", func() bool {
				k = d.Stats()[0].Kernel
				return k.Waiting+k.Dropped() == packets
			})
			if tc.dropped(k) == 0 || tc.dropped(k) != k.Dropped() {
				t.Errorf("%+v", k)
			}
			close(gate)
			await(t, "recovery", func() bool { return d.Stats()[0].Kernel.Waiting == 0 })

			// From then on as if nothing had been.
			for range k.Waiting {
				receive(t, server)
			}
			for i := range 50 {
				if _, err := client.Write(pattern(100 + i)); err != nil {
					t.Fatal(err)
				}
				if got := receive(t, server); !bytes.Equal(got, pattern(100+i)) {
					t.Fatal("another packet arrives")
				}
			}
			stop()
			checkSettled(t, d)
			s := d.Stats()[0]
			if s.Accepted != k.Waiting+50 || s.Kernel.Dropped() != k.Dropped() || passed() != s.Accepted {
				t.Errorf("%d pass; %+v", passed(), s)
			}
		})
	}
}

// flood is a namespace where packets to a local port are queued, and a queue
// that is filled with them before its worker may begin.
type flood struct {
	d     *Divert
	send  func(n int)
	begin func() // let the worker go on
}

func newFlood(t testing.TB, maxLen, size int, result Result) *flood {
	t.Helper()
	kind := queueKinds(t)[0]
	n := newNamespace(t)
	r := n.rules(t, nftables.ChainHookOutput)
	r.queue(t, kind, 5060, testQueue)
	to := netip.MustParseAddrPort("127.0.0.1:5060")
	n.listen(t, to)
	client := n.dial(t, netip.AddrPort{}, to)
	gate := make(chan struct{})
	d, _ := n.serve(t, Config{First: testQueue, MaxLen: uint32(maxLen), ReceiveBuffer: maxLen * 4096},
		HandlerFunc(func(_ int, p *Packet) Result {
			if len(p.Payload) == 4 { // a packet that closes the gate
				<-gate
			}
			return result
		}))
	payload := pattern(size)
	return &flood{d: d,
		send: func(n int) {
			before := d.Stats()[0]
			for i := range n + 1 {
				b := payload
				if i == 0 {
					b = []byte("wait")
				}
				if _, err := client.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			await(t, "queue filled", func() bool {
				k := d.Stats()[0].Kernel
				if k.Dropped() > before.Kernel.Dropped() {
					t.Fatalf("packets were dropped: %+v", k)
				}
				return k.Waiting == uint64(n+1)
			})
		},
		begin: func() { gate <- struct{}{} },
	}
}

// settle waits until n more packets than before are done.
func (f *flood) settle(done uint64) {
	for f.d.workers[0].count.packets.Load() < done {
		time.Sleep(100 * time.Microsecond)
	}
}

func TestKernelPathDoesNotAllocate(t *testing.T) {
	const packets = 2000
	f := newFlood(t, packets+1, 900, Result{Rewrite, pattern(960)})
	f.send(packets)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f.begin()
	f.settle(packets + 1)
	runtime.ReadMemStats(&after)
	// The runtime and the test itself allocate now and then.
	if n := after.Mallocs - before.Mallocs; n > packets/20 {
		t.Errorf("%d allocations for %d packets", n, packets)
	}
}

// BenchmarkKernel measures the service of packets that wait already: read,
// handler, verdict and the kernel's sending on, by one worker.
func BenchmarkKernel(b *testing.B) {
	const batch = 4000
	for _, bc := range []struct {
		name   string
		result Result
	}{{"accept", Result{}}, {"rewrite", Result{Rewrite, pattern(960)}}} {
		b.Run(bc.name, func(b *testing.B) {
			f := newFlood(b, batch+1, 900, bc.result)
			b.ReportAllocs()
			b.ResetTimer()
			served := uint64(0)
			for left := b.N; left > 0; left -= batch {
				n := min(left, batch)
				b.StopTimer()
				f.send(n)
				b.StartTimer()
				f.begin()
				served += uint64(n) + 1
				f.settle(served)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
		})
	}
}
