package divert

import (
	"bytes"
	"slices"
	"testing"
)

// destOpts is a destination options header of 8 bytes with one PadN option,
// before UDP.
var destOpts = []byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}

// routerAlert is the IPv4 option of RFC 2113.
var routerAlert = []byte{148, 4, 0, 0}

func TestParse(t *testing.T) {
	hello := []byte("hello")
	v6 := testPacket{src: inside6, dst: outside6, payload: hello}
	with := func(p testPacket, f func(*testPacket)) testPacket { f(&p); return p }
	v4 := testPacket{payload: hello}
	maxOptions := slices.Repeat([]byte{1}, 40)

	for _, tc := range []struct {
		name   string
		packet []byte
		want   Reason
	}{
		{"IPv4", v4.bytes(), readable},
		{"IPv4, no payload", testPacket{}.bytes(), readable},
		{"IPv4, one option", with(v4, func(p *testPacket) { p.options = routerAlert }).bytes(), readable},
		{"IPv4, 40 bytes of options", with(v4, func(p *testPacket) { p.options = maxOptions }).bytes(), readable},
		{"IPv4, UDP shorter than the packet", with(v4, func(p *testPacket) { p.trailer = []byte("option") }).bytes(), readable},
		{"IPv4, bytes after the packet", append(v4.bytes(), 0, 0, 0), readable},
		{"IPv6", v6.bytes(), readable},
		{"IPv6, destination options", with(v6, func(p *testPacket) { p.next, p.options = protoDestOpts, destOpts }).bytes(), readable},
		{"IPv6, hop-by-hop and destination options", with(v6, func(p *testPacket) {
			p.next, p.options = protoHopByHop, append([]byte{protoDestOpts, 0, 1, 4, 0, 0, 0, 0}, destOpts...)
		}).bytes(), readable},
		{"IPv6, finished routing header", with(v6, func(p *testPacket) {
			p.next, p.options = protoRouting, []byte{protoUDP, 0, 4, 0, 0, 0, 0, 0}
		}).bytes(), readable},

		{"empty", nil, Truncated},
		{"19 bytes", v4.bytes()[:19], Truncated},
		{"IPv6, 39 bytes", v6.bytes()[:39], Truncated},
		{"IPv4, last byte missing", v4.bytes()[:len(v4.bytes())-1], Truncated},
		{"IPv6, last byte missing", v6.bytes()[:len(v6.bytes())-1], Truncated},
		{"IPv4, UDP longer than the packet", with(v4, func(p *testPacket) { p.udpLen = 14 }).bytes(), Truncated},
		{"IPv4, no room for a UDP header", testPacket{}.bytes()[:20:20], Truncated},
		{"IPv6, extension header beyond the end", with(v6, func(p *testPacket) {
			p.next, p.options = protoDestOpts, []byte{protoUDP, 9, 1, 4, 0, 0, 0, 0}
		}).bytes(), Truncated},
		{"version 5", append([]byte{0x55}, v4.bytes()[1:]...), BadHeader},
		{"IPv4, header length 16", append([]byte{0x44}, v4.bytes()[1:]...), BadHeader},
		{"IPv4, total length below the header's", []byte{0x46, 0, 0, 20, 0, 0, 0, 0, 9, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0}, BadHeader},
		{"IPv4, UDP length 7", with(v4, func(p *testPacket) { p.udpLen = 7 }).bytes(), BadHeader},
		{"IPv4, TCP", with(v4, func(p *testPacket) { p.proto = 6 }).bytes(), NotUDP},
		{"IPv6, TCP", with(v6, func(p *testPacket) {
			p.next, p.options = protoDestOpts, []byte{6, 0, 1, 4, 0, 0, 0, 0}
		}).bytes(), NotUDP},
		{"IPv6, authentication header", with(v6, func(p *testPacket) { p.next, p.options = 51, make([]byte, 16) }).bytes(), NotUDP},
		{"IPv6, unfinished routing header", with(v6, func(p *testPacket) {
			p.next, p.options = protoRouting, []byte{protoUDP, 0, 4, 1, 0, 0, 0, 0}
		}).bytes(), NotUDP},
		{"IPv4, first fragment", with(v4, func(p *testPacket) { p.fragment = 0x2000 }).bytes(), Fragment},
		{"IPv4, later fragment", with(v4, func(p *testPacket) { p.fragment = 185 }).bytes(), Fragment},
		{"IPv6, fragment", with(v6, func(p *testPacket) {
			p.next, p.options = protoFragment, []byte{protoUDP, 0, 0, 1, 0, 0, 0, 0}
		}).bytes(), Fragment},
	} {
		t.Run(tc.name, func(t *testing.T) {
			packet := tc.packet
			if tc.name == "IPv4, no room for a UDP header" {
				packet[3] = 20 // total length: the IP header alone
			}
			var d datagram
			got := d.parse(packet)
			if got != tc.want {
				t.Fatalf("%v, want %v", got, tc.want)
			}
			if got != readable {
				return
			}
			wantSrc, wantDst := inside4, outside4
			if d.v6 {
				wantSrc, wantDst = inside6, outside6
			}
			if src, dst := d.endpoints(); src != wantSrc || dst != wantDst {
				t.Errorf("%v -> %v, want %v -> %v", src, dst, wantSrc, wantDst)
			}
			if !bytes.Equal(d.payload, hello) && len(d.payload) != 0 {
				t.Errorf("payload %q", d.payload)
			}
			if !d.checksumOK() {
				t.Error("checksum is said to be wrong")
			}
		})
	}
}

func TestChecksumVerification(t *testing.T) {
	parse := func(b []byte) *datagram {
		t.Helper()
		d := new(datagram)
		if r := d.parse(b); r != readable {
			t.Fatal(r)
		}
		return d
	}
	for _, p := range []testPacket{
		{payload: pattern(101)},
		{src: inside6, dst: outside6, payload: pattern(100)},
	} {
		b := p.bytes()
		if !parse(b).checksumOK() {
			t.Errorf("%v: right checksum refused", p.src)
		}
		for i := range b[len(b)-109:] { // ports, length, checksum, payload
			bad := bytes.Clone(b)
			bad[len(b)-1-i] ^= 0x10
			var d datagram
			if d.parse(bad) == readable && d.checksumOK() {
				t.Errorf("%v: flipped bit in byte %d from the end goes unnoticed", p.src, i)
			}
		}
	}
	if !parse(testPacket{noChecksum: true}.bytes()).checksumOK() {
		t.Error("IPv4 without checksum refused")
	}
	if parse(testPacket{src: inside6, dst: outside6, noChecksum: true}.bytes()).checksumOK() {
		t.Error("IPv6 without checksum accepted (RFC 8200, section 8.1)")
	}
}

func TestReasonNamesAreDistinct(t *testing.T) {
	seen := make(map[string]bool)
	for r := readable; r <= reasons; r++ {
		if seen[r.String()] {
			t.Errorf("%d: name %q twice", r, r)
		}
		seen[r.String()] = true
	}
}
