package registrar

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fullMemory is what the registrar may take when all its limits are reached.
const fullMemory = 56 << 20

// TestFull fills all limits at once, each thing with the longest text that is kept of
// it, and measures the memory.
func TestFull(t *testing.T) {
	r := New(Config{Realm: "full", Password: "secret"}, quiet())
	r.auth.realm = ""
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	empty, last := heap(), 0
	report := func(what string) {
		now := heap() - empty
		t.Logf("%-10s %6.1f MiB more, %6.1f in all: %+v", what, float64(now-last)/(1<<20), float64(now)/(1<<20), r.Stats())
		last = now
	}
	long := func(i, n int) string { return fmt.Sprintf("%0*d", n, i) }
	phone := func(i int) string { return fmt.Sprintf("10.0.%d.%d:5060", i/100%250, 1+i%100) }
	for i := range 20000 {
		text := register("u"+long(i, 200), 1, fmt.Sprintf("Contact: <sip:%s@%s>", long(i, 900), phone(i)))
		r.Register(index(t, text), udp(phone(i)))
	}
	report("contacts")
	for i := range 20000 {
		r.Line([]byte(fmt.Sprintf("sip:%s@%s", long(i, 900), phone(i))), udp(phone(i)))
	}
	report("tokens")
	for i := range 2000 {
		for j := range 2 * maxAccounts {
			text := strings.Replace(register("u"+long(j, 200), 1, fmt.Sprintf("Contact: <sip:%s@%s>", long(i, 900), phone(i))),
				"@foo.bar.org>\r\nCall", "@"+strings.Repeat("h", 200)+">\r\nCall", 1)
			r.Registered(index(t, text), index(t, "SIP/2.0 200 OK\r\n"+text[strings.Index(text, "\r\n")+2:]), udp(phone(i)), provider)
		}
	}
	report("accounts")
	for i := range 2 * maxNonces {
		host := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		nonce := r.auth.nonces.append(nil, host, time.Second)
		r.auth.nonces.take(nonce, 1, host, time.Second)
		r.auth.offers.next(host, []byte(long(i, maxName)), time.Second)
	}
	report("nonces")
	if last > fullMemory {
		t.Errorf("%d bytes, more than %d", last, fullMemory)
	}
}
