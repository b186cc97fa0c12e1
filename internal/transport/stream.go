package transport

import (
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/sipmsg"
)

// smallBuffer holds most messages, and several segments.
const smallBuffer = 8 << 10

var smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}

// lineEndTime is how long after a line end another one makes a ping with it: those
// of a ping are sent at once.
const lineEndTime = 5 * time.Second

// stream is what has come over a connection and was not taken yet.
type stream struct {
	framer sipmsg.Framer
	buf    []byte             // nil when nothing waits
	small  *[smallBuffer]byte // what buf is in, unless it has grown
	began  time.Duration      // when the first byte of buf came
	read   func(fd uintptr) bool
	err    error // of read

	message time.Duration // when the last message came
	half    bool          // nothing more comes,
	closed  time.Duration // since then

	ends int           // line ends between messages that may be half a ping,
	at   time.Duration // the last of which came then
	pong bool          // we have sent a ping that was not answered
}

func (s *stream) init() { s.read = s.readable }

// receive waits for more and appends it to buf. At the end of the stream it
// returns io.EOF once. If half is set then, it waits for a reset or the deadline.
func (s *stream) receive(raw syscall.RawConn) error {
	if err := raw.Read(s.read); err != nil {
		return err
	}
	return s.err
}

// readable is called when there may be something to read. It reports whether there
// was.
func (s *stream) readable(fd uintptr) bool {
	if s.half {
		// A read would return the end of the stream for ever, even after a reset.
		e, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && e != 0 {
			err = syscall.Errno(e)
		}
		s.err = err
		return err != nil
	}
	if s.buf == nil {
		s.small = smallBuffers.Get().(*[smallBuffer]byte)
		s.buf = s.small[:0]
	}
	n, err := unix.Read(int(fd), s.buf[len(s.buf):cap(s.buf)])
	for err == unix.EINTR {
		n, err = unix.Read(int(fd), s.buf[len(s.buf):cap(s.buf)])
	}
	if n > 0 {
		s.buf = s.buf[:len(s.buf)+n]
	} else if err == nil {
		err = io.EOF
	}
	if len(s.buf) == 0 {
		s.drop()
	}
	s.err = err
	return err != unix.EAGAIN
}

// drop gives the buffer back.
func (s *stream) drop() {
	if s.small != nil {
		smallBuffers.Put(s.small)
	}
	s.small, s.buf = nil, nil
}

// keep keeps the rest of what has come, with space for more.
func (s *stream) keep(t *Transport, rest []byte) error {
	if len(rest) == 0 {
		s.release(t)
		return nil
	}
	if len(rest) < len(s.buf) || s.began == 0 {
		s.began = t.now() // of another message than before
	}
	s.buf = s.buf[:copy(s.buf, rest)]
	if len(s.buf) < cap(s.buf) {
		return nil
	}
	// The framer knows of every message of MaxSize bytes whether it is complete.
	size := min(2*cap(s.buf), sipmsg.MaxSize)
	grown := int64(size)
	if s.small == nil {
		grown -= int64(cap(s.buf))
	}
	if t.buffered.Add(grown) > maxBuffered {
		t.buffered.Add(-grown)
		return ErrBusy
	}
	buf := append(make([]byte, 0, size), s.buf...)
	if s.small != nil {
		s.drop()
	}
	s.buf = buf
	return nil
}

// release gives all buffers back.
func (s *stream) release(t *Transport) {
	if s.buf != nil && s.small == nil {
		t.buffered.Add(-int64(cap(s.buf)))
	}
	s.drop()
	s.began = 0
}

// lineEnds counts the pings in line ends between messages: two at once (RFC 5626
// section 4.4.1). A single one is the answer to a ping of ours, or what some
// phones send instead, and is not answered.
func (s *stream) lineEnds(b []byte, now time.Duration) (pings int) {
	if s.ends > 0 && now-s.at > lineEndTime {
		s.ends = 0
	}
	for _, c := range b {
		if c == '\n' {
			s.ends++
			s.at = now
		}
	}
	pings, s.ends = s.ends/2, s.ends%2
	if s.pong && s.ends == 1 {
		s.pong, s.ends = false, 0
	}
	return pings
}
