package divert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

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
//
// Another processor can be about to hand over a packet while a queue ends. Then
// the packet comes to the next socket, which has the same port ID (that of the
// process), and the kernel refuses its verdict, for the packet is gone.
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
	var accepted, unread, gone uint64
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
		if s.Errors > 1 || s.Rewritten+s.Unread.Total() != s.Packets {
			t.Errorf("%+v", s)
		}
		gone += s.Errors
		accepted += s.Rewritten
		unread += s.Unread.Total()
	}
	close(halt)
	wg.Wait()
	if unread != 0 {
		t.Errorf("%d packets were not shown to the handler", unread)
	}
	if got := passed(); got > accepted || got < accepted-gone {
		t.Errorf("%d packets leave the router, %d were sent on, %d of them gone before", got, accepted, gone)
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

// TestPacketDuringBind: a packet that comes before the answer to the request for
// the queue is not lost.
func TestPacketDuringBind(t *testing.T) {
	for _, kind := range queueKinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			n := newNetwork(t, 1500, 1500)
			r := n.router.rules(t, nftables.ChainHookForward)
			r.queue(t, kind, outside4.Port(), testQueue)
			server, client := n.outside.listen(t, outside4), n.inside.dial(t, inside4, outside4)

			var nfq *nfqueue.Nfqueue
			n.router.do(t, func() (err error) {
				nfq, err = nfqueue.Open(&nfqueue.Config{})
				return err
			})
			raw, err := nfq.Con.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			q := &queue{num: testQueue, con: nfq.Con, raw: raw}
			defer q.close()

			// The same request twice, the second time without the command. Only
			// the second is answered.
			whole := bindMessage(testQueue, 16)
			const commandEnd = nfHeaderLen + attrLen + 4
			again := append(bytes.Clone(whole[:nfHeaderLen]), whole[commandEnd:]...)
			putHeader(whole, msgConfig, unix.NLM_F_REQUEST, testQueue)
			putHeader(again, msgConfig, unix.NLM_F_REQUEST|unix.NLM_F_ACK, testQueue)

			if err := q.write(whole); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Write(asks(100, 200)); err != nil {
				t.Fatal(err)
			}
			await(t, "packet queued", func() bool {
				row, err := n.router.queueRow(t, testQueue)
				return err == nil && row.stats.Waiting == 1
			})
			if err := q.write(again); err != nil {
				t.Fatal(err)
			}
			if err := q.acknowledged(); err != nil {
				t.Fatal(err)
			}
			cfg := Config{MaxLen: 16, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
			w := newWorker(0, q, &cfg, HandlerFunc(resize))
			if err := q.raw.Read(func(fd uintptr) bool {
				more, err := w.next(int(fd))
				if err != nil {
					t.Error(err)
				}
				return more || err != nil
			}); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, server); !bytes.Equal(got, pattern(200)) {
				t.Errorf("%d bytes arrive, or others", len(got))
			}
			if s := w.count.snapshot(testQueue); s.Packets != 1 || s.Rewritten != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}
