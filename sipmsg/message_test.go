package sipmsg

import (
	"strings"
	"testing"
)

func TestIndexInvite(t *testing.T) {
	m := mustIndex(t, inviteMessage)
	checkMessage(t, m)
	if !m.Request || m.Method != MethodInvite || m.CSeq != 4711 || m.CSeqMethod != MethodInvite {
		t.Errorf("request %v, method %v, CSeq %d %v", m.Request, m.Method, m.CSeq, m.CSeqMethod)
	}
	if m.SessionExpires != 1800 || m.Expires != -1 {
		t.Errorf("Session-Expires %d, Expires %d", m.SessionExpires, m.Expires)
	}
	want(t, m, m.RequestURI.User, "+4930123456")
	want(t, m, m.RequestURI.HostPort, "sip.example.com")
	want(t, m, m.RequestURI.Params, ";user=phone")
	want(t, m, m.Via.SentBy, "192.168.1.20:5060")
	want(t, m, m.Via.RPortParam, ";rport")
	want(t, m, m.Via.Branch, "z9hG4bKPjd8a5b7e2c1f04a6d9b3e")
	want(t, m, m.From.Display, `"Alice"`)
	want(t, m, m.FromTag, "6d8f1c2b3a4e")
	want(t, m, m.ToTag, "")
	want(t, m, m.CallID, "0a1b2c3d4e5f60718293a4b5c6d7e8f9@192.168.1.20")
	want(t, m, m.ContentType, "application/sdp")
	want(t, m, m.Body, wire(inviteSDP))
	c := contact(t, m)
	want(t, m, c.URI.HostPort, "192.168.1.20:5060")
	want(t, m, c.URI.Params, ";transport=udp;ob")
	want(t, m, c.Params, `;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A959CA011>"`)
	if v, ok := m.Param(c.Params, "+sip.instance"); !ok || m.Bytes(v)[0] != '"' {
		t.Errorf("instance %q", m.Bytes(v))
	}
}

func TestIndexResponse(t *testing.T) {
	m := mustIndex(t, `SIP/2.0 183 Session Progress
v: SIP/2.0/UDP 192.0.2.1:5062;received=198.51.100.7;rport=40000;maddr=192.0.2.9;branch=z9hG4bKx
f: sip:alice@example.com;tag=a
t: sip:bob@example.com;tag=b
i: 1
CSeq: 2 PRACK
x: 90;refresher=uas
l: 0

`)
	if m.Request || m.Status != 183 || m.Method != MethodOther || m.CSeqMethod != MethodPrack || m.SessionExpires != 90 {
		t.Errorf("%+v", m)
	}
	want(t, m, m.Via.Received, "198.51.100.7")
	want(t, m, m.Via.ReceivedParam, ";received=198.51.100.7")
	want(t, m, m.Via.RPort, "40000")
	want(t, m, m.Via.RPortParam, ";rport=40000")
	want(t, m, m.Via.Maddr, "192.0.2.9")
	want(t, m, m.ToTag, "b")
	if !m.Via.HasRPort || m.Via.PortNum != 5062 {
		t.Errorf("%+v", m.Via)
	}
}

// TestCompactForms checks every compact name of RFC 3261 section 7.3.3 and of
// the extensions.
func TestCompactForms(t *testing.T) {
	for name, kind := range map[string]Kind{
		"v": HdrVia, "f": HdrFrom, "t": HdrTo, "i": HdrCallID, "m": HdrContact, "r": HdrReferTo, "b": HdrReferredBy,
		"c": HdrContentType, "l": HdrContentLength, "e": HdrContentEncoding, "x": HdrSessionExpires, "o": HdrEvent,
		"k": HdrSupported, "s": HdrOther, "q": HdrOther,
	} {
		if got := kindOf([]byte(name)); got != kind {
			t.Errorf("%s is %d, want %d", name, got, kind)
		}
		if got := kindOf([]byte(strings.ToUpper(name))); got != kind {
			t.Errorf("%s is %d, want %d", strings.ToUpper(name), got, kind)
		}
	}
}

