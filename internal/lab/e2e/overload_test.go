package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// What an overload may cost.
const (
	overloadFactor = 10 // times what the daemon can process

	// overloadWait is within which those who are known get their answer during a flood
	// of one host: the third repetition of a request at the latest (RFC 3261, Timer E).
	overloadWait = 4 * time.Second

	// overloadAfter is within which all is served again as if nothing had been.
	overloadAfter = 2 * time.Second

	overloadMemory = 64 << 20
	overloadLines  = 40 // of the log in a minute
)

// overloadTime is how long a flood lasts: SIPNATD_LOAD, or a moment.
func overloadTime() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("SIPNATD_LOAD")); err == nil {
		return d
	}
	return 1500 * time.Millisecond
}

// attack is a flood: who sends it, and what.
type attack struct {
	host   func(l *lab.Lab) *lab.Host
	source func(n uint64) netip.AddrPort
	to     netip.AddrPort

	// noCalls leaves calls out: so many hosts would take the ports of all media.
	noCalls bool
	// known says that those who are known are served in between, each within
	// overloadWait. The attacks where they are not go through every limit.
	known bool
	// newcomer says that one host outside whom nobody knows is answered, too.
	newcomer bool
	// counter is a counter of the table that must have grown, "": a queue's.
	counter string
	// told is a part of the line that the log must have.
	told string
}

var (
	provider = netip.MustParseAddrPort("203.0.113.10:5060")
	publicA  = netip.MustParseAddrPort("203.0.113.1:5060")
)

// sources returns the address number n of a network, of so many in turn.
func sources(network string, size uint64, port uint16) func(n uint64) netip.AddrPort {
	base := netip.MustParseAddr(network).As4()
	return func(n uint64) netip.AddrPort {
		a, n := base, n%size
		a[2] += byte(n >> 8)
		a[3] += byte(n)
		return netip.AddrPortFrom(netip.AddrFrom4(a), port)
	}
}

func outsideHost(l *lab.Lab) *lab.Host { return l.Outside[1] }
func insideHost(l *lab.Lab) *lab.Host  { return l.Phones[2] }

// TestOverload: ten times what the daemon can process, registrations, calls and garbage
// in turn. SIPNATD_LOAD says for how long, e.g. "60s".
func TestOverload(t *testing.T) {
	for name, a := range map[string]attack{
		"a scanner": {
			host: outsideHost, source: sources("203.0.113.66", 1, 5060), to: publicA,
			known: true, newcomer: true, counter: "stranger_drops", told: "unknown hosts outside send SIP faster",
		},
		"ten thousand scanners": {
			host: outsideHost, source: sources("198.18.0.1", 10000, 5060), to: publicA,
			known: true, counter: "stranger_drops", told: "unknown hosts outside send SIP faster",
		},
		"in the provider's name": {
			host: outsideHost, source: func(n uint64) netip.AddrPort { return netip.AddrPortFrom(provider.Addr(), uint16(10000+n%50000)) }, to: publicA,
			known: true, newcomer: true, counter: "flood_drops", told: "hosts=203.0.113.10",
		},
		"a phone gone mad": {
			host: insideHost, source: sources("10.0.0.12", 1, 5060), to: provider,
			known: true, newcomer: true, counter: "flood_drops", told: "hosts=10.0.0.12",
		},
		"in the name of all inside": {
			host: insideHost, source: sources("10.0.0.64", 128, 5060), to: provider,
			noCalls: true, told: "SIP came faster than it was handled",
		},
	} {
		t.Run(name, func(t *testing.T) { overload(t, a) })
	}
}

// packet makes the packets of the attack.
func (a attack) packet() lab.FloodPacket {
	garbage := make([]byte, 600)
	for i := range garbage {
		garbage[i] = byte(rand.Uint32())
	}
	return func(n uint64) (from, to netip.AddrPort, payload []byte) {
		from = a.source(n / 3)
		switch {
		case n%3 == 0:
			payload = garbage
		case n%3 == 1 && !a.noCalls:
			payload = floodMessage("INVITE", from, a.to, n, lab.Audio(from.Addr(), 4000))
		default:
			payload = floodMessage("REGISTER", from, a.to, n, "")
		}
		return from, a.to, payload
	}
}

// floodMessage is a request of a flood, to which nobody answers.
func floodMessage(method string, from, to netip.AddrPort, n uint64, sdp string) []byte {
	more := ""
	if sdp != "" {
		more = "Content-Type: application/sdp\r\n"
	}
	return fmt.Appendf(nil, "%s sip:%v SIP/2.0\r\nVia: SIP/2.0/UDP %v;branch=z9hG4bKf%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:flood@%v>;tag=f%d\r\nTo: <sip:flood@%v>\r\nCall-ID: f%d\r\nCSeq: 1 %s\r\nContact: <sip:flood@%v>\r\n%sContent-Length: %d\r\n\r\n%s",
		method, to, from, n, from.Addr(), n, to.Addr(), n, method, from, more, len(sdp), sdp)
}

