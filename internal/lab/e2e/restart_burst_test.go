package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"sipnatd/internal/lab"
)

// TestRestartWindow: the daemon is killed while SIP comes in bursts. None of it leaves
// with a private address as long as another daemon may come; after that it passes or is
// dropped, as on_failure says.
func TestRestartWindow(t *testing.T) {
	t.Parallel()
	for _, failure := range []string{"pass", "drop"} {
		t.Run(failure, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{Leaky: true}) // in the end private addresses may show
			if !d.NAT() {
				t.Skip("there is no daemon")
			}
			daemon := d.StartDaemon("on_failure = " + failure)
			d.register()
			request := d.alice.Request("OPTIONS", "sip:bob@"+d.bob.Addr.Addr().String())
			burst := func(from, n int) {
				for seq := from; seq < from+n; seq++ {
					m := *request
					m.Set("CSeq", fmt.Sprint(seq, " OPTIONS"))
					d.alice.SendRaw(d.bob.Addr, []byte(m.String()))
				}
			}
			passed := func(seq int) bool { return len(d.bob.Pending(lab.CSeq(seq))) > 0 }
			const n = 300
			burst(2, 10)
			d.bob.Recv(lab.CSeq(11))
			sent := make(chan bool)
			go func() { burst(12, n); close(sent) }()
			daemon.Kill()
			<-sent
			burst(12+n, 10) // nobody listens now, for certain
			// What is not queued is not held up: it would be here before the media.
			d.alice.rtp.SendRTP(d.bob.rtp.Addr, 1)
			d.bob.rtp.Expect(netip.AddrPort{}, 1)
			for seq := 12 + n; seq < 22+n; seq++ {
				if passed(seq) {
					t.Errorf("request %d passes while another daemon may come", seq)
				}
			}
			if faults := d.WireFaults(); len(faults) > 0 {
				t.Errorf("%d faults on the wire, such as %s", len(faults), faults[0])
			}

			d.FW.Run("nft", "flush", "set", "ip", "sipnatd", "serving") // as time does
			burst(500, 1)
			d.alice.rtp.SendRTP(d.bob.rtp.Addr, 1)
			d.bob.rtp.Expect(netip.AddrPort{}, 2)
			if failure == "pass" {
				d.bob.Recv(lab.CSeq(500))
			} else if passed(500) {
				t.Error("SIP passes with on_failure = drop")
			}
		})
	}
}

// insist has one side send a message until the other one has it, however often it is
// lost on the way.
func insist(t *testing.T, from *lab.Agent, send func(), to *lab.Agent, filters ...lab.Filter) {
	t.Helper()
	for deadline := time.Now().Add(4 * lab.Moment()); ; {
		send()
		for range 15 { // a repetition after 150 ms
			if len(to.Pending(filters...)) > 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not get what %s repeats", to.User, from.User)
		}
	}
}

// repeat returns what sends a request or a response again, byte for byte.
func repeat(from *lab.Agent, to netip.AddrPort, m *lab.Message) func() {
	raw := []byte(m.String())
	return func() { from.SendRaw(to, raw) }
}

// stubbornly has one side send a request in the dialog and the other one answer it,
// however often either is lost.
func (d *duo) stubbornly(t *testing.T, method string, from, to *side, offer, answer lab.Mod) {
	t.Helper()
	m := from.dialog.Build(method)
	offer(m)
	from.dialog.Sent = m
	if method == "INVITE" {
		from.dialog.Invite = m
	}
	id, seq := lab.CallID(m.CallID()), lab.CSeq(m.CSeq())
	insist(t, from.Agent, repeat(from.Agent, from.NextHop(m), m), to.Agent, id, seq, lab.Request(method))
	seen := to.recv(lab.Request(method), seq)
	reply := to.Response(seen, 200)
	answer(reply)
	insist(t, to.Agent, repeat(to.Agent, lab.ReplyTo(seen), reply), from.Agent, id, seq, lab.Status(200, method))
	from.learn(from.dialog.Expect(200))
	if method == "INVITE" {
		d.acknowledge(t, from, to)
	}
}

// acknowledge has one side send the ACK of a success until the other one has it.
func (d *duo) acknowledge(t *testing.T, from, to *side) {
	t.Helper()
	ack := from.dialog.Build("ACK")
	ack.Set("CSeq", fmt.Sprint(from.dialog.Invite.CSeq(), " ACK"))
	id, seq := lab.CallID(ack.CallID()), lab.CSeq(ack.CSeq())
	insist(t, from.Agent, repeat(from.Agent, from.NextHop(ack), ack), to.Agent, id, seq, lab.Request("ACK"))
	to.recv(lab.Request("ACK"), seq)
}

