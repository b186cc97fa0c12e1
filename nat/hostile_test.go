package nat

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestPeerLeavesRoom has a provider begin as many calls and transactions as it
// can. The phone can still call.
func TestPeerLeavesRoom(t *testing.T) {
	for name, limit := range map[string]func(*Limits){
		"transactions":        func(l *Limits) { l.Transactions = 16 },
		"a host's":            func(l *Limits) { l.TransactionsHost = 16 },
		"calls":               func(l *Limits) { l.Calls = 16 },
		"a host's calls":      func(l *Limits) { l.CallsPerHost = 16 },
		"a call's, of itself": func(*Limits) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { limit(&c.Limits) })
			oneCall := strings.HasPrefix(name, "a call's")
			w.send(phoneA, provider, []byte(strings.ReplaceAll(string(inviteA), "INVITE", "OPTIONS")))
			for n := range 100 {
				id := fmt.Sprintf("flood%d", n)
				if oneCall {
					id = callID(inviteA)
				}
				w.send(provider, phoneA, []byte(crlf(fmt.Sprintf(`INVITE sip:alice@203.0.113.1 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKflood%d
From: <sip:bob@example.org>;tag=b%d
To: <sip:alice@example.org>
Call-ID: %s
CSeq: 1 INVITE
Content-Length: 0

`, n, n, id))))
			}
			if out := string(w.send(phoneA, provider, inviteA)); out == "" || strings.Contains(out, "m=audio 0 ") {
				t.Errorf("the phone's call is refused:\n%s", out)
			}
		})
	}
}

func callID(message []byte) string {
	_, rest, _ := strings.Cut(string(message), "Call-ID: ")
	id, _, _ := strings.Cut(rest, "\r\n")
	return id
}

// TestSameBranch has two of a phone's peers use the same branch: SIPp and some
// devices have few different ones. Each is answered with what it wrote.
func TestSameBranch(t *testing.T) {
	w := newWorld(t, nil)
	request := func(host, id string) []byte {
		return []byte(crlf(fmt.Sprintf(`OPTIONS sip:alice@203.0.113.1 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bK-1-1-0
From: <sip:bob@example.org>;tag=b
To: <sip:%s>
Call-ID: %s
CSeq: 1 OPTIONS
Content-Length: 0

`, host, id)))
	}
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, request("203.0.113.1:5060", "one"))
	w.send(provider, phoneA, request("203.0.113.1", "two"))
	for id, want := range map[string]string{"one": "203.0.113.1:5060", "two": "203.0.113.1"} {
		out := string(w.send(phoneA, provider, []byte(crlf(fmt.Sprintf(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bK-1-1-0
From: <sip:bob@example.org>;tag=b
To: <sip:10.0.0.10>;tag=a
Call-ID: %s
CSeq: 1 OPTIONS
Content-Length: 0

`, id)))))
		if !strings.Contains(out, "To: <sip:"+want+">") {
			t.Errorf("the answer to %q is not to %s:\n%s", id, want, out)
		}
	}
}

// TestStrangersAck has a host that may signal to the phone, but has no part in
// the call, send an ACK with SDP in its name: the stream stays as it was.
func TestStrangersAck(t *testing.T) {
	w := newWorld(t, nil)
	w.send(phoneA, provider, []byte(strings.ReplaceAll(string(inviteA), "INVITE", "OPTIONS")))
	w.send(provider, phoneA, []byte(crlf(`INVITE sip:alice@203.0.113.1 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKin
From: <sip:bob@example.org>;tag=b
To: <sip:alice@example.org>
Call-ID: late
CSeq: 7 INVITE
Content-Length: 0

`)))
	w.send(phoneA, provider, []byte(crlf(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKin
From: <sip:bob@example.org>;tag=b
To: <sip:alice@example.org>;tag=a
Call-ID: late
CSeq: 7 INVITE
Content-Type: application/sdp

v=0
o=- 1 1 IN IP4 10.0.0.10
s=-
c=IN IP4 10.0.0.10
t=0 0
m=audio 4000 RTP/AVP 8
`)))
	stream := netip.MustParseAddrPort("10.0.0.10:4000")
	if w.engine.mappings[stream] == nil {
		t.Fatal("no stream is offered")
	}
	w.send("203.0.113.66:5060", phoneA, []byte(crlf(`ACK sip:alice@203.0.113.1 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.66:5060;branch=z9hG4bKevil
From: <sip:bob@example.org>;tag=x
To: <sip:alice@example.org>;tag=y
Call-ID: late
CSeq: 7 ACK
Content-Type: application/sdp

v=0
o=- 1 1 IN IP4 203.0.113.66
s=-
c=IN IP4 203.0.113.66
t=0 0
m=audio 6000 RTP/AVP 8
`)))
	if w.engine.mappings[stream] == nil {
		t.Error("the stream was closed")
	}
}

// TestManyStrays has many hosts send to one stream. The log tells of the first.
func TestManyStrays(t *testing.T) {
	w := newWorld(t, nil)
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	for n := range byte(100) {
		w.engine.ReportStray(netip.AddrFrom4([4]byte{192, 0, 2, n}), netip.MustParseAddrPort("10.0.0.10:4000"), 1)
	}
	if n := strings.Count(w.log.String(), "does not name"); n != maxStrays {
		t.Errorf("the log has %d lines about it:\n%s", n, w.log)
	}
}

// TestGatewayLimit: what a PBX opens for its gateway counts as the gateway's.
func TestGatewayLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.MediaHosts = []netip.Prefix{netip.MustParsePrefix("10.0.0.99/32")}
		c.Limits.MappingsPerHost = 2
	})
	for n, refused := range []bool{false, true} {
		out := string(w.send(phoneA, provider, []byte(strings.NewReplacer(
			"c=IN IP4 10.0.0.10", "c=IN IP4 10.0.0.99",
			"m=audio 4000", fmt.Sprintf("m=audio %d", 4000+10*n),
			"z9hG4bK", fmt.Sprintf("z9hG4bK%d", n),
			"Call-ID: ", fmt.Sprintf("Call-ID: %d", n)).Replace(string(inviteA)))))
		if strings.Contains(out, "m=audio 0 ") != refused {
			t.Errorf("call %d: refused must be %v:\n%s", n, refused, out)
		}
	}
}

