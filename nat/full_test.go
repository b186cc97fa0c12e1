package nat

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fullMemory is what the engine may take when every limit is reached.
const fullMemory = 64 << 20

// discard has the world forget what was said and asked for.
func (w *world) discard() {
	w.kernel.applied = w.kernel.applied[:0]
	w.log.Reset()
}

// calling has so many calls in progress, of as many hosts as it takes.
func calling(w *world, calls int) {
	for i := range calls {
		c := sampleCall(i)
		w.send(c.phone, provider, c.invite)
		w.send(provider, c.phone, c.answer)
		if i%256 == 0 {
			w.discard()
		}
	}
	w.discard()
}

// wide is a policy with all ports, for a large network inside.
func wide(c *Config) {
	c.PortLow, c.PortHigh = 1024, 65535
	c.Networks = wideNetworks{}
}

// unlimited lets as many calls begin as a benchmark asks for.
func unlimited(c *Config) {
	wide(c)
	c.Limits = Limits{Calls: 1 << 15, Transactions: 1 << 17}
}

type wideNetworks struct{ fakeNetworks }

func (wideNetworks) Inside(a netip.Addr) bool { return netip.MustParsePrefix("10.0.0.0/8").Contains(a) }

// TestFull fills every limit at once, each thing with the longest text that is kept of
// it, and measures the memory.
func TestFull(t *testing.T) {
	w := newWorld(t, wide)
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	empty, last := heap(), 0
	report := func(what string) {
		w.discard()
		now := heap() - empty
		_, n := w.engine.Stats()
		t.Logf("%-36s %6.1f MiB more, %6.1f in all: %+v", what, float64(now-last)/(1<<20), float64(now)/(1<<20), n)
		last = now
	}
	out := func(from, to string, m []byte) {
		p := packet(from, to, m)
		p.Outbound = true
		w.worker.Handle(p)
	}
	limits := Limits{}.withDefaults(64512)

	long := strings.Repeat("\x7f", 100)
	for i := range limits.Calls {
		c := sampleCall(i)
		w.send(c.phone, provider, []byte(strings.Replace(string(c.invite), "Call-ID: ", "Call-ID: "+long, 1)))
		w.send(provider, c.phone, []byte(strings.Replace(string(c.answer), "Call-ID: ", "Call-ID: "+long, 1)))
		if i%256 == 0 {
			w.discard()
		}
	}
	report("calls, with media")
	if _, n := w.engine.Stats(); n.Calls != limits.Calls {
		t.Errorf("%d calls, want %d", n.Calls, limits.Calls)
	}

	for i := range limits.Bindings + 100 {
		phone := fmt.Sprintf("10.0.%d.%d:%d", 1+i/limits.BindingsPerHost/250, 1+i/limits.BindingsPerHost%250, 10000+i%limits.BindingsPerHost)
		for j := range limits.PeersPerBinding + 1 {
			out(phone, fmt.Sprintf("198.18.%d.%d:5060", j, i%200), keepAlivePing)
		}
		if i%64 == 0 {
			w.discard()
		}
	}
	report("bindings")
	peers := 0
	for _, b := range w.engine.bindings {
		peers += len(b.peers)
	}
	if peers > 4*limits.Peers { // those of the first ones are not taken away
		t.Errorf("%d peers, which are elements in the kernel", peers)
	}

	sentBy := strings.Repeat("h", maxKept-5) + ":5060"
	for i := range limits.Transactions {
		phone := fmt.Sprintf("10.0.%d.%d:10000", 1+i/4000/250, 1+i/4000%250)
		m := strings.Replace(string(pingOut), "10.0.0.10:5060;rport;branch=z9hG4bKping", fmt.Sprint(sentBy, ";rport;branch=z9hG4bK", i), 1)
		out(phone, provider, []byte(m))
		if i%256 == 0 {
			w.discard()
		}
	}
	report("transactions")
	// What begins or changes no call leaves room for calls.
	if _, n := w.engine.Stats(); n.Transactions != limits.Transactions-limits.Transactions/4 {
		t.Errorf("%d transactions, want three quarters of %d", n.Transactions, limits.Transactions)
	}
	for i := range limits.Transactions {
		phone := fmt.Sprintf("10.0.%d.%d:10000", 1+i/2000/250, 1+i/2000%250)
		m := strings.Replace(string(inviteA), "10.0.0.10:5060;rport;branch=z9hG4bKnashds8", fmt.Sprint(sentBy, ";rport;branch=z9hG4bKi", i), 1)
		out(phone, provider, []byte(m))
		if i%256 == 0 {
			w.discard()
		}
	}
	report("transactions of calls")
	if _, n := w.engine.Stats(); n.Transactions != limits.Transactions {
		t.Errorf("%d transactions, want %d", n.Transactions, limits.Transactions)
	}
	if last > fullMemory {
		t.Errorf("%d bytes, more than %d", last, fullMemory)
	}

	// And all goes away.
	for range 120 {
		w.now = w.now.Add(10 * time.Second)
		w.engine.Tick()
		w.discard()
	}
	report("20 minutes later")
	if _, n := w.engine.Stats(); n.Calls+n.Bindings+n.Mappings+n.Transactions != 0 {
		t.Errorf("%+v is left", n)
	}
}

// keepAlivePing is what makes a host a peer.
var keepAlivePing = []byte(strings.Replace(string(pingOut), "Call-ID: ping", "Call-ID: ping-peers", 1))

// BenchmarkFull handles messages while many calls are open: it must not matter how many
// they are.
func BenchmarkFull(b *testing.B) {
	for _, calls := range []int{100, 16_000} {
		for _, r := range repeats {
			b.Run(fmt.Sprintf("%d calls/%s", calls, r.name), func(b *testing.B) {
				w := newWorld(b, unlimited)
				calling(w, calls)
				p := packet(r.src, r.dst, r.message)
				w.worker.Handle(p)
				b.ReportAllocs()
				for b.Loop() {
					w.worker.Handle(p)
				}
			})
		}
		b.Run(fmt.Sprintf("%d calls/new call", calls), func(b *testing.B) {
			w := newWorld(b, unlimited)
			calling(w, calls)
			bye := strings.NewReplacer("INVITE", "BYE", "To: <sip:bob@example.org>", "To: <sip:bob@example.org>;tag=a6c85cf")
			for i := 0; b.Loop(); i++ {
				c := sampleCall(calls + i%50) // as many hosts as there are
				w.send(c.phone, provider, c.invite)
				w.send(provider, c.phone, c.answer)
				w.send(c.phone, provider, []byte(bye.Replace(string(c.invite))))
				w.discard()
				if i%32 == 0 {
					w.now = w.now.Add(time.Second)
					w.engine.Tick()
				}
			}
		})
	}
}
