package nat

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// bomb is a request from inside, of a call of its own, that many equal parts make large.
func bomb(method, headers, body string) []byte {
	return []byte(method + " sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bKbomb\r\n" +
		"From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: bomb\r\nCSeq: 1 " + method + "\r\n" +
		headers + "\r\n" + body)
}

// bombSDP is a bomb with a session description, which ends with lines.
func bombSDP(method, lines string) []byte {
	return bomb(method, "Content-Type: application/sdp\r\n",
		"v=0\r\no=- 1 1 IN IP4 10.0.0.10\r\ns=-\r\nc=IN IP4 10.0.0.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"+lines)
}

// repeat writes n parts, each with its number where the format asks for it.
func repeat(n int, format string) string {
	if !strings.Contains(format, "%") {
		return strings.Repeat(format, n)
	}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestBombs has messages be as large as the parser lets them be, in each of the parts
// that the engine walks over: the time grows as the message does, and is what as many
// bytes of ordinary messages take, times a factor.
func TestBombs(t *testing.T) {
	const (
		repeats  = 7   // the fastest counts: others need the processor, too
		attempts = 5   // what is really slow is slow each time
		steeper  = 3.2 // twice the parts may take so many times the time
		dearer   = 40  // a byte may take so many times the time of one of an INVITE
	)
	fastest := func(crowded bool, message []byte) time.Duration {
		best := time.Hour
		for range repeats {
			w := newWorld(t, nil)
			if crowded { // no 32 ports in a row
				for port := uint16(7070); port < 8000; port += 20 {
					w.kernel.owned[netip.AddrPortFrom(netip.MustParseAddr(publicAddr), port)] = netip.AddrPort{}
				}
			}
			w.send(phoneA, provider, inviteA)
			w.send(provider, phoneA, answerA)
			begin := time.Now()
			w.send(phoneA, provider, message)
			best = min(best, time.Since(begin))
		}
		return best
	}
	ordinary := []byte(strings.NewReplacer("Call-ID: ", "Call-ID: x", "z9hG4bK", "z9hG4bKx", "m=audio 4000", "m=audio 4002").Replace(string(inviteA)))
	perByte := float64(fastest(false, ordinary)) / float64(len(ordinary))

	for _, c := range []struct {
		name, method, headers, lines string // either of headers and lines is repeated
		crowded                      bool
	}{
		{name: "m-lines", method: "INVITE", lines: "m=audio 2%04d RTP/AVP 0\r\n"},
		{name: "m-lines of another request", method: "MESSAGE", lines: "m=audio 4000 RTP/AVP 0\r\n"},
		{name: "counts", method: "INVITE", lines: "m=audio 4000/65535 RTP/AVP 0\r\n"},
		{name: "counts in another request", method: "MESSAGE", lines: "m=audio 4000/65535 RTP/AVP 0\r\n"},
		{name: "ports in a row that are not there", method: "INVITE", lines: "m=audio 2%04d/16 RTP/AVP 0\r\n", crowded: true},
		{name: "connections", method: "INVITE", lines: "c=IN IP4 10.0.0.10\r\n"},
		{name: "RTCP", method: "INVITE", lines: "a=rtcp:2%04d IN IP4 10.0.0.10\r\n"},
		{name: "candidates", method: "INVITE", lines: "a=candidate:1 1 UDP 1 10.0.0.10 2%04d typ host\r\n"},
		{name: "candidates of others", method: "INVITE", lines: "a=candidate:1 1 UDP 1 10.0.0.11 2%04d typ host raddr 10.0.0.12 rport 9\r\n"},
		{name: "candidates in another request", method: "MESSAGE", lines: "a=candidate:1 1 UDP 1 10.0.0.10 4000 typ host\r\n"},
		{name: "relays", method: "INVITE", lines: "a=candidate:1 1 UDP 1 198.51.100.9 2%04d typ relay raddr 10.0.0.10 rport 4000\r\n"},
		{name: "remote candidates", method: "INVITE", lines: "a=remote-candidates:1 10.0.0.10 4000\r\n"},
		{name: "paths", method: "INVITE", lines: "a=path:msrp://10.0.0.10:2%04d/x;tcp\r\n"},
		{name: "Contacts", method: "REGISTER", headers: "Contact: <sip:a@10.0.0.10:2%04d>\r\n"},
		{name: "Contacts of others", method: "REGISTER", headers: "Contact: <sip:a@10.0.0.11:2%04d>\r\n"},
		{name: "Routes", method: "OPTIONS", headers: "Route: <sip:10.0.0.10;lr>\r\n"},
		{name: "Vias", method: "OPTIONS", headers: "Via: SIP/2.0/UDP 10.0.0.10;branch=z9hG4bK%d\r\n"},
		{name: "identities", method: "OPTIONS", headers: "History-Info: <sip:10.0.0.10:5060>;index=1\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			build := func(n int) []byte {
				if c.lines != "" {
					return bombSDP(c.method, repeat(n, c.lines))
				}
				return bomb(c.method, repeat(n, c.headers), "")
			}
			const half, whole = 480, 960 // of the 1000 headers or parts of SDP that there may be
			small, large := build(half), build(whole)
			var ratio, times float64
			for range attempts {
				a, b := fastest(c.crowded, small), fastest(c.crowded, large)
				ratio, times = float64(b)/float64(a), float64(b)/float64(len(large))/perByte
				if ratio <= steeper && times <= dearer {
					return
				}
			}
			t.Errorf("%d parts take %.1f times as long as %d, a byte %.0f times as long as an ordinary one", whole, ratio, half, times)
		})
	}
}

// TestContactBomb names hundreds of ports of the sender as contacts. A message gets
// bindings for few of them, and the others show no inside address all the same.
func TestContactBomb(t *testing.T) {
	w := newWorld(t, nil)
	out := string(w.send(phoneA, provider, bomb("REGISTER", repeat(900, "Contact: <sip:a@10.0.0.10:2%04d>\r\n"), "")))
	if n := len(w.engine.bindings); n > 1+maxContacts {
		t.Errorf("one message opens %d bindings", n)
	}
	if strings.Contains(out, "10.0.0.10") {
		t.Error("the inside address leaves")
	}
	if n := strings.Count(out, "sip:a@203.0.113.1:"); n != 900 {
		t.Errorf("%d contacts leave", n)
	}
}
