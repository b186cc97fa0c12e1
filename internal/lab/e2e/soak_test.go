package e2e

import (
	"encoding/csv"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// What a soak consists of, beside its calls.
const (
	soakPhones    = 200 // that register with a provider, and again before it is due
	soakOwnPhones = 100 // that register with the firewall
	soakRefresh   = 40 * time.Second

	soakTalkers  = 4 // calls with RTP at a time, every other one from inside; each with a host outside
	soakTalkTime = time.Minute

	soakSample = 10 * time.Second
	soakWarmUp = time.Minute // at least, before growth is looked for: a port rests for as long

	// soakMemory is how long a run must be for its memory to be judged: for some minutes
	// whatever has room for later grows to what it needs, as the timers' slots do.
	soakMemory = 20 * time.Minute

	soakGap = 2 * time.Second // within which the table is back after the firewall was reloaded
)

// soakWay is a way that calls take, and how many of each kind come a second. All
// together these are 34, in half an hour 61,200.
type soakWay struct {
	fromInside, proxied bool
	kinds               map[soakKind]int
}

var soakWays = []soakWay{
	{true, false, map[soakKind]int{soakPlain: 6, soakHold: 3, soakCancel: 3, soakBusy: 2, soakGone: 1, soakFork: 2}},
	{false, false, map[soakKind]int{soakPlain: 6, soakHold: 3, soakCancel: 2, soakBusy: 1, soakGone: 1}},
	{true, true, map[soakKind]int{soakPlain: 1, soakHold: 1}},
	{false, true, map[soakKind]int{soakPlain: 1, soakHold: 1}},
}

// The SIP ports of the called inside: who registers with a provider, and with the firewall.
const (
	soakCalledPort    = 5062
	soakOwnCalledPort = 5064
)

// A soak is a long run of calls that come and go.
type soak struct {
	*lab.Lab
	duration time.Duration
	script   soakScript
	daemon   *lab.Daemon
	config   []string
	start    time.Time

	cpu, cpuBefore time.Duration // of daemons that have ended; and of all at the last sample

	samples []soakFigures
	talkers []*soakTalker
	calls   int // by SIPp
	failed  int
	talked  int // calls with RTP that have ended
	packets int // of RTP, received in them
	leaked  int // private addresses that left while the table was away
}

// soakTalker is two who call each other again and again, and count what they hear.
type soakTalker struct {
	*duo
	stop func()
	end  time.Time
}

// TestSoak has calls come and go, in both modes and both directions, while some talk, and
// looks whether anything grows. SIPNATD_SOAK says for how long, e.g. "30m"; without it, a
// few seconds show that everything is given back. With SIPNATD_SOAK_FAULTS=1 the daemon is
// killed, stopped, reloaded, or its table thrown away, one of these every minute.
func TestSoak(t *testing.T) {
	s := &soak{duration: 2 * time.Second, script: soakScript{talk: 500 * time.Millisecond, linger: 100 * time.Millisecond}}
	if text := os.Getenv("SIPNATD_SOAK"); text != "" {
		var err error
		if s.duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SIPNATD_SOAK: %v", err)
		}
		s.script = soakScript{talk: 10 * time.Second, linger: 6 * time.Second}
	} else {
		t.Parallel()
	}
	faults := os.Getenv("SIPNATD_SOAK_FAULTS") == "1"
	s.build(t)
	before := s.look()
	s.run(faults)
	if s.leaked > 0 {
		t.Logf("%d messages passed unseen while the table was away: a call whose BYE is one of them ends by rtp_timeout", s.leaked)
	} else {
		s.judgeRest(before)
	}
	s.judgeGrowth()
	s.write()
	t.Logf("%d calls by SIPp, %d of them failed; %d calls with RTP, %d packets heard; %.3f cores",
		s.calls, s.failed, s.talked, s.packets, s.cpuTime().Seconds()/time.Since(s.start).Seconds())
	if !faults && s.failed > 0 {
		t.Errorf("%d calls have failed", s.failed)
	}
}

// build makes a lab in which everybody is there, has registered and has called once.
func (s *soak) build(t *testing.T) {
	s.Lab = lab.New(t, lab.Options{
		Phones: 4, Outside: []string{"203.0.113.10", "198.51.100.20", "192.0.2.30", "192.0.2.31", "192.0.2.32", "192.0.2.33"},
		Leaky: true, // is judged bit by bit
		Firewall: lab.Firewall{
			Backend: lab.Nftables,
			Extra:   `add rule inet firewall input iifname "ppp0" meta l4proto { tcp, udp } th dport 5060 accept` + "\n",
		},
	})
	s.config = []string{"rtp_port_low = 20000", "rtp_port_high = 39999"}
	s.daemon = s.StartProxy(s.config...)

	called := s.script.called()
	s.serve(s.Outside[0], 5060, 20000, called)
	s.serve(s.Phones[1], soakCalledPort, 20000, called)
	s.serve(s.Phones[1], soakOwnCalledPort, 25002, called)
	s.serve(s.Outside[1], 5060, 19000, soakRegistrar)
	for _, r := range s.registrants() {
		r.Calls, r.Rate = s.users(r), 200
		s.client(r).WaitCalls(2 * lab.Moment())
	}
	for i := range soakTalkers {
		d := between(s.Lab, newSide(s.Phones[3], fmt.Sprint("alice", i), 5070+i, 4000+10*i),
			newSide(s.Outside[2+i], "bob", 5060, 6000))
		d.register()
		if i%2 == 1 {
			d.incoming()
		}
		s.talkers = append(s.talkers, &soakTalker{duo: d})
	}
	var all []*lab.SIPp
	for _, o := range s.callers() {
		o.Calls, o.Rate = 1, 1
		all = append(all, s.client(o))
	}
	for _, c := range all {
		c.WaitCalls(s.script.talk*3 + s.script.linger + lab.Moment())
	}
	s.WaitClosed()
}

