package nat

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// badExtension is the far party's answer to a request that requires what nobody has.
func badExtension(invite []byte) []byte {
	var b strings.Builder
	b.WriteString("SIP/2.0 420 Bad Extension\r\n")
	for line := range strings.SplitSeq(string(invite), "\r\n") {
		for _, name := range []string{"Via:", "From:", "To:", "Call-ID:", "CSeq:"} {
			if strings.HasPrefix(line, name) {
				b.WriteString(line)
				if name == "To:" && !strings.Contains(line, ";tag=") {
					b.WriteString(";tag=no")
				}
				b.WriteString("\r\n")
			}
		}
	}
	b.WriteString("Unsupported: no-media-port\r\nContent-Length: 0\r\n\r\n")
	return []byte(b.String())
}

// another is a message of another call.
func another(message []byte, n int) []byte {
	return []byte(strings.NewReplacer("m=audio 4000", fmt.Sprintf("m=audio %d", 4000+4*n),
		"z9hG4bK", fmt.Sprintf("z9hG4bK%d", n), "Call-ID: ", fmt.Sprintf("Call-ID: %d", n)).Replace(string(message)))
}

// wayOut checks that a call goes out with its media.
func (w *world) wayOut(n int) {
	w.t.Helper()
	out := string(w.send(phoneA, provider, another(inviteA, n)))
	if strings.Contains(out, "m=audio 0 ") || strings.Contains(out, noMedia) {
		w.t.Errorf("call %d is refused:\n%s", n, out)
	}
}

// refused checks that a call goes out in a form that nobody can accept, and that its
// caller is told why.
func (w *world) refused(n int) {
	w.t.Helper()
	out := w.send(phoneA, provider, another(inviteA, n))
	if !bytes.Contains(out, []byte("m=audio 0 ")) || !bytes.Contains(out, requireNoMedia) {
		w.t.Fatalf("call %d can be accepted:\n%s", n, out)
	}
	back := string(w.send(provider, phoneA, badExtension(out)))
	if !strings.HasPrefix(back, string(notAcceptable)) || !strings.Contains(back, NoMediaWarning) || strings.Contains(back, noMedia) {
		w.t.Errorf("the caller reads\n%s", back)
	}
}

// TestNoPortLeft: the second call has no ports, and there are some again when the first
// one has ended.
func TestNoPortLeft(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.PortLow, c.PortHigh = 7070, 7071 })
	w.wayOut(0)
	w.refused(1)
	if n := strings.Count(w.log.String(), "a call is refused"); n != 1 {
		t.Errorf("told %d times: %s", n, w.log)
	}
	w.send(provider, phoneA, []byte(strings.Replace(string(another(answerA, 0)), "200 OK", "486 Busy Here", 1)))
	w.wait(time.Minute)
	w.wayOut(2)
	if s, n := w.engine.Stats(); s.CallsRefused != 1 || n.Calls != 1 {
		t.Errorf("%d refused, %d calls", s.CallsRefused, n.Calls)
	}
}

// TestNoPortLeftForTheCalled: the phone does not ring for a call that it could only
// answer with silence.
func TestNoPortLeftForTheCalled(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"ports":          func(c *Config) { c.PortLow, c.PortHigh = 7070, 7071 },
		"a host's":       func(c *Config) { c.Limits.MappingsPerHost = 3 },
		"a host's calls": func(c *Config) { c.Limits.CallsPerHost = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, change)
			call := func(id string) []byte {
				return w.send(provider, phoneA, []byte(crlf(`INVITE sip:alice@203.0.113.1 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bK`+id+`
From: <sip:bob@example.org>;tag=b
To: <sip:alice@example.org>
Call-ID: `+id+`
CSeq: 1 INVITE
Content-Length: 0

`)))
			}
			w.send(phoneA, provider, []byte(strings.ReplaceAll(string(inviteA), "INVITE", "OPTIONS")))
			if out := call("early"); bytes.Contains(out, requireNoMedia) {
				t.Fatalf("refused with ports:\n%s", out)
			}
			w.send(phoneA, provider, []byte(crlf(`SIP/2.0 486 Busy
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKearly
From: <sip:bob@example.org>;tag=b
To: <sip:alice@example.org>;tag=a
Call-ID: early
CSeq: 1 INVITE
Content-Length: 0

`)))
			w.wayOut(0)
			out := call("late")
			if !bytes.Contains(out, requireNoMedia) {
				t.Fatalf("the phone rings:\n%s", out)
			}
			if back := string(w.send(phoneA, provider, badExtension(out))); !strings.HasPrefix(back, string(notAcceptable)) {
				t.Errorf("the caller reads\n%s", back)
			}
		})
	}
}

