package transaction

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// world is a layer with a user that only takes notes. What is noted begins with the
// seconds that have passed.
type world struct {
	t     *testing.T
	mu    sync.Mutex
	layer *Layer
	begin time.Time
	notes []string
	fail  error // of the sender
	last  *Server
}

func (w *world) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf("%g "+format, append([]any{time.Since(w.begin).Seconds()}, args...)...))
}

func (w *world) Send(to transport.Hop, message []byte) error {
	if w.fail != nil {
		return w.fail
	}
	line, _, _ := bytes.Cut(message, []byte("\r\n"))
	w.note("> %s %s", to.Remote, line)
	return nil
}

func (w *world) Request(s *Server) {
	w.last = s
	w.note("request")
}
func (w *world) Cancelled(*Server, *sipmsg.Message) { w.note("cancelled") }
func (w *world) Ack(*sipmsg.Message, transport.Hop) { w.note("ack") }
func (w *world) Failed(_ *Client, err error)        { w.note("failed: %v", err) }
func (w *world) Response(_ *Client, m *sipmsg.Message, _ transport.Hop) {
	w.note("response %d", m.Status)
}

// in runs a test in a world whose time passes only while all wait.
func in(t *testing.T, limits Limits, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, begin: time.Now()}
		w.layer = New(&w.mu, w, w, limits)
		f(w)
		w.wait(time.Hour)
		if s := w.layer.Stats(); s.Servers != 0 || s.Clients != 0 || len(w.layer.hosts) != 0 {
			t.Errorf("left after an hour: %d servers, %d clients, %d hosts", s.Servers, s.Clients, len(w.layer.hosts))
		}
	})
}

func (w *world) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect compares what was noted since the last call.
func (w *world) expect(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.notes, want) {
		w.t.Errorf("got\n  %s\nwant\n  %s", strings.Join(w.notes, "\n  "), strings.Join(want, "\n  "))
	}
	w.notes = nil
}

var far = netip.MustParseAddrPort("203.0.113.10:5060")

func hop(kind transport.Kind) transport.Hop {
	return transport.Hop{Kind: kind, Local: netip.MustParseAddrPort("203.0.113.1:5060"), Remote: far}
}

// message returns a request, or a response where first begins with a status.
func message(first, method string) []byte {
	start := "SIP/2.0 " + first
	if first == "" {
		start = method + " sip:bob@example.com SIP/2.0"
	}
	return []byte(start + "\r\nVia: SIP/2.0/UDP 203.0.113.10:5062;branch=z9hG4bK1\r\nRoute: <sip:203.0.113.9;lr>\r\n" +
		"From: <sip:a@example.org>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: 1\r\nCSeq: 7 " + method + "\r\nContent-Length: 0\r\n\r\n")
}

func (w *world) arrive(kind transport.Kind, first, method string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	from := hop(kind)
	if kind == transport.TCP {
		from.Conn = 1
	}
	if err := w.layer.Arrived(transport.Arrival{Hop: from, Data: message(first, method)}); err != nil {
		w.t.Error(err)
	}
}

func (w *world) send(kind transport.Kind, method string) *Client {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.layer.Send(hop(kind), message("", method), w)
	if err != nil {
		w.t.Error(err)
	}
	return c
}

func (w *world) respond(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.Respond(status, message(fmt.Sprint(status, " X"), "INVITE"))
}

const (
	invite = "> 203.0.113.10:5060 INVITE sip:bob@example.com SIP/2.0"
	option = "> 203.0.113.10:5060 OPTIONS sip:bob@example.com SIP/2.0"
	ack    = "> 203.0.113.10:5060 ACK sip:bob@example.com SIP/2.0"
)

func at(second float64, what string) string { return fmt.Sprintf("%g %s", second, what) }

