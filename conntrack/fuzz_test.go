package conntrack

import (
	"io"
	"log"
	"log/slog"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzEvents reads datagrams as the kernel multicasts them: about anchors, flows and
// expectations, and about anything else.
func FuzzEvents(f *testing.F) {
	public := netip.MustParseAddrPort("203.0.113.1:7070")
	flow := Tuple{netip.MustParseAddrPort("198.51.100.2:4000"), public}
	var e encoder
	for _, build := range []func(){
		func() { e.newAnchor(1, public, "sip", 60) },
		func() { e.newExpectation(2, public, public, 1, 60) },
		func() { e.deleteExpectation(3, public) },
		func() { e.flow(typeCtNew, 4, flow) },
		func() {
			e.begin(typeCtDelete, 0, unix.AF_INET, 5)
			e.tuple(ctaTupleOrig, flow)
			e.tuple(ctaTupleReply, flow.Reverse())
			e.tuple(ctaTupleMaster, anchorTuple(public))
			e.uint32(ctaStatus, StatusExpected)
			e.end()
		},
	} {
		e.reset()
		build()
		f.Add(e.buf)
		f.Add(append(append([]byte(nil), e.buf...), e.buf...))
	}
	c := &Conn{log: slog.New(slog.DiscardHandler), quiet: log.New(io.Discard, "", 0)}
	c.state.anchors = map[netip.AddrPort]*anchor{public: {}}
	f.Fuzz(func(t *testing.T, b []byte) {
		events := 0
		c.deliver(b, func(e Event) {
			events++
			if e.Anchor.IsValid() {
				if e.Anchor != public {
					t.Errorf("an anchor of nobody: %v", e.Anchor)
				}
				return
			}
			if !e.Flow.Orig.Src.IsValid() || !e.Flow.Orig.Dst.IsValid() {
				t.Errorf("a flow without ends: %v", e.Flow)
			}
			if _, anchor := anchoredBy(e.Flow.Orig); anchor {
				t.Errorf("an anchor is told as a flow: %v", e.Flow)
			}
		})
		if most := len(b) / headerLen; events > most {
			t.Errorf("%d events in %d bytes", events, len(b))
		}
	})
}

// FuzzHelper reads the kernel's answer about a helper.
func FuzzHelper(f *testing.F) {
	var e encoder
	e.begin(0, 0, unix.AF_INET, 1)
	e.helper("sipnatd")
	all := e.nest(nfcthPolicy)
	e.uint32(nfcthPolicySetNum, 1)
	one := e.nest(nfcthPolicySet)
	e.uint32(nfcthPolicyExpectMax, 16)
	e.uint32(nfcthPolicyExpectTimeout, 180)
	e.endNest(one)
	e.endNest(all)
	e.end()
	f.Add(e.buf[unix.SizeofNlMsghdr:])
	f.Fuzz(func(t *testing.T, b []byte) {
		var p policy
		p.decode(b)
		if len(p.classes) > 1 || p.timeout < 0 {
			t.Errorf("%+v", p)
		}
	})
}
