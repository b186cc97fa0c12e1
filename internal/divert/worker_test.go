package divert

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/florianl/go-nfqueue/v2"
)

// newTestWorker is a worker without a socket.
func newTestWorker(onPanic Verdict, h HandlerFunc) (*worker, *bytes.Buffer) {
	log := new(bytes.Buffer)
	cfg := Config{MaxLen: 16, OnPanic: onPanic, Logger: slog.New(slog.NewTextHandler(log, nil))}
	return newWorker(3, &queue{num: 5060}, &cfg, h), log
}

// judged is the decoded verdict of one message.
type judged struct {
	verdict, id uint32
	packet      []byte
}

func judge(t *testing.T, w *worker, msg []byte) judged {
	t.Helper()
	if !w.message.decode(msg) {
		t.Fatal("no id")
	}
	v := w.judge()
	if typ, _, rest, ok := nextMessage(v); !ok || typ != msgVerdict || len(rest) != 0 {
		t.Fatalf("not one verdict message: %x", v)
	}
	j := judged{verdict: binary.BigEndian.Uint32(v[verdictAt:]), id: binary.BigEndian.Uint32(v[verdictAt+4:])}
	if len(v) > verdictEnd {
		j.packet = v[verdictPacket:][:binary.NativeEndian.Uint16(v[verdictEnd:])-attrLen]
	}
	return j
}

func TestHandlerSeesThePacket(t *testing.T) {
	for _, p := range []testPacket{
		{payload: []byte("REGISTER")},
		{src: inside6, dst: outside6, payload: []byte("REGISTER")},
		{payload: []byte("REGISTER"), noChecksum: true},
	} {
		var got Packet
		w, _ := newTestWorker(Accept, func(worker int, p *Packet) Result {
			if worker != 3 {
				t.Errorf("worker %d, want 3", worker)
			}
			got = *p
			return Result{}
		})
		j := judge(t, w, kernelMessage(77, infoNotVerified, p.bytes()))
		if j.verdict != nfqueue.NfAccept || j.id != 77 || j.packet != nil {
			t.Errorf("verdict %+v", j)
		}
		src, dst := inside4, outside4
		if p.src.IsValid() {
			src, dst = p.src, p.dst
		}
		if got.Src != src || got.Dst != dst || got.InIf != 2 || got.OutIf != 3 || got.Mark != 0x51 || string(got.Payload) != "REGISTER" {
			t.Errorf("handler saw %+v", got)
		}
	}
}

func TestVerdicts(t *testing.T) {
	old := testPacket{id: 5, payload: []byte("old")}
	fresh := testPacket{id: 5, payload: []byte("something new")}
	for _, tc := range []struct {
		name    string
		onPanic Verdict
		result  func() Result
		verdict uint32
		packet  []byte
		want    QueueStats
	}{
		{"accept", Drop, func() Result { return Result{} }, nfqueue.NfAccept, nil, QueueStats{Accepted: 1}},
		{"drop", Accept, func() Result { return Result{Verdict: Drop} }, nfqueue.NfDrop, nil, QueueStats{Dropped: 1}},
		{"rewrite", Drop, func() Result { return Result{Rewrite, fresh.payload} }, nfqueue.NfAccept, fresh.bytes(), QueueStats{Rewritten: 1}},
		{"too large, pass", Accept, func() Result { return Result{Rewrite, make([]byte, maxPacket)} }, nfqueue.NfAccept, nil, QueueStats{Accepted: 1, Errors: 1}},
		{"too large, drop", Drop, func() Result { return Result{Rewrite, make([]byte, maxPacket)} }, nfqueue.NfDrop, nil, QueueStats{Dropped: 1, Errors: 1}},
		{"invalid, drop", Drop, func() Result { return Result{Verdict: 9} }, nfqueue.NfDrop, nil, QueueStats{Dropped: 1, Errors: 1}},
		{"panic, pass", Accept, func() Result { panic("oh") }, nfqueue.NfAccept, nil, QueueStats{Accepted: 1, Panics: 1}},
		{"panic, drop", Drop, func() Result { panic("oh") }, nfqueue.NfDrop, nil, QueueStats{Dropped: 1, Panics: 1}},
		{"nil dereference", Drop, func() Result { var p *Packet; return Result{Payload: p.Payload} }, nfqueue.NfDrop, nil, QueueStats{Dropped: 1, Panics: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, _ := newTestWorker(tc.onPanic, func(int, *Packet) Result { return tc.result() })
			j := judge(t, w, kernelMessage(77, infoNotVerified, old.bytes()))
			if j.verdict != tc.verdict || j.id != 77 || !bytes.Equal(j.packet, tc.packet) {
				t.Errorf("verdict %+v", j)
			}
			tc.want.Queue, tc.want.Packets = 5060, 1
			if got := w.count.snapshot(5060); got != tc.want {
				t.Errorf("counted %+v, want %+v", got, tc.want)
			}
		})
	}
}