// TestClientAgain: a request that its sender repeats when it has its answer already is
// sent on with the same branch, and is answered though the transaction before it ends.
func TestClientAgain(t *testing.T) {
	in(t, Limits{}, func(w *world) {
		w.send(transport.UDP, "OPTIONS")
		w.arrive(transport.UDP, "200 OK", "OPTIONS")
		w.wait(T4 - T1/2)
		w.send(transport.UDP, "OPTIONS")
		w.wait(3 * T1 / 4)
		w.arrive(transport.UDP, "200 OK", "OPTIONS")
		w.expect(at(0, option), "0 response 200", at(4.75, option), "5.125 response 200")
		w.mu.Lock()
		defer w.mu.Unlock()
		if s := w.layer.Stats(); s.Strays != 0 {
			t.Errorf("%d strays", s.Strays)
		}
	})
}

// TestClientInvite: Timers A and B, D and M (RFC 3261 section 17.1.1, RFC 6026).
func TestClientInvite(t *testing.T) {
	t.Run("no answer", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.send(transport.UDP, "INVITE")
			w.wait(40 * time.Second)
			var want []string
			for _, s := range []float64{0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5} {
				want = append(want, at(s, invite))
			}
			w.expect(append(want, "32 failed: transaction: no response in time")...)
		})
	})
	t.Run("no answer over TCP", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.send(transport.TCP, "INVITE")
			w.wait(40 * time.Second)
			w.expect(at(0, invite), "32 failed: transaction: no response in time")
		})
	})
	t.Run("refused", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.send(transport.UDP, "INVITE")
			w.wait(time.Second)
			w.arrive(transport.UDP, "100 Trying", "INVITE")
			w.wait(time.Minute) // it may ring as long as it likes
			w.arrive(transport.UDP, "486 Busy", "INVITE")
			w.arrive(transport.UDP, "486 Busy", "INVITE")
			w.wait(31 * time.Second)
			w.arrive(transport.UDP, "486 Busy", "INVITE")
			w.wait(2 * time.Second)
			w.arrive(transport.UDP, "486 Busy", "INVITE") // nobody's any more
			w.expect(at(0, invite), at(0.5, invite), "1 response 100", at(61, ack), "61 response 486", at(61, ack), at(92, ack))
			if s := w.layer.Stats(); s.Strays != 1 {
				t.Error("strays:", s.Strays)
			}
		})
	})
	t.Run("accepted", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.send(transport.UDP, "INVITE")
			w.arrive(transport.UDP, "200 OK", "INVITE")
			w.wait(20 * time.Second)
			w.arrive(transport.UDP, "200 OK", "INVITE")
			w.arrive(transport.UDP, "487 Late", "INVITE")
			w.wait(20 * time.Second)
			w.arrive(transport.UDP, "200 OK", "INVITE")
			w.expect(at(0, invite), "0 response 200", "20 response 200")
		})
	})
}

