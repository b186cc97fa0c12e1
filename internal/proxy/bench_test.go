package proxy

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"regexp"
	"testing"

	"sipnatd/internal/transport"
)

// loop is a far side that answers each request with 200 at once.
type loop struct {
	*world
	answers [][]byte
}

var branchOf = regexp.MustCompile(`branch=(\S+?)[;\r]`)

func (l *loop) Send(to transport.Hop, message []byte) error {
	if !bytes.HasPrefix(message, []byte("SIP/2.0")) {
		l.answers = append(l.answers, branchOf.FindSubmatch(message)[1])
	}
	return nil
}

// BenchmarkRegister is a REGISTER that goes out and its answer that comes back.
func BenchmarkRegister(b *testing.B) {
	w := newWorld(b, Config{})
	l := &loop{world: w}
	w.proxy = New(Config{}, Parts{
		Sender: l, Registrar: w, Access: access{w}, Locator: locator{w}, Dialplan: dialplan{w}, Media: w, Networks: networks{},
	}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	in := transport.Hop{Local: netip.MustParseAddrPort("10.0.0.1:5060"), Remote: netip.MustParseAddrPort("10.0.0.10:5060")}
	out := transport.Hop{Local: netip.MustParseAddrPort("203.0.113.1:5060"), Remote: netip.MustParseAddrPort("203.0.113.10:5060")}
	b.ReportAllocs()
	for i := range b.N {
		w.proxy.Arrived(transport.Arrival{Hop: in, Data: fmt.Appendf(nil, "REGISTER sip:203.0.113.10 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bKa%d;rport\r\n"+
			"Max-Forwards: 70\r\nFrom: <sip:alice@provider.example>;tag=a1\r\nTo: <sip:alice@provider.example>\r\nCall-ID: reg%d\r\nCSeq: 1 REGISTER\r\n"+
			"Contact: <sip:alice@10.0.0.10:5060>\r\nUser-Agent: phone\r\nAllow: INVITE, ACK, BYE\r\nSupported: path\r\nExpires: 60\r\nContent-Length: 0\r\n\r\n", i, i)})
		for _, branch := range l.answers {
			w.proxy.Arrived(transport.Arrival{Hop: out, Data: fmt.Appendf(nil, "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.1:5060;branch=%s\r\n"+
				"From: <sip:alice@provider.example>;tag=a1\r\nTo: <sip:alice@provider.example>;tag=p\r\nCall-ID: reg%d\r\nCSeq: 1 REGISTER\r\n"+
				"Contact: <sip:alice@203.0.113.1:5060;line=L1>;expires=60\r\nContent-Length: 0\r\n\r\n", branch, i)})
		}
		l.answers = l.answers[:0]
	}
	if n := w.proxy.Stats().Forwarded; b.N < 16384 && int(n) != b.N {
		b.Errorf("%d of %d were forwarded", n, b.N)
	}
}
