package transport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sipnatd/sipmsg"
)

// attacker is the host that means no good.
const attacker = "127.0.0.66"

// attack connects as the attacker; nil if that is refused.
func attack(to netip.AddrPort) *net.TCPConn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(attacker)}, Timeout: patience}
	c, err := d.Dial("tcp4", to.String())
	if err != nil {
		return nil
	}
	return c.(*net.TCPConn)
}

// reset closes a connection with a reset.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// TestHostile has phones that must be served, each within patience, whatever the
// attacker does, while nothing grows beyond its limits.
func TestHostile(t *testing.T) {
	half := message("half", 60000)[:50000]
	for _, c := range []struct {
		name   string
		cfg    Config
		attack func(t *testing.T, tr *Transport)
		want   func(s Stats) bool // at the end
	}{
		{
			name: "thousands of connections",
			attack: func(t *testing.T, tr *Transport) {
				// Each is kept until the transport closes it, or the end.
				together(8, func(int) {
					var held []*net.TCPConn
					for range 10000 / 8 {
						if c := attack(tr.cfg.Listen[0]); c != nil {
							held = append(held, c)
						}
						if len(held) > 100 {
							reset(held[0])
							held = held[1:]
						}
					}
					for _, c := range held {
						reset(c)
					}
				})
			},
			want: func(s Stats) bool { return s.Evicted > 0 && s.Accepted > 9000 },
		}, {
			name: "resets in every state",
			attack: func(t *testing.T, tr *Transport) {
				m := message("m", 100)
				together(4, func(i int) {
					for j := range 200 {
						c := attack(tr.cfg.Listen[0])
						if c == nil {
							continue
						}
						switch (i + j) % 6 {
						case 0: // at once
						case 1:
							c.Write([]byte(m[:10]))
						case 2:
							c.Write([]byte(m[:len(m)-10]))
						case 3: // with an answer on its way
							c.Write([]byte(m))
						case 4: // with an answer unread
							c.Write([]byte(m))
							c.Read(make([]byte, 1))
						case 5: // half-closed
							c.Write([]byte(m))
							c.CloseWrite()
							c.Read(make([]byte, 1))
						}
						reset(c)
					}
				})
			},
			want: func(s Stats) bool { return s.TCPIn > 100 },
		}, {
			name: "a byte from time to time",
			cfg:  Config{MessageTimeout: 300 * time.Millisecond},
			attack: func(t *testing.T, tr *Transport) {
				together(50, func(i int) {
					c := attack(tr.cfg.Listen[0])
					if c == nil {
						return
					}
					defer c.Close()
					for _, b := range []byte(half) {
						if _, err := c.Write([]byte{b}); err != nil {
							return
						}
						time.Sleep(20 * time.Millisecond)
					}
				})
			},
			want: func(s Stats) bool { return s.TimedOut == 50 },
		}, {
			name: "halves of large messages",
			cfg:  Config{MaxConnections: 1000, MaxPerHost: 500},
			attack: func(t *testing.T, tr *Transport) {
				var held [400]*net.TCPConn
				together(4, func(i int) {
					for j := i; j < len(held); j += 4 {
						if held[j] = attack(tr.cfg.Listen[0]); held[j] != nil {
							held[j].Write([]byte(half))
						}
					}
				})
				for _, c := range held {
					if c != nil {
						c.Close()
					}
				}
			},
			want: func(s Stats) bool { return s.Accepted >= 400 },
		}, {
			name: "nobody reads",
			cfg:  Config{WriteTimeout: 300 * time.Millisecond},
			attack: func(t *testing.T, tr *Transport) {
				// Each message is answered, no answer is read.
				m := message("m", 10000)
				together(20, func(int) {
					c := attack(tr.cfg.Listen[0])
					if c == nil {
						return
					}
					defer reset(c)
					c.SetWriteDeadline(time.Now().Add(patience))
					for range 1000 {
						if _, err := c.Write([]byte(m)); err != nil {
							return
						}
					}
				})
				eventually(t, "some are still waited for", func() bool { return tr.Stats().Queued == 0 })
			},
			want: func(s Stats) bool { return s.Busy > 0 },
		}, {
			name: "pings without end",
			attack: func(t *testing.T, tr *Transport) {
				together(4, func(int) {
					c := attack(tr.cfg.Listen[0])
					if c == nil {
						return
					}
					defer reset(c)
					pings := []byte(strings.Repeat("\r\n\r\n", 10000))
					for range 50 {
						c.SetWriteDeadline(time.Now().Add(patience))
						if _, err := c.Write(pings); err != nil {
							return
						}
					}
				})
			},
			want: func(s Stats) bool { return s.KeepAlives > 1000 },
		}, {
			name: "what is not SIP, or nearly",
			attack: func(t *testing.T, tr *Transport) {
				head := "INVITE sip:a@b SIP/2.0\r\n"
				texts := []string{
					"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
					"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
					"SSH-2.0-OpenSSH_9\r\n",
					strings.Repeat("\x00", 1000),
					strings.Repeat("A", 100000),
					head + "Content-Length: -1\r\n\r\n",
					head + "Content-Length: 99999999999999999999\r\n\r\n",
					head + "Content-Length: 2147483648\r\n\r\n",
					head + "Content-Length: 0x10\r\n\r\n",
					head + "Content-Length: 1\r\nl: 2\r\n\r\n",
					head + "\r\n\r\n",
					head + strings.Repeat("Via: x\r\n", 20000),
					head + "To: " + strings.Repeat("a", 100000),
					head + strings.Repeat(" \r\n", 50000),
				}
				random := rand.New(rand.NewPCG(1, 2))
				for range 100 {
					b := make([]byte, random.IntN(3000))
					for i := range b {
						b[i] = byte(random.Uint32())
					}
					texts = append(texts, string(b), head+string(b))
				}
				for _, text := range texts {
					if c := attack(tr.cfg.Listen[0]); c != nil {
						c.SetDeadline(time.Now().Add(patience))
						c.Write([]byte(text))
						c.CloseWrite() // what is not refused is cut
						c.Read(make([]byte, 1))
						c.Close()
					}
				}
			},
			want: func(s Stats) bool { return s.Refused > 50 },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRecorder()
			var tr *Transport
			ready := make(chan struct{})
			r.answer = func(a Arrival) {
				<-ready
				tr.Send(a.Hop, a.Data)
			}
			r.failed = make(chan failure, 1<<16)
			c.cfg.Listen = []netip.AddrPort{free(t, "127.0.0.1")}
			tr = open(t, c.cfg, r)
			close(ready)

			stop := make(chan struct{})
			var rounds [2]int // at least one each, after the attack
			var phones sync.WaitGroup
			for i, p := range []phone{dialUDP(t, tr.cfg.Listen[0]), dialTCP(t, tr.cfg.Listen[0])} {
				phones.Go(func() {
					for ended := false; !ended; rounds[i]++ {
						select {
						case <-stop:
							ended = true
						case <-time.After(time.Millisecond):
						}
						m := message(fmt.Sprint("good", rounds[i]), rounds[i]%1000)
						if err := exchange(p, m); err != nil {
							t.Errorf("a phone is not served: %v", err)
							return
						}
					}
				})
			}
			// Nothing grows.
			phones.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
					s := tr.Stats()
					if s.Connections > tr.cfg.MaxConnections || s.Buffered > maxBuffered ||
						s.Queued > maxQueued+int64(s.Connections)*sipmsg.MaxSize {
						t.Errorf("beyond the limits: %+v", s)
						return
					}
					if n := runtime.NumGoroutine(); n > 200+2*tr.cfg.MaxConnections {
						t.Errorf("%d goroutines", n)
						return
					}
				}
			})
			c.attack(t, tr)
			close(stop)
			phones.Wait()
			eventually(t, "not as it should end", func() bool { return c.want(tr.Stats()) })
			eventually(t, "something is left", func() bool {
				s := tr.Stats()
				return s.Connections == 1 && s.Buffered == 0 && s.Queued == 0
			})
			t.Logf("phones were served %v times; %+v", rounds, tr.Stats())
		})
	}
}

// exchange sends a message and reads the same as the answer.
func exchange(p phone, m string) error {
	p.SetDeadline(time.Now().Add(patience))
	if _, err := p.Write([]byte(m)); err != nil {
		return err
	}
	buf := make([]byte, len(m))
	for n := 0; n < len(buf); {
		k, err := p.Read(buf[n:])
		if err != nil {
			return err
		}
		n += k
	}
	if string(buf) != m {
		return fmt.Errorf("got %q, want %q", buf, m)
	}
	return nil
}

// together calls f with 0 to n-1 at the same time, and waits.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
