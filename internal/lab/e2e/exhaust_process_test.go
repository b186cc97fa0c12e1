package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/internal/lab"
)

// TestLogNotRead: nobody reads what the daemon writes, though it tells of each message.
// Calls go on, and when it is read again the log says what is missing.
func TestLogNotRead(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon("debug_level = sip, net, access")
	d.register()
	read := daemon.Ignore()
	d.connect()
	d.hangUp(d.bob, d.alice)
	d.connect()
	read()
	d.hangUp(d.alice, d.bob)
	daemon.WaitLine(`the log was not read: messages are lost" messages=`, lab.Moment())
}

// TestNoDescriptorForTCP: connections that there are no file descriptors for wait, in
// the proxy mode and where TCP is joined. The log says so once, it costs no processor
// time, and they are served when there are descriptors again.
func TestNoDescriptorForTCP(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !l.NAT() {
		t.Skip("there is no daemon")
	}
	d := between(l, newSide(l.Phones[0], "alice", 5060, 4000), newSide(l.Outside[0], "bob", 5060, 6000))
	daemon := l.StartProxy("sip_tcp = yes", fmt.Sprint("sip_tcp_port = ", joinPort))
	d.register()
	restore := noDescriptors(t, daemon)
	joined, err := l.Phones[0].DialTCP(l.Outside[0].At(5060))
	if err != nil {
		t.Fatal(err)
	}
	defer joined.Close()
	proxied, err := l.Phones[0].DialTCP(insideSIP)
	if err != nil {
		t.Fatal(err)
	}
	defer proxied.Close()
	daemon.WaitLine(`cannot accept TCP connections.*too many open files`, lab.Moment())
	daemon.WaitLine(`a TCP connection cannot be accepted.*too many open files`, lab.Moment())
	d.connect()
	begun, before := time.Now(), daemon.CPUTime()
	for time.Since(begun) < 500*time.Millisecond {
		d.talk() // which is the kernel's work
	}
	d.hangUp(d.bob, d.alice)
	if used, in := daemon.CPUTime()-before, time.Since(begun); used > in/2 {
		t.Errorf("the daemon has used %v of the processor in %v", used, in)
	}
	for _, line := range []string{`cannot accept TCP connections" listen=10.0.0.1:5060`, "a TCP connection cannot be accepted"} {
		if n := strings.Count(daemon.Log(), line); n != 1 {
			t.Errorf("%q is told %d times", line, n)
		}
	}
	restore()
	fmt.Fprintf(proxied, "OPTIONS sip:10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.10:5060;branch=z9hG4bKfd\r\n"+
		"From: <sip:alice@10.0.0.1>;tag=1\r\nTo: <sip:10.0.0.1>\r\nCall-ID: descriptors\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
	proxied.SetReadDeadline(time.Now().Add(lab.Moment()))
	answer := make([]byte, 1500)
	if n, err := proxied.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "SIP/2.0 200") {
		t.Errorf("answer %q, %v", answer[:n], err)
	}
}

// noDescriptors takes all free file descriptors from the daemon, until restore is called.
func noDescriptors(t *testing.T, daemon *lab.Daemon) (restore func()) {
	t.Helper()
	pid := daemon.Cmd.Process.Pid
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 3, Max: before.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &none, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClockSet: the machine's clock is set by decades, forth and back, during a call and
// a registration, and each time the daemon is replaced after that. Only an emulated
// machine lends its clock.
func TestClockSet(t *testing.T) {
	if !lab.StockKernel() {
		t.Skip("SIPNATD_LAB_STOCK is not 1: the clock of this machine is not ours")
	}
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	begun := time.Now()
	set := func(by time.Duration) {
		now := begun.Add(time.Since(begun) + by)
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, new(unix.NsecToTimespec(now.UnixNano()))); err != nil {
			t.Fatal(err)
		}
	}
	defer set(0)
	const year = 365 * 24 * time.Hour
	daemon := d.StartDaemon()
	d.register()
	d.connect()
	second := d.again(d.Phones[0].RTP(4100), d.Outside[0].RTP(6100))
	for _, by := range []time.Duration{15 * year, -15 * year, 0} {
		for _, by := range []time.Duration{by, 2 * by} { // the second time nothing was said since
			set(by)
			time.Sleep(3 * time.Second) // the daemon looks at the time every second
		}
		d.talk()
		second.connect()
		second.bye(second.alice, second.bob)
		daemon.Kill()
		daemon = d.StartDaemon()
		d.talk()
	}
	d.hangUp(d.alice, d.bob)
	d.incoming()
	d.call()
}
