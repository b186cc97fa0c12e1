package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/lab"
	"sipnatd/internal/state"
)

// takeoverTime is within which a daemon serves that has a thousand calls to take over, on
// a machine that others use as well: by itself it takes a third of it.
const takeoverTime = 3 * time.Second

// TestRestartThousandCalls: a daemon that is killed with a thousand calls, or is replaced
// by one that has to lay out the table anew, is followed by one that serves at once. Who
// talks meanwhile misses nothing, and each call then ends as if nothing had happened. All
// thousand are there where SIPNATD_LOAD is set, otherwise a hundred.
func TestRestartThousandCalls(t *testing.T) {
	t.Parallel()
	const phones, talkers = 4, 4
	each := 24
	if os.Getenv("SIPNATD_LOAD") != "" {
		each = 249
	}
	d := strangers(t, lab.Options{
		Phones: phones + 1, Outside: []string{"203.0.113.10", "203.0.113.11", "203.0.113.12", "192.0.2.30", "198.51.100.20"},
		Firewall: lab.Firewall{Backend: lab.Nftables},
	})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	config := []string{"rtp_port_low = 20000", "rtp_port_high = 30000", "debug_level = net"}
	daemon := d.StartDaemon(config...)
	c := multitude{Lab: d.Lab, callers: d.Phones[1:]}
	c.call(each)
	all := phones*each + talkers
	var talks []*duo
	for i := range talkers {
		one := between(d.Lab, d.alice, d.bob)
		if i > 0 {
			one = between(d.Lab, newSide(d.Phones[0], fmt.Sprint("alice", i), 5070+i, 4000+10*i), newSide(d.Outside[i], fmt.Sprint("bob", i), 5060, 6000))
		}
		one.register()
		one.connect()
		talks = append(talks, one)
	}
	streams, bindings := len(d.Streams()), len(d.Bindings())
	if streams != 2*all {
		t.Fatalf("%d calls have %d streams", all, streams)
	}
	var stops []func()
	for _, one := range talks {
		stops = append(stops, one.converse())
	}
	for _, how := range interruptions[1:] {
		how.end(daemon)
		how.between(d)
		daemon = d.serveSoon(config, how.name)
		daemon.WaitLine(fmt.Sprintf(`taken over from an earlier daemon" mappings=%d calls=%d bindings=%d .*"streams of no call"=0 `, streams+bindings, all, bindings), lab.Moment())
		took := daemon.WaitLine("what taking over took.*", lab.Moment())
		renewed := daemon.WaitLine("expectations renewed.*", lab.Moment())
		t.Logf("%s: %s; %s", how.name, took[0], renewed[0])
		for _, one := range talks {
			one.audible()
		}
	}
	for i, one := range talks {
		stops[i]()
		one.bye(one.alice, one.bob)
	}
	c.hangUp()
	d.WaitClosed()
	if n := len(d.Bindings()); n != bindings {
		t.Errorf("of %d bindings %d are left", bindings, n)
	}
	daemon.Stop()
	if n := d.callRecords(); n > 0 {
		t.Errorf("state_dir has records of %d calls that have ended", n)
	}
}

