package join

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sipnatd/nat"
	"sipnatd/sipmsg"
)

// pair is a phone's connection and the one that continues it.
type pair struct {
	join       *Join
	phone, far *net.TCPConn
	from, to   netip.AddrPort // the phone, and where it wanted to go
	public     netip.AddrPort // where the far party sees the phone

	foreign atomic.Bool // it does not speak SIP
	half    atomic.Bool // one direction has ended
	failed  atomic.Bool // to be reset
	begun   time.Time
	heard   atomic.Int64 // when the last byte came, in nanoseconds since it has begun
}

func newPair(j *Join, phone, far *net.TCPConn, from, to netip.AddrPort) *pair {
	return &pair{join: j, phone: phone, far: far, from: from, to: to, public: addrPort(far.LocalAddr()), begun: time.Now()}
}

// run passes on what comes until both directions have ended. The engine is told
// before the connection is closed: its port is not another one's until then.
func (p *pair) run() {
	j := p.join
	j.mu.Lock()
	if j.ended {
		p.interrupt()
	}
	j.pairs[p] = struct{}{}
	j.mu.Unlock()
	j.log.Debug("connections joined", "from", p.from, "to", p.to, "as", p.public)

	var both sync.WaitGroup
	both.Go(func() { p.carry(true) })
	both.Go(func() { p.carry(false) })
	both.Wait()

	j.mu.Lock()
	delete(j.pairs, p)
	j.mu.Unlock()
	j.engine.Disconnected(p.public)
	if p.failed.Load() && j.context.Err() == nil {
		p.phone.SetLinger(0)
		p.far.SetLinger(0)
	}
	j.log.Debug("connections ended", "from", p.from, "to", p.to, "as", p.public, "reset", p.failed.Load())
}

// reset has both connections end by a reset.
func (p *pair) reset() {
	p.failed.Store(true)
	p.interrupt()
}

// interrupt has both directions end at once.
func (p *pair) interrupt() {
	past := time.Unix(1, 0)
	p.phone.SetDeadline(past)
	p.far.SetDeadline(past)
}

// firstBuffer is the size of a buffer that holds most messages. It grows for a
// larger one, and goes back when that has passed.
const firstBuffer = 4096

// direction is one way through a pair.
type direction struct {
	*pair
	outbound bool
	src, dst *net.TCPConn
	framer   sipmsg.Framer
	buf      []byte // what has come of a message
	began    time.Time
	packet   nat.Packet
}

// carry passes on what comes from one side, to its end.
func (p *pair) carry(outbound bool) {
	d := &direction{pair: p, outbound: outbound, src: p.far, dst: p.phone, buf: make([]byte, 0, firstBuffer)}
	d.packet = nat.Packet{Outbound: outbound, Stream: true, Src: p.to, Dst: p.from, Public: p.public.Addr(), PublicPort: p.public.Port()}
	if outbound {
		d.src, d.dst = p.phone, p.far
		d.packet.Src, d.packet.Dst = p.from, p.to
	}
	defer func() {
		if fault := recover(); fault != nil {
			p.join.log.Error("a message over TCP could not be handled; its connection is reset", "panic", fault, "stack", string(debug.Stack()))
			p.reset()
		}
	}()
	err := d.messages()
	if errors.Is(err, io.EOF) {
		err = d.finish()
	}
	if err != nil {
		p.reset()
	}
}

// finish passes on that one side has no more to say.
func (d *direction) finish() error {
	if err := d.write(d.buf); err != nil {
		return err
	}
	d.half.Store(true)
	d.dst.SetReadDeadline(time.Now().Add(d.join.limits.HalfClosed)) // of the other direction, that has not long left
	return d.dst.CloseWrite()
}

// messages passes on messages until the direction ends, and returns why it does.
func (d *direction) messages() error {
	for {
		if err := d.read(); err != nil && !d.unended(err) {
			return err
		}
		if !d.foreign.Load() {
			if err := d.pass(); err != nil {
				return err
			}
		}
		if d.foreign.Load() {
			if err := d.write(d.buf); err != nil {
				return err
			}
			d.buf = d.buf[:0]
		}
		if len(d.buf) == 0 && cap(d.buf) > firstBuffer {
			d.buf = make([]byte, 0, firstBuffer)
		}
	}
}

