package divert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

const testQueue = 5060

// resize is a handler that answers a payload whose first four bytes are a
// number with that many bytes.
func resize(_ int, p *Packet) Result {
	return Result{Rewrite, pattern(int(binary.BigEndian.Uint32(p.Payload)))}
}

// asks is a payload of n bytes for resize.
func asks(n, want int) []byte {
	b := pattern(n)
	binary.BigEndian.PutUint32(b, uint32(want))
	return b
}

// accept is a handler that lets all pass.
func accept(int, *Packet) Result { return Result{} }

func TestRewrittenPacketArrives(t *testing.T) {
	for _, kind := range queueKinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			n := newNetwork(t, 1500, 1500)
			r := n.router.rules(t, nftables.ChainHookForward)
			r.defragment(t)
			r.queue(t, kind, outside4.Port(), testQueue)
			d, _ := n.router.serve(t, Config{First: testQueue}, HandlerFunc(resize))
			sizes := []struct{ from, to int }{{100, 100}, {100, 101}, {101, 100}, {101, 163}, {500, 4}, {4, 0}, {700, 1472}, {1472, 701}, {1472, 1473}, {1472, 9001}, {900, 60000}}

			t.Run("raw IPv4", func(t *testing.T) {
				server, socket, wire := n.outside.listen(t, outside4), n.inside.raw(t), n.outside.tap(t)
				for _, options := range [][]byte{nil, routerAlert, bytes.Repeat([]byte{1}, 40)} {
					for _, size := range sizes {
						size.from = min(size.from, 1500-ipv4Len-len(options)-udpLen)
						for _, df := range []bool{false, true} {
							name := fmt.Sprintf("%d to %d, %d bytes of options, DF %v", size.from, size.to, len(options), df)
							p := testPacket{id: 77, df: df, options: options, payload: asks(size.from, size.to)}
							socket.send(t, p.bytes())
							if got := receive(t, server); !bytes.Equal(got, pattern(size.to)) {
								t.Fatalf("%s: %d bytes arrive, or others", name, len(got))
							}
							checkWire(t, name, wire, p, size.to)
						}
					}
				}
			})
			// Sockets leave the checksum to the (virtual) network card and cut
			// large datagrams into fragments.
			for _, ends := range [][2]netip.AddrPort{{inside4, outside4}, {inside6, outside6}} {
				t.Run("socket "+ends[1].String(), func(t *testing.T) {
					server, client := n.outside.listen(t, ends[1]), n.inside.dial(t, ends[0], ends[1])
					for _, size := range sizes {
						if ends[0].Addr().Is6() {
							size.from, size.to = min(size.from, 1452), min(size.to, 1452)
						}
						if _, err := client.Write(asks(size.from, size.to)); err != nil {
							t.Fatal(err)
						}
						if got := receive(t, server); !bytes.Equal(got, pattern(size.to)) {
							t.Fatalf("%v: %d bytes arrive, or others", size, len(got))
						}
					}
				})
			}
			t.Run("fragments in", func(t *testing.T) {
				server, client := n.outside.listen(t, outside4), n.inside.dial(t, inside4, outside4)
				for _, to := range []int{10, 2999, 3000, 3001, 4500} {
					if _, err := client.Write(asks(3000, to)); err != nil {
						t.Fatal(err)
					}
					if got := receive(t, server); !bytes.Equal(got, pattern(to)) {
						t.Fatalf("3000 to %d: %d bytes arrive, or others", to, len(got))
					}
				}
			})
			checkSettled(t, d)
		})
	}
}

// checkWire looks at the headers of a packet that was p before its payload
// became of size to, and went through one router.
func checkWire(t *testing.T, name string, wire tap, p testPacket, to int) {
	t.Helper()
	wantDF := p.df && to <= len(p.payload)
	for length := 0; length < udpLen+to; {
		b := wire.next(t)
		header := int(b[0]&15) * 4
		flags := binary.BigEndian.Uint16(b[6:])
		if got := int(flags&0x1fff) * 8; got != length {
			t.Fatalf("%s: fragment at %d, want %d", name, got, length)
		}
		if df := flags&0x4000 != 0; df != wantDF {
			t.Errorf("%s: DF %v, want %v", name, df, wantDF)
		}
		if slowChecksum(b[:header]) != 0 {
			t.Errorf("%s: IP header checksum is wrong", name)
		}
		if total := int(binary.BigEndian.Uint16(b[2:])); total != len(b) {
			t.Errorf("%s: total length %d of %d bytes", name, total, len(b))
		}
		if id := binary.BigEndian.Uint16(b[4:]); id != p.id {
			t.Errorf("%s: identification %d, want %d", name, id, p.id)
		}
		if b[8] != 62 || b[1] != 0xb8 {
			t.Errorf("%s: time to live %d, traffic class %#x", name, b[8], b[1])
		}
		// A fragment after the first has only those options that are to be copied.
		if length == 0 && !bytes.Equal(b[ipv4Len:header], p.options) {
			t.Errorf("%s: options %x, want %x", name, b[ipv4Len:header], p.options)
		}
		length += len(b) - header
		if more := flags&0x2000 != 0; more != (length < udpLen+to) {
			t.Fatalf("%s: more fragments %v after %d of %d bytes", name, more, length, udpLen+to)
		}
	}
}

