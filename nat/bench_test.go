package nat

import (
	"testing"
	"time"
)

// repeats are messages that open nothing new, in the state that inviteA and
// answerA have made.
var repeats = []struct {
	name     string
	src, dst string
	message  []byte
}{
	{"INVITE with SDP", phoneA, provider, inviteA},
	{"200 with SDP", provider, phoneA, answerA},
	{"OPTIONS from inside", phoneA, provider, pingOut},
	{"OPTIONS from outside", provider, phoneA, pingIn},
	{"200 to OPTIONS", provider, phoneA, pingAnswer},
	{"keep-alive", phoneA, provider, keepAlive},
}

// established returns a world in which every message of repeats was seen once.
func established(t testing.TB) *world {
	w := newWorld(t, nil)
	for _, r := range repeats {
		w.send(r.src, r.dst, r.message)
	}
	w.kernel.applied = nil
	return w
}

// TestRepeatsAllocateNothing holds the engine to handling what opens nothing
// new without allocation.
func TestRepeatsAllocateNothing(t *testing.T) {
	w := established(t)
	for _, r := range repeats {
		p := packet(r.src, r.dst, r.message)
		if n := testing.AllocsPerRun(100, func() { w.worker.Handle(p) }); n != 0 {
			t.Errorf("%s: %v allocations", r.name, n)
		}
	}
	if len(w.kernel.applied) != 0 {
		t.Errorf("repeating asks the kernel for %v", w.kernel.applied)
	}
}

// BenchmarkHandleInvite is the retransmission of an INVITE with SDP.
func BenchmarkHandleInvite(b *testing.B) {
	w := established(b)
	p := packet(phoneA, provider, inviteA)
	b.ReportAllocs()
	b.SetBytes(int64(len(inviteA)))
	for b.Loop() {
		w.worker.Handle(p)
	}
}

// BenchmarkHandleAnswer is the retransmission of a 200 with SDP.
func BenchmarkHandleAnswer(b *testing.B) {
	w := established(b)
	p := packet(provider, phoneA, answerA)
	b.ReportAllocs()
	for b.Loop() {
		w.worker.Handle(p)
	}
}

// BenchmarkTick is a second of 10 000 running calls.
func BenchmarkTick(b *testing.B) {
	w := newWorld(b, func(c *Config) { c.PortLow, c.PortHigh = 1024, 65535 })
	for i := range 10_000 {
		d := sampleCall(i)
		w.send(d.phone, provider, d.invite)
		w.send(provider, d.phone, d.answer)
	}
	w.kernel.applied = nil
	b.ReportAllocs()
	for b.Loop() {
		w.now = w.now.Add(time.Second)
		w.kernel.flow++
		w.engine.Tick()
		w.kernel.applied = w.kernel.applied[:0]
	}
	if _, n := w.engine.Stats(); n.Calls != 10_000 || n.Mappings != 20_000 {
		b.Errorf("%+v in the end", n)
	}
}
