package conntrack

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	ct "github.com/florianl/go-conntrack"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func endpoints(s ...string) []netip.AddrPort {
	all := make([]netip.AddrPort, len(s))
	for i := range s {
		all[i] = netip.MustParseAddrPort(s[i])
	}
	return all
}

func TestAnchorTuple(t *testing.T) {
	for _, test := range []struct{ public, src, dst string }{
		{"198.51.100.1:7070", "127.198.51.83:7070", "127.100.1.78:5060"},
		{"0.0.0.0:1", "127.0.0.83:1", "127.0.0.78:5060"},
		{"255.255.255.255:65535", "127.255.255.83:65535", "127.255.255.78:5060"},
	} {
		e := endpoints(test.public, test.src, test.dst)
		got := anchorTuple(e[0])
		if want := (Tuple{e[1], e[2]}); got != want {
			t.Errorf("anchorTuple(%v) = %v, want %v", e[0], got, want)
		}
		if back, ok := anchoredBy(got); !ok || back != e[0] {
			t.Errorf("anchoredBy(%v) = %v, %v, want %v", got, back, ok, e[0])
		}
		if _, ok := anchoredBy(got.Reverse()); ok {
			t.Errorf("anchoredBy(%v): a reply tuple is none", got.Reverse())
		}
	}
	for _, test := range [][2]string{
		{"127.0.0.1:7070", "127.0.0.1:5060"},
		{"10.1.2.83:7070", "127.3.4.78:5060"},
		{"127.1.2.83:7070", "127.3.4.78:5061"},
		{"[::1]:7070", "[::1]:5060"},
	} {
		e := endpoints(test[0], test[1])
		if p, ok := anchoredBy(Tuple{e[0], e[1]}); ok {
			t.Errorf("anchoredBy(%v) = %v", test, p)
		}
	}
}

func TestFlowTranslation(t *testing.T) {
	e := endpoints("10.0.0.2:4000", "198.51.100.1:7070", "203.0.113.5:6000", "10.0.0.9:1")
	phone, public, far, stranger := e[0], e[1], e[2], e[3]
	for _, test := range []struct {
		name string
		flow Flow
	}{
		{"outbound", Flow{Orig: Tuple{phone, far}, Reply: Tuple{far, public}}},
		{"inbound", Flow{Orig: Tuple{far, public}, Reply: Tuple{phone, far}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, ok := test.flow.Translation(phone); !ok || got != public {
				t.Errorf("Translation(%v) = %v, %v, want %v", phone, got, ok, public)
			}
			if got, ok := test.flow.Inside(public); !ok || got != phone {
				t.Errorf("Inside(%v) = %v, %v, want %v", public, got, ok, phone)
			}
			if got, ok := test.flow.Translation(stranger); ok {
				t.Errorf("Translation(%v) = %v", stranger, got)
			}
			if got, ok := test.flow.Inside(stranger); ok {
				t.Errorf("Inside(%v) = %v", stranger, got)
			}
		})
	}
	plain := Flow{Orig: Tuple{phone, far}, Reply: Tuple{far, phone}}
	if got, ok := plain.Translation(phone); !ok || got != phone {
		t.Errorf("untranslated: %v, %v, want %v", got, ok, phone)
	}
}

