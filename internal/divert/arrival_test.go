package divert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

const testQueue = 5060

// resize is a handler that answers a payload whose first four bytes are a
// number with that many bytes.
func resize(_ int, p *Packet) Result {
	return Result{Rewrite, pattern(int(binary.BigEndian.Uint32(p.Payload)))}
}

// asks is a payload of n bytes for resize.
func asks(n, want int) []byte {
	b := pattern(n)
	binary.BigEndian.PutUint32(b, uint32(want))
	return b
}

// accept is a handler that lets all pass.
func accept(int, *Packet) Result { return Result{} }

func TestRewrittenPacketArrives(t *testing.T) {
	for _, kind := range queueKinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			n := newNetwork(t, 1500, 1500)
			r := n.router.rules(t, nftables.ChainHookForward)
			r.defragment(t)
			r.queue(t, kind, outside4.Port(), testQueue)
			d, _ := n.router.serve(t, Config{First: testQueue}, HandlerFunc(resize))
			sizes := []struct{ from, to int }{{100, 100}, {100, 101}, {101, 100}, {101, 163}, {500, 4}, {4, 0}, {700, 1472}, {1472, 701}, {1472, 1473}, {1472, 9001}, {900, 60000}}

			t.Run("raw IPv4", func(t *testing.T) {
				server, socket, wire := n.outside.listen(t, outside4), n.inside.raw(t), n.outside.tap(t)
				for _, options := range [][]byte{nil, routerAlert, bytes.Repeat([]byte{1}, 40)} {
					for _, size := range sizes {
						size.from = min(size.from, 1500-ipv4Len-len(options)-udpLen)
						for _, df := range []bool{false, true} {
							name := fmt.Sprintf("%d to %d, %d bytes of options, DF %v", size.from, size.to, len(options), df)
							p := testPacket{id: 77, df: df, options: options, payload: asks(size.from, size.to)}
							socket.send(t, p.bytes())
							if got := receive(t, server); !bytes.Equal(got, pattern(size.to)) {
								t.Fatalf("%s: %d bytes arrive, or others", name, len(got))
							}
							checkWire(t, name, wire, p, size.to)
						}
					}
				}
			})
			// Sockets leave the checksum to the (virtual) network card and cut
			// large datagrams into fragments.
			for _, ends := range [][2]netip.AddrPort{{inside4, outside4}, {inside6, outside6}} {
				t.Run("socket "+ends[1].String(), func(t *testing.T) {
					server, client := n.outside.listen(t, ends[1]), n.inside.dial(t, ends[0], ends[1])
					for _, size := range sizes {
						if ends[0].Addr().Is6() {
							size.from, size.to = min(size.from, 1452), min(size.to, 1452)
						}
						if _, err := client.Write(asks(size.from, size.to)); err != nil {
							t.Fatal(err)
						}
						if got := receive(t, server); !bytes.Equal(got, pattern(size.to)) {
							t.Fatalf("%v: %d bytes arrive, or others", size, len(got))
						}
					}
				})
			}
			t.Run("fragments in", func(t *testing.T) {
				server, client := n.outside.listen(t, outside4), n.inside.dial(t, inside4, outside4)
				for _, to := range []int{10, 2999, 3000, 3001, 4500} {
					if _, err := client.Write(asks(3000, to)); err != nil {
						t.Fatal(err)
					}
					if got := receive(t, server); !bytes.Equal(got, pattern(to)) {
						t.Fatalf("3000 to %d: %d bytes arrive, or others", to, len(got))
					}
				}
			})
			checkSettled(t, d)
		})
	}
}

// checkWire looks at the headers of a packet that was p before its payload
// became of size to, and went through one router.
func checkWire(t *testing.T, name string, wire tap, p testPacket, to int) {
	t.Helper()
	wantDF := p.df && to <= len(p.payload)
	for length := 0; length < udpLen+to; {
		b := wire.next(t)
		header := int(b[0]&15) * 4
		flags := binary.BigEndian.Uint16(b[6:])
		if got := int(flags&0x1fff) * 8; got != length {
			t.Fatalf("%s: fragment at %d, want %d", name, got, length)
		}
		if df := flags&0x4000 != 0; df != wantDF {
			t.Errorf("%s: DF %v, want %v", name, df, wantDF)
		}
		if slowChecksum(b[:header]) != 0 {
			t.Errorf("%s: IP header checksum is wrong", name)
		}
		if total := int(binary.BigEndian.Uint16(b[2:])); total != len(b) {
			t.Errorf("%s: total length %d of %d bytes", name, total, len(b))
		}
		if id := binary.BigEndian.Uint16(b[4:]); id != p.id {
			t.Errorf("%s: identification %d, want %d", name, id, p.id)
		}
		if b[8] != 62 || b[1] != 0xb8 {
			t.Errorf("%s: time to live %d, traffic class %#x", name, b[8], b[1])
		}
		// A fragment after the first has only those options that are to be copied.
		if length == 0 && !bytes.Equal(b[ipv4Len:header], p.options) {
			t.Errorf("%s: options %x, want %x", name, b[ipv4Len:header], p.options)
		}
		length += len(b) - header
		if more := flags&0x2000 != 0; more != (length < udpLen+to) {
			t.Fatalf("%s: more fragments %v after %d of %d bytes", name, more, length, udpLen+to)
		}
	}
}

