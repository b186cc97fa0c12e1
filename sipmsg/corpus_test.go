package sipmsg

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// corpusCase is what is expected of one message of RFC 4475 or RFC 5118.
type corpusCase struct {
	file   string
	reason Reason // 0: accepted
	why    string // what the message shows, or why it is refused
	check  func(t *testing.T, m *Message)
}

// torture holds every message of RFC 4475. A message that is wrong in a way
// that neither its framing nor its addresses depend on is accepted: it is for
// the two ends to judge.
var torture = []corpusCase{
	{file: "badaspec.dat", why: "blanks within the angle brackets of To", check: func(t *testing.T, m *Message) {
		want(t, m, m.To.Display, `"Watson, Thomas"`)
		want(t, m, m.To.URI.All, "sip:t.watson@example.org")
		want(t, m, m.To.URI.HostPort, "example.org")
	}},
	{file: "badbranch.dat", why: "a branch that is nothing but the magic cookie", check: func(t *testing.T, m *Message) {
		want(t, m, m.Via.Branch, "z9hG4bK")
	}},
	{file: "baddate.dat", why: "a Date that is not GMT"},
	{file: "baddn.dat", why: "unquoted comma in a display name", check: func(t *testing.T, m *Message) {
		want(t, m, m.From.Display, "Bell, Alexander")
		want(t, m, m.From.URI.User, "a.g.bell")
		want(t, m, m.FromTag, "43")
	}},
	{file: "badinv01.dat", why: "empty parameters and values in Via and Contact", check: func(t *testing.T, m *Message) {
		want(t, m, m.Via.SentBy, "192.0.2.15")
		if m.ViaCount != 1 {
			t.Errorf("%d Vias", m.ViaCount)
		}
		want(t, m, contact(t, m).URI.HostPort, "example.org")
	}},
	{file: "badvers.dat", reason: ErrVersion, why: "SIP/7.0"},
	{file: "bcast.dat", why: "a response with the broadcast address in its second Via", check: func(t *testing.T, m *Message) {
		want(t, m, m.Via.SentBy, "192.0.2.198")
		if m.Request || m.Status != 200 || m.ViaCount != 2 || m.CSeqMethod != MethodInvite {
			t.Errorf("request %v, status %d, %d Vias, CSeq of %v", m.Request, m.Status, m.ViaCount, m.CSeqMethod)
		}
	}},
	{file: "bext01.dat", why: "unknown extensions are required"},
	{file: "bigcode.dat", reason: ErrStartLine, why: "status code 4294967301"},
	{file: "clerr.dat", reason: ErrShortBody, why: "Content-Length 9999"},
	{file: "cparam01.dat", why: "unknown Contact parameter outside of a URI", check: func(t *testing.T, m *Message) {
		a := contact(t, m)
		want(t, m, a.URI.All, "sip:+19725552222@gw1.example.net")
		want(t, m, a.Params, ";unknownparam")
	}},
	{file: "cparam02.dat", why: "unknown parameter of the Contact URI", check: func(t *testing.T, m *Message) {
		a := contact(t, m)
		want(t, m, a.URI.Params, ";unknownparam")
		want(t, m, a.Params, "")
	}},
	{file: "dblreq.dat", why: "a second message follows in the datagram and is not looked at", check: func(t *testing.T, m *Message) {
		if m.Method != MethodRegister || !m.Body.Empty() {
			t.Errorf("%v with a body of %d bytes", m.Method, m.Body.Len())
		}
	}},
	{file: "esc01.dat", why: "escaped characters in URIs, a folded Contact", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.User, "sips%3Auser%40example.com")
		want(t, m, m.RequestURI.Host, "example.net")
		want(t, m, contact(t, m).URI.Params, ";%6C%72;n%61me=v%61lue%25%34%31")
	}},
	{file: "esc02.dat", why: "escapes where they mean nothing: method and header name", check: func(t *testing.T, m *Message) {
		if m.Method != MethodOther {
			t.Errorf("method %v", m.Method)
		}
		want(t, m, m.MethodName, "RE%47IST%45R")
		if n := count(m, HdrContact); n != 2 {
			t.Errorf("%d Contacts, the escaped name is not one", n)
		}
	}},
	{file: "escnull.dat", why: "escaped NUL in user parts", check: func(t *testing.T, m *Message) {
		want(t, m, contact(t, m).URI.User, "%00")
	}},
	{file: "escruri.dat", why: "headers in the Request-URI", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.HostPort, "example.com")
		want(t, m, m.RequestURI.Headers, "?Route=%3Csip:example.com%3E")
	}},
	{file: "insuf.dat", reason: ErrNoFrom, why: "no From, To, Call-ID"},
	{file: "intmeth.dat", why: "every odd character that is legal, NUL in a quoted string", check: func(t *testing.T, m *Message) {
		want(t, m, m.MethodName, "!interesting-Method0123456789_*+`.%indeed'~")
		want(t, m, m.RequestURI.Host, "example.com")
		want(t, m, m.To.URI.User, "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
		want(t, m, m.From.Display, "token1~` token2'+_ token3*%!.-")
		want(t, m, m.FromTag, "_token~1'+`*%!-.")
	}},
	{file: "inv2543.dat", why: "RFC 2543: no branch, no tag, no Content-Length, no Max-Forwards", check: func(t *testing.T, m *Message) {
		want(t, m, m.Via.Branch, "")
		want(t, m, m.FromTag, "")
		if m.ContentLength != (Span{}) || int(m.Body.Hi) != len(m.Raw) || m.Body.Len() == 0 {
			t.Errorf("body %v of %d bytes", m.Body, len(m.Raw))
		}
	}},
	{file: "invut.dat", why: "unknown media type", check: func(t *testing.T, m *Message) {
		if got := m.SDPBodies(nil); len(got) != 0 {
			t.Errorf("session descriptions %v", got)
		}
	}},
	{file: "longreq.dat", why: "long values, 34 Vias in every spelling", check: func(t *testing.T, m *Message) {
		if m.ViaCount != 34 || count(m, HdrVia) != 34 {
			t.Errorf("%d Vias in %d headers", m.ViaCount, count(m, HdrVia))
		}
		want(t, m, m.Via.SentBy, "sip33.example.com")
		if m.To.URI.PortNum != 6000 {
			t.Errorf("port of To is %d", m.To.URI.PortNum)
		}
	}},
	{file: "ltgtruri.dat", why: "angle brackets around the Request-URI", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.All, "sip:user@example.com")
	}},
	{file: "lwsdisp.dat", why: "no blank between display name and URI", check: func(t *testing.T, m *Message) {
		want(t, m, m.From.Display, "caller")
		want(t, m, m.From.URI.All, "sip:caller@example.com")
	}},
	{file: "lwsruri.dat", reason: ErrStartLine, why: "white space within the Request-URI"},
	{file: "lwsstart.dat", why: "several spaces between the words of the start line", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.All, "sip:user@example.com")
	}},
	{file: "mcl01.dat", reason: ErrDuplicate, why: "two Content-Lengths that differ"},
	{file: "mismatch01.dat", reason: ErrCSeqMethod, why: "OPTIONS with the CSeq of an INVITE"},
	{file: "mismatch02.dat", reason: ErrCSeqMethod, why: "unknown method with the CSeq of an INVITE"},
	{file: "mpart01.dat", why: "binary part in a multipart body", check: func(t *testing.T, m *Message) {
		if m.Body.Len() != 553 {
			t.Errorf("body of %d bytes", m.Body.Len())
		}
		if got := m.SDPBodies(nil); len(got) != 0 {
			t.Errorf("session descriptions %v", got)
		}
	}},
	{file: "multi01.dat", reason: ErrDuplicate, why: "headers twice, with different values"},
	{file: "ncl.dat", reason: ErrContentLength, why: "Content-Length -999"},
	{file: "noreason.dat", why: "no reason phrase", check: func(t *testing.T, m *Message) {
		if m.Status != 100 {
			t.Errorf("status %d", m.Status)
		}
	}},
	{file: "novelsc.dat", why: "unknown scheme with dots", check: func(t *testing.T, m *Message) {
		if m.RequestURI.Scheme != SchemeOther {
			t.Errorf("scheme %v", m.RequestURI.Scheme)
		}
	}},
	{file: "quotbal.dat", why: "a quote that is never closed hides no address", check: func(t *testing.T, m *Message) {
		want(t, m, m.To.URI.All, "sip:j.user@example.com")
	}},
	{file: "regaut01.dat", why: "unknown authorization scheme"},
	{file: "regbadct.dat", why: "headers in a Contact URI without brackets", check: func(t *testing.T, m *Message) {
		want(t, m, contact(t, m).URI.HostPort, "example.com")
	}},
	{file: "regescrt.dat", why: "escaped Route in a Contact", check: func(t *testing.T, m *Message) {
		want(t, m, contact(t, m).URI.Headers, "?Route=%3Csip:sip.example.com%3E")
	}},
	{file: "scalar02.dat", reason: ErrCSeq, why: "CSeq beyond 32 bits"},
	{file: "scalarlg.dat", reason: ErrCSeq, why: "CSeq beyond 32 bits, in a response"},
	{file: "sdp01.dat", why: "Accept does not name SDP", check: func(t *testing.T, m *Message) {
		if got := m.SDPBodies(nil); len(got) != 1 || got[0] != m.Body {
			t.Errorf("session descriptions %v", got)
		}
	}},
	{file: "semiuri.dat", why: "semicolon in the user part", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.User, "user;par=u%40example.net")
		want(t, m, m.RequestURI.Host, "example.com")
	}},
	{file: "transports.dat", why: "Vias of five transports", check: func(t *testing.T, m *Message) {
		var got []string
		for _, h := range m.Headers {
			if h.Kind != HdrVia {
				continue
			}
			for it := m.Vias(h); ; {
				v, ok := it.Next()
				if !ok {
					break
				}
				got = append(got, string(m.Bytes(v.Transport)))
			}
		}
		if s := strings.Join(got, " "); s != "UDP SCTP TLS UNKNOWN TCP" {
			t.Errorf("transports %q", s)
		}
	}},
	{file: "trws.dat", why: "spaces at the end of the start line"},
	{file: "unkscm.dat", why: "unknown scheme in the Request-URI"},
	{file: "unksm2.dat", why: "unknown schemes in To, From and Contact", check: func(t *testing.T, m *Message) {
		if m.To.URI.Scheme != SchemeOther || contact(t, m).URI.Scheme != SchemeOther {
			t.Errorf("schemes %v, %v", m.To.URI.Scheme, contact(t, m).URI.Scheme)
		}
	}},
	{file: "unreason.dat", why: "UTF-8 in the reason phrase"},
	{file: "wsinv.dat", why: "white space and folds wherever they may be", check: func(t *testing.T, m *Message) {
		want(t, m, m.To.URI.All, "sip:vivekg@chair-dnrc.example.com")
		want(t, m, m.ToTag, "1918181833n")
		want(t, m, m.From.Display, `"J Rosenberg \\\""`)
		want(t, m, m.FromTag, "98asjd8")
		want(t, m, m.Via.Transport, "UDP")
		want(t, m, m.Via.SentBy, "192.0.2.2")
		want(t, m, m.Via.Branch, "390skdjuw")
		want(t, m, m.ContentLength, "150")
		if m.CSeq != 9 || m.ViaCount != 3 {
			t.Errorf("CSeq %d, %d Vias", m.CSeq, m.ViaCount)
		}
		a := contact(t, m)
		want(t, m, a.Display, `"Quoted string \"\""`)
		if v, ok := m.Param(a.Params, "newparam"); !ok || string(m.Bytes(v)) != "newvalue" {
			t.Errorf("newparam is %q", m.Bytes(v))
		}
		if v, ok := m.Param(a.Params, "secondparam"); !ok || !v.Empty() {
			t.Errorf("secondparam is %q, %v", m.Bytes(v), ok)
		}
		if v, ok := m.Param(a.Params, "q"); !ok || string(m.Bytes(v)) != "0.33" {
			t.Errorf("q is %q", m.Bytes(v))
		}
	}},
	{file: "zeromf.dat", why: "Max-Forwards 0"},
}