// TestClientOther: Timers E, F and K (section 17.1.2).
func TestClientOther(t *testing.T) {
	t.Run("no answer", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.send(transport.UDP, "OPTIONS")
			w.wait(40 * time.Second)
			var want []string
			for _, s := range []float64{0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5} {
				want = append(want, at(s, option))
			}
			w.expect(append(want, "32 failed: transaction: no response in time")...)
		})
	})
	t.Run("answered late", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.send(transport.UDP, "OPTIONS")
			w.wait(100 * time.Millisecond)
			w.arrive(transport.UDP, "100 Trying", "OPTIONS")
			w.wait(8 * time.Second)
			w.arrive(transport.UDP, "200 OK", "OPTIONS")
			w.arrive(transport.UDP, "200 OK", "OPTIONS")
			w.wait(5 * time.Second)
			w.arrive(transport.UDP, "200 OK", "OPTIONS")
			w.expect(at(0, option), "0.1 response 100", at(0.5, option), at(4.5, option), "8.1 response 200")
			if s := w.layer.Stats(); s.Retransmissions != 1 || s.Strays != 1 || s.Resent != 2 {
				t.Errorf("%+v", s)
			}
		})
	})
	t.Run("unreachable", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.send(transport.UDP, "OPTIONS")
			w.mu.Lock()
			w.layer.Failed(transport.Hop{Remote: netip.MustParseAddrPort("203.0.113.11:5060")}, errors.New("other"))
			w.layer.Failed(hop(transport.TCP), errors.New("other"))
			w.layer.Failed(hop(transport.UDP), errors.New("refused"))
			w.layer.Failed(hop(transport.UDP), errors.New("again"))
			w.mu.Unlock()
			w.wait(time.Second)
			w.expect(at(0, option), "0.5 failed: again")
			w.send(transport.TCP, "OPTIONS")
			w.mu.Lock()
			w.layer.Failed(hop(transport.TCP), errors.New("reset"))
			w.mu.Unlock()
			w.expect(at(1, option), "1 failed: reset")
		})
	})
	t.Run("said to be unreachable", func(t *testing.T) {
		in(t, Limits{}, func(w *world) { // by somebody who does not know
			w.send(transport.UDP, "INVITE")
			w.mu.Lock()
			w.layer.Failed(hop(transport.UDP), errors.New("refused"))
			w.mu.Unlock()
			w.wait(100 * time.Millisecond)
			w.arrive(transport.UDP, "100 Trying", "INVITE")
			w.wait(10 * time.Second)
			w.arrive(transport.UDP, "200 OK", "INVITE")
			w.expect(at(0, invite), "0.1 response 100", "10.1 response 200")
		})
	})
	t.Run("not sent again", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.send(transport.UDP, "OPTIONS")
			w.mu.Lock()
			w.fail = errors.New("no route")
			w.mu.Unlock()
			w.wait(time.Second)
			w.expect(at(0, option), "0.5 failed: no route")
			if _, err := w.layer.Send(hop(transport.UDP), message("", "OPTIONS"), w); err == nil {
				t.Error("a request that is not sent has a transaction")
			}
		})
	})
}

// TestCancel: a CANCEL waits for a provisional response, is sent once, and gives the
// INVITE 64*T1 to end (section 9.1).
func TestCancel(t *testing.T) {
	in(t, Limits{}, func(w *world) {
		c := w.send(transport.UDP, "INVITE")
		w.mu.Lock()
		c.Cancel(nil)
		w.mu.Unlock()
		w.arrive(transport.UDP, "180 Ringing", "INVITE")
		w.mu.Lock()
		c.Cancel([]byte("Reason: SIP\r\n"))
		c.Cancel(nil)
		w.mu.Unlock()
		w.arrive(transport.UDP, "200 OK", "CANCEL")
		w.wait(40 * time.Second)
		w.expect(at(0, invite), "0 response 180", "0 > 203.0.113.10:5060 CANCEL sip:bob@example.com SIP/2.0",
			"32 failed: transaction: no response in time")
	})
}

// TestFollowUps: ACK and CANCEL have the INVITE's own Via, Route and CSeq number, and
// the ACK has the response's To (sections 9.1 and 17.1.1.3).
func TestFollowUps(t *testing.T) {
	request := message("", "INVITE")
	var m sipmsg.Message
	if err := m.Index(bytes.Replace(message("486 Busy", "INVITE"), []byte("To: <sip:b@example.com>"), []byte("t: <sip:b@example.com>;tag=2"), 1)); err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`ACK sip:bob@example.com SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5062;branch=z9hG4bK1
Route: <sip:203.0.113.9;lr>
From: <sip:a@example.org>;tag=1
To: <sip:b@example.com>;tag=2
Call-ID: 1
CSeq: 7 ACK
Max-Forwards: 70
Content-Length: 0

`, "\n", "\r\n")
	if got := appendAck(nil, request, &m); string(got) != want {
		t.Errorf("ACK:\n%s", got)
	}
	want = strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(want, "ACK", "CANCEL"), ";tag=2", ""), "Content-Length", "Reason: x\r\nContent-Length")
	if got := appendFollowUp(nil, request, "CANCEL", nil, []byte("Reason: x\r\n")); string(got) != want {
		t.Errorf("CANCEL:\n%s", got)
	}
}

