package lab

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capture is everything that passes one interface of the firewall.
type Capture struct {
	Name string

	lab  *Lab
	fd   int
	end  [2]int // a pipe whose end wakes the reader
	ring []byte // shared with the kernel
	next int    // the frame of the ring that comes next

	mu      sync.Mutex
	grown   chan struct{}
	frames  []frame
	packets []*Packet
	parts   map[fragmentKey]*fragments
	streams map[streamKey]*stream
	lost    uint32
	closed  bool
	done    chan struct{}
}

// frame is a captured Ethernet frame.
type frame struct {
	at         time.Time
	data       []byte
	out        bool
	noChecksum bool // left to the "hardware"
}

// The ring holds this many frames of this size, enough for the MTU.
const (
	frameSize  = 2048
	frameCount = 8192
	blockSize  = 1 << 16
)

// newCapture opens a packet socket on an interface of the host and reads it
// until close.
func newCapture(l *Lab, name string, h *Host, ifname string) (*Capture, error) {
	c := &Capture{
		Name:  name,
		lab:   l,
		grown: make(chan struct{}),
		parts: make(map[fragmentKey]*fragments), streams: make(map[streamKey]*stream),
		done: make(chan struct{}),
	}
	err := h.Do(func() (err error) {
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if err := c.mapRing(); err != nil {
			return err
		}
		index, err := ifIndex(ifname)
		if err != nil {
			return err
		}
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
	})
	if err == nil {
		err = unix.Pipe2(c.end[:], unix.O_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", ifname, err)
	}
	go c.run()
	return c, nil
}

// mapRing shares a ring with the kernel. Without one the kernel queues clones
// of packets, which share their bytes with the originals, and the headers that
// NAT and refragmentation write afterwards would show in the capture.
func (c *Capture) mapRing() (err error) {
	if err := unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return err
	}
	req := &unix.TpacketReq{
		Block_size: blockSize,
		Block_nr:   frameSize * frameCount / blockSize,
		Frame_size: frameSize,
		Frame_nr:   frameCount,
	}
	if err := unix.SetsockoptTpacketReq(c.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, req); err != nil {
		return err
	}
	c.ring, err = unix.Mmap(c.fd, 0, frameSize*frameCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// run drains the socket whenever it has something.
func (c *Capture) run() {
	defer close(c.done)
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(c.end[0]), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		if fds[0].Revents&unix.POLLERR != 0 { // the interface has gone down: told until it is asked for
			_, _ = unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		}
		c.mu.Lock()
		c.drain()
		c.mu.Unlock()
	}
}

// drain reads what the kernel has captured so far. Every look at the capture
// begins with it, so that a packet which somebody has received is seen.
func (c *Capture) drain() {
	news := false
	for !c.closed {
		slot := c.ring[c.next*frameSize:][:frameSize]
		hdr := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
		status := atomic.LoadUint32(&hdr.Status)
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		ll := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&slot[unix.SizeofTpacket2Hdr]))
		f := frame{
			at:         time.Unix(int64(hdr.Sec), int64(hdr.Nsec)),
			data:       append([]byte(nil), slot[hdr.Mac:][:hdr.Snaplen]...),
			out:        ll.Pkttype == unix.PACKET_OUTGOING,
			noChecksum: status&unix.TP_STATUS_CSUMNOTREADY != 0,
		}
		atomic.StoreUint32(&hdr.Status, unix.TP_STATUS_KERNEL)
		c.next = (c.next + 1) % frameCount
		c.frames = append(c.frames, f)
		if ps := c.decode(f); len(ps) > 0 {
			c.packets = append(c.packets, ps...)
			news = true
		}
	}
	if news {
		close(c.grown)
		c.grown = make(chan struct{})
	}
}

// Packets is what was captured so far, in order, fragments reassembled.
func (c *Capture) Packets() []*Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	return c.packets[:len(c.packets):len(c.packets)]
}

// Mark is a place in the capture, for Since.
func (c *Capture) Mark() int { return len(c.Packets()) }

// Since is what was captured after the mark.
func (c *Capture) Since(mark int) []*Packet { return c.Packets()[mark:] }

// Take is what was captured since it was called the last time, and is forgotten: all
// marks are void. What came in fragments or segments and is not whole yet, stays.
func (c *Capture) Take() []*Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	taken := c.packets
	c.packets, c.frames = nil, nil
	return taken
}

// Wait waits until the packets captured after the mark satisfy done.
func (c *Capture) Wait(mark int, timeout time.Duration, done func([]*Packet) bool) error {
	deadline := time.After(timeout)
	for {
		c.mu.Lock()
		c.drain()
		packets, grown := c.packets[mark:], c.grown
		c.mu.Unlock()
		if done(packets) {
			return nil
		}
		select {
		case <-grown:
		case <-deadline:
			return fmt.Errorf("%s capture: not within %v", c.Name, timeout)
		}
	}
}

// WaitSIP waits for a SIP message after the mark that all filters accept.
func (c *Capture) WaitSIP(mark int, filters ...Filter) *Packet {
	c.lab.T.Helper()
	var found *Packet
	err := c.Wait(mark, Moment(), func(ps []*Packet) bool {
		for _, p := range ps {
			if p.SIP != nil && matches(p.SIP, filters) {
				found = p
				return true
			}
		}
		return false
	})
	if err != nil {
		c.lab.T.Fatalf("no such SIP message: %v", err)
	}
	return found
}

// SIP are the captured SIP messages that all filters accept.
func (c *Capture) SIP(filters ...Filter) []*Packet {
	var found []*Packet
	for _, p := range c.Packets() {
		if p.SIP != nil && matches(p.SIP, filters) {
			found = append(found, p)
		}
	}
	return found
}

// Path is a direction of UDP traffic.
type Path struct{ Src, Dst netip.AddrPort }

func (p Path) String() string { return p.Src.String() + " -> " + p.Dst.String() }

// Count is what went along a path.
type Count struct {
	Packets, Bytes int
	First, Last    time.Time
}

// Media counts the UDP packets that are not SIP: RTP and RTCP.
func (c *Capture) Media() map[Path]Count {
	m := make(map[Path]Count)
	for _, p := range c.Packets() {
		if !p.IsMedia() {
			continue
		}
		k := Path{p.Src, p.Dst}
		n := m[k]
		if n.Packets == 0 {
			n.First = p.Time
		}
		n.Packets++
		n.Bytes += len(p.Payload)
		n.Last = p.Time
		m[k] = n
	}
	return m
}

// Lost is the number of packets that the capture missed; it should be 0.
func (c *Capture) Lost() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		if st, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			c.lost += st.Drops // reading resets it
		}
	}
	return int(c.lost)
}

func (c *Capture) close() {
	c.mu.Lock()
	c.drain()
	c.closed = true
	c.mu.Unlock()
	unix.Close(c.end[1])
	<-c.done
	unix.Munmap(c.ring)
	unix.Close(c.end[0])
	unix.Close(c.fd)
}
