package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// proxyWait is within which those who are known get their answer: the second repetition
// of a request at the latest.
const proxyWait = 2 * time.Second

// proxyMemory is what the daemon may take in the proxy mode.
const proxyMemory = 128 << 20

// proxyAttack is a flood of the daemon's own sockets.
type proxyAttack struct {
	host   func(l *lab.Lab) *lab.Host
	source func(n uint64) netip.AddrPort // not valid: the attack is over TCP
	to     netip.AddrPort

	// known says that phones and providers are served in between, each within
	// proxyWait.
	known bool
	// counter is a counter of the table that must have grown, "": that of the sockets.
	counter string
	told    string
	// kinds are the requests that are sent besides garbage.
	kinds []string
}

// TestOverloadProxy: ten times what the proxy mode can process, from one host and from
// ten thousand, over UDP and TCP. SIPNATD_LOAD says for how long, e.g. "60s".
func TestOverloadProxy(t *testing.T) {
	all := []string{"REGISTER", "INVITE", "OPTIONS"}
	const strangers, flood = "unknown hosts outside send SIP faster", "hosts="
	for name, a := range map[string]proxyAttack{
		"a scanner": {
			host: outsideHost, source: sources("203.0.113.66", 1, 5060), to: publicA,
			known: true, counter: "stranger_drops", told: strangers, kinds: all,
		},
		"ten thousand scanners": {
			host: outsideHost, source: sources("198.18.0.1", 10000, 5060), to: publicA,
			known: true, counter: "stranger_drops", told: strangers, kinds: all,
		},
		"in the provider's name": {
			host: outsideHost, source: func(n uint64) netip.AddrPort { return netip.AddrPortFrom(provider.Addr(), uint16(10000+n%50000)) }, to: publicA,
			known: true, counter: "flood_drops", told: flood + "203.0.113.10", kinds: all,
		},
		"a phone gone mad": {
			host: insideHost, source: sources("10.0.0.12", 1, 5070), to: insideSIP,
			known: true, counter: "flood_drops", told: flood + "10.0.0.12", kinds: all,
		},
		"guessed passwords": {
			host: insideHost, source: sources("10.0.0.12", 1, 5070), to: insideSIP,
			known: true, counter: "flood_drops", told: "wrong user or password", kinds: []string{"guess"},
		},
		"in the name of all inside": {
			host: insideHost, source: sources("10.0.0.64", 128, 5060), to: insideSIP,
			told: "SIP to the proxy came faster than it was handled", kinds: []string{"REGISTER", "OPTIONS"},
		},
		"connections from outside": {host: outsideHost, to: publicA, known: true, counter: "stranger_drops", told: strangers},
		"connections from inside":  {host: insideHost, to: insideSIP, known: true, told: "too many TCP connections"},
	} {
		t.Run(name, func(t *testing.T) { overloadProxy(t, a) })
	}
}

// callLine is a line of the log of calls, of which those that go on have two each.
var callLine = regexp.MustCompile(`msg=(call|"call has ended") `)

// packet makes the packets of the attack.
func (a proxyAttack) packet() lab.FloodPacket {
	garbage := make([]byte, 600)
	for i := range garbage {
		garbage[i] = byte(rand.Uint32())
	}
	each := uint64(len(a.kinds) + 1)
	return func(n uint64) (from, to netip.AddrPort, payload []byte) {
		from = a.source(n / each)
		if n%each == 0 {
			return from, a.to, garbage
		}
		switch kind := a.kinds[n%each-1]; kind {
		case "INVITE":
			called := a.to
			if a.to == insideSIP {
				called = provider
			}
			payload = floodMessage(kind, from, called, n, lab.Audio(from.Addr(), 4000))
		case "guess":
			payload = []byte(strings.Replace(string(floodMessage("REGISTER", from, a.to, n, "")), "Contact:",
				fmt.Sprintf(`Authorization: Digest username="carol", realm="lab", nonce="%x", uri="sip:%v", response="%032x", algorithm=MD5`, n, a.to, n)+"\r\nContact:", 1))
		default:
			payload = floodMessage(kind, from, a.to, n, "")
		}
		return from, a.to, payload
	}
}