// The bytes of each message, beside what they say.
func TestMessages(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes here are those of a little-endian machine")
	}
	for _, test := range []struct {
		name   string
		encode func(e *encoder)
		want   string
	}{
		{
			"delete anchor", // conntrack -D -p udp -s 127.198.51.83 -d 127.100.1.78 --sport 7070 --dport 5060
			func(e *encoder) { e.flow(typeCtDelete, 1, anchorTuple(public)) },
			"480000000201010001000000000000000200" + "0000" +
				"34000180" +
				"14000180" + "08000100" + "7fc63353" + "08000200" + "7f64014e" +
				"1c000280" + "0500010011000000" + "060002001b9e0000" + "0600030013c40000",
		},
		{
			"delete expectation", // conntrack -D expect --tuple-dst 198.51.100.2 -p udp --dport 6000
			func(e *encoder) { e.deleteExpectation(2, far) },
			"480000000202010002000000000000000200" + "0000" +
				"34000280" +
				"14000180" + "08000100" + "00000000" + "08000200" + "c6336402" +
				"1c000280" + "0500010011000000" + "0600020000000000" + "0600030017700000",
		},
		{
			"expectation",
			func(e *encoder) { e.newExpectation(3, public, far, 1, 86400) },
			"c80000000002010403000000000000000200" + "0000" +
				"34000180" + // master
				"14000180" + "08000100" + "7fc63353" + "08000200" + "7f64014e" +
				"1c000280" + "0500010011000000" + "060002001b9e0000" + "0600030013c40000" +
				"34000280" + // tuple
				"14000180" + "08000100" + "00000000" + "08000200" + "c6336402" +
				"1c000280" + "0500010011000000" + "0600020000000000" + "0600030017700000" +
				"34000380" + // mask
				"14000180" + "08000100" + "00000000" + "08000200" + "ffffffff" +
				"1c000280" + "0500010011000000" + "0600020000000000" + "06000300ffff0000" +
				"0800080000000001" + // permanent
				"0800090000000001" + // class
				"0800040000015180", // timeout
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var e encoder
			test.encode(&e)
			if got := hex.EncodeToString(e.buf); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			e.acknowledge()
			if e.buf[6] != unix.NLM_F_REQUEST|unix.NLM_F_ACK {
				t.Errorf("flags %#x", e.buf[6])
			}
		})
	}
}

// The decoder of the library reads the anchor's message as it is meant.
func TestAnchorMessage(t *testing.T) {
	var e encoder
	e.newAnchor(7, public, "sip", 60)
	if len(e.buf)%unix.NLMSG_ALIGNTO != 0 {
		t.Errorf("%d bytes are not aligned", len(e.buf))
	}
	entry, err := ct.ParseAttributes(nil, e.buf[unix.SizeofNlMsghdr:])
	if err != nil {
		t.Fatal(err)
	}
	f, ok := flowOf(&entry)
	want := Flow{
		Orig: anchorTuple(public), Reply: anchorTuple(public).Reverse(),
		Status: StatusSeenReply | StatusAssured | StatusConfirmed, Timeout: time.Minute, Helper: "sip",
	}
	if !ok || f != want {
		t.Errorf("got %+v\nwant %+v", f, want)
	}
}