// serve has a host answer whatever comes, to the end of the lab.
func (s *soak) serve(h *lab.Host, port, media int, scenario string) {
	h.SIPp(lab.SIPpOptions{
		Scenario: scenario, Port: port, Media: media, PortPerCall: true,
		Calls: 1 << 30, AtOnce: 1 << 16, Args: []string{"-timeout", "0"},
	})
}

// soakClient is a SIPp that calls or registers.
type soakClient struct {
	lab.SIPpOptions
	host  *lab.Host
	users string // its file
}

func (s *soak) client(c soakClient) *lab.SIPp {
	c.AtOnce = 1 << 14
	c.Args = append(slices.Clone(c.Args), "-timeout", strconv.Itoa(int(s.duration.Seconds())+120))
	if c.users != "" {
		file := filepath.Join(s.Dir, fmt.Sprintf("users-%s-%d", c.host.Name, c.Port))
		if err := os.WriteFile(file, []byte(c.users), 0o644); err != nil {
			s.T.Fatalf("%v", err)
		}
		c.Args = append(c.Args, "-inf", file)
	}
	return c.host.SIPp(c.SIPpOptions)
}

// registrants are those who register, with a provider or with the firewall.
func (s *soak) registrants() (all []soakClient) {
	phones := func(n, port int) (lines string) {
		for i := range n {
			lines += fmt.Sprintf("u%04d;%d;", i, port+i) + "%[1]s\n"
		}
		return lines
	}
	called := func(port int) (lines string) {
		for _, kind := range soakKinds {
			lines += fmt.Sprintf("%s;%d;", kind, port) + "%[1]s\n"
		}
		return lines
	}
	for _, r := range []struct {
		host        *lab.Host
		port        int
		with        netip.AddrPort
		domain      string
		usersFormat string
	}{
		{s.Phones[1], 5090, s.Outside[1].At(5060), "example.org", called(soakCalledPort)},
		{s.Phones[1], 5092, insideSIP, "203.0.113.1", called(soakOwnCalledPort)},
		{s.Phones[2], 5090, s.Outside[1].At(5060), "example.org", phones(soakPhones, 6000)},
		{s.Phones[2], 5092, insideSIP, "203.0.113.1", phones(soakOwnPhones, 8000)},
	} {
		all = append(all, soakClient{
			SIPpOptions: lab.SIPpOptions{Scenario: soakRegister, Remote: r.with, Port: r.port, Media: 2 * r.port},
			host:        r.host,
			users:       "SEQUENTIAL\n" + fmt.Sprintf(r.usersFormat, r.domain),
		})
	}
	return all
}

func (s *soak) users(c soakClient) int { return strings.Count(c.users, "\n") - 1 }

// callers are those who call, at the rate of their kind.
func (s *soak) callers() (all []soakClient) {
	ports := map[*lab.Host]int{}
	for _, way := range soakWays {
		for _, kind := range soakKinds {
			rate := way.kinds[kind]
			if rate == 0 {
				continue
			}
			c := soakClient{host: s.Phones[0], SIPpOptions: lab.SIPpOptions{
				Scenario: s.script.caller(kind), Remote: s.Outside[0].At(5060), Service: string(kind),
				Rate: rate, Calls: max(int(float64(rate)*s.duration.Seconds()), 1), PortPerCall: true,
			}}
			if !way.fromInside {
				c.host, c.Remote = s.Outside[1], s.FW.At(soakCalledPort)
			}
			switch {
			case way.proxied && way.fromInside:
				c.Args = []string{"-rsa", insideSIP.String()}
			case way.proxied:
				c.Remote = s.FW.At(5060)
			}
			// SIPp takes every fourth port of the 10,000 from its first one on.
			n := ports[c.host]
			ports[c.host]++
			c.Port, c.Media = 5080+n, 20000+n*5000+n%2*2
			all = append(all, c)
		}
	}
	return all
}