func overloadProxy(t *testing.T, a proxyAttack) {
	l := proxied(t, lab.Options{
		Phones: 4, Outside: []string{"203.0.113.10", "203.0.113.66"}, Leaky: true,
		Firewall: lab.Firewall{
			Backend: lab.Nftables,
			Extra:   `add rule inet firewall input iifname "ppp0" meta l4proto { tcp, udp } th dport 5060 accept` + "\n",
		},
	})
	config := []string{}
	if len(a.kinds) == 1 { // guesses
		config = append(config, "proxy_auth_realm = lab", "proxy_auth_passwd = secret")
	}
	d := l.StartProxy(config...)
	alice, carol, bob := newRobot(l.Phones[0], "alice", 5060), newRobot(l.Phones[1], "carol", 5060), newRobot(l.Outside[0], "bob", 5060)
	for _, r := range []*robot{alice, carol} {
		r.Proxy, r.Domain = insideSIP, "10.0.0.1"
	}
	for _, r := range []*robot{alice, carol, bob} {
		r.start(t)
	}
	register := func() (time.Duration, error) {
		m := carol.Request("REGISTER", "sip:10.0.0.1").Set("Expires", "3600")
		answer, took, err := carol.do(m, insideSIP)
		if answer != nil && answer.Status() == 401 {
			again := carol.Request("REGISTER", "sip:10.0.0.1").Set("Expires", "3600")
			lab.WithDigest(answer, 0, "carol", "secret")(again)
			var more time.Duration
			_, more, err = carol.do(again, insideSIP)
			took += more
		}
		return took, err
	}
	if _, err := register(); err != nil {
		t.Fatal(err)
	}
	var talks []*talk
	for i := range 3 {
		talks = append(talks, newTalk(t, l, alice, bob, 4000+10*i, 6000+10*i))
	}
	before, _ := d.Memory()

	rate := proxyCapacity(t, l, d)
	t.Logf("the daemon can process %d messages a second", rate)
	mark := len(d.Log())
	if err := d.ForgetPeak(); err != nil {
		t.Logf("the peak of memory is that since the start: %v", err)
	}
	counted, socketDrops := counter(l, a.counter), udpDrops(t, l)
	stop := a.begin(t, l, overloadFactor*rate)
	begin := time.Now()
	var slowest time.Duration
	var slow string
	var served, lost int
	try := func(what string, took time.Duration, err error) {
		if took > slowest {
			slowest, slow = took, what
		}
		served++
		if err != nil {
			lost++
			t.Errorf("%s during the flood: %v", what, err)
		} else if took > lab.Patience(proxyWait) {
			t.Errorf("%s takes %v during the flood, more than %v", what, took, proxyWait)
		}
	}
	if !a.known {
		time.Sleep(overloadTime())
	}
	for first := true; a.known && (first || time.Since(begin) < overloadTime()); first = false {
		took, err := register()
		try("a registration", took, err)
		took, err = bob.ring("sip:carol@203.0.113.1:5060")
		try("a call to a registered phone", took, err)
		took, err = talks[0].again()
		try("a re-INVITE", took, err)
		if first {
			took, err = talks[2].bye()
			try("a BYE", took, err)
		}
	}
	sent, took := stop(), time.Since(begin)

	// And at once all is well.
	end := time.Now()
	if _, err := register(); err != nil {
		t.Errorf("a registration after the flood: %v", err)
	}
	if _, err := bob.ring("sip:carol@203.0.113.1:5060"); err != nil {
		t.Errorf("a call to a phone after the flood: %v", err)
	}
	last := newTalk(t, l, alice, bob, 4100, 6100)
	after2 := time.Since(end)
	if after2 > lab.Patience(overloadAfter) {
		t.Errorf("a registration, a call and another one take %v after the flood", after2)
	}
	after, peak := d.Memory()
	if peak > proxyMemory {
		t.Errorf("%d bytes of memory, more than %d", peak, proxyMemory)
	}
	drops := counter(l, a.counter) - counted
	socketDrops = udpDrops(t, l) - socketDrops
	if a.counter == "" && a.source != nil {
		drops = socketDrops
	}
	if drops == 0 && a.source != nil {
		t.Error("no drops are counted")
	}
	d.WaitLine(a.told, lab.Moment())
	lines := 0
	for line := range strings.Lines(d.Log()[mark:]) {
		if !callLine.MatchString(line) {
			lines++
		}
	}
	if lines > overloadLines*int(took/time.Minute+1) {
		t.Errorf("%d lines in the log in %v", lines, took)
	}
	t.Logf("%d packets or connections in %v, %.1f times what can be processed, %d dropped, %d by the sockets; %d exchanges meanwhile, %d without answer, the slowest (%s) %v; "+
		"%v until all is well; %d lines in the log; memory %.1f MiB before, %.1f at most, %.1f after",
		sent, took.Round(time.Millisecond), float64(sent)/took.Seconds()/float64(rate), drops, socketDrops, served, lost, slow, slowest.Round(time.Millisecond),
		after2.Round(time.Millisecond), lines, mebibytes(before), mebibytes(peak), mebibytes(after))
	for _, one := range []*talk{talks[0], talks[1], last} {
		one.check(t)
		if _, err := one.bye(); err != nil {
			t.Errorf("BYE at the end: %v", err)
		}
	}
}