// TestEverySizeAroundTheMTU: packets of 1400 to 1600 bytes after the rewrite,
// over outside MTUs of 1500 (Ethernet) and 1492 (PPPoE), from senders that allow
// fragments and from such that forbid them and send no identification.
func TestEverySizeAroundTheMTU(t *testing.T) {
	kind := queueKinds(t)[0]
	for _, mtu := range []int{1500, 1492} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			n := newNetwork(t, 1500, mtu)
			r := n.router.rules(t, nftables.ChainHookForward)
			r.defragment(t)
			r.queue(t, kind, outside4.Port(), testQueue)
			d, _ := n.router.serve(t, Config{First: testQueue}, HandlerFunc(resize))
			server, socket, wire := n.outside.listen(t, outside4), n.inside.raw(t), n.outside.tap(t)
			const headers = ipv4Len + udpLen
			idents := make(map[uint16]bool)
			for total := 1400; total <= 1600; total++ {
				for _, growth := range []int{-24, 0, 24} {
					from := min(total-growth, mtu)
					for _, p := range []testPacket{{id: 9}, {df: true}} {
						if p.df && total > mtu && from >= total {
							continue // the sender is told, rightly, by the kernel
						}
						p.payload = asks(from-headers, total-headers)
						socket.send(t, p.bytes())
						if got := receive(t, server); !bytes.Equal(got, pattern(total-headers)) {
							t.Fatalf("%d to %d, DF %v: %d bytes arrive, or others", from, total, p.df, headers+len(got))
						}
						for {
							b := wire.next(t)
							flags, id := binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[4:])
							first, more := flags&0x1fff == 0, flags&0x2000 != 0
							if len(b) > mtu || more && !first && total < 2*mtu-200 {
								t.Fatalf("%d to %d: fragment of %d bytes, flags %#x", from, total, len(b), flags)
							}
							if cleared := p.df && total > from; cleared && first {
								if id == 0 || idents[id] {
									t.Errorf("%d to %d: identification %d is not fresh", from, total, id)
								}
								idents[id] = true
							}
							if !more {
								break
							}
						}
					}
				}
			}
			checkSettled(t, d)
			if s := d.Stats()[0]; s.Rewritten != s.Packets || s.Packets < 1000 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestUnreadablePacketsArrive(t *testing.T) {
	kind := queueKinds(t)[0]
	n := newNetwork(t, 1500, 1500)
	r := n.router.rules(t, nftables.ChainHookForward)
	r.queue(t, kind, 0, testQueue) // everything, and no conntrack: fragments too
	shown := 0
	d, stop := n.router.serve(t, Config{First: testQueue, OnPanic: Drop}, HandlerFunc(func(int, *Packet) Result {
		shown++
		return Result{Verdict: Drop}
	}))
	socket, wire := n.inside.raw(t), n.outside.tap(t)
	corrupt := testPacket{id: 1, payload: []byte("REGISTER")}.bytes()
	corrupt[30] ^= 1
	want := map[Reason]uint64{}
	for _, tc := range []struct {
		reason Reason
		packet []byte
	}{
		{BadChecksum, corrupt},
		{NotUDP, testPacket{id: 1, proto: 47, payload: []byte("GRE")}.bytes()},
		{Fragment, testPacket{id: 1, fragment: 0x2000, payload: pattern(64)}.bytes()},
		{Truncated, testPacket{id: 1, udpLen: 500, payload: []byte("short")}.bytes()},
		{BadHeader, testPacket{id: 1, udpLen: 3, payload: []byte("long")}.bytes()},
	} {
		want[tc.reason]++
		socket.send(t, tc.packet)
		got := wire.next(t)
		tc.packet[8]--                   // the router's
		copy(tc.packet[10:], got[10:12]) // and the checksum over it
		if !bytes.Equal(got, tc.packet) {
			t.Errorf("%v: arrives as\n%x, want\n%x", tc.reason, got, tc.packet)
		}
	}
	stop()
	checkSettled(t, d)
	s := d.Stats()[0]
	for reason, n := range want {
		if s.Unread[reason] < n {
			t.Errorf("%v: counted %d, want %d", reason, s.Unread[reason], n)
		}
	}
	if shown != 0 {
		t.Errorf("%d shown to the handler", shown)
	}
}

// TestSegmentationOffload: a burst that leaves the sender as one large packet,
// to be divided by the network card, is seen and rewritten as single datagrams.
func TestSegmentationOffload(t *testing.T) {
	const segments, size = 10, 700
	kind := queueKinds(t)[0]
	n := newNetwork(t, 1500, 1500)
	r := n.router.rules(t, nftables.ChainHookForward)
	r.queue(t, kind, outside4.Port(), testQueue)
	d, _ := n.router.serve(t, Config{First: testQueue}, HandlerFunc(resize))
	server, client := n.outside.listen(t, outside4), n.inside.dial(t, inside4, outside4)
	raw, err := client.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
	}); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	var burst []byte
	for i := range segments {
		burst = append(burst, asks(size, size+i)...)
	}
	if _, err := client.Write(burst); err != nil {
		t.Fatal(err)
	}
	for i := range segments {
		if got := receive(t, server); !bytes.Equal(got, pattern(size+i)) {
			t.Errorf("segment %d: %d bytes arrive, or others", i, len(got))
		}
	}
	checkSettled(t, d)
	if s := d.Stats()[0]; s.Rewritten != segments {
		t.Errorf("%+v", s)
	}
}