func TestHeaderNames(t *testing.T) {
	names := []string{"", "Via", "From", "To", "Call-ID", "CSeq", "Contact", "Route", "Record-Route", "Path",
		"Service-Route", "Reply-To", "Refer-To", "Referred-By", "P-Asserted-Identity", "P-Preferred-Identity",
		"Remote-Party-ID", "Diversion", "History-Info", "Content-Type", "Content-Length", "Content-Encoding",
		"Content-Disposition", "Expires", "Session-Expires", "Min-SE", "RSeq", "RAck", "Replaces", "Max-Forwards",
		"Event", "Subscription-State", "Require", "Supported", "Authorization", "Proxy-Authorization",
		"WWW-Authenticate", "Proxy-Authenticate", "User-Agent", "Server"}
	if len(names) != int(HdrServer)+1 {
		t.Fatalf("%d names, %d kinds", len(names), HdrServer+1)
	}
	for kind, name := range names[1:] {
		for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if got := kindOf([]byte(n)); int(got) != kind+1 {
				t.Errorf("%s is %d, want %d", n, got, kind+1)
			}
		}
		other := "x" + name[1:]
		if got := kindOf([]byte(other)); len(other) > 1 && got != HdrOther {
			t.Errorf("%s is %d", other, got)
		}
	}
}

func TestMethods(t *testing.T) {
	for m := MethodInvite; m <= MethodMessage; m++ {
		if got := methodOf([]byte(m.String())); got != m {
			t.Errorf("%v is read as %v", m, got)
		}
		if got := methodOf([]byte(strings.ToLower(m.String()))); got != MethodOther {
			t.Errorf("methods are case-sensitive, %v is not", m)
		}
	}
	if got := MethodOther.String(); got != "other" {
		t.Errorf("MethodOther is %q", got)
	}
}