// run has everybody call and register until the time is over, and every call ends.
func (s *soak) run(faults bool) {
	s.start = time.Now()
	var callers, registrants []*lab.SIPp
	for _, r := range s.registrants() {
		const period = 10 * time.Second
		r.Calls = 1 << 30
		r.Rate = max(s.users(r)*int(period/time.Second)/int(soakRefresh/time.Second), 1)
		r.Args = []string{"-rp", strconv.Itoa(int(period.Milliseconds()))}
		registrants = append(registrants, s.client(r))
	}
	for _, c := range s.callers() {
		s.calls += c.Calls
		callers = append(callers, s.client(c))
	}
	for i, t := range s.talkers {
		t.begin(min(s.duration, soakTalkTime/soakTalkers*time.Duration(i+1)))
	}
	end := s.start.Add(s.duration)
	sample, fault := s.start.Add(soakSample), s.start.Add(time.Minute)
	for turn := 0; time.Now().Before(end); {
		next := sample
		for _, t := range s.talkers {
			if t.end.Before(next) {
				next = t.end
			}
		}
		if faults && fault.Before(next) {
			next = fault
		}
		if end.Before(next) {
			break
		}
		time.Sleep(time.Until(next))
		switch {
		case next.Equal(sample):
			s.sample()
			sample = sample.Add(soakSample)
		case faults && next.Equal(fault):
			s.inflict(turn)
			turn++
			fault = fault.Add(time.Minute)
		default:
			for _, t := range s.talkers {
				if next.Equal(t.end) {
					s.finish(t)
					t.begin(soakTalkTime)
				}
			}
		}
	}
	time.Sleep(time.Until(end))
	for _, t := range s.talkers {
		s.finish(t)
	}
	for _, c := range callers {
		c.Wait(s.script.talk*4 + s.script.linger + 40*time.Second) // Timer B
		s.failed += s.failures(c)
	}
	for _, r := range registrants {
		r.Kill()
		if n := s.failures(r); n > 0 && !faults {
			s.T.Errorf("%d registrations have failed", n)
		}
	}
	s.judgeWire(false)
}

// failures is how many calls of a SIPp have failed; what it complains of goes to the log.
func (s *soak) failures(c *lab.SIPp) int {
	s.T.Helper()
	if c.Running() {
		c.Kill()
	}
	f, err := os.Open(filepath.Join(c.Dir, "stat.csv"))
	if err != nil {
		s.T.Errorf("%v", err)
		return 0
	}
	defer f.Close()
	table := csv.NewReader(f)
	table.Comma, table.FieldsPerRecord = ';', -1
	lines, err := table.ReadAll()
	if err != nil || len(lines) < 2 {
		s.T.Errorf("%s: %d lines of statistics, %v", c.Dir, len(lines), err)
		return 0
	}
	n, err := strconv.Atoi(lines[len(lines)-1][slices.Index(lines[0], "FailedCall(C)")])
	if err != nil {
		s.T.Errorf("%s: %v", c.Dir, err)
	}
	if n > 0 {
		errors, _ := os.ReadFile(filepath.Join(c.Dir, "errors.log"))
		s.T.Logf("%s: %d calls have failed: %.2000s", c.Dir, n, errors)
	}
	return n
}

// begin makes a call with RTP, for a time.
func (t *soakTalker) begin(talk time.Duration) {
	t.T.Helper()
	t.connect()
	t.stop, t.end = t.converseEvery(20*time.Millisecond), time.Now().Add(talk)
}

// finish ends a call with RTP. Whoever has called hangs up.
func (s *soak) finish(t *soakTalker) {
	s.T.Helper()
	t.stop()
	s.packets += len(t.alice.rtp.Received()) + len(t.bob.rtp.Received())
	s.talked++
	t.bye(t.caller, t.called)
}

// inflict does one of the things that must not cost anybody a call.
func (s *soak) inflict(turn int) {
	s.T.Helper()
	s.judgeWire(false)
	restart := func(end func(*lab.Daemon)) {
		s.cpu += s.daemon.CPUTime()
		end(s.daemon)
		s.daemon = s.StartProxy(s.config...)
	}
	switch turn % 4 {
	case 0:
		restart((*lab.Daemon).Kill)
	case 1:
		s.daemon.Mark()
		s.daemon.Signal(syscall.SIGHUP)
		s.daemon.WaitLine(`configuration read again`, lab.Moment())
	case 2:
		reload(s.Lab)
		time.Sleep(soakGap)
		s.judgeWire(true)
	case 3:
		restart((*lab.Daemon).Stop)
	}
}

// judgeWire looks at what has passed since it was called the last time. While the
// table was away, SIP has passed as it was.
func (s *soak) judgeWire(away bool) {
	s.T.Helper()
	faults := s.JudgeAndForget()
	if away {
		s.leaked += len(faults)
		return
	}
	for _, fault := range faults[:min(len(faults), 5)] {
		s.T.Errorf("on the wire, one of %d faults: %s", len(faults), fault)
	}
}

// cpuTime is the time that all daemons have computed.
func (s *soak) cpuTime() time.Duration { return s.cpu + s.daemon.CPUTime() }