// unended reports whether the direction goes on as something else than SIP, since
// what has come in all the time that a message has does not even end its first line.
func (d *direction) unended(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || d.stopped() || len(d.buf) == 0 || bytes.IndexByte(d.buf, '\n') >= 0 {
		return false
	}
	d.giveUp(sipmsg.ErrNotSIP, d.buf)
	return true
}

// stopped reports whether the pair is to end. It is asked after a deadline has been
// set, since interrupt may have set another one just before.
func (d *direction) stopped() bool { return d.join.context.Err() != nil || d.failed.Load() }

// read waits for more. There is always room: the framer refuses what is larger than
// a message may be.
func (d *direction) read() error {
	if len(d.buf) == cap(d.buf) {
		grown := make([]byte, len(d.buf), min(2*cap(d.buf), sipmsg.MaxSize))
		copy(grown, d.buf)
		d.buf = grown
	}
	for {
		d.src.SetReadDeadline(d.deadline())
		if d.stopped() {
			return os.ErrDeadlineExceeded
		}
		n, err := d.src.Read(d.buf[len(d.buf):cap(d.buf)])
		if n > 0 {
			now := time.Now()
			if len(d.buf) == 0 {
				d.began = now
			}
			d.heard.Store(int64(now.Sub(d.begun)))
			d.buf = d.buf[:len(d.buf)+n]
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || d.stopped() || !time.Now().Before(d.deadline()) {
			return err
		}
	}
}

// deadline returns until when the next byte must come: that of half a message soon,
// any other as long as the other direction is not silent, too. It has a monotonic
// reading, so that no connection ends when the wall clock is set.
func (d *direction) deadline() time.Time {
	if len(d.buf) > 0 && !d.foreign.Load() {
		return d.began.Add(d.join.limits.Message)
	}
	silence := d.join.limits.Silence
	if d.half.Load() {
		silence = d.join.limits.HalfClosed
	}
	return d.begun.Add(time.Duration(d.heard.Load()) + silence)
}

// pass passes on the messages that are complete. It leaves in d.buf what has come
// of the next one.
func (d *direction) pass() error {
	rest := d.buf
	for len(rest) > 0 && !d.foreign.Load() {
		skip, n, err := d.framer.Next(rest)
		if err := d.write(rest[:skip]); err != nil { // keep-alives are between the two parties (RFC 5626 section 4.4.1)
			return err
		}
		rest = rest[skip:]
		if err != nil {
			d.giveUp(err, rest)
			break
		}
		if n == 0 {
			break
		}
		if err := d.handle(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
		d.began = time.Now()
	}
	d.buf = d.buf[:copy(d.buf, rest)]
	return nil
}

// handle has the engine see a message, and passes it on.
func (d *direction) handle(message []byte) error {
	w := d.join.workers.Get().(*nat.Worker)
	defer d.join.workers.Put(w)
	d.packet.Payload = message
	if out := w.Handle(&d.packet); out != nil {
		message = out
	}
	d.join.count(&d.join.stats.Messages)
	return d.write(message)
}

// giveUp notes that the pair does not speak SIP. It passes as it is from here on.
func (d *direction) giveUp(reason error, b []byte) {
	if !d.foreign.CompareAndSwap(false, true) {
		return
	}
	d.join.count(&d.join.stats.Foreign)
	const handshake, major = 22, 3 // RFC 8446 section 5.1
	if len(b) > 1 && b[0] == handshake && b[1] == major {
		d.join.warn("TLS on a SIP port passes as it is: addresses in it are not replaced, and no media gets in for it", d.from.Addr(), "to", d.to)
		return
	}
	d.join.warn("a TCP connection to a SIP port is passed on as it is from here on, and opens nothing: it does not speak SIP", d.from.Addr(),
		"to", d.to, "inbound", !d.outbound, "reason", reason)
}

// write waits until the receiver has taken it all.
func (d *direction) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	d.dst.SetWriteDeadline(time.Now().Add(d.join.limits.Write))
	if d.stopped() {
		return os.ErrDeadlineExceeded
	}
	_, err := d.dst.Write(b)
	return err
}