func TestRefused(t *testing.T) {
	good := request("Content-Length: 0\n", "")
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the message", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	cases := []struct {
		name, text string
		want       error
	}{
		{"nothing wrong", good, nil},
		{"empty", "", ErrKeepAlive},
		{"CRLF CRLF", "\n\n", ErrKeepAlive},
		{"NUL", "\x00", ErrKeepAlive},
		{"NULs and blanks", "\x00\x00 \t\n\x00", ErrKeepAlive},
		{"letters", "jaK", ErrNotSIP},
		{"STUN", "\x00\x01\x00\x00\x21\x12\xa4\x42............", ErrNotSIP},
		{"HTTP", "POST / HTTP/1.1\nHost: 192.0.2.1:5060\nContent-Length: 0\n\n", ErrNotSIP},
		{"HTTP answer", "HTTP/1.1 200 OK\n\n", ErrNotSIP},
		{"text, then a message", "x=1&y=2\n" + good, ErrNotSIP},
		{"blanks, then a message", "  " + good, ErrStartLine},
		{"version 3", change("SIP/2.0", "SIP/3.0"), ErrVersion},
		{"version in lower case", change("SIP/2.0", "sip/2.0"), ErrNotSIP},
		{"version 2.0.1", change("SIP/2.0", "SIP/2.0.1"), ErrVersion},
		{"no Request-URI", change("sip:bob@example.com SIP", "SIP"), ErrStartLine},
		{"Request-URI without scheme", change("sip:bob@example.com SIP", "/index.html SIP"), ErrStartLine},
		{"NUL in the start line", change("sip:bob@", "sip:b\x00b@"), ErrStartLine},
		{"tab in the start line", change("INVITE sip", "INVITE\tsip"), ErrStartLine},
		{"four words", change("sip:bob@example.com SIP", "sip:bob@example.com x SIP"), ErrStartLine},
		{"method is no token", change("INVITE sip", "INV(ITE sip"), ErrStartLine},
		{"status 99", "SIP/2.0 099 x\n\n", ErrStartLine},
		{"status 700", "SIP/2.0 700 x\n\n", ErrStartLine},
		{"status of two digits", "SIP/2.0 20\n\n", ErrStartLine},
		{"status of four digits", "SIP/2.0 2000 OK\n\n", ErrStartLine},
		{"no status", "SIP/2.0\n\n", ErrVersion},
		{"start line only", "INVITE sip:bob@example.com SIP/2.0\n", ErrTruncated},
		{"start line without line end", "INVITE sip:bob@example.com SIP/2.0", ErrTruncated},
		{"no empty line", strings.TrimSuffix(good, "\n"), ErrTruncated},
		{"ends within a header", good[:len(good)-6], ErrTruncated},
		{"ends within a name", good[:strings.Index(good, "ontent-L")], ErrTruncated},
		{"no colon", change("Content-Length: 0", "nonsense"), ErrHeader},
		{"no name", change("Content-Length: 0", ": 0"), ErrHeader},
		{"name with a blank", change("Content-Length: 0", "Content Length: 0"), ErrHeader},
		{"fold at the start", change("Via:", " Via:"), ErrHeader},
		{"CR within a header", change("tag=a", "tag=\ra"), ErrHeader},
		{"no Via", change("Via: ", "Vya: "), ErrNoVia},
		{"Via without sent-by", change("192.0.2.1:5060;branch=z9hG4bK1", ""), ErrVia},
		{"Via without transport", change("SIP/2.0/UDP 192", "SIP/2.0 192"), ErrVia},
		{"no From", change("From: ", "Frim: "), ErrNoFrom},
		{"empty From", change("From: <sip:alice@example.com>;tag=a", "From: "), ErrNoFrom},
		{"no To", change("To: ", "Ta: "), ErrNoTo},
		{"no Call-ID", change("Call-ID: ", "Call-AD: "), ErrNoCallID},
		{"empty Call-ID", change("Call-ID: 1@192.0.2.1", "Call-ID: "), ErrNoCallID},
		{"no CSeq", change("CSeq: ", "Seq: "), ErrNoCSeq},
		{"CSeq without number", change("1 INVITE", "INVITE"), ErrCSeq},
		{"CSeq without method", change("1 INVITE", "1"), ErrCSeq},
		{"CSeq with more", change("1 INVITE", "1 INVITE x"), ErrCSeq},
		{"CSeq too large", change("1 INVITE", "4294967296 INVITE"), ErrCSeq},
		{"CSeq of another method", change("1 INVITE", "1 ACK"), ErrCSeqMethod},
		{"CSeq in lower case", change("1 INVITE", "1 invite"), ErrCSeqMethod},
		{"two CSeqs", change("CSeq: 1 INVITE", "CSeq: 1 INVITE\nCSeq: 2 INVITE"), ErrDuplicate},
		{"two CSeq methods", change("CSeq: 1 INVITE", "CSeq: 1 INVITE\nCSeq: 1 ACK"), ErrDuplicate},
		{"two Call-IDs", change("CSeq:", "i: 2\nCSeq:"), ErrDuplicate},
		{"two Froms", change("CSeq:", "f: <sip:x@example.com>\nCSeq:"), ErrDuplicate},
		{"two Tos", change("CSeq:", "t: <sip:x@example.com>\nCSeq:"), ErrDuplicate},
		{"two Content-Lengths", change("CSeq:", "l: 1\nCSeq:"), ErrDuplicate},
		{"two Content-Types", change("CSeq:", "c: a/b\nc: a/c\nCSeq:"), ErrDuplicate},
		{"Call-ID twice, the same", change("CSeq:", "i: 1@192.0.2.1\nCSeq:"), nil},
		{"Content-Length twice, the same", change("CSeq:", "l: 00\nCSeq:"), nil},
		{"empty Content-Length", change("Length: 0", "Length: "), ErrContentLength},
		{"Content-Length with a sign", change("Length: 0", "Length: +0"), ErrContentLength},
		{"Content-Length in hex", change("Length: 0", "Length: 0x0"), ErrContentLength},
		{"body too short", change("Length: 0", "Length: 1"), ErrShortBody},
		{"Content-Length beyond 64 bits", change("Length: 0", "Length: 99999999999999999999999"), ErrShortBody},
		{"too many headers", change("CSeq:", strings.Repeat("x: y\n", MaxHeaders)+"CSeq:"), ErrSize},
		{"too large", good + strings.Repeat("x", MaxSize), ErrSize},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var m Message
			if err := m.Index([]byte(wire(c.text))); err != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if strings.Contains(c.text, "\r") {
				return
			}
			if err := m.Index([]byte(c.text)); err != c.want {
				t.Errorf("with LF: got %v, want %v", err, c.want)
			}
		})
	}
}

