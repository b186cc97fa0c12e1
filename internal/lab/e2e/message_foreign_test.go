package e2e

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// TestMessageForeign: what is no SIP message passes unchanged both ways, opens
// nothing, and is told of; keep-alives are passed in silence.
func TestMessageForeign(t *testing.T) {
	t.Parallel()
	sdp := lab.Audio(lab.InsideAddr, 4000)
	invite := "INVITE sip:bob@203.0.113.10 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bK1\r\n" +
		"From: <sip:alice@203.0.113.10>;tag=1\r\nTo: <sip:bob@203.0.113.10>\r\nCall-ID: 1@10.0.0.10\r\n" +
		"CSeq: 1 INVITE\r\nContact: <sip:alice@10.0.0.10>\r\nContent-Type: application/sdp\r\n"
	whole := invite + "\r\n" + sdp
	for _, x := range []struct {
		name, text, reason string // "": no warning
	}{
		{"two line ends", "\r\n\r\n", ""},
		{"a line end", "\r\n", ""},
		{"a zero", "\x00", ""},
		{"nothing", "", ""},
		{"noise", "\x01\x02\x03\xff\xfe", "not"},
		{"STUN", "\x00\x01\x00\x08\x21\x12\xa4\x42abcdefghijkl\x00\x20\x00\x04\x00\x00\x00\x00", "not"},
		{"HTTP", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + whole, "not"},
		{"SIP inside of other text", "x=1&y=2\r\n\r\n" + whole, "not"},
		{"another version", strings.Replace(whole, "SIP/2.0\r\nVia", "SIP/3.0\r\nVia", 1), "version"},
		{"no CSeq", strings.Replace(whole, "CSeq: 1 INVITE\r\n", "", 1), "CSeq"},
		{"CSeq of another method", strings.Replace(whole, "1 INVITE", "1 OPTIONS", 1), "CSeq"},
		{"no Call-ID", strings.Replace(whole, "Call-ID: 1@10.0.0.10\r\n", "", 1), "Call-ID"},
		{"no Via", strings.Replace(whole, "Via: ", "Bia: ", 1), "Via"},
		{"body shorter than it says", invite + "Content-Length: 5000\r\n\r\n" + sdp, "body"},
		{"headers without an end", invite, "end"},
		{"two Call-IDs", strings.Replace(whole, "CSeq:", "Call-ID: 2@10.0.0.10\r\nCSeq:", 1), "duplicates"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			// Its private addresses are not understood, and leave.
			l := lab.New(t, lab.Options{Leaky: true})
			daemon := l.StartDaemon()
			phone, far := l.Phones[0].Socket(5060), l.Outside[0].Socket(5060)
			phone.Send(far.Addr, []byte(x.text))
			for _, step := range []struct {
				from, at *lab.Socket
			}{{phone, far}, {far, phone}} {
				if step.from == far {
					far.Send(far.Received()[0].From, []byte(x.text))
				}
				step.at.Expect(netip.AddrPort{}, 1)
				if got := step.at.Received()[0].Payload; !bytes.Equal(got, []byte(x.text)) {
					t.Errorf("arrived at %v as %q", step.at.Addr, got)
				}
			}
			if !l.NAT() {
				return
			}
			if open := l.StillOpen(); len(open) > 0 || len(l.Bindings()) > 0 || len(l.Expectations()) > 0 {
				t.Errorf("something was opened: %q, bindings %v, expectations %v", open, l.Bindings(), l.Expectations())
			}
			log := daemon.Log()
			told := strings.Contains(log, "not a SIP message")
			if told != (x.reason != "") || !strings.Contains(log, x.reason) {
				t.Errorf("the log of a packet that is refused for %q:\n%s", x.reason, log)
			}
		})
	}
}
