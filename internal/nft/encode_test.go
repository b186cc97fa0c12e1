package nft

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Messages of an exchange, as hex. Comments tell what the parts are.
const (
	// struct nlmsghdr{len, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, seq 1, pid 0},
	// struct nfgenmsg{AF_UNSPEC, 0, htons(NFNL_SUBSYS_NFTABLES)}
	batchBegin = "14000000 1000 0100 01000000 00000000 00 00 000a"
	batchEnd   = "14000000 1100 0100 SEQSEQSE 00000000 00 00 000a"

	// nft add element ip sipnatd open { 10.1.0.2 . 4000 timeout 1h }
	addOpen = "5c000000 0c0a NLMFLAGS SEQSEQSE 00000000 02 00 0000" +
		"0c000100 7369706e61746400" + // table "sipnatd"
		"09000200 6f70656e00000000" + // set "open"
		"30000380" + // elements
		" 2c000180" + // element
		"  10000180 0c000100 0a010002 0fa00000" + // key 10.1.0.2 . 4000
		"  0c000400 000000000036ee80" + // timeout 3600000 ms
		"  0c000500 000000000036ee80" // expiration, the same

	// nft delete element ip sipnatd open { 10.1.0.2 . 4000 }, and nft destroy ...
	deleteOpen = "44000000 MSGT 0100 SEQSEQSE 00000000 02 00 0000" +
		"0c000100 7369706e61746400" +
		"09000200 6f70656e00000000" +
		"18000380" +
		" 14000180" +
		"  10000180 0c000100 0a010002 0fa00000"
)

// fill replaces the places that differ: hex without spaces comes out.
func fill(message, kind, flags, seq string) string {
	return strings.NewReplacer(" ", "", "MSGT", kind, "NLMFLAGS", flags, "SEQSEQSE", seq).Replace(message)
}

// TestEncode compares the bytes of an exchange with those that nft lines stand for.
func TestEncode(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	const (
		add      = "0104" // NLM_F_REQUEST | NLM_F_CREATE
		addAcked = "0504" // and NLM_F_ACK
		del      = "0e0a" // NFT_MSG_DELSETELEM
		destroy  = "1e0a" // NFT_MSG_DESTROYSETELEM
	)
	acked := func(s string) string { return strings.Replace(s, "0e0a0100", "0e0a0500", 1) }
	ackedDestroy := func(s string) string { return strings.Replace(s, "1e0a0100", "1e0a0500", 1) }
	put := func(b *Batch) { b.OpenSource(inside1, time.Hour) }
	drop := func(b *Batch) { b.CloseSource(inside1) }
	// What is added only to be deleted again has the shortest lease.
	momentary := strings.ReplaceAll(addOpen, "36ee80", "0003e8")
	for _, test := range []struct {
		name   string
		change func(*Batch)
		how    renewal
		want   []string
	}{
		{"add", put, renewUpdate, []string{fill(addOpen, "", addAcked, "02000000")}},
		{"destroy and add", put, renewDestroy, []string{
			fill(deleteOpen, destroy, "", "02000000"),
			fill(addOpen, "", addAcked, "03000000"),
		}},
		{"add, delete and add", put, renewReinsert, []string{
			fill(addOpen, "", add, "02000000"),
			fill(deleteOpen, del, "", "03000000"),
			fill(addOpen, "", addAcked, "04000000"),
		}},
		{"destroy", drop, renewUpdate, []string{ackedDestroy(fill(deleteOpen, destroy, "", "02000000"))}},
		{"destroy too", drop, renewDestroy, []string{ackedDestroy(fill(deleteOpen, destroy, "", "02000000"))}},
		{"add and delete", drop, renewReinsert, []string{
			fill(momentary, "", add, "02000000"),
			acked(fill(deleteOpen, del, "", "03000000")),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b Batch
			test.change(&b)
			var e encoder
			e.encode(b.ops, test.how)
			end := hex.EncodeToString([]byte{byte(len(test.want) + 2), 0, 0, 0})
			want := append(append([]string{fill(batchBegin, "", "", "")}, test.want...), fill(batchEnd, "", "", end))
			if diff := cmp.Diff(want, messages(e.out)); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
		})
	}
}

