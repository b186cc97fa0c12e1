package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// FloodTOS marks the packets of floods, which captures leave out: there are too many.
const FloodTOS = 0x04

// Flood is a host that sends UDP packets in anybody's name, as fast as it is told.
type Flood struct {
	host *Host
	fd   int
	sent atomic.Uint64
	quit chan struct{}
	done sync.WaitGroup
}

// FloodPacket is the packet number n of a flood.
type FloodPacket func(n uint64) (from, to netip.AddrPort, payload []byte)

// Flood begins to send so many packets a second. It ends with Stop or the lab.
func (h *Host) Flood(rate int, packet FloodPacket) *Flood {
	h.lab.T.Helper()
	for _, c := range []*Capture{h.lab.Inside, h.lab.Wire} {
		if err := c.withoutFloods(); err != nil {
			h.lab.T.Fatalf("%v", err)
		}
	}
	f := &Flood{host: h, quit: make(chan struct{})}
	err := h.Do(func() (err error) {
		f.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		h.lab.T.Fatalf("%s: flood: %v", h.Name, err)
	}
	f.done.Go(func() { f.run(rate, packet) })
	h.lab.T.Cleanup(func() { f.Stop() })
	return f
}

// run sends in portions of a few milliseconds; what is late is made up for, up to a
// tenth of a second.
func (f *Flood) run(rate int, packet FloodPacket) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	start, skipped := time.Now(), uint64(0)
	for {
		select {
		case <-f.quit:
			return
		case <-tick.C:
		}
		due := uint64(time.Since(start).Seconds()*float64(rate)) - skipped
		if behind := due - f.sent.Load(); behind > uint64(rate/10) {
			skipped += behind - uint64(rate/10)
			due -= behind - uint64(rate/10)
		}
		for f.sent.Load() < due {
			from, to, payload := packet(f.sent.Load())
			// What does not fit into a queue on the way is lost, as on any wire.
			_ = unix.Sendto(f.fd, datagram(from, to, payload), 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
			f.sent.Add(1)
		}
	}
}

// datagram is an IPv4 packet; the kernel completes length, identification and checksum
// of the header. UDP goes without a checksum.
func datagram(from, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, 28, 28+len(payload))
	b[0], b[1], b[8], b[9] = 0x45, FloodTOS, 64, unix.IPPROTO_UDP
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	return append(b, payload...)
}

// Sent is the number of packets so far.
func (f *Flood) Sent() int { return int(f.sent.Load()) }

// Stop ends the flood, and returns how many packets it was.
func (f *Flood) Stop() int {
	select {
	case <-f.quit:
	default:
		close(f.quit)
		f.done.Wait()
		unix.Close(f.fd)
	}
	return f.Sent()
}

// withoutFloods has the kernel leave out what FloodTOS marks.
func (c *Capture) withoutFloods() error {
	const ethernet = 14
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: ethernet + 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: FloodTOS, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 18},
	}
	err := unix.SetsockoptSockFprog(c.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		return fmt.Errorf("%s capture: filter: %w", c.Name, err)
	}
	return nil
}
