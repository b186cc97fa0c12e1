package registrar

import (
	"strings"
	"testing"
)

// TestNoRequestURI: what could not stand in a request line, or would end it, gets no
// token, for which it would be written there.
func TestNoRequestURI(t *testing.T) {
	r := New(Config{}, quiet())
	for _, uri := range []string{
		"sip:a b@10.0.0.10", "sip:a@10.0.0.10;x=\r\n y", "sip:a@10.0.0.10 SIP/2.0\r\nVia: x", "sip:a@10.0.0.10;x=\"y\"", "sip:a\x00@10.0.0.10",
	} {
		if token, ok := r.Line([]byte(uri), udp(phone)); ok {
			t.Errorf("%q gets the token %s", uri, token)
		}
	}
	long := strings.Repeat("x", 20000)
	send(t, r, udp(phone), register(long, 1, "Contact: <sip:x@10.0.0.10>"), 400)
	for range 2 {
		r.auth.offers.next(udp(phone).Remote.Addr(), []byte(long), 0)
	}
	m := index(t, strings.ReplaceAll(outside("Contact: <sip:x@10.0.0.10>"), "To: <sip:", "To: <sip:"+long))
	r.Registered(m, index(t, answer()), udp(phone), provider)
	if len(r.auth.offers) != 0 || len(r.lines.byUser) != 0 {
		t.Errorf("%d offers and %d accounts of a user of 20000 bytes are kept", len(r.auth.offers), len(r.lines.byUser))
	}
}
