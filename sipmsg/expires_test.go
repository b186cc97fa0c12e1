package sipmsg

import (
	"bytes"
	"strings"
	"testing"
)

// registered is a registrar's answer with the given headers.
func registered(headers string) string {
	return "SIP/2.0 200 OK\n" +
		"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\n" +
		"From: <sip:alice@example.com>;tag=a\n" +
		"To: <sip:alice@example.com>;tag=r\n" +
		"Call-ID: 1@192.0.2.1\n" +
		"CSeq: 1 REGISTER\n" +
		headers + "\n"
}

// own is alice's contact from 192.0.2.1.
func own(m *Message) func(Address) bool {
	return func(a Address) bool { return string(m.Bytes(a.URI.Host)) == "192.0.2.1" }
}

// TestLimitExpires lowers registrations to 60 seconds.
func TestLimitExpires(t *testing.T) {
	const mine, other = "<sip:alice@192.0.2.1>", "<sip:alice@192.0.2.9>"
	for _, c := range []struct{ name, headers, want string }{
		{"parameter", "Contact: " + mine + ";expires=3600;q=1\n", "Contact: " + mine + ";expires=60;q=1\n"},
		{"compact, other case, spaces", "m: " + mine + " ; EXPIRES = 3600\n", "m: " + mine + " ; EXPIRES = 60\n"},
		{"quoted", "Contact: " + mine + `;expires="3600"` + "\n", "Contact: " + mine + ";expires=60\n"},
		{"header", "Contact: " + mine + "\nExpires: 3600\n", "Contact: " + mine + ";expires=60\nExpires: 60\n"},
		{"both", "Expires: 3600\nContact: " + mine + ";expires=1800\n", "Expires: 60\nContact: " + mine + ";expires=60\n"},
		{"neither", "Contact: " + mine + "\n", "Contact: " + mine + ";expires=60\n"},
		{"without brackets", "Contact: sip:alice@192.0.2.1\n", "Contact: sip:alice@192.0.2.1;expires=60\n"},
		{"no number", "Contact: " + mine + ";expires=soon\n", "Contact: " + mine + ";expires=60\n"},
		{"empty", "Contact: " + mine + ";expires=\n", "Contact: " + mine + ";expires=60\n"},
		{"absurd", "Contact: " + mine + ";expires=" + strings.Repeat("9", 40) + "\n", "Contact: " + mine + ";expires=60\n"},
		{"not raised", "Contact: " + mine + ";expires=30\nExpires: 30\n", "Contact: " + mine + ";expires=30\nExpires: 30\n"},
		{"no longer bound", "Contact: " + mine + ";expires=0\n", "Contact: " + mine + ";expires=0\n"},
		{"short header", "Contact: " + mine + "\nExpires: 0\n", "Contact: " + mine + "\nExpires: 0\n"},
		{"of others", "Contact: " + other + ";expires=3600\nExpires: 3600\n", "Contact: " + other + ";expires=3600\nExpires: 3600\n"},
		{"beside others", "Contact: " + other + ";expires=3600, " + mine + ";expires=3600\nExpires: 3600\n",
			"Contact: " + other + ";expires=3600, " + mine + ";expires=60\nExpires: 60\n"},
		{"a header that others rely on", "Contact: " + mine + "\nContact: " + other + "\nExpires: 3600\n",
			"Contact: " + mine + ";expires=60\nContact: " + other + "\nExpires: 3600\n"},
		{"none", "Expires: 3600\n", "Expires: 3600\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mustIndex(t, registered(c.headers))
			var e Edits
			e.Reset(m.Raw)
			e.LimitExpires(m, 60, own(m))
			out, err := e.Splice(nil)
			if want := wire(registered(c.want)); err != nil || string(out) != want {
				t.Errorf("got %v\n%s\nwant\n%s", err, out, want)
			}
			if bytes.Equal(out, m.Raw) != (e.Len() == 0) {
				t.Errorf("%d edits that change nothing", e.Len())
			}
		})
	}
}

// TestLimitExpiresAllocates nothing.
func TestLimitExpiresAllocates(t *testing.T) {
	m := mustIndex(t, registered("Contact: <sip:alice@192.0.2.1>;expires=3600\nExpires: 3600\n"))
	var e Edits
	mine := own(m)
	n := testing.AllocsPerRun(100, func() {
		e.Reset(m.Raw)
		e.LimitExpires(m, 60, mine)
	})
	if n != 0 || e.Len() != 2 {
		t.Errorf("%v allocations for %d edits", n, e.Len())
	}
}
