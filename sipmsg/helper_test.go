package sipmsg

import "testing"

// want asserts the bytes of a span.
func want(t *testing.T, m *Message, s Span, text string) {
	t.Helper()
	if got := string(m.Bytes(s)); got != text {
		t.Errorf("got %q, want %q", got, text)
	}
}

// mustIndex returns the index of a message written with LF line ends, which are
// turned into CR LF.
func mustIndex(t testing.TB, text string) *Message {
	t.Helper()
	m := new(Message)
	if err := m.Index([]byte(wire(text))); err != nil {
		t.Fatalf("refused: %v\n%s", err, text)
	}
	return m
}

// request is a message with the given headers added to the mandatory ones.
func request(headers, body string) string {
	return "INVITE sip:bob@example.com SIP/2.0\n" +
		"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\n" +
		"From: <sip:alice@example.com>;tag=a\n" +
		"To: <sip:bob@example.com>\n" +
		"Call-ID: 1@192.0.2.1\n" +
		"CSeq: 1 INVITE\n" +
		headers + "\n" + body
}

// addresses collects the addresses of all headers of a kind.
func addresses(m *Message, k Kind) []Address {
	var all []Address
	for _, h := range m.Headers {
		if h.Kind != k {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			all = append(all, a)
		}
	}
	return all
}

// contact is the first Contact of m.
func contact(t *testing.T, m *Message) Address {
	t.Helper()
	all := addresses(m, HdrContact)
	if len(all) == 0 {
		t.Fatal("no Contact")
	}
	return all[0]
}

func count(m *Message, k Kind) int {
	n := 0
	for _, h := range m.Headers {
		if h.Kind == k {
			n++
		}
	}
	return n
}
