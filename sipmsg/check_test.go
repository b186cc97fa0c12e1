package sipmsg

import "testing"

// bounds collects violations of what must hold for every span.
type bounds struct {
	t    testing.TB
	size int32
}

// inside asserts that each of the parts is absent or lies within whole.
func (b bounds) inside(what string, whole Span, parts ...Span) {
	b.t.Helper()
	for i, p := range parts {
		if p == (Span{}) {
			continue
		}
		if p.Lo > p.Hi || p.Lo < whole.Lo || p.Hi > whole.Hi || p.Lo < 0 || p.Hi > b.size {
			b.t.Fatalf("%s: part %d, %v, is not within %v", what, i, p, whole)
		}
	}
}

func (b bounds) uri(u URI) {
	b.t.Helper()
	b.inside("URI", u.All, u.User, u.HostPort, u.Host, u.Port, u.Params, u.Headers)
	b.inside("host and port", u.HostPort, u.Host, u.Port)
	if u.PortNum < 0 || u.PortNum > 65535 {
		b.t.Fatalf("port %d", u.PortNum)
	}
}

func (b bounds) address(within Span, a Address) {
	b.t.Helper()
	b.inside("address", within, a.All)
	b.inside("address", a.All, a.Display, a.URI.All, a.Params)
	b.uri(a.URI)
}

func (b bounds) via(within Span, v Via) {
	b.t.Helper()
	b.inside("Via", within, v.All)
	b.inside("Via", v.All, v.Transport, v.SentBy, v.Params)
	b.inside("sent-by", v.SentBy, v.Host, v.Port)
	b.inside("Via parameters", v.Params, v.Branch, v.Received, v.RPort, v.Maddr, v.ReceivedParam, v.RPortParam)
	if v.Host.Empty() || v.PortNum < 0 || v.PortNum > 65535 {
		b.t.Fatalf("Via host %v, port %d", v.Host, v.PortNum)
	}
}

// checkMessage asserts what holds for the index of every accepted message.
func checkMessage(t testing.TB, m *Message) {
	t.Helper()
	b := bounds{t, int32(len(m.Raw))}
	all := Span{0, b.size}
	b.inside("message", all, m.MethodName, m.RequestURI.All, m.From.All, m.To.All, m.CallID, m.CSeqMethodName,
		m.ContentType, m.ContentLength, m.Body, m.FromTag, m.ToTag, m.ContentEncoding)
	b.uri(m.RequestURI)
	b.via(all, m.Via)
	pos := int32(0)
	vias := 0
	for _, h := range m.Headers {
		if h.Line.Lo < pos {
			t.Fatalf("header %v overlaps the one before", h)
		}
		pos = h.Line.Hi
		b.inside("header", h.Line, h.Name, h.Value)
		if h.Kind == HdrVia {
			last := h.Value.Lo
			for it := m.Vias(h); ; vias++ {
				v, ok := it.Next()
				if !ok {
					break
				}
				b.via(Span{last, h.Value.Hi}, v)
				last = v.All.Hi
			}
			continue
		}
		last := h.Value.Lo
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			b.address(Span{last, h.Value.Hi}, a)
			last = a.All.Hi
		}
	}
	if vias != m.ViaCount {
		t.Fatalf("%d Vias, counted %d", vias, m.ViaCount)
	}
	if m.Body.Lo < pos || m.CallID.Empty() || m.CSeqMethodName.Empty() || m.ViaCount < 1 {
		t.Fatalf("incomplete: %+v", m)
	}
	for _, s := range m.SDPBodies(nil) {
		b.inside("body", m.Body, s)
	}
}

// checkSDP asserts what holds for the index of every accepted description.
func checkSDP(t testing.TB, s *SDP) {
	t.Helper()
	b := bounds{t, int32(len(s.Raw))}
	b.inside("origin", s.Body, s.OriginAddr)
	if e := string(s.EOL); e != "\n" && e != "\r\n" {
		t.Fatalf("line end %q", e)
	}
	media := func(i int) {
		if i < Session || i >= len(s.Media) {
			t.Fatalf("media index %d of %d", i, len(s.Media))
		}
	}
	port := func(n int) {
		if n < 0 || n > 65535 {
			t.Fatalf("port %d", n)
		}
	}
	for _, c := range s.Conns {
		media(c.Media)
		b.inside("c=", s.Body, c.Line)
		b.inside("c=", c.Line, c.Addr, c.TTL)
	}
	for i, m := range s.Media {
		b.inside("m=", s.Body, m.Line)
		b.inside("m=", m.Line, m.Kind, m.Port, m.Count, m.Proto, m.Fmts)
		port(m.PortNum)
		if m.Conn < -1 || m.Conn >= len(s.Conns) || m.ConnFirst+m.ConnCount > len(s.Conns) || m.CountNum < 1 {
			t.Fatalf("%+v with %d connections", m, len(s.Conns))
		}
		for _, c := range s.Conns[m.ConnFirst : m.ConnFirst+m.ConnCount] {
			if c.Media != i {
				t.Fatalf("connection of media %d belongs to %d", i, c.Media)
			}
		}
		if m.End < m.Line.Hi || m.End > s.Body.Hi {
			t.Fatalf("media ends at %d", m.End)
		}
	}
	for _, r := range s.RTCP {
		media(r.Media)
		port(r.PortNum)
		b.inside("a=rtcp", r.Line, r.Port, r.Addr)
	}
	for _, c := range s.Candidates {
		media(c.Media)
		port(c.PortNum)
		port(c.RPortNum)
		b.inside("a=candidate", c.Line, c.Addr, c.Port, c.Type, c.RAddr, c.RPort)
	}
	for _, c := range s.RemoteCandidates {
		media(c.Media)
		port(c.PortNum)
		b.inside("a=remote-candidates", s.Body, c.Addr, c.Port)
	}
	for _, p := range s.Paths {
		media(p.Media)
		port(p.PortNum)
		b.inside("a=path", s.Body, p.HostPort)
		b.inside("a=path", p.HostPort, p.Host, p.Port)
	}
}
