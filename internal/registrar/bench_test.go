package registrar

import (
	"fmt"
	"runtime"
	"testing"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// phones are n phones, each with a request to refresh itself.
func phones(b *testing.B, n int) (hops []transport.Hop, requests []*sipmsg.Message) {
	for i := range n {
		addr := fmt.Sprintf("10.%d.%d.%d:5060", i>>14, i>>7&127, i&127+1)
		hops = append(hops, udp(addr))
		requests = append(requests, index(b, register(fmt.Sprintf("phone%d", i), 1, fmt.Sprintf("Contact: <sip:phone%d@%s;transport=udp>;expires=60", i, addr))))
	}
	return hops, requests
}

// BenchmarkRefresh is one REGISTER of a phone that is bound already, among others.
func BenchmarkRefresh(b *testing.B) {
	for _, n := range []int{100, 1000, 10000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			hops, requests := phones(b, n)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			r := New(Config{Limits: Limits{Total: n}}, quiet())
			for i := range n {
				if a := r.Register(requests[i], hops[i]); a.Status != 200 {
					b.Fatal(a)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				requests[i%n].CSeq++
				if a := r.Register(requests[i%n], hops[i%n]); a.Status != 200 {
					b.Fatal(a)
				}
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/binding")
		})
	}
}

// BenchmarkOutside is a provider's answer for one of 10,000 phones, and the token of its
// contact.
func BenchmarkOutside(b *testing.B) {
	const n = 10000
	hops, requests := phones(b, n)
	response := index(b, answer())
	r := New(Config{}, quiet())
	refresh := func(i int) {
		uri := requests[i].Bytes(requests[i].RequestURI.All)
		_, _ = r.Line(uri, hops[i])
		r.Registered(requests[i], response, hops[i], provider)
	}
	for i := range n {
		refresh(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		refresh(i % n)
	}
}

// BenchmarkDigest is a REGISTER with credentials, and the challenge before it.
func BenchmarkDigest(b *testing.B) {
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		b.Run(algorithm, func(b *testing.B) {
			r := New(Config{Realm: "home", Password: "secret"}, quiet())
			c := &client{user: "john", password: "secret", realm: "home", algorithm: algorithm}
			plain := index(b, register("john", 1))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				c.nc = 0
				c.challenge(b, r.Register(plain, udp(phone)), "WWW-Authenticate")
				m := index(b, register("john", 1, "Authorization: "+c.authorization()))
				b.StartTimer()
				if a := r.Register(plain, udp(phone)); a.Status != 401 {
					b.Fatal(a)
				}
				if a := r.Register(m, udp(phone)); a.Status != 200 {
					b.Fatal(a)
				}
			}
		})
	}
}

// BenchmarkDump is a write of 10,000 bindings to memory.
func BenchmarkDump(b *testing.B) {
	hops, requests := phones(b, 10000)
	r := New(Config{}, quiet())
	for i := range hops {
		r.Register(requests[i], hops[i])
	}
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(r.dump())))
	}
}