// serveSoon starts a daemon while a phone sends without waiting for it, and judges how
// long it takes until that is served.
func (d *duo) serveSoon(config []string, after string) *lab.Daemon {
	d.T.Helper()
	took := make(chan time.Duration, 1)
	begin := time.Now()
	go func() {
		request := d.alice.Request("OPTIONS", "sip:bob@"+d.bob.Addr.Addr().String())
		id := lab.CallID(request.CallID())
		for n := 2; time.Since(begin) < lab.Moment(); n++ {
			m := *request
			m.Set("CSeq", fmt.Sprint(n, " OPTIONS"))
			d.alice.SendRaw(d.bob.Addr, []byte(m.String()))
			if len(d.bob.Pending(lab.Request("OPTIONS"), id)) > 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		took <- time.Since(begin)
	}()
	daemon := d.StartDaemon(config...)
	ready := time.Since(begin)
	first := <-took
	d.T.Logf("%s: ready after %v, the first packet is rewritten after %v", after, ready.Round(time.Millisecond), first.Round(time.Millisecond))
	if limit := lab.Patience(takeoverTime); first > limit || ready > limit {
		d.T.Errorf("%s: ready after %v, the first packet is rewritten after %v, want %v", after, ready, first, limit)
	}
	return daemon
}

// callRecords counts the calls that the daemon, which has ended, has left in state_dir.
func (d *duo) callRecords() (calls int) {
	d.T.Helper()
	err := d.FW.Do(func() error {
		log, err := state.Open(state.Config{Dir: d.StateDir(), Name: "calls", UID: -1, GID: -1})
		if err != nil {
			return err
		}
		defer log.Close()
		records := 0
		c := log.Load(func(_ uint64, record []byte) {
			records++
			if record[0] == 'c' {
				calls++
			}
		})
		if c.Health != state.Whole {
			return fmt.Errorf("the state is %s: %s", c.Health, c.Reason)
		}
		d.T.Logf("%d records are left", records)
		return nil
	})
	if err != nil {
		d.T.Errorf("%v", err)
	}
	return calls
}

// A multitude is many calls by SIPp at once, from several phones to one server, which last
// until the test ends them.
type multitude struct {
	*lab.Lab
	callers []*lab.Host
	sipp    []*lab.SIPp
	ids     [][]string // Call-IDs of each caller's
}

const multitudePort = 5060

// call begins as many calls with each phone, and waits until all are answered.
func (c *multitude) call(each int) {
	c.T.Helper()
	server := c.Outside[len(c.Outside)-1]
	script := soakScript{linger: 200 * time.Millisecond}
	server.SIPp(lab.SIPpOptions{Scenario: script.called(), Calls: each * len(c.callers), Media: 20000, PortPerCall: true})
	// Who has called waits to be told that it is enough.
	scenario := script.caller(soakPlain)
	const pause = `<pause distribution="uniform" min="0" max="0"/>`
	if strings.Count(scenario, pause) != 1 {
		c.T.Fatalf("the scenario has no single pause:\n%s", scenario)
	}
	scenario = strings.Replace(scenario, pause, `<recv request="INFO"/>`, 1)
	for _, h := range c.callers {
		c.sipp = append(c.sipp, h.SIPp(lab.SIPpOptions{
			Scenario: scenario, Service: string(soakPlain), Port: multitudePort, Calls: each, Rate: 250 / len(c.callers),
			Media: 10000, PortPerCall: true, Remote: server.At(5060),
		}))
	}
	acked, seen := make(map[string]bool), 0
	if err := c.Inside.Wait(0, 3*lab.Moment(), func(ps []*lab.Packet) bool {
		for _, p := range ps[seen:] {
			if p.SIP != nil && p.SIP.Method() == "ACK" {
				acked[p.SIP.CallID()] = true
			}
		}
		seen = len(ps)
		return len(acked) == each*len(c.callers)
	}); err != nil {
		c.T.Fatalf("of %d calls %d are answered: %v", each*len(c.callers), len(acked), err)
	}
	c.ids = make([][]string, len(c.callers))
	for id := range acked { // SIPp's are number-pid@address
		_, host, _ := strings.Cut(id, "@")
		i := slices.IndexFunc(c.callers, func(h *lab.Host) bool { return h.Addr.String() == host })
		c.ids[i] = append(c.ids[i], id)
	}
}

// hangUp has all calls ended by those who have called.
func (c *multitude) hangUp() {
	c.T.Helper()
	for i, h := range c.callers {
		from, to := h.Socket(multitudePort+10), h.At(multitudePort)
		tick := time.NewTicker(3 * time.Millisecond)
		for _, id := range c.ids[i] {
			<-tick.C
			from.Send(to, fmt.Appendf(nil, "INFO sip:sipp@%v SIP/2.0\r\nVia: SIP/2.0/UDP %v;branch=z9hG4bK%s\r\n"+
				"From: <sip:test@example.org>;tag=1\r\nTo: <sip:sipp@example.org>\r\nCall-ID: %s\r\nCSeq: 1 INFO\r\nContent-Length: 0\r\n\r\n",
				to, netip.AddrPortFrom(h.Addr, multitudePort+10), id, id))
		}
		tick.Stop()
	}
	for _, s := range c.sipp {
		s.WaitCalls(2 * lab.Moment())
	}
}