// TestNoSDP: a body that only says that it is SDP passes with a warning.
func TestNoSDP(t *testing.T) {
	w := newWorld(t, nil)
	out := string(w.send(phoneA, provider, []byte(strings.Replace(string(inviteA), "v=0", "w=0", 1))))
	if !strings.Contains(out, "m=audio 4000") || len(w.engine.mappings) != 0 {
		t.Errorf("%d streams, it leaves as\n%s", len(w.engine.mappings), out)
	}
	if !strings.Contains(w.log.String(), "not understood") {
		t.Errorf("the log is silent about it: %s", w.log)
	}
}

// TestMediaHostsFirewall: where media_hosts is the whole inside network, the firewall's
// own services are in it. No phone may have a stream opened to them; a PBX on the
// firewall has its own.
func TestMediaHostsFirewall(t *testing.T) {
	const own = "10.0.0.1"
	for sender, opened := range map[string]int{phoneA: 0, own + ":5080": 2} {
		w := newWorld(t, func(c *Config) { c.MediaHosts = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")} })
		w.send(sender, provider, []byte(strings.NewReplacer("IN IP4 10.0.0.10", "IN IP4 "+own, "Content-Length: 213\r\n", "").Replace(string(inviteA))))
		if n := len(w.engine.mappings); n != opened {
			t.Errorf("%s has %d mappings opened to the firewall, want %d", sender, n, opened)
		}
		for _, line := range []string{"a=candidate:1 1 UDP 1 10.0.0.1 8080 typ host", "a=rtcp:8080 IN IP4 10.0.0.1"} {
			w.send(phoneA, provider, bombSDP("INVITE", line+"\r\n"))
			if w.engine.mappings[netip.MustParseAddrPort("10.0.0.1:8080")] != nil {
				t.Errorf("%s has a port of the firewall opened", line)
			}
		}
	}
}

// TestUnaskedAnswers has a host that may signal to the phone answer a call of another
// one: it knows the Call-ID, and not the branch. The answer that counts comes later.
func TestUnaskedAnswers(t *testing.T) {
	w := newWorld(t, nil)
	w.send(phoneA, provider, inviteA)
	for n := range 2 * maxCallDialogs {
		for _, status := range []string{"183 Session Progress", "200 OK", "486 Busy Here"} {
			w.send("203.0.113.66:5060", phoneA, []byte(strings.NewReplacer("200 OK", status, "z9hG4bKnashds8", "z9hG4bKguess",
				"tag=a6c85cf", fmt.Sprint("tag=evil", n), "203.0.113.20", "203.0.113.66").Replace(string(answerA))))
		}
	}
	w.send(provider, phoneA, answerA)
	m := w.engine.mappings[netip.MustParseAddrPort("10.0.0.10:4000")]
	if m == nil {
		t.Fatal("the stream was closed")
	}
	if want := netip.MustParseAddr("203.0.113.20"); m.open || len(m.sources) != 1 || m.sources[0] != want {
		t.Errorf("anybody may send: %t, or %v, want %v alone", m.open, m.sources, want)
	}
	for _, method := range []string{"BYE", "200"} {
		text := strings.NewReplacer("INVITE", "BYE", "z9hG4bKnashds8", "z9hG4bKbye", "To: <sip:bob@example.org>", "To: <sip:bob@example.org>;tag=a6c85cf").Replace(string(inviteA))
		if method == "BYE" {
			w.send(phoneA, provider, []byte(text[:strings.Index(text, "Content-Type")]+"\r\n"))
			continue
		}
		text = strings.NewReplacer("INVITE", "BYE", "z9hG4bKnashds8", "z9hG4bKbye").Replace(string(answerA))
		w.send(provider, phoneA, []byte(text[:strings.Index(text, "Content-Type")]+"\r\n"))
	}
	if _, n := w.engine.Stats(); n.Calls != 0 || n.Mappings != 0 {
		t.Errorf("after the BYE there are %d calls and %d mappings", n.Calls, n.Mappings)
	}
}

// TestUninvitedGuests has requests come in the name of the provider, with the Call-ID
// of a call and wrong tags, and an UPDATE of no dialog. Their Contact gets no leave to
// signal to the phone.
func TestUninvitedGuests(t *testing.T) {
	w := newWorld(t, nil)
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	w.changes()
	for n, c := range [][2]string{{"INVITE", ";tag=forged"}, {"UPDATE", ";tag=forged"}, {"UPDATE", ""}} {
		w.send(provider, phoneA, []byte(crlf(fmt.Sprintf(`%[1]s sip:alice@203.0.113.1 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKforged%[1]s%[3]d
From: <sip:bob@example.org>;tag=forged
To: <sip:alice@example.org>%[2]s
Call-ID: a84b4c76e66710@10.0.0.10
CSeq: 1 %[1]s
Contact: <sip:mallory@203.0.113.66>
Content-Length: 0

`, c[0], c[1], n))))
	}
	if changes := w.changes(); strings.Contains(changes, "203.0.113.66") {
		t.Errorf("the kernel is asked for\n%s", changes)
	}
}