// ring calls somebody and ends the call as soon as it is answered.
func (r *robot) ring(uri string) (took time.Duration, err error) {
	m := r.Request("INVITE", uri).WithSDP(lab.Audio(r.Addr.Addr(), 6200))
	answer, took, err := r.do(m, r.NextHop(m))
	if err != nil {
		return took, err
	}
	d := &lab.Dialog{
		Agent: &r.Agent, CallID: m.CallID(), Local: m.Get("From"), Remote: answer.Get("To"),
		Target: lab.URIOf(answer.Get("Contact")), Routes: answer.All("Record-Route"), Seq: m.CSeq(), Invite: m,
	}
	ack := d.Build("ACK").Set("CSeq", fmt.Sprintf("%d ACK", d.Seq))
	r.conn.WriteToUDPAddrPort([]byte(ack.String()), r.NextHop(ack))
	bye := d.Build("BYE")
	_, more, err := r.do(bye, r.NextHop(bye))
	return max(took, more), err
}

// begin starts the attack, and returns what ends it and tells how much was sent.
func (a proxyAttack) begin(t *testing.T, l *lab.Lab, rate int) (stop func() int) {
	if a.source != nil {
		return a.host(l).Flood(rate, a.packet()).Stop
	}
	quit, ended := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { ended <- n }()
		var open []net.Conn
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		half := "OPTIONS sip:10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.12;branch=z9hG4bK" + strings.Repeat("x", 9000)
		for ; ; n++ {
			select {
			case <-quit:
				return
			default:
			}
			c, err := a.host(l).DialTCP(a.to)
			if err != nil {
				continue // the kernel drops what is too much
			}
			switch n % 4 {
			case 0: // says nothing
			case 1: // half a message
				c.Write([]byte(half[:400]))
			case 2: // more than a buffer of one
				c.Write([]byte(half))
			case 3: // garbage
				c.Write([]byte(strings.Repeat("\x00garbage", 100)))
			}
			for _, slow := range open[max(0, len(open)-8):] {
				slow.Write([]byte("y"))
			}
			if open = append(open, c); len(open) > 3000 {
				open[0].Close()
				open = open[1:]
			}
		}
	}()
	return func() int { close(quit); return <-ended }
}

// proxyCapacity is how many requests the proxy mode can process in a second, when it is
// slowed down so much that a flood can be more.
func proxyCapacity(t *testing.T, l *lab.Lab, d *lab.Daemon) int {
	t.Helper()
	d.Slow(0.03)
	f := insideHost(l).Flood(20000, func(n uint64) (from, to netip.AddrPort, payload []byte) {
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(200 + n%40)}), 5060)
		return from, insideSIP, floodMessage("OPTIONS", from, insideSIP, n, "")
	})
	drops := udpDrops(t, l)
	if !l.Until(lab.Moment(), func() bool { return udpDrops(t, l) > drops }) {
		t.Fatal("this machine cannot send more than the daemon can process")
	}
	received := func() (n int) {
		d.Mark()
		d.Signal(syscall.SIGUSR1)
		m := d.WaitLine(`proxy mode over UDP.* received=(\d+)`, lab.Moment())
		n, _ = strconv.Atoi(m[1])
		return n
	}
	before, begin := received(), time.Now()
	time.Sleep(500 * time.Millisecond) // the measurement
	rate := float64(received()-before) / time.Since(begin).Seconds()
	f.Stop()
	if !l.Until(lab.Moment(), func() bool { waiting, _ := udpSockets(t, l); return waiting == 0 }) {
		t.Fatal("the daemon does not come to an end with its sockets")
	}
	return int(rate)
}

func udpDrops(t *testing.T, l *lab.Lab) int {
	_, drops := udpSockets(t, l)
	return drops
}

// udpSockets is how many bytes wait in the daemon's sockets, and how many datagrams they
// have had no room for (proc(5), /proc/net/udp).
func udpSockets(t *testing.T, l *lab.Lab) (waiting, drops int) {
	t.Helper()
	text, err := l.FW.ReadProc("udp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 13 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", 5060)) {
			continue
		}
		_, queue, _ := strings.Cut(f[4], ":")
		n, _ := strconv.ParseInt(queue, 16, 64)
		waiting += int(n)
		n, _ = strconv.ParseInt(f[12], 10, 64)
		drops += int(n)
	}
	return waiting, drops
}
