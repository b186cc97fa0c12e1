package sipmsg

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// seeds adds the files of the corpora to a fuzz target.
func seeds(f *testing.F, add func([]byte)) {
	f.Helper()
	for _, dir := range []string{"testdata/rfc4475", "testdata/rfc5118"} {
		files, err := os.ReadDir(dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(filepath.Join(dir, file.Name()))
			if err != nil {
				f.Fatal(err)
			}
			add(raw)
		}
	}
}

// FuzzIndex feeds arbitrary datagrams: nothing may panic, every span must be
// in bounds, an unedited splice must return the same bytes, and after an edit
// of the addresses the message must read as before, addresses aside.
func FuzzIndex(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b) })
	f.Add([]byte(wire(inviteMessage)))
	f.Add([]byte("\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		original := bytes.Clone(raw)
		var m Message
		err := m.Index(raw)
		if !bytes.Equal(raw, original) {
			t.Fatal("Index changed the datagram")
		}
		var e Edits
		e.Reset(raw)
		if out, err := e.Splice(nil); err != nil || !bytes.Equal(out, raw) {
			t.Fatalf("unedited splice: %v", err)
		}
		if err != nil {
			if r, ok := err.(Reason); !ok || r.Name() == "unknown" {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		checkMessage(t, &m)
		checkEdit(t, &m)
	})
}

// checkEdit replaces the sent-by of the topmost Via, the hosts of all Contacts
// and the first bytes of the body, and compares the two messages.
func checkEdit(t *testing.T, m *Message) {
	const host = "203.0.113.77:40404"
	var e Edits
	e.Reset(m.Raw)
	e.Replace(m.Via.SentBy, []byte(host))
	for _, a := range addresses(m, HdrContact) {
		if !a.URI.Host.Empty() {
			e.Replace(a.URI.HostPort, []byte(host))
		}
	}
	grown := !m.Body.Empty()
	if grown {
		e.Replace(Span{m.Body.Lo, m.Body.Lo}, []byte("0123456789"))
	}
	e.FixContentLength(m)
	out, err := e.Splice(nil)
	if err != nil {
		t.Fatalf("splice: %v", err)
	}
	if len(out) > MaxSize {
		return
	}
	var n Message
	if err := n.Index(out); err != nil {
		t.Fatalf("after the edit: %v\n%q\n%q", err, m.Raw, out)
	}
	checkMessage(t, &n)

	same := func(what string, a, b Span) {
		t.Helper()
		if !bytes.Equal(m.Bytes(a), n.Bytes(b)) {
			t.Fatalf("%s was %q, is %q\n%q\n%q", what, m.Bytes(a), n.Bytes(b), m.Raw, out)
		}
	}
	same("method", m.MethodName, n.MethodName)
	same("Request-URI", m.RequestURI.All, n.RequestURI.All)
	same("From", m.From.All, n.From.All)
	same("To", m.To.All, n.To.All)
	same("tag of From", m.FromTag, n.FromTag)
	same("tag of To", m.ToTag, n.ToTag)
	same("Call-ID", m.CallID, n.CallID)
	same("CSeq method", m.CSeqMethodName, n.CSeqMethodName)
	same("Content-Type", m.ContentType, n.ContentType)
	same("transport", m.Via.Transport, n.Via.Transport)
	same("Via parameters", m.Via.Params, n.Via.Params)
	same("branch", m.Via.Branch, n.Via.Branch)
	if m.Request != n.Request || m.Method != n.Method || m.Status != n.Status || m.CSeq != n.CSeq ||
		m.ViaCount != n.ViaCount || m.Expires != n.Expires || m.SessionExpires != n.SessionExpires {
		t.Fatalf("differs: %+v\n%+v", m, &n)
	}
	if got := string(n.Bytes(n.Via.SentBy)); got != host || n.Via.PortNum != 40404 {
		t.Fatalf("sent-by is %q", got)
	}
	if len(m.Headers) != len(n.Headers) {
		t.Fatalf("%d headers, were %d", len(n.Headers), len(m.Headers))
	}
	for i, h := range m.Headers {
		g := n.Headers[i]
		same("header name", h.Name, g.Name)
		if h.Kind != HdrVia && h.Kind != HdrContact && h.Kind != HdrContentLength {
			same("header", h.Line, g.Line)
		}
	}
	was, is := addresses(m, HdrContact), addresses(&n, HdrContact)
	if len(was) != len(is) {
		t.Fatalf("%d Contacts, were %d", len(is), len(was))
	}
	for i, a := range was {
		b := is[i]
		same("display name", a.Display, b.Display)
		same("parameters", a.Params, b.Params)
		same("user", a.URI.User, b.URI.User)
		same("URI parameters", a.URI.Params, b.URI.Params)
		same("URI headers", a.URI.Headers, b.URI.Headers)
		if !a.URI.Host.Empty() && string(n.Bytes(b.URI.HostPort)) != host {
			t.Fatalf("host is %q", n.Bytes(b.URI.HostPort))
		}
	}
	body := m.Bytes(m.Body)
	if grown {
		body = append([]byte("0123456789"), body...)
	}
	if !bytes.Equal(body, n.Bytes(n.Body)) {
		t.Fatalf("body is %q, want %q", n.Bytes(n.Body), body)
	}
}