// TestServerInvite: Timers G, H, I and L (section 17.2.1, RFC 6026).
func TestServerInvite(t *testing.T) {
	const answer = "> 203.0.113.10:5062 SIP/2.0 " // to the port of the Via
	t.Run("never acknowledged", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.arrive(transport.UDP, "", "INVITE")
			w.arrive(transport.UDP, "", "INVITE") // nothing to answer with yet
			w.respond(100)
			w.arrive(transport.UDP, "", "INVITE")
			w.respond(486)
			w.respond(487) // too late
			w.wait(10 * time.Second)
			w.arrive(transport.UDP, "", "INVITE")
			w.wait(30 * time.Second)
			want := []string{"0 request", at(0, answer+"100 X"), at(0, answer+"100 X"), at(0, answer+"486 X")}
			for _, s := range []float64{0.5, 1.5, 3.5, 7.5, 10, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5} {
				want = append(want, at(s, answer+"486 X"))
			}
			w.expect(want...)
		})
	})
	t.Run("acknowledged", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.arrive(transport.UDP, "", "INVITE")
			w.respond(486)
			w.wait(600 * time.Millisecond)
			w.arrive(transport.UDP, "", "ACK")
			w.arrive(transport.UDP, "", "ACK")
			w.arrive(transport.UDP, "", "INVITE")
			w.wait(4 * time.Second)
			w.expect("0 request", at(0, answer+"486 X"), at(0.5, answer+"486 X"))
			w.wait(time.Second)
			w.arrive(transport.UDP, "", "ACK") // of nothing that is known
			w.expect("5.6 ack")
		})
	})
	t.Run("over TCP", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.arrive(transport.TCP, "", "INVITE")
			w.respond(486)
			w.wait(10 * time.Second)
			w.arrive(transport.TCP, "", "ACK")
			w.expect("0 request", "0 > 203.0.113.10:5060 SIP/2.0 486 X")
			if w.layer.Stats().Servers != 0 {
				t.Error("Timer I is zero over TCP")
			}
		})
	})
	t.Run("accepted", func(t *testing.T) {
		in(t, Limits{}, func(w *world) {
			w.arrive(transport.UDP, "", "INVITE")
			w.respond(200)
			w.arrive(transport.UDP, "", "INVITE") // absorbed
			w.respond(200)                        // again, or of another fork
			w.respond(500)
			w.arrive(transport.UDP, "", "ACK") // the user's
			w.wait(33 * time.Second)
			w.respond(200)
			w.expect("0 request", at(0, answer+"200 X"), at(0, answer+"200 X"), "0 ack")
		})
	})
}

// TestServerOther: Timer J (section 17.2.2).
func TestServerOther(t *testing.T) {
	in(t, Limits{}, func(w *world) {
		w.arrive(transport.UDP, "", "OPTIONS")
		w.respond(200)
		w.wait(31 * time.Second)
		w.arrive(transport.UDP, "", "OPTIONS")
		w.wait(2 * time.Second)
		w.arrive(transport.UDP, "", "OPTIONS")
		w.expect("0 request", "0 > 203.0.113.10:5062 SIP/2.0 200 X", "31 > 203.0.113.10:5062 SIP/2.0 200 X", "33 request")
		w.mu.Lock()
		w.last.GiveUp()
		w.mu.Unlock()
	})
}

// TestServerCancel: a CANCEL is answered at once and told of while the INVITE is open.
func TestServerCancel(t *testing.T) {
	in(t, Limits{}, func(w *world) {
		w.arrive(transport.UDP, "", "CANCEL")
		w.expect("0 > 203.0.113.10:5062 SIP/2.0 481 Call/Transaction Does Not Exist")
		w.wait(33 * time.Second)
		w.arrive(transport.UDP, "", "INVITE")
		w.arrive(transport.UDP, "", "CANCEL")
		w.arrive(transport.UDP, "", "CANCEL")
		w.respond(487)
		w.arrive(transport.UDP, "", "ACK")
		w.expect("33 request", "33 > 203.0.113.10:5062 SIP/2.0 200 OK", "33 cancelled", "33 > 203.0.113.10:5062 SIP/2.0 200 OK",
			"33 > 203.0.113.10:5062 SIP/2.0 487 X")
	})
}