func TestEncodingAllocatesNothing(t *testing.T) {
	var e encoder
	n := testing.AllocsPerRun(100, func() {
		e.reset()
		e.newAnchor(1, public, "sipnatd", 60)
		e.newExpectation(2, public, public, 0, 60)
		e.newExpectation(3, public, far, 0, 60)
		e.deleteExpectation(4, far)
		e.flow(typeCtDelete, 5, anchorTuple(public))
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]uint32{
		-time.Second: 1, 0: 1, time.Millisecond: 1, time.Second: 1,
		time.Second + 1: 2, time.Hour: 3600,
		1 << 62: maxSeconds,
	} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %d, want %d", d, got, want)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&Error{Op: "renew", Public: public, Err: unix.EINVAL}, "conntrack: renew 198.51.100.1:7070: invalid argument"},
		{&Error{Op: "open anchor", Public: public, Far: public, Err: ErrExpectTableFull},
			"conntrack: open anchor 198.51.100.1:7070: the expectation table is full; raise the sysctl net.netfilter.nf_conntrack_expect_max"},
		{&Error{Op: "expect", Public: public, Far: far, Err: refusal(newExpectation, unix.EMFILE)},
			"conntrack: expect 198.51.100.1:7070 to 198.51.100.2:6000: the expectation table is full; raise the sysctl net.netfilter.nf_conntrack_expect_max"},
		{&Error{Op: "open anchor", Public: public, Err: refusal(newAnchor, unix.ENOMEM)},
			"conntrack: open anchor 198.51.100.1:7070: the conntrack table is full; raise the sysctl net.netfilter.nf_conntrack_max"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
	if err := refusal(newExpectation, unix.EBUSY); !errors.Is(err, unix.EBUSY) {
		t.Errorf("refusal: %v", err)
	}
}

func TestBatchIsUsedAgain(t *testing.T) {
	var b Batch
	fill := func() {
		b.OpenAnchor(public, time.Minute)
		b.Expect(public, netip.MustParseAddrPort("[::ffff:198.51.100.2]:6000"))
		b.Renew(public, time.Minute)
		b.Unexpect(public, far)
		b.CloseAnchor(public)
	}
	fill()
	if b.Len() != 5 || b.ops[1].far != far {
		t.Errorf("%+v", b.ops)
	}
	if n := testing.AllocsPerRun(10, func() { b.Reset(); fill() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An anchor of which the expectations have another helper's classes is taken
// over as far as there is room.
func TestStateAdopt(t *testing.T) {
	var s state
	p := sipPolicy()
	var all []netip.AddrPort
	for i := range 10 {
		dst := netip.AddrPortFrom(far.Addr(), uint16(6000+i))
		all = append(all, dst)
		s.adopt(expectation{public: public, dst: dst, class: 0}, &p)
		s.adopt(expectation{public: public, dst: dst, class: 0}, &p) // no second claim
	}
	s.adopt(expectation{public: trial(), dst: trial()}, &p)
	if got := s.publics(); !slices.Equal(got, endpoints("198.51.100.1:7070")) {
		t.Fatalf("anchors %v", got)
	}
	a := s.anchors[public]
	for i, c := range a.claims {
		if want := uint32(1 + i/4); c.dst != all[i] || c.class != want {
			t.Errorf("claim %d: %v of class %d, want %v of class %d", i, c.dst, c.class, all[i], want)
		}
	}
	if len(a.claims) != 8 {
		t.Errorf("%d claims, want 8", len(a.claims))
	}
	if _, ok := a.room(&p); ok {
		t.Error("room for more")
	}
}

func TestFilterCovers(t *testing.T) {
	e := endpoints("10.0.0.2:4000", "203.0.113.5:6000", "[::ffff:10.0.0.2]:4000", "10.0.0.2:0", "10.0.0.3:4000")
	flow := Tuple{e[0], e[1]}
	for _, test := range []struct {
		filter Tuple
		want   bool
	}{
		{Tuple{}, true},
		{Tuple{Src: e[0]}, true},
		{Tuple{Src: e[2]}, true},
		{Tuple{Src: e[3], Dst: e[1]}, true},
		{Tuple{Src: netip.AddrPortFrom(netip.Addr{}, 4000)}, true},
		{Tuple{Src: e[4]}, false},
		{Tuple{Dst: e[0]}, false},
		{Tuple{Dst: netip.AddrPortFrom(netip.Addr{}, 4000)}, false},
	} {
		if got := test.filter.covers(flow); got != test.want {
			t.Errorf("%v covers %v: %v", test.filter, flow, got)
		}
	}
}

// Entries that are not of UDP, or not whole, are none of our flows.
func TestFlowOfOthers(t *testing.T) {
	tuple := libraryTuple(Tuple{phone, far})
	tcp, icmp := *tuple, *tuple
	proto, id := uint8(unix.IPPROTO_TCP), uint16(1)
	tcp.Proto = &ct.ProtoTuple{Number: &proto, SrcPort: &id, DstPort: &id}
	icmpProto := uint8(unix.IPPROTO_ICMP)
	icmp.Proto = &ct.ProtoTuple{Number: &icmpProto, IcmpID: &id}
	for _, entry := range []ct.Con{
		{}, {Origin: tuple}, {Reply: tuple}, {Origin: &tcp, Reply: &tcp}, {Origin: &icmp, Reply: &icmp},
		{Origin: &ct.IPTuple{}, Reply: tuple}, {Origin: tuple, Reply: &ct.IPTuple{Src: tuple.Src, Dst: tuple.Dst, Proto: &ct.ProtoTuple{}}},
	} {
		if f, ok := flowOf(&entry); ok {
			t.Errorf("flowOf = %+v", f)
		}
	}
	if f, ok := flowOf(&ct.Con{Origin: tuple, Reply: tuple}); !ok || f.Orig != (Tuple{phone, far}) {
		t.Errorf("flowOf = %+v, %v", f, ok)
	}
}

func TestUDPEventsAssembles(t *testing.T) {
	if _, err := bpf.Assemble(udpEvents()); err != nil {
		t.Error(err)
	}
}

func TestHelperString(t *testing.T) {
	for h, want := range map[Helper]string{HelperNone: "none", HelperOwn: "own", HelperSIP: "sip"} {
		if got := h.String(); got != want {
			t.Errorf("%d: %q, want %q", h, got, want)
		}
	}
}

// TestAutomaticHelpers: a kernel without the sysctl assigns no helper by itself.
func TestAutomaticHelpers(t *testing.T) {
	want := false
	if b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_helper"); err == nil {
		want = strings.TrimSpace(string(b)) != "0"
	}
	if got, err := AutomaticHelpers(); got != want || err != nil {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}
