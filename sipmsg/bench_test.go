package sipmsg

import (
	"net/netip"
	"testing"
)

// rewriter does to an INVITE what a NAT does, with memory it keeps.
type rewriter struct {
	m      Message
	s      SDP
	e      Edits
	bodies []Span
	text   []byte
	out    []byte
	public netip.Addr
}

func newRewriter() *rewriter {
	return &rewriter{public: netip.MustParseAddr("203.0.113.77"), out: make([]byte, 0, 2048)}
}

func (r *rewriter) rewrite(t testing.TB, raw []byte) []byte {
	m, e := &r.m, &r.e
	if err := m.Index(raw); err != nil {
		t.Fatal(err)
	}
	e.Reset(raw)
	r.text = AppendHostPort(r.text[:0], r.public, 40404)
	e.Replace(m.Via.SentBy, r.text)
	for _, h := range m.Headers {
		switch h.Kind {
		case HdrContact, HdrPPreferredIdentity:
			for it := m.Addresses(h); ; {
				a, ok := it.Next()
				if !ok {
					break
				}
				if _, ok := ParseAddr(m.Bytes(a.URI.Host)); ok {
					e.Replace(a.URI.HostPort, r.text)
				}
			}
		}
	}
	r.bodies = m.SDPBodies(r.bodies[:0])
	for _, b := range r.bodies {
		if err := r.s.Index(raw, b); err != nil {
			t.Fatal(err)
		}
		r.text = r.public.AppendTo(r.text[:0])
		n := len(r.text)
		r.text = AppendPort(r.text, 40404)
		addr, port := r.text[:n], r.text[n:]
		e.Replace(r.s.OriginAddr, addr)
		for _, c := range r.s.Conns {
			e.Replace(c.Addr, addr)
		}
		for _, d := range r.s.Media {
			e.Replace(d.Port, port)
		}
		for _, a := range r.s.RTCP {
			e.Replace(a.Port, port)
			e.Replace(a.Addr, addr)
		}
	}
	e.FixContentLength(m)
	out, err := e.Splice(r.out)
	if err != nil {
		t.Fatal(err)
	}
	r.out = out
	return out
}

func TestNoAllocation(t *testing.T) {
	raw := []byte(wire(inviteMessage))
	response := []byte("SIP/2.0 200 OK\r\n" + string(raw[len("INVITE sip:+4930123456@sip.example.com;user=phone SIP/2.0\r\n"):]))
	refused := []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	host := []byte("phone.example.com")
	ip6 := []byte("[2001:db8::192.0.2.1]")
	r := newRewriter()
	var m Message
	var s SDP
	seeds := make([][]byte, len(sdpSeeds))
	for i, text := range sdpSeeds {
		seeds[i] = []byte(text)
	}
	for name, f := range map[string]func(){
		"index a request":  func() { _ = m.Index(raw) },
		"index a response": func() { _ = m.Index(response) },
		"refuse":           func() { _ = m.Index(refused) },
		"index SDP": func() {
			for _, b := range seeds {
				_ = s.Index(b, Span{0, int32(len(b))})
			}
		},
		"rewrite":        func() { r.rewrite(t, raw) },
		"address":        func() { ParseAddr(ip6) },
		"not an address": func() { ParseAddr(host) },
	} {
		f() // the first run may grow what is reused
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := r.e.Len(); n != 10 {
		t.Errorf("the rewrite makes %d edits", n)
	}
}

func BenchmarkIndexInvite(b *testing.B) {
	raw := []byte(wire(inviteMessage))
	var m Message
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Index(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIndexSDP(b *testing.B) {
	raw := []byte(wire(inviteSDP))
	var s SDP
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Index(raw, Span{0, int32(len(raw))}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRewriteInvite is all that happens to an INVITE with SDP: index,
// edits of its addresses, Content-Length, splice.
func BenchmarkRewriteInvite(b *testing.B) {
	raw := []byte(wire(inviteMessage))
	r := newRewriter()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		r.rewrite(b, raw)
	}
}
