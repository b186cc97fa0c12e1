package divert

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kernelMessage builds what the kernel sends for a packet.
func kernelMessage(id, info uint32, packet []byte) []byte {
	b := make([]byte, nfHeaderLen)
	be := binary.BigEndian
	b = append(be.AppendUint32(appendAttr(b, attrPacketHeader, 7), id), 0x08, 0x00, 2, 0)
	b = be.AppendUint32(appendAttr(b, attrMark, 4), 0x51)
	b = be.AppendUint32(appendAttr(b, attrInIf, 4), 2)
	b = be.AppendUint32(appendAttr(b, attrOutIf, 4), 3)
	if info != 0 {
		b = be.AppendUint32(appendAttr(b, attrSKBInfo, 4), info)
	}
	if packet != nil {
		b = append(appendAttr(b, attrPayload, len(packet)), packet...)
	}
	putHeader(b, msgPacket, 0, 5060)
	return b
}

func TestDecode(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1500, maxPacket} {
		packet := pattern(n)
		typ, msg, rest, ok := nextMessage(kernelMessage(9, infoNotVerified, packet))
		if !ok || typ != msgPacket || len(rest) != 0 {
			t.Fatalf("%d bytes: type %#x, rest %d, ok %v", n, typ, len(rest), ok)
		}
		var q queued
		if !q.decode(msg) {
			t.Fatalf("%d bytes: no id", n)
		}
		if q.id != 9 || q.mark != 0x51 || q.inIf != 2 || q.outIf != 3 || q.info != infoNotVerified || !bytes.Equal(q.packet, packet) {
			t.Errorf("%d bytes: %+v", n, q)
		}
	}
	var q queued
	if q.decode(make([]byte, nfHeaderLen)) || q.decode(nil) {
		t.Error("a message without attributes has an id")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(kernelMessage(1, 0, testPacket{payload: []byte("x")}.bytes()))
	f.Add(append(kernelMessage(1, 4, nil), kernelMessage(2, 0, []byte{1})...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for typ, msg, rest, ok := nextMessage(b); ok; typ, msg, rest, ok = nextMessage(rest) {
			if len(msg)+len(rest) > len(b) || len(rest) >= len(b) {
				t.Fatal("does not get on")
			}
			if typ == unix.NLMSG_ERROR {
				errno(msg)
			}
			var q queued
			if !q.decode(msg) && q.id != 0 {
				t.Fatal("id without identification")
			}
		}
	})
}

// TestVerdictBytes compares with the wire format of linux/netfilter/nfnetlink_queue.h.
func TestVerdictBytes(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the expected bytes are those of a little-endian machine")
	}
	m := newVerdictMessage(5060)
	for _, tc := range []struct {
		name string
		got  func() []byte
		want string
	}{
		{"accept", func() []byte { return m.plain(0x0a0b0c0d, 1) },
			"20000000 0103 0100 00000000 00000000 | 00 00 13c4 | 0c00 0200 00000001 0a0b0c0d"},
		{"drop", func() []byte { return m.plain(1, 0) },
			"20000000 0103 0100 00000000 00000000 | 00 00 13c4 | 0c00 0200 00000000 00000001"},
		{"rewrite, padded", func() []byte { return m.rewritten(2, append(m.packet(), 1, 2, 3, 4, 5)) },
			"2c000000 0103 0100 00000000 00000000 | 00 00 13c4 | 0c00 0200 00000001 00000002 | 0900 0a00 01020304 05000000"},
		{"rewrite after a longer one", func() []byte { return m.rewritten(3, append(m.packet(), 9)) },
			"28000000 0103 0100 00000000 00000000 | 00 00 13c4 | 0c00 0200 00000001 00000003 | 0500 0a00 09000000"},
		{"bind", func() []byte { return bindMessage(5060, 1024) },
			"30000000 0203 0500 00000000 00000000 | 00 00 13c4 | 0800 0100 01000000 | 0900 0200 0000fffb 02000000 | 0800 0300 00000400"},
		{"unbind", func() []byte { return unbindMessage(5060) },
			"1c000000 0203 0100 00000000 00000000 | 00 00 13c4 | 0800 0100 02000000"},
	} {
		want, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(tc.want))
		if err != nil {
			t.Fatal(err)
		}
		if got := tc.got(); !bytes.Equal(got, want) {
			t.Errorf("%s:\n%x, want\n%x", tc.name, got, want)
		}
	}
}