// The verdict for failures counts from the next packet on, in every queue.
func TestSetOnPanic(t *testing.T) {
	panics := func(int, *Packet) Result { panic("oh") }
	one, _ := newTestWorker(Accept, panics)
	two, _ := newTestWorker(Accept, panics)
	d := &Divert{workers: []*worker{one, two}}
	for _, v := range []Verdict{Drop, Accept} {
		d.SetOnPanic(v)
		want := uint32(nfqueue.NfAccept)
		if v == Drop {
			want = nfqueue.NfDrop
		}
		for _, w := range d.workers {
			if j := judge(t, w, kernelMessage(77, infoNotVerified, testPacket{payload: []byte("x")}.bytes())); j.verdict != want {
				t.Errorf("%v: verdict %+v", v, j)
			}
		}
	}
}

func TestUnreadablePacketsPass(t *testing.T) {
	corrupt := testPacket{payload: []byte("REGISTER")}.bytes()
	corrupt[30] ^= 1
	for _, tc := range []struct {
		reason Reason
		info   uint32
		packet []byte
	}{
		{NotUDP, 0, testPacket{proto: 1}.bytes()},
		{Fragment, 0, testPacket{fragment: 0x2000}.bytes()},
		{Truncated, 0, testPacket{}.bytes()[:27]},
		{Truncated, 0, []byte{}},
		{BadHeader, 0, make([]byte, 60)},
		{BadChecksum, infoNotVerified, corrupt},
		{Truncated, 0, nil},
	} {
		w, _ := newTestWorker(Drop, func(int, *Packet) Result {
			t.Errorf("%v: shown to the handler", tc.reason)
			return Result{}
		})
		if j := judge(t, w, kernelMessage(77, tc.info, tc.packet)); j.verdict != nfqueue.NfAccept || j.id != 77 || j.packet != nil {
			t.Errorf("%v: verdict %+v", tc.reason, j)
		}
		got := w.count.snapshot(0)
		if got.Packets != 1 || got.Unread[tc.reason] != 1 || got.Unread.Total() != 1 {
			t.Errorf("%v: counted %+v", tc.reason, got)
		}
	}
}

// TestVerifiedChecksumIsTrusted: what the network card has checked, or will
// fill in, is not checked again.
func TestVerifiedChecksumIsTrusted(t *testing.T) {
	b := testPacket{payload: []byte("REGISTER")}.bytes()
	b[26] ^= 0xff
	called := false
	w, _ := newTestWorker(Drop, func(int, *Packet) Result { called = true; return Result{} })
	judge(t, w, kernelMessage(1, 0, b))
	if !called {
		t.Error("not shown to the handler")
	}
}

func TestPanicsAreLoggedOnceInAWhile(t *testing.T) {
	w, log := newTestWorker(Drop, func(int, *Packet) Result { panic("broken engine") })
	msg := kernelMessage(1, 0, testPacket{}.bytes())
	for range logEvery {
		judge(t, w, msg)
	}
	if n := strings.Count(log.String(), "broken engine"); n != 1 {
		t.Errorf("logged %d times for %d panics, want once", n, logEvery)
	}
	for _, want := range []string{"worker_test.go", "queue=5060", "src=10.0.0.2:5060", "verdict=drop"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
	judge(t, w, msg)
	if n := strings.Count(log.String(), "broken engine"); n != 2 {
		t.Errorf("logged %d times for %d panics, want twice", n, logEvery+1)
	}
}

func TestIdentificationsAreNotReusedSoon(t *testing.T) {
	w, _ := newTestWorker(Drop, func(int, *Packet) Result { return Result{} })
	seen := make(map[uint16]bool)
	for range 0xffff {
		id := w.nextIdent()
		if id == 0 || seen[id] {
			t.Fatalf("identification %d after %d others", id, len(seen))
		}
		seen[id] = true
	}
}

func TestNoAllocations(t *testing.T) {
	payload := pattern(1200)
	for _, tc := range []struct {
		name   string
		packet testPacket
		result Result
	}{
		{"accept", testPacket{payload: pattern(900)}, Result{}},
		{"rewrite", testPacket{payload: pattern(900), df: true}, Result{Rewrite, payload}},
		{"rewrite IPv6", testPacket{src: inside6, dst: outside6, payload: pattern(900)}, Result{Rewrite, payload}},
		{"unreadable", testPacket{proto: 6}, Result{}},
	} {
		w, _ := newTestWorker(Drop, func(_ int, p *Packet) Result {
			if p.Src.Addr() == (netip.Addr{}) {
				t.Error("no source")
			}
			return tc.result
		})
		msg := kernelMessage(1, infoNotVerified, tc.packet.bytes())
		if n := testing.AllocsPerRun(200, func() { w.message.decode(msg); w.judge() }); n != 0 {
			t.Errorf("%s: %v allocations a packet, want 0", tc.name, n)
		}
	}
}

func BenchmarkVerdict(b *testing.B) {
	payload := pattern(1000)
	for _, bc := range []struct {
		name   string
		result Result
	}{{"accept", Result{}}, {"rewrite", Result{Rewrite, payload}}} {
		b.Run(bc.name, func(b *testing.B) {
			w, _ := newTestWorker(Drop, func(int, *Packet) Result { return bc.result })
			msg := kernelMessage(1, infoNotVerified, testPacket{payload: pattern(960)}.bytes())
			b.ReportAllocs()
			for b.Loop() {
				w.message.decode(msg)
				w.judge()
			}
		})
	}
}