func TestReasonNames(t *testing.T) {
	seen := map[string]bool{}
	for r := ErrKeepAlive; int(r) < Reasons; r++ {
		if n := r.Name(); n == "unknown" || seen[n] || strings.ToLower(n) != n {
			t.Errorf("reason %d is named %q", r, n)
		}
		if e := r.Error(); seen[e] || !strings.HasPrefix(e, "sipmsg: ") || strings.HasSuffix(e, "unknown reason") {
			t.Errorf("reason %d says %q", r, e)
		}
		seen[r.Name()], seen[r.Error()] = true, true
	}
	if n := Reason(Reasons).Name(); n != "unknown" {
		t.Errorf("a reason that does not exist is named %q", n)
	}
}

// TestBodyLength is RFC 3261 section 18.3.
func TestBodyLength(t *testing.T) {
	for _, c := range []struct{ name, headers, body, want string }{
		{"no Content-Length", "", "abc", "abc"},
		{"exact", "Content-Length: 3\n", "abc", "abc"},
		{"excess", "Content-Length: 2\n", "abc", "ab"},
		{"excess is another message", "l: 0\n", "INVITE sip:x SIP/2.0\n", ""},
		{"leading zeros", "Content-Length: 0003\n", "abc", "abc"},
		{"folded", "Content-Length:\n 3\n", "abc", "abc"},
		{"no body", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mustIndex(t, request(c.headers, c.body))
			want(t, m, m.Body, wire(c.want))
		})
	}
}

// TestLineEnds indexes one message with CR LF, with LF, with a mixture, and
// after keep-alive line ends.
func TestLineEnds(t *testing.T) {
	lf := request("Subject: one\n two\nContact: <sip:a@192.0.2.1>\nContent-Length: 3\n", "abc")
	for name, text := range map[string]string{
		"CR LF":   wire(lf),
		"LF":      lf,
		"mixed":   strings.Replace(lf, "\n", "\r\n", 3),
		"leading": "\r\n\r\n" + wire(lf),
		"LFs":     "\n\n\n" + lf,
	} {
		t.Run(name, func(t *testing.T) {
			var m Message
			if err := m.Index([]byte(text)); err != nil {
				t.Fatal(err)
			}
			checkMessage(t, &m)
			want(t, &m, m.CallID, "1@192.0.2.1")
			want(t, &m, m.Body, "abc")
			want(t, &m, contact(t, &m).URI.Host, "192.0.2.1")
			want(t, &m, m.MethodName, "INVITE")
		})
	}
}

func TestHeaderSpans(t *testing.T) {
	m := mustIndex(t, request("X-Thing :\n  a\n\tb  \nExpires: 60\n", ""))
	h := m.Headers[5]
	want(t, m, h.Line, "X-Thing :\r\n  a\r\n\tb  \r\n")
	want(t, m, h.Name, "X-Thing")
	want(t, m, h.Value, "a\r\n\tb")
	if m.Expires != 60 {
		t.Errorf("Expires %d", m.Expires)
	}
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]int{
		"0": 0, "3600": 3600, "90;refresher=uac": 90, "": -1, "soon": -1, "-1": -1,
		"4294967296": 1<<31 - 1, "99999999999999999999": 1<<31 - 1,
	} {
		m := mustIndex(t, request("Expires: "+text+"\nx: "+text+"\n", ""))
		if m.Expires != want || m.SessionExpires != want {
			t.Errorf("%q: Expires %d, Session-Expires %d, want %d", text, m.Expires, m.SessionExpires, want)
		}
	}
}

// TestReuse indexes different messages with one Message: nothing of one may
// be left in the next.
func TestReuse(t *testing.T) {
	var m Message
	if err := m.Index([]byte(wire(inviteMessage))); err != nil {
		t.Fatal(err)
	}
	if err := m.Index([]byte(wire(request("", "")))); err != nil {
		t.Fatal(err)
	}
	if len(m.Headers) != 5 || m.ViaCount != 1 || m.SessionExpires != -1 || m.ContentLength != (Span{}) ||
		m.ContentType != (Span{}) || m.Via.HasRPort {
		t.Errorf("left over: %+v", m)
	}
	if err := m.Index([]byte("SIP/2.0 200 OK\r\n\r\n")); err != ErrNoVia {
		t.Errorf("got %v", err)
	}
}