func overload(t *testing.T, a attack) {
	l := lab.New(t, lab.Options{
		Phones: 4, Outside: []string{"203.0.113.10", "203.0.113.66", "203.0.113.77"},
		Leaky: true, // the floods of inside hosts are beyond what has a public endpoint
	})
	if !l.NAT() {
		t.Skip("there is no daemon")
	}
	config := "sip_accept = any"
	d := l.StartDaemon(config)
	alice, carol := newRobot(l.Phones[0], "alice", 5060), newRobot(l.Phones[1], "carol", 5060)
	bob, eve := newRobot(l.Outside[0], "bob", 5060), newRobot(l.Outside[2], "eve", 5060)
	for _, r := range []*robot{alice, carol, bob, eve} {
		r.start(t)
	}
	for _, r := range []*robot{alice, carol} {
		r.register(t, bob.Addr)
	}
	var talks []*talk
	for i := range 3 {
		talks = append(talks, newTalk(t, l, alice, bob, 4000+10*i, 6000+10*i))
	}
	before, _ := d.Memory()

	rate := capacity(t, l, d)
	t.Logf("the daemon can process %d messages a second", rate)
	mark := len(d.Log())
	if err := d.ForgetPeak(); err != nil {
		t.Logf("the peak of memory is that since the start: %v", err)
	}
	counted := counter(l, a.counter)
	f := a.host(l).Flood(overloadFactor*rate, a.packet())
	begin := time.Now()
	var slowest time.Duration
	var served, lost int
	try := func(what string, took time.Duration, err error) {
		slowest = max(slowest, took)
		served++
		if err != nil {
			lost++
			if a.known {
				t.Errorf("%s during the flood: %v", what, err)
			}
		} else if a.known && took > overloadWait {
			t.Errorf("%s takes %v during the flood, more than %v", what, took, overloadWait)
		}
	}
	for first := true; first || time.Since(begin) < overloadTime(); first = false {
		took, err := carol.options(bob.Addr)
		try("a request out", took, err)
		took, err = talks[0].again()
		try("a re-INVITE", took, err)
		if a.newcomer {
			took, err = eve.options(publicA)
			try("a request of a newcomer", took, err)
		}
		if first {
			took, err = talks[2].bye()
			try("a BYE", took, err)
		}
	}
	sent, took := f.Stop(), time.Since(begin)

	// And at once all is well.
	end := time.Now()
	took2, err := carol.options(bob.Addr)
	if err != nil {
		t.Errorf("after the flood: %v", err)
	}
	last := newTalk(t, l, alice, bob, 4100, 6100)
	if total := time.Since(end); total > lab.Patience(overloadAfter) {
		t.Errorf("a request (%v) and a call take %v after the flood", took2, total)
	}
	after, peak := d.Memory()
	if peak > overloadMemory {
		t.Errorf("%d bytes of memory, more than %d", peak, overloadMemory)
	}
	queues := l.Queues()
	drops := counter(l, a.counter) - counted
	if a.counter == "" {
		for _, q := range queues {
			drops += q.Dropped + q.UserDropped
		}
	}
	if drops == 0 {
		t.Errorf("no drops are counted, %+v", queues)
	}
	d.WaitLine(a.told, lab.Moment()) // within five seconds of the first
	if lines := strings.Count(d.Log()[mark:], "\n"); lines > overloadLines*int(took/time.Minute+1) {
		t.Errorf("%d lines in the log in %v", lines, took)
	} else {
		t.Logf("%d packets in %v, %.1f times what can be processed, %d dropped; %d exchanges meanwhile, %d without answer, the slowest %v; "+
			"%d lines in the log; memory %.1f MiB before, %.1f at most, %.1f after",
			sent, took.Round(time.Millisecond), float64(sent)/took.Seconds()/float64(rate), drops, served, lost, slowest.Round(time.Millisecond), lines,
			mebibytes(before), mebibytes(peak), mebibytes(after))
	}
	for _, one := range []*talk{talks[0], talks[1], last} {
		one.check(t)
		if _, err := one.bye(); err != nil {
			t.Errorf("BYE at the end: %v", err)
		}
	}
}

func mebibytes(n int) float64 { return float64(n) / (1 << 20) }

// capacity is how many messages the daemon can process in a second, when it is slowed
// down so much that a flood can be more: by requests of many hosts inside, so many that
// the queue is never empty.
func capacity(t *testing.T, l *lab.Lab, d *lab.Daemon) int {
	t.Helper()
	d.Slow(0.03)
	f := insideHost(l).Flood(40000, func(n uint64) (from, to netip.AddrPort, payload []byte) {
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(200 + n%40)}), 5060)
		return from, provider, floodMessage("REGISTER", from, provider, n, "")
	})
	processed := func() (n int) {
		for _, q := range l.Queues() {
			n += q.Packets - q.Waiting - q.UserDropped
		}
		return n
	}
	if !l.Until(lab.Moment(), func() bool { return l.Queues()[0].Dropped > 0 }) {
		t.Fatal("this machine cannot send more than the daemon can process")
	}
	before, begin := processed(), time.Now()
	time.Sleep(500 * time.Millisecond) // the measurement
	rate := float64(processed()-before) / time.Since(begin).Seconds()
	f.Stop()
	if !l.Until(lab.Moment(), func() bool { return l.Queues()[0].Waiting == 0 }) {
		t.Fatal("the daemon does not come to an end with the queue")
	}
	return int(rate)
}

// counter reads a counter of the daemon's table, by its name; 0 for "".
func counter(l *lab.Lab, name string) (packets int) {
	l.T.Helper()
	if name == "" {
		return 0
	}
	text := l.FW.Run("nft", "list", "counter", "ip", "sipnatd", name)
	_, rest, _ := strings.Cut(text, "packets ")
	if _, err := fmt.Sscan(rest, &packets); err != nil {
		l.T.Fatalf("%v in %q", err, text)
	}
	return packets
}