// TestReceived: the topmost Via tells where a request came from (section 18.2.1,
// RFC 3581), and the answer goes there, or to where it says.
func TestReceived(t *testing.T) {
	for _, c := range []struct{ via, want, to string }{
		{"203.0.113.10:5062;branch=z9hG4bK1", "203.0.113.10:5062;branch=z9hG4bK1", "203.0.113.10:5062"},
		{"203.0.113.10;branch=z9hG4bK1", "203.0.113.10;branch=z9hG4bK1", "203.0.113.10:5060"},
		{"203.0.113.10:5062;rport;branch=z9hG4bK1", "203.0.113.10:5062;rport=40000;branch=z9hG4bK1;received=203.0.113.10", "203.0.113.10:40000"},
		{"192.168.0.1:5062;branch=z9hG4bK1", "192.168.0.1:5062;branch=z9hG4bK1;received=203.0.113.10", "203.0.113.10:5062"},
		{"bob.example;branch=z9hG4bK1;rport=1;received=8.8.8.8", "bob.example;branch=z9hG4bK1;rport=40000;received=203.0.113.10", "203.0.113.10:40000"},
		{"203.0.113.10;received=8.8.8.8;branch=z9hG4bK1", "203.0.113.10;branch=z9hG4bK1", "203.0.113.10:5060"},
	} {
		in(t, Limits{}, func(w *world) {
			h := hop(transport.UDP)
			h.Remote = netip.MustParseAddrPort("203.0.113.10:40000")
			data := bytes.Replace(message("", "OPTIONS"), []byte("203.0.113.10:5062;branch=z9hG4bK1"), []byte(c.via), 1)
			w.mu.Lock()
			if err := w.layer.Arrived(transport.Arrival{Hop: h, Data: data}); err != nil {
				t.Fatal(err)
			}
			if want := "Via: SIP/2.0/UDP " + c.want + "\r\n"; !bytes.Contains(w.last.Raw(), []byte(want)) {
				t.Errorf("%s: got %s", c.via, w.last.Raw())
			}
			w.mu.Unlock()
			w.respond(200)
			w.expect("0 request", "0 > "+c.to+" SIP/2.0 200 X")
		})
	}
}

// TestServerKeys: what makes a request another one, in the old form, too.
func TestServerKeys(t *testing.T) {
	in(t, Limits{}, func(w *world) {
		for _, change := range [][2]string{{"", ""}, {"z9hG4bK1", "z9hG4bK2"}, {"203.0.113.10:5062", "203.0.113.11:5062"},
			{"z9hG4bK1", "1"}, {"branch=z9hG4bK1\r\nRoute", "branch=1\r\nCall-ID: 2\r\nRoute"}} {
			data := bytes.Replace(message("", "OPTIONS"), []byte(change[0]), []byte(change[1]), 1)
			if strings.Contains(change[1], "Call-ID") {
				data = bytes.Replace(data, []byte("Call-ID: 1\r\n"), nil, 1)
			}
			for range 2 {
				w.mu.Lock()
				if err := w.layer.Arrived(transport.Arrival{Hop: hop(transport.UDP), Data: data}); err != nil {
					t.Fatal(err)
				}
				w.mu.Unlock()
			}
			w.mu.Lock()
			w.last.GiveUp()
			w.mu.Unlock()
			w.expect("0 request")
		}
		// Nobody else can cancel, acknowledge or repeat it.
		w.arrive(transport.UDP, "", "INVITE")
		h := hop(transport.UDP)
		h.Remote = netip.MustParseAddrPort("203.0.113.66:5060")
		w.mu.Lock()
		_ = w.layer.Arrived(transport.Arrival{Hop: h, Data: message("", "CANCEL")})
		w.mu.Unlock()
		w.expect("0 request", "0 > 203.0.113.66:5062 SIP/2.0 481 Call/Transaction Does Not Exist")
		w.mu.Lock()
		w.last.GiveUp()
		w.mu.Unlock()
	})
}

