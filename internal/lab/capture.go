package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Capture is everything that passes one interface of the firewall.
type Capture struct {
	Name string

	lab *Lab
	fd  int
	end [2]int // a pipe whose end wakes the reader

	mu      sync.Mutex
	grown   chan struct{}
	frames  []frame
	packets []*Packet
	parts   map[fragmentKey]*fragments
	lost    uint32
	closed  bool
	done    chan struct{}
}

// frame is a captured Ethernet frame.
type frame struct {
	at   time.Time
	data []byte
}

// newCapture opens a packet socket on an interface of the host and reads it
// until close.
func newCapture(l *Lab, name string, h *Host, ifname string) (*Capture, error) {
	c := &Capture{
		Name:  name,
		lab:   l,
		grown: make(chan struct{}),
		parts: make(map[fragmentKey]*fragments),
		done:  make(chan struct{}),
	}
	err := h.Do(func() (err error) {
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
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
		c.mu.Lock()
		c.drain()
		c.mu.Unlock()
	}
}

// drain reads what the kernel has captured so far. Every look at the capture
// begins with it, so that a packet which somebody has received is seen.
func (c *Capture) drain() {
	if c.closed {
		return
	}
	buf, oob := make([]byte, 65600), make([]byte, 128)
	news := false
	for {
		n, oobn, _, from, err := unix.Recvmsg(c.fd, buf, oob, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			break
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		f := frame{at: stamp(oob[:oobn]), data: append([]byte(nil), buf[:n]...)}
		c.frames = append(c.frames, f)
		if p := c.decode(f, ll.Pkttype == unix.PACKET_OUTGOING); p != nil {
			c.packets = append(c.packets, p)
			news = true
		}
	}
	if news {
		close(c.grown)
		c.grown = make(chan struct{})
	}
}

// stamp is the kernel's time of a captured packet.
func stamp(oob []byte) time.Time {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for i := range cmsgs {
			if h := cmsgs[i].Header; h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(cmsgs[i].Data) >= 16 {
				sec := binary.NativeEndian.Uint64(cmsgs[i].Data)
				return time.Unix(int64(sec), int64(binary.NativeEndian.Uint64(cmsgs[i].Data[8:])))
			}
		}
	}
	return time.Now()
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
	unix.Close(c.end[0])
	unix.Close(c.fd)
}