// TestEverySizeAroundTheMTU: packets of 1400 to 1600 bytes after the rewrite,
// over outside MTUs of 1500 (Ethernet) and 1492 (PPPoE), from senders that allow
// fragments and from such that forbid them and send no identification.
func TestEverySizeAroundTheMTU(t *testing.T) {
	kind := queueKinds(t)[0]
	for _, mtu := range []int{1500, 1492} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			n := newNetwork(t, 1500, mtu)
			r := n.router.rules(t, nftables.ChainHookForward)
			r.defragment(t)
			r.queue(t, kind, outside4.Port(), testQueue)
			d, _ := n.router.serve(t, Config{First: testQueue}, HandlerFunc(resize))
			server, socket, wire := n.outside.listen(t, outside4), n.inside.raw(t), n.outside.tap(t)
			const headers = ipv4Len + udpLen
			idents := make(map[uint16]bool)
			for total := 1400; total <= 1600; total++ {
				for _, growth := range []int{-24, 0, 24} {
					from := min(total-growth, mtu)
					for _, p := range []testPacket{{id: 9}, {df: true}} {
						if p.df && total > mtu && from >= total {
							continue // the sender is told, rightly, by the kernel
						}
						p.payload = asks(from-headers, total-headers)
						socket.send(t, p.bytes())
						if got := receive(t, server); !bytes.Equal(got, pattern(total-headers)) {
							t.Fatalf("%d to %d, DF %v: %d bytes arrive, or others", from, total, p.df, headers+len(got))
						}
						for {
							b := wire.next(t)
							flags, id := binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[4:])
							first, more := flags&0x1fff == 0, flags&0x2000 != 0
							if len(b) > mtu || more && !first && total < 2*mtu-200 {
								t.Fatalf("%d to %d: fragment of %d bytes, flags %#x", from, total, len(b), flags)
							}
							if cleared := p.df && total > from; cleared && first {
								if id == 0 || idents[id] {
									t.Errorf("%d to %d: identification %d is not fresh", from, total, id)
								}
								idents[id] = true
							}
							if !more {
								break
							}
						}
					}
				}
			}
			checkSettled(t, d)
			if s := d.Stats()[0]; s.Rewritten != s.Packets || s.Packets < 1000 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestQueuesShareNothing(t *testing.T) {
	const queues, each = 4, 500
	kind := queueKinds(t)[0]
	n := newNetwork(t, 1500, 1500)
	r := n.router.rules(t, nftables.ChainHookForward)
	for i := range uint16(queues) {
		r.queue(t, kind, 6000+i, testQueue+i)
	}
	var seen [queues]atomic.Int64
	d, _ := n.router.serve(t, Config{First: testQueue, Queues: queues}, HandlerFunc(func(worker int, p *Packet) Result {
		if p.Dst.Port() != 6000+uint16(worker) {
			t.Errorf("worker %d sees %v", worker, p.Dst)
		}
		// In order: flows do not overtake themselves.
		if n := seen[worker].Add(1); n-1 != int64(binary.BigEndian.Uint32(p.Payload)) {
			t.Errorf("worker %d: packet %d comes as number %d", worker, binary.BigEndian.Uint32(p.Payload), n-1)
		}
		return Result{Rewrite, p.Payload[:len(p.Payload)-1]}
	}))
	var wg sync.WaitGroup
	for i := range uint16(queues) {
		to := netip.AddrPortFrom(outside4.Addr(), 6000+i)
		server := n.outside.listen(t, to)
		client := n.inside.dial(t, netip.AddrPort{}, to)
		wg.Go(func() {
			for j := range each {
				want := append(binary.BigEndian.AppendUint32(nil, uint32(j)), pattern(200)...)
				if _, err := client.Write(append(want, 'x')); err != nil {
					t.Error(err)
					return
				}
				if got := receive(t, server); !bytes.Equal(got, want) {
					t.Errorf("port %v: %d bytes arrive, or others", to.Port(), len(got))
				}
			}
		})
	}
	wg.Wait()
	checkSettled(t, d)
	for i, s := range d.Stats() {
		if s.Queue != testQueue+uint16(i) || s.Rewritten != each || s.Packets != each || s.Kernel.Dropped() != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestPanicInHandler(t *testing.T) {
	const packets = 100
	kind := queueKinds(t)[0]
	for _, onPanic := range []Verdict{Accept, Drop} {
		t.Run(onPanic.String(), func(t *testing.T) {
			n := newNetwork(t, 1500, 1500)
			r := n.router.rules(t, nftables.ChainHookForward)
			r.queue(t, kind, outside4.Port(), testQueue)
			passed := r.counted(t, outside4.Port())
			log := new(bytes.Buffer)
			calls := 0
			d, stop := n.router.serve(t, Config{
				First: testQueue, OnPanic: onPanic, Logger: slog.New(slog.NewTextHandler(log, nil)),
			}, HandlerFunc(func(int, *Packet) Result {
				if calls++; calls%2 == 0 {
					panic("broken engine")
				}
				return Result{}
			}))
			n.outside.listen(t, outside4) // no ICMP errors
			client := n.inside.dial(t, inside4, outside4)
			for range packets {
				if _, err := client.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
			}
			await(t, "verdicts", func() bool {
				s := d.Stats()[0]
				return s.Packets == packets && s.Kernel.Waiting == 0
			})
			stop()
			checkSettled(t, d)
			want := uint64(packets)
			if onPanic == Drop {
				want /= 2
			}
			if got, s := passed(), d.Stats()[0]; got != want || s.Panics != packets/2 {
				t.Errorf("%d packets pass, want %d; %+v", got, want, s)
			}
			if n := strings.Count(log.String(), "broken engine"); n != 1 {
				t.Errorf("logged %d times, want once:\n%s", n, log)
			}
		})
	}
}

func TestUnreadablePacketsArrive(t *testing.T) {
	kind := queueKinds(t)[0]
	n := newNetwork(t, 1500, 1500)
	r := n.router.rules(t, nftables.ChainHookForward)
	r.queue(t, kind, 0, testQueue) // everything, and no conntrack: fragments too
	shown := 0
	d, stop := n.router.serve(t, Config{First: testQueue, OnPanic: Drop}, HandlerFunc(func(int, *Packet) Result {
		shown++
		return Result{Verdict: Drop}
	}))
	socket, wire := n.inside.raw(t), n.outside.tap(t)
	corrupt := testPacket{id: 1, payload: []byte("REGISTER")}.bytes()
	corrupt[30] ^= 1
	want := map[Reason]uint64{}
	for _, tc := range []struct {
		reason Reason
		packet []byte
	}{
		{BadChecksum, corrupt},
		{NotUDP, testPacket{id: 1, proto: 47, payload: []byte("GRE")}.bytes()},
		{Fragment, testPacket{id: 1, fragment: 0x2000, payload: pattern(64)}.bytes()},
		{Truncated, testPacket{id: 1, udpLen: 500, payload: []byte("short")}.bytes()},
		{BadHeader, testPacket{id: 1, udpLen: 3, payload: []byte("long")}.bytes()},
	} {
		want[tc.reason]++
		socket.send(t, tc.packet)
		got := wire.next(t)
		tc.packet[8]--                   // the router's
		copy(tc.packet[10:], got[10:12]) // and the checksum over it
		if !bytes.Equal(got, tc.packet) {
			t.Errorf("%v: arrives as\n%x, want\n%x", tc.reason, got, tc.packet)
		}
	}
	stop()
	checkSettled(t, d)
	s := d.Stats()[0]
	for reason, n := range want {
		if s.Unread[reason] < n {
			t.Errorf("%v: counted %d, want %d", reason, s.Unread[reason], n)
		}
	}
	if shown != 0 {
		t.Errorf("%d shown to the handler", shown)
	}
}

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

func TestQueueInUse(t *testing.T) {
	n := newNamespace(t)
	first, err := n.open(t, Config{First: testQueue + 1}, HandlerFunc(accept))
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.open(t, Config{First: testQueue, Queues: 3}, HandlerFunc(accept))
	if !errors.Is(err, ErrQueueInUse) {
		t.Fatalf("second bind: %v", err)
	}
	for _, want := range []string{"NFQUEUE 5061", fmt.Sprintf("process %d", os.Getpid()), "queue_num"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
	if _, err := n.queueRow(t, testQueue); err != errNoQueue {
		t.Error("the queues before the refused one are still bound")
	}
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Error(err)
	}
	second, err := n.open(t, Config{First: testQueue, Queues: 3}, HandlerFunc(accept))
	if err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := second.Run(t.Context()); err == nil {
		t.Error("Run of closed queues succeeds")
	}
}

func TestOpenWithoutCapability(t *testing.T) {
	n := newNamespace(t)
	n.do(t, func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		if err := unix.Capget(&hdr, &caps[0]); err != nil {
			return err
		}
		caps[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err := unix.Capset(&hdr, &caps[0]); err != nil {
			return err
		}
		_, err := Open(Config{First: testQueue}, HandlerFunc(accept))
		if !errors.Is(err, unix.EPERM) || errors.Is(err, ErrQueueInUse) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("error %v", err)
		}
		return nil
	})
}

func TestOpenRefusesWrongConfig(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		h    Handler
		want string
	}{
		{Config{}, nil, "handler"},
		{Config{First: 65535, Queues: 2}, HandlerFunc(accept), "65535"},
		{Config{OnPanic: Rewrite}, HandlerFunc(accept), "OnPanic"},
	} {
		if _, err := Open(tc.cfg, tc.h); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: error %v, want one about %s", tc.cfg, err, tc.want)
		}
	}
}

