package registrar

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// quiet is a log that nobody reads.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// journal is a log that can be asked for what it has been told.
type journal struct{ bytes.Buffer }

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// count returns how many lines have all the texts.
func (j *journal) count(texts ...string) (n int) {
	for line := range strings.Lines(j.String()) {
		if !slices.ContainsFunc(texts, func(t string) bool { return !strings.Contains(line, t) }) {
			n++
		}
	}
	return n
}

// provider is where phones are registered outside.
var provider = netip.MustParseAddr("203.0.113.10")

// udp is a hop from a phone to the firewall.
func udp(remote string) transport.Hop {
	return transport.Hop{Kind: transport.UDP, Local: netip.MustParseAddrPort("10.0.0.1:5060"), Remote: netip.MustParseAddrPort(remote)}
}

func tcp(remote string, conn uint64) transport.Hop {
	h := udp(remote)
	h.Kind, h.Conn = transport.TCP, conn
	return h
}

// register is a REGISTER of a user, with more header lines.
func register(user string, cseq int, more ...string) string {
	return fmt.Sprintf("REGISTER sip:foo.bar.org SIP/2.0\r\n"+
		"Via: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bK%d\r\n"+
		"From: <sip:%s@foo.bar.org>;tag=1\r\nTo: <sip:%[2]s@foo.bar.org>\r\n"+
		"Call-ID: call@10.0.0.10\r\nCSeq: %[1]d REGISTER\r\n%[3]s\r\n", cseq, user, joined(more))
}

func joined(lines []string) string {
	text := ""
	for _, l := range lines {
		text += l + "\r\n"
	}
	return text
}

func index(t testing.TB, text string) *sipmsg.Message {
	t.Helper()
	var m sipmsg.Message
	if err := m.Index([]byte(text)); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return &m
}

// send has a request carried out, and wants a status.
func send(t testing.TB, r *Registrar, from transport.Hop, text string, want int) proxy.Answer {
	t.Helper()
	a := r.Register(index(t, text), from)
	if a.Status != want {
		t.Fatalf("status %d %s, want %d, of\n%s", a.Status, a.Reason, want, text)
	}
	return a
}

// contacts returns the URIs of an address-of-record in order.
func contacts(r *Registrar, aor string) (list []string) {
	found, _ := r.Contacts([]byte(aor))
	for _, c := range found {
		list = append(list, string(c.URI))
	}
	return list
}

func wantContacts(t testing.TB, r *Registrar, aor string, want ...string) {
	t.Helper()
	if got := contacts(r, aor); !slices.Equal(got, want) {
		t.Errorf("contacts of %s: %q, want %q", aor, got, want)
	}
}

// header returns the values of an answer's headers of a name.
func header(a proxy.Answer, name string) (values []string) {
	for line := range strings.Lines(string(a.Headers)) {
		if n, v, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), ": "); n == name {
			values = append(values, v)
		}
	}
	return values
}
