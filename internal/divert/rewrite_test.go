package divert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

func noIdent() uint16 { panic("identification asked for") }

// TestRewriteEqualsFreshPacket compares every rewritten packet with one that was
// built from scratch around the new payload.
func TestRewriteEqualsFreshPacket(t *testing.T) {
	shapes := map[string]testPacket{
		"IPv4":              {id: 7},
		"IPv4 options":      {id: 7, options: routerAlert},
		"IPv4 max options":  {id: 7, options: bytes.Repeat([]byte{1}, 40)},
		"IPv4 no checksum":  {id: 7, noChecksum: true},
		"IPv4 trailer":      {id: 7, trailer: []byte("udp option")},
		"IPv6":              {src: inside6, dst: outside6},
		"IPv6 dest options": {src: inside6, dst: outside6, next: protoDestOpts, options: destOpts},
	}
	for name, shape := range shapes {
		for _, from := range []int{0, 1, 2, 500, 1472} {
			for _, to := range []int{0, 1, 2, 3, 499, 500, 501, 1472, 1473, 8000} {
				t.Run(fmt.Sprintf("%s/%d to %d", name, from, to), func(t *testing.T) {
					old, fresh := shape, shape
					old.payload, fresh.payload = pattern(from), bytes.ToUpper(pattern(to))
					fresh.noChecksum, fresh.trailer = false, nil
					var d datagram
					if r := d.parse(old.bytes()); r != readable {
						t.Fatal(r)
					}
					got, ok := d.appendRewritten([]byte("front"), fresh.payload, noIdent)
					if !ok {
						t.Fatal("refused")
					}
					if want := append([]byte("front"), fresh.bytes()...); !bytes.Equal(got, want) {
						t.Errorf("got\n%x\nwant\n%x", got, want)
					}
				})
			}
		}
	}
}

func TestRewriteDontFragment(t *testing.T) {
	for _, tc := range []struct {
		name           string
		df             bool
		id             uint16
		from, to       int
		wantDF, wantID bool // wantID: the identification given to packets without one
	}{
		{"grows", true, 7, 1460, 1484, false, false},
		{"grows by one byte", true, 7, 1460, 1461, false, false},
		{"grows, no identification", true, 0, 1460, 1484, false, true},
		{"grows, DF not set", false, 7, 1460, 1484, false, false},
		{"same size", true, 0, 1460, 1460, true, false},
		{"shrinks", true, 0, 1460, 1400, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d datagram
			if r := d.parse(testPacket{id: tc.id, df: tc.df, payload: pattern(tc.from)}.bytes()); r != readable {
				t.Fatal(r)
			}
			b, ok := d.appendRewritten(nil, pattern(tc.to), func() uint16 { return 0xabcd })
			if !ok {
				t.Fatal("refused")
			}
			if df := b[6]&flagDF != 0; df != tc.wantDF {
				t.Errorf("DF %v, want %v", df, tc.wantDF)
			}
			want := tc.id
			if tc.wantID {
				want = 0xabcd
			}
			if id := binary.BigEndian.Uint16(b[4:]); id != want {
				t.Errorf("identification %#x, want %#x", id, want)
			}
			if slowChecksum(b[:20]) != 0 {
				t.Error("IP header checksum is wrong")
			}
		})
	}
}

// TestRewriteZeroChecksum finds a payload whose checksum comes out as zero,
// which has to be sent as all ones (RFC 768).
func TestRewriteZeroChecksum(t *testing.T) {
	var d datagram
	if r := d.parse(testPacket{payload: []byte{0, 0}}.bytes()); r != readable {
		t.Fatal(r)
	}
	payload := bytes.Clone(d.udp[6:8]) // data that equals the checksum without it
	b, ok := d.appendRewritten(nil, payload, noIdent)
	if !ok || b[26] != 0xff || b[27] != 0xff {
		t.Errorf("checksum %x, want ffff", b[26:28])
	}
}

func TestRewriteSizeLimit(t *testing.T) {
	for _, p := range []testPacket{{}, {src: inside6, dst: outside6}, {options: routerAlert}} {
		var d datagram
		if r := d.parse(p.bytes()); r != readable {
			t.Fatal(r)
		}
		most := maxPacket - d.header - udpLen
		if b, ok := d.appendRewritten(nil, make([]byte, most), noIdent); !ok || len(b) != maxPacket {
			t.Errorf("%d bytes of payload refused", most)
		} else if r := new(datagram).parse(b); r != readable {
			t.Errorf("largest packet is %v", r)
		}
		if b, ok := d.appendRewritten([]byte("x"), make([]byte, most+1), noIdent); ok || string(b) != "x" {
			t.Errorf("%d bytes of payload accepted", most+1)
		}
	}
}

func FuzzRewrite(f *testing.F) {
	f.Add(testPacket{payload: []byte("INVITE")}.bytes(), []byte("INVITE sip:a@b"))
	f.Add(testPacket{df: true, options: routerAlert}.bytes(), []byte("x"))
	f.Add(testPacket{src: inside6, dst: outside6, next: protoDestOpts, options: destOpts}.bytes(), []byte{})
	f.Add(testPacket{udpLen: 9, payload: []byte("ab"), trailer: []byte("c")}.bytes(), []byte("abc"))
	f.Fuzz(func(t *testing.T, packet, payload []byte) {
		before := bytes.Clone(packet)
		var d datagram
		if d.parse(packet) != readable {
			return
		}
		src, dst := d.endpoints()
		b, ok := d.appendRewritten(nil, payload, func() uint16 { return 1 })
		if !bytes.Equal(packet, before) {
			t.Fatal("the original was changed")
		}
		if ok != (d.header+udpLen+len(payload) <= maxPacket) {
			t.Fatalf("accepted %v", ok)
		}
		if !ok {
			return
		}
		var again datagram
		if r := again.parse(b); r != readable {
			t.Fatalf("result is %v", r)
		}
		if s, d := again.endpoints(); s != src || d != dst {
			t.Fatalf("%v -> %v became %v -> %v", src, dst, s, d)
		}
		if !bytes.Equal(again.payload, payload) || len(again.packet) != len(b) || again.header != d.header {
			t.Fatal("payload or length differs")
		}
		if !again.checksumOK() || again.udp[6] == 0 && again.udp[7] == 0 {
			t.Fatal("UDP checksum is wrong")
		}
		// Whatever is not a length, a checksum, DF or the identification stays.
		want, got := bytes.Clone(packet[:d.header]), bytes.Clone(b[:d.header])
		for _, h := range [][]byte{want, got} {
			if d.v6 {
				h[4], h[5] = 0, 0
			} else {
				h[2], h[3], h[4], h[5], h[6], h[10], h[11] = 0, 0, 0, 0, h[6]&^flagDF, 0, 0
			}
		}
		if !bytes.Equal(want, got) {
			t.Fatalf("header\n%x became\n%x", packet[:d.header], b[:d.header])
		}
		if !d.v6 && slowChecksum(b[:d.header]) != 0 {
			t.Fatal("IP header checksum is wrong")
		}
	})
}