// TestStopsAndStartsUnderLoad: the rule stays in place and packets keep coming
// while one Divert after the other serves the queue. Each leaves nothing
// behind, and those packets leave the router that were accepted.
func TestStopsAndStartsUnderLoad(t *testing.T) {
	const lives = 20
	kind := queueKinds(t)[0]
	n := newNetwork(t, 1500, 1500)
	r := n.router.rules(t, nftables.ChainHookForward)
	r.queue(t, kind, outside4.Port(), testQueue)
	passed := r.counted(t, outside4.Port())
	n.outside.listen(t, outside4) // no ICMP errors
	client := n.inside.dial(t, inside4, outside4)
	halt := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		payload := pattern(300)
		for {
			select {
			case <-halt:
				return
			default:
				if _, err := client.Write(payload); err != nil && !errors.Is(err, unix.ENOBUFS) {
					t.Error(err)
					return
				}
			}
		}
	})
	var accepted, unread uint64
	for range lives {
		d, stop := n.router.serve(t, Config{First: testQueue, MaxLen: 256}, HandlerFunc(func(int, *Packet) Result {
			return Result{Rewrite, []byte("short")}
		}))
		await(t, "work", func() bool { return d.Stats()[0].Packets >= 300 })
		before := time.Now()
		stop()
		if took := time.Since(before); took > 5*time.Second {
			t.Errorf("stopping takes %v", took)
		}
		if _, err := n.router.queueRow(t, testQueue); err != errNoQueue {
			t.Fatal("the queue is still bound")
		}
		s := d.Stats()[0]
		if s.Errors != 0 || s.Rewritten+s.Unread.Total() != s.Packets {
			t.Errorf("%+v", s)
		}
		accepted += s.Rewritten
		unread += s.Unread.Total()
	}
	close(halt)
	wg.Wait()
	if unread != 0 {
		t.Errorf("%d packets were not shown to the handler", unread)
	}
	if got := passed(); got != accepted {
		t.Errorf("%d packets leave the router, %d were sent on", got, accepted)
	}
}

// TestStopServesWhatWaits: packets that were queued before Run is told to stop
// are handled, though the handler is slow.
func TestStopServesWhatWaits(t *testing.T) {
	const packets = 100
	kind := queueKinds(t)[0]
	n := newNetwork(t, 1500, 1500)
	r := n.router.rules(t, nftables.ChainHookForward)
	r.queue(t, kind, outside4.Port(), testQueue)
	passed := r.counted(t, outside4.Port())
	n.outside.listen(t, outside4)
	client := n.inside.dial(t, inside4, outside4)
	gate, first := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d, stop := n.router.serve(t, Config{First: testQueue}, HandlerFunc(func(int, *Packet) Result {
		once.Do(func() { close(first) })
		<-gate
		return Result{}
	}))
	for range packets {
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	<-first
	await(t, "all queued", func() bool { return d.Stats()[0].Kernel.Waiting == packets })
	go func() {
		await(t, "stop", func() bool { return d.workers[0].stopping.Load() })
		close(gate)
	}()
	stop()
	if s := d.Stats()[0]; s.Accepted != packets || passed() != packets {
		t.Errorf("%d pass; %+v", passed(), s)
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