// TestLimits: one host cannot take all, and what is no SIP is counted.
func TestLimits(t *testing.T) {
	in(t, Limits{Servers: 3, ServersPerHost: 2, Clients: 1}, func(w *world) {
		var all []*Server
		for i := range 5 {
			h := hop(transport.UDP)
			if i >= 3 {
				h.Remote = netip.MustParseAddrPort(fmt.Sprintf("203.0.113.%d:5060", 20+i))
			}
			data := bytes.Replace(message("", "OPTIONS"), []byte("z9hG4bK1"), fmt.Appendf(nil, "z9hG4bK%d", i), 1)
			w.mu.Lock()
			w.last = nil
			_ = w.layer.Arrived(transport.Arrival{Hop: h, Data: data})
			if w.last != nil {
				all = append(all, w.last)
			}
			w.mu.Unlock()
		}
		if len(all) != 3 {
			t.Errorf("%d transactions, want two of the first host and one of another", len(all))
		}
		w.mu.Lock()
		for _, s := range all {
			s.GiveUp()
		}
		if err := w.layer.Arrived(transport.Arrival{Hop: hop(transport.UDP), Data: []byte("GET / HTTP/1.1\r\n\r\n")}); !errors.Is(err, sipmsg.ErrNotSIP) {
			t.Error(err)
		}
		if s := w.layer.Stats(); s.Refused != 2 || s.NotSIP[sipmsg.ErrNotSIP] != 1 {
			t.Errorf("%+v", s)
		}
		w.mu.Unlock()
		w.send(transport.UDP, "OPTIONS")
		w.mu.Lock()
		if _, err := w.layer.Send(hop(transport.UDP), message("", "INVITE"), w); !errors.Is(err, ErrLimit) {
			t.Error(err)
		}
		w.mu.Unlock()
	})
}

// TestConnectionGone: a response whose connection has ended goes to where its sender
// listens (section 18.2.2).
func TestConnectionGone(t *testing.T) {
	in(t, Limits{}, func(w *world) {
		h := hop(transport.TCP)
		h.Conn = 7
		h.Remote = netip.MustParseAddrPort("203.0.113.10:40000")
		w.mu.Lock()
		_ = w.layer.Arrived(transport.Arrival{Hop: h, Data: message("", "OPTIONS")})
		w.layer.send = gone{w}
		w.mu.Unlock()
		w.respond(200)
		w.expect("0 request", "0 > 203.0.113.10:5062 SIP/2.0 200 X")
	})
}

// gone is a sender without connections.
type gone struct{ *world }

func (g gone) Send(to transport.Hop, message []byte) error {
	if to.Conn != 0 {
		return errors.New("it has ended")
	}
	return g.world.Send(to, message)
}

// TestFrame: a message that may go on to a stream ends where it says.
func TestFrame(t *testing.T) {
	in(t, Limits{}, func(w *world) {
		for _, c := range [][2]string{
			{"Content-Length: 0\r\n\r\n", "Content-Length: 0\r\n\r\n"},
			{"\r\n", "Content-Length: 0\r\n\r\n"},
			{"\r\nbody", "Content-Length: 4\r\n\r\nbody"},
			{"l: 2\r\n\r\nbody", "l: 2\r\n\r\nbo"},
		} {
			head, _, _ := bytes.Cut(message("", "OPTIONS"), []byte("Content-Length"))
			w.mu.Lock()
			if err := w.layer.Arrived(transport.Arrival{Hop: hop(transport.UDP), Data: append(bytes.Clone(head), c[0]...)}); err != nil {
				t.Fatal(err)
			}
			if got := string(w.last.Raw()); got != string(head)+c[1] {
				t.Errorf("%q becomes %q, want %q", c[0], got[len(head):], c[1])
			}
			w.last.GiveUp()
			w.mu.Unlock()
		}
	})
}