// TestEncodeMap: the elements of a stream's two maps and its guard, one message
// each, with RTP and RTCP together.
func TestEncodeMap(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	var b Batch
	b.MapStream(ap("10.1.0.2:4000"), ap("198.51.100.1:7070"), time.Second)
	b.MapStream(ap("10.1.0.2:4001"), ap("198.51.100.1:7071"), time.Second)
	var e encoder
	e.encode(b.ops, renewUpdate)
	const lease = "0c000400 00000000000003e8 0c000500 00000000000003e8"
	header := func(size, flags, seq string) string {
		return size + "000000 0c0a" + flags + seq + "000000 00000000 02 00 0000 0c000100 7369706e61746400"
	}
	want := []string{
		fill(batchBegin, "", "", ""),
		// nft add element ip sipnatd streams {
		//	198.51.100.1 . 7070 timeout 1s : 10.1.0.2 . 4000,
		//	198.51.100.1 . 7071 timeout 1s : 10.1.0.2 . 4001 }
		fill(header("a8", "0104", "02")+"0c000200 73747265616d7300 7c000380"+
			"3c000180 10000180 0c000100 c6336401 1b9e0000 10000280 0c000100 0a010002 0fa00000"+lease+
			"3c000180 10000180 0c000100 c6336401 1b9f0000 10000280 0c000100 0a010002 0fa10000"+lease, "", "", ""),
		// nft add element ip sipnatd publics {
		//	10.1.0.2 . 4000 timeout 1s : 198.51.100.1 . 7070,
		//	10.1.0.2 . 4001 timeout 1s : 198.51.100.1 . 7071 }
		fill(header("a8", "0104", "03")+"0c000200 7075626c69637300 7c000380"+
			"3c000180 10000180 0c000100 0a010002 0fa00000 10000280 0c000100 c6336401 1b9e0000"+lease+
			"3c000180 10000180 0c000100 0a010002 0fa10000 10000280 0c000100 c6336401 1b9f0000"+lease, "", "", ""),
		// nft add element ip sipnatd guarded { 10.1.0.2 . 4000 timeout 1s, 10.1.0.2 . 4001 timeout 1s }
		fill(header("88", "0504", "04")+"0c000200 6775617264656400 5c000380"+
			"2c000180 10000180 0c000100 0a010002 0fa00000"+lease+
			"2c000180 10000180 0c000100 0a010002 0fa10000"+lease, "", "", ""),
		fill(batchEnd, "", "", "05000000"),
	}
	if diff := cmp.Diff(want, messages(e.out)); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// messages cuts an exchange into its messages.
func messages(b []byte) []string {
	var all []string
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint32(b))
		if n < 16 || n > len(b) {
			break
		}
		all = append(all, hex.EncodeToString(b[:n]))
		b = b[n:]
	}
	if len(b) > 0 {
		all = append(all, "rest "+hex.EncodeToString(b))
	}
	return all
}

// TestEncodeAllocates: nothing, once the memory is there.
func TestEncodeAllocates(t *testing.T) {
	var b Batch
	var e encoder
	call := func() {
		b.Reset()
		audioStream(&b, 7070)
		e.encode(b.ops, renewReinsert)
	}
	call()
	if n := testing.AllocsPerRun(100, call); n != 0 {
		t.Errorf("%v allocations for a batch, want 0", n)
	}
}

// audioStream is what an answered audio stream puts into the kernel: 10 elements.
func audioStream(b *Batch, port uint16) {
	for i := range uint16(2) {
		inside := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, 2}), port+i)
		b.MapStream(inside, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 1}), port+i), time.Hour)
		b.AllowSource(netip.AddrFrom4([4]byte{198, 51, 100, 2}), inside, time.Hour)
		b.OpenSource(inside, time.Hour)
	}
}
