package lab

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Socket is a UDP socket in a namespace that remembers what it received.
type Socket struct {
	Host *Host
	Addr netip.AddrPort

	conn *net.UDPConn
	echo atomic.Bool
	ssrc uint32
	seq  atomic.Uint32

	mu       sync.Mutex
	grown    chan struct{}
	received []Datagram
}

// Datagram is what a socket received.
type Datagram struct {
	At      time.Time
	From    netip.AddrPort
	Payload []byte
}

// Socket opens a UDP socket on the host's address. Port 0 chooses one. It is
// closed with the lab.
func (h *Host) Socket(port int) *Socket {
	h.lab.T.Helper()
	conn, err := h.ListenUDP(h.At(port))
	if err != nil {
		h.lab.T.Fatalf("%s: %v", h.Name, err)
	}
	conn.SetReadBuffer(4 << 20)
	s := &Socket{
		Host:  h,
		Addr:  conn.LocalAddr().(*net.UDPAddr).AddrPort(),
		conn:  conn,
		ssrc:  rand.Uint32(),
		grown: make(chan struct{}),
	}
	h.lab.T.Cleanup(s.Close)
	go s.read()
	return s
}

func (s *Socket) read() {
	buf := make([]byte, 65536)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !isClosed(err) {
				continue // an ICMP error, as a connected peer's absence gives
			}
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		d := Datagram{time.Now(), from, append([]byte(nil), buf[:n]...)}
		if s.echo.Load() {
			s.conn.WriteToUDPAddrPort(d.Payload, from)
		}
		s.mu.Lock()
		s.received = append(s.received, d)
		close(s.grown)
		s.grown = make(chan struct{})
		s.mu.Unlock()
	}
}

// Close closes the socket; its port can be opened again.
func (s *Socket) Close() { s.conn.Close() }

// Echo makes the socket send everything back to where it came from.
func (s *Socket) Echo() { s.echo.Store(true) }

// Send sends a datagram.
func (s *Socket) Send(to netip.AddrPort, payload []byte) {
	s.Host.lab.T.Helper()
	if _, err := s.conn.WriteToUDPAddrPort(payload, to); err != nil {
		s.Host.lab.T.Errorf("%s: send to %v: %v", s.Host.Name, to, err)
	}
}

// SendRTP sends n RTP packets of PCMU.
func (s *Socket) SendRTP(to netip.AddrPort, n int) {
	s.Host.lab.T.Helper()
	for range n {
		s.Send(to, s.rtp())
	}
}

// rtp is the next RTP packet of this source, 20 ms of PCMU silence.
func (s *Socket) rtp() []byte {
	seq := s.seq.Add(1)
	b := make([]byte, 12+160)
	b[0] = 0x80
	binary.BigEndian.PutUint16(b[2:], uint16(seq))
	binary.BigEndian.PutUint32(b[4:], seq*160)
	binary.BigEndian.PutUint32(b[8:], s.ssrc)
	for i := range b[12:] {
		b[12+i] = 0xff
	}
	return b
}

// SendRTCP sends an RTCP sender report.
func (s *Socket) SendRTCP(to netip.AddrPort) {
	s.Host.lab.T.Helper()
	b := make([]byte, 28)
	b[0], b[1] = 0x80, 200
	binary.BigEndian.PutUint16(b[2:], 6)
	binary.BigEndian.PutUint32(b[4:], s.ssrc)
	s.Send(to, b)
}

// Stream sends RTP every interval (20 ms is real time) until stop is called
// or the lab ends.
func (s *Socket) Stream(to netip.AddrPort, interval time.Duration) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				if _, err := s.conn.WriteToUDPAddrPort(s.rtp(), to); isClosed(err) {
					return
				}
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(quit); <-done }) }
	s.Host.lab.T.Cleanup(stop)
	return stop
}

// Received is what arrived so far.
func (s *Socket) Received() []Datagram {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received[:len(s.received):len(s.received)]
}

// Forget forgets what arrived so far.
func (s *Socket) Forget() {
	s.mu.Lock()
	s.received = nil
	s.mu.Unlock()
}

// Heard counts the datagrams received per source.
func (s *Socket) Heard() map[netip.AddrPort]int {
	m := make(map[netip.AddrPort]int)
	for _, d := range s.Received() {
		m[d.From]++
	}
	return m
}

// Await waits until n datagrams from that source were received since Forget;
// the zero AddrPort is any source.
func (s *Socket) Await(from netip.AddrPort, n int, timeout time.Duration) error {
	deadline := time.After(timeout)
	for {
		s.mu.Lock()
		got, grown := 0, s.grown
		for _, d := range s.received {
			if d.From == from || !from.IsValid() {
				got++
			}
		}
		s.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-grown:
		case <-deadline:
			return fmt.Errorf("%s %v: %d of %d datagrams from %v within %v; heard: %v",
				s.Host.Name, s.Addr, got, n, from, timeout, s.Heard())
		}
	}
}

// Expect is Await for a Moment, failing the test.
func (s *Socket) Expect(from netip.AddrPort, n int) {
	s.Host.lab.T.Helper()
	if err := s.Await(from, n, Moment()); err != nil {
		s.Host.lab.T.Fatalf("%v", err)
	}
}

// RTP is a pair of sockets for RTP and RTCP.
type RTP struct {
	*Socket         // RTP
	RTCP    *Socket // on the next port
}

// RTP opens a port and the next one.
func (h *Host) RTP(port int) *RTP {
	h.lab.T.Helper()
	return &RTP{Socket: h.Socket(port), RTCP: h.Socket(port + 1)}
}

// Port is the RTP port, for session descriptions.
func (r *RTP) Port() int { return int(r.Addr.Port()) }

// Party is one end of a media stream: its sockets, and what it was told about
// the other end (an m-line of the SDP that it received).
type Party struct {
	RTP   *RTP
	Peer  Media
	Muted bool // sends nothing
}

// Talk lets the parties exchange RTP and RTCP. Each must receive everything
// the other one sent, and from exactly the address that it was told.
func (l *Lab) Talk(a, b Party) {
	l.T.Helper()
	const packets = 10
	sends := []struct{ from, to Party }{{b, a}, {a, b}}
	for _, s := range sends {
		s.to.RTP.Forget()
		s.to.RTP.RTCP.Forget()
	}
	for range packets {
		for _, s := range sends {
			if !s.from.Muted {
				s.from.RTP.SendRTP(s.from.Peer.RTP, 1)
			}
		}
	}
	for _, s := range sends {
		mux := s.from.Peer.RTCP == s.from.Peer.RTP
		if !s.from.Muted && !mux {
			s.from.RTP.RTCP.SendRTCP(s.from.Peer.RTCP)
		}
	}
	for _, s := range sends {
		if s.from.Muted {
			continue
		}
		s.to.RTP.Expect(s.to.Peer.RTP, packets)
		if s.from.Peer.RTCP != s.from.Peer.RTP {
			s.to.RTP.RTCP.Expect(s.to.Peer.RTCP, 1)
		}
		if heard := s.to.RTP.Heard(); len(heard) != 1 {
			l.T.Errorf("%s %v hears more than its peer %v: %v", s.to.RTP.Host.Name, s.to.RTP.Addr, s.to.Peer.RTP, heard)
		}
	}
}