// ipv6 holds every message of RFC 5118.
var ipv6 = []corpusCase{
	{file: "ipv4-mapped-ipv6", why: "IPv4-mapped addresses", check: func(t *testing.T, m *Message) {
		want(t, m, m.Via.Host, "[::ffff:192.0.2.10]")
		if m.Via.PortNum != 19823 {
			t.Errorf("port %d", m.Via.PortNum)
		}
		if a, ok := ParseAddr(m.Bytes(m.Via.Host)); !ok || !a.Is4In6() {
			t.Errorf("address %v, %v", a, ok)
		}
	}},
	{file: "ipv6-bad", why: "Request-URI without brackets: all of it is host", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.Host, "2001:db8::10")
		want(t, m, m.RequestURI.Port, "")
	}},
	{file: "ipv6-bug-abnf-3-colons", why: "three colons: no address", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.Host, "[2001:db8:::192.0.2.1]")
		if a, ok := ParseAddr(m.Bytes(m.RequestURI.Host)); ok {
			t.Errorf("address %v", a)
		}
	}},
	{file: "ipv6-correct-abnf-2-colons", why: "IPv4 at the end of an IPv6 address", check: func(t *testing.T, m *Message) {
		if a, ok := ParseAddr(m.Bytes(m.RequestURI.Host)); !ok || a.String() != "2001:db8::c000:201" {
			t.Errorf("address %v, %v", a, ok)
		}
	}},
	{file: "ipv6-good", why: "Request-URI with brackets", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.Host, "[2001:db8::10]")
		want(t, m, m.Via.SentBy, "[2001:db8::9:1]")
		want(t, m, contact(t, m).URI.HostPort, "[2001:db8::1]")
	}},
	{file: "ipv6-in-sdp", why: "IPv6 in SDP", check: func(t *testing.T, m *Message) {
		var s SDP
		if err := s.Index(m.Raw, m.Body); err != nil {
			t.Fatal(err)
		}
		want(t, m, s.OriginAddr, "2001:db8::20")
		want(t, m, s.Conns[0].Addr, "2001:db8::20")
		if !s.OriginIP6 || !s.Conns[0].IP6 || len(s.Media) != 2 {
			t.Errorf("%+v", s)
		}
	}},
	{file: "mult-ip-in-header", why: "both families in Via", check: func(t *testing.T, m *Message) {
		want(t, m, m.Via.SentBy, "[2001:db8::9:1]:6050")
		if m.Via.PortNum != 6050 || m.ViaCount != 3 {
			t.Errorf("port %d, %d Vias", m.Via.PortNum, m.ViaCount)
		}
	}},
	{file: "mult-ip-in-sdp", why: "both families in SDP", check: func(t *testing.T, m *Message) {
		var s SDP
		if err := s.Index(m.Raw, m.Body); err != nil {
			t.Fatal(err)
		}
		want(t, m, s.OriginAddr, "host.example.com")
		want(t, m, s.Conns[s.Media[0].Conn].Addr, "192.0.2.1")
		want(t, m, s.Conns[s.Media[1].Conn].Addr, "2001:db8::1")
	}},
	{file: "port-ambiguous", why: "port within the brackets: part of the address", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.Host, "[2001:db8::10:5070]")
		want(t, m, m.RequestURI.Port, "")
	}},
	{file: "port-unambiguous", why: "port after the brackets", check: func(t *testing.T, m *Message) {
		want(t, m, m.RequestURI.Host, "[2001:db8::10]")
		want(t, m, m.RequestURI.HostPort, "[2001:db8::10]:5070")
		if m.RequestURI.PortNum != 5070 {
			t.Errorf("port %d", m.RequestURI.PortNum)
		}
	}},
	{file: "via-received-param-no-delim", why: "received without brackets", check: func(t *testing.T, m *Message) {
		want(t, m, m.Via.Received, "2001:db8::9:255")
		want(t, m, m.Via.ReceivedParam, ";received=2001:db8::9:255")
	}},
	{file: "via-received-param-with-delim", why: "received with brackets", check: func(t *testing.T, m *Message) {
		want(t, m, m.Via.Received, "[2001:db8::9:255]")
		if a, ok := ParseAddr(m.Bytes(m.Via.Received)); !ok || a.String() != "2001:db8::9:255" {
			t.Errorf("address %v, %v", a, ok)
		}
	}},
}

func TestRFC4475(t *testing.T) { testCorpus(t, "testdata/rfc4475", torture) }
func TestRFC5118(t *testing.T) { testCorpus(t, "testdata/rfc5118", ipv6) }

func testCorpus(t *testing.T, dir string, cases []corpusCase) {
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(cases) {
		t.Errorf("%d files, %d cases", len(files), len(cases))
	}
	for _, c := range cases {
		t.Run(c.file, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(dir, c.file))
			if err != nil {
				t.Fatal(err)
			}
			original := bytes.Clone(raw)
			var m Message
			err = m.Index(raw)
			if c.reason != 0 {
				if err != c.reason {
					t.Errorf("%s: got %v, want %v", c.why, err, c.reason)
				}
			} else if err != nil {
				t.Fatalf("%s: refused: %v", c.why, err)
			}
			var e Edits
			e.Reset(raw)
			out, err := e.Splice(nil)
			if err != nil || !bytes.Equal(out, original) || !bytes.Equal(raw, original) {
				t.Errorf("unedited splice changed the message (%v)", err)
			}
			if c.reason == 0 {
				checkMessage(t, &m)
				if c.check != nil {
					c.check(t, &m)
				}
			}
		})
	}
}