// TestPartlyRefused: audio goes on without the video that no port is left for.
func TestPartlyRefused(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.PortLow, c.PortHigh = 7070, 7071 })
	out := string(w.send(phoneA, provider, []byte(strings.Replace(string(inviteA)+"m=video 4002 RTP/AVP 96\r\n", "Content-Length: 213", "Content-Length: 238", 1))))
	if !strings.Contains(out, "m=video 0 ") || !strings.Contains(out, "m=audio 7070 ") || strings.Contains(out, noMedia) {
		t.Errorf("it leaves as\n%s", out)
	}
}

// TestKernelDoesNotOpen: what the kernel does not take is not announced, and not kept. A
// session before it stays.
func TestKernelDoesNotOpen(t *testing.T) {
	w := newWorld(t, nil)
	w.kernel.refuse = &StreamError{errors.New("out of memory")}
	w.refused(0)
	if _, n := w.engine.Stats(); n.Mappings != 0 {
		t.Errorf("%d mappings are left", n.Mappings)
	}
	if last := w.kernel.applied[len(w.kernel.applied)-1]; last.Verb != CloseStream {
		t.Errorf("the last change is %v", last)
	}
	for _, part := range []string{`the kernel refused a change" error="out of memory"`, "the kernel does not take it"} {
		if !strings.Contains(w.log.String(), part) {
			t.Errorf("the log does not say %q:\n%s", part, w.log)
		}
	}
	w.kernel.refuse = nil
	w.wayOut(1)
	stream := netip.MustParseAddrPort("10.0.0.10:4004")
	w.send(provider, phoneA, another(answerA, 1))
	before := w.engine.mappings[stream]
	if before == nil {
		t.Fatal("no stream")
	}
	w.kernel.refuse = &StreamError{errors.New("out of memory")}
	again := strings.NewReplacer("z9hG4bK1", "z9hG4bKre", "314159 INVITE", "314160 INVITE", "m=audio 4004", "m=audio 4100",
		"To: <sip:bob@example.org>", "To: <sip:bob@example.org>;tag=a6c85cf").Replace(string(another(inviteA, 1)))
	out := w.send(phoneA, provider, []byte(again))
	if !bytes.Contains(out, requireNoMedia) {
		t.Errorf("the re-INVITE can be accepted:\n%s", out)
	}
	w.send(provider, phoneA, badExtension(out))
	w.wait(time.Minute)
	if w.engine.mappings[stream] != before || w.engine.mappings[netip.MustParseAddrPort("10.0.0.10:4100")] != nil {
		t.Error("the session is not as it was")
	}
}

// TestOtherExtensionRefused: a 420 that nobody here has asked for stays what it is.
func TestOtherExtensionRefused(t *testing.T) {
	w := newWorld(t, nil)
	out := w.send(phoneA, provider, inviteA)
	back := string(w.send(provider, phoneA, bytes.Replace(badExtension(out), []byte(noMedia), []byte("100rel"), 1)))
	if !strings.HasPrefix(back, "SIP/2.0 420 ") || !strings.Contains(back, "Unsupported: 100rel") {
		t.Errorf("the caller reads\n%s", back)
	}
}