// phone registers, and makes and takes calls in every form, until stop.
func (d *duo) phone(t *testing.T, stop <-chan struct{}) (calls int) {
	registrar := "sip:" + d.bob.Addr.Addr().String()
	keep := func(*lab.Message) {}
	d.alice.Proxy = d.bob.Addr
	for ; ; calls++ {
		select {
		case <-stop:
			return calls
		default:
		}
		m := d.alice.Request("REGISTER", registrar)
		m.Set("Expires", "3600")
		id := lab.CallID(m.CallID())
		insist(t, d.alice.Agent, repeat(d.alice.Agent, d.bob.Addr, m), d.bob.Agent, id)
		seen := d.bob.Recv(id)
		d.contact = lab.URIOf(seen.Get("Contact"))
		ok := d.bob.Response(seen, 200)
		ok.Add("Contact", seen.Get("Contact")+";expires=3600")
		insist(t, d.bob.Agent, repeat(d.bob.Agent, lab.ReplyTo(seen), ok), d.alice.Agent, id)
		d.alice.Recv(id)

		from, to, uri := d.alice, d.bob, "sip:bob@"+d.bob.Addr.Addr().String()
		if calls%2 == 1 {
			from, to, uri = d.bob, d.alice, d.contact
		}
		m = from.Request("INVITE", uri)
		from.sdp()(m)
		id = lab.CallID(m.CallID())
		from.dialog = &lab.Dialog{Agent: from.Agent, CallID: m.CallID(), Local: m.Get("From"), Remote: m.Get("To"), Target: uri, Seq: m.CSeq(), Sent: m, Invite: m}
		insist(t, from.Agent, repeat(from.Agent, from.NextHop(m), m), to.Agent, id)
		to.dialog = to.RecvInvite(id)
		to.learn(to.dialog.Invite)
		ringing := to.Response(to.dialog.Invite, 180)
		insist(t, to.Agent, repeat(to.Agent, lab.ReplyTo(to.dialog.Invite), ringing), from.Agent, id, lab.Status(180, "INVITE"))
		from.recv(lab.Status(180, "INVITE"))
		if calls%5 == 4 {
			busy := to.Response(to.dialog.Invite, 486)
			insist(t, to.Agent, repeat(to.Agent, lab.ReplyTo(to.dialog.Invite), busy), from.Agent, id, lab.Status(486, "INVITE"))
			busy = from.recv(lab.Status(486, "INVITE"))
			insist(t, from.Agent, func() { from.dialog.AckFailure(busy) }, to.Agent, id, lab.Request("ACK"))
			to.recv(lab.Request("ACK"))
			continue
		}
		answer := to.Response(to.dialog.Invite, 200)
		to.sdp()(answer)
		insist(t, to.Agent, repeat(to.Agent, lab.ReplyTo(to.dialog.Invite), answer), from.Agent, id, lab.Status(200, "INVITE"))
		from.recv(lab.Status(200, "INVITE"))
		d.acknowledge(t, from, to)
		d.Talk(d.alice.party(), d.bob.party())
		d.stubbornly(t, "INVITE", to, from, to.sdp(), from.sdp())
		d.Talk(d.alice.party(), d.bob.party())
		d.stubbornly(t, "BYE", from, to, keep, keep)
		d.CheckSilent(d.bob.rtp.Socket, d.announced())
	}
}

// TestRestartBurst: the daemon is replaced again and again, in either way and at any
// moment, while phones register, call, change calls and end them as fast as they can.
// Every call has its audio, a repeated INVITE announces what the first one did, and
// nothing is left over.
func TestRestartBurst(t *testing.T) {
	t.Parallel()
	restarts := 20
	if n, err := strconv.Atoi(os.Getenv("SIPNATD_RESTARTS")); err == nil {
		restarts = n
	}
	l := lab.New(t, lab.Options{Phones: 4, Outside: []string{"203.0.113.10", "203.0.113.11", "198.51.100.20", "192.0.2.30"}})
	if !l.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := l.StartDaemon()
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for i, h := range l.Phones {
		alice, bob := newSide(h, fmt.Sprint("alice", i), 5060, 4000), newSide(l.Outside[i], fmt.Sprint("bob", i), 5060, 6000)
		wait.Go(func() {
			calls := between(l, alice, bob).phone(t, stop)
			t.Logf("%s has had %d calls", alice.User, calls)
		})
	}
	for n := range restarts {
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		if n%4 == 3 {
			daemon.Stop()
		} else {
			daemon.Kill()
		}
		daemon = l.StartDaemon()
	}
	close(stop)
	wait.Wait()
	l.WaitClosed()
	if n := len(l.Bindings()); n != len(l.Phones) {
		t.Errorf("%d phones have %d bindings: %v", len(l.Phones), n, l.Bindings())
	}
	announced := make(map[string]netip.AddrPort)
	for _, p := range l.Wire.SIP(lab.Request("INVITE")) {
		if media := p.SIP.Media(); p.Out && len(media) > 0 {
			key := p.SIP.CallID() + " " + p.SIP.Get("CSeq")
			if first, ok := announced[key]; ok && first != media[0].RTP {
				t.Errorf("an INVITE announces %v, and repeated %v", first, media[0].RTP)
			}
			announced[key] = media[0].RTP
		}
	}
}
