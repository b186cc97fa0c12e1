package divert

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"
)

const (
	// messageBuffer holds any message of the kernel: one packet of at most
	// maxPacket bytes and a few small attributes.
	messageBuffer = 1 << 17

	// logEvery limits what a misbehaving handler or kernel can write to the log:
	// the first of so many equal events.
	logEvery = 1000

	// drainTime bounds the serving of packets that wait when Run is to stop.
	drainTime = time.Second
)

// worker serves one queue.
type worker struct {
	index   int
	queue   *queue
	maxLen  uint32
	handler Handler
	onPanic atomic.Uint32 // a Verdict
	log     *slog.Logger
	count   counters

	stopping atomic.Bool
	failure  error // why serving ended, unless it was told to

	in      []byte // one netlink message
	out     verdictMessage
	message queued
	ip      datagram
	packet  Packet
	ident   uint16 // last identification given to a packet
}

func newWorker(index int, q *queue, cfg *Config, h Handler) *worker {
	w := &worker{
		index:   index,
		queue:   q,
		maxLen:  cfg.MaxLen,
		handler: h,
		log:     cfg.Logger.With("queue", q.num),
		in:      make([]byte, messageBuffer),
		out:     newVerdictMessage(q.num),
		ident:   uint16(rand.Uint32()),
	}
	w.onPanic.Store(uint32(cfg.OnPanic))
	return w
}

// failed is the verdict for a packet whose handling failed.
func (w *worker) failed() Verdict { return Verdict(w.onPanic.Load()) }

// run serves the queue until stop is called or the socket fails. What waits at
// that time is served too.
func (w *worker) run() error {
	serve := w.serve
	err := w.queue.raw.Read(serve)
	if w.stopping.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	if err == nil && w.failure == nil {
		err = w.queue.raw.Control(w.drain)
	}
	return errors.Join(err, w.failure)
}

// stop makes run return, from any goroutine.
func (w *worker) stop() {
	w.stopping.Store(true)
	// Wakes a waiting read. It fails only when the socket is closed already.
	_ = w.queue.con.SetReadDeadline(time.Unix(1, 0))
}

// serve handles what there is. It returns false to wait for more.
func (w *worker) serve(fd uintptr) bool {
	for !w.stopping.Load() {
		more, err := w.next(int(fd))
		if err != nil {
			w.failure = err
			return true
		}
		if !more {
			return false
		}
	}
	return true
}

// drain handles what waits, as much as one queue can hold and no longer than
// drainTime: packets may come as fast as they are served.
func (w *worker) drain(fd uintptr) {
	deadline := time.Now().Add(drainTime)
	for range w.maxLen {
		if more, err := w.next(int(fd)); err != nil || !more || time.Now().After(deadline) {
			w.failure = err
			return
		}
	}
}

// next reads one datagram from the socket and answers the packet in it. It
// reports false if there is none now.
func (w *worker) next(fd int) (bool, error) {
	n, err := unix.Read(fd, w.in)
	switch err {
	case nil:
	case unix.EAGAIN:
		return false, nil
	case unix.EINTR:
		return true, nil
	case unix.ENOBUFS, unix.ENOMEM: // the kernel was short of memory; the packet is gone
		w.count.errors.Add(1)
		return true, nil
	default:
		return false, os.NewSyscallError("read", err)
	}
	for typ, msg, rest, ok := nextMessage(w.in[:n]); ok; typ, msg, rest, ok = nextMessage(rest) {
		switch typ {
		case msgPacket:
			w.answer(fd, msg)
		case unix.NLMSG_ERROR:
			if e := errno(msg); e != 0 {
				w.fail("kernel refused a verdict", e)
			}
		}
	}
	return true, nil
}

// answer gives the packet of msg its verdict.
func (w *worker) answer(fd int, msg []byte) {
	if !w.message.decode(msg) {
		w.fail("packet without id from the kernel", unix.EBADMSG)
		return
	}
	verdict := w.judge()
	for {
		_, err := unix.Write(fd, verdict)
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			return
		}
		w.fail("cannot send a verdict", err)
		if len(verdict) == verdictEnd {
			return
		}
		// Short of memory for a large message: a small one may do, and the
		// packet must not be left waiting.
		verdict = w.plain(w.failed())
	}
}

// judge finds the verdict for w.message and returns the message that tells the
// kernel. It does not panic.
func (w *worker) judge() (verdict []byte) {
	defer func() {
		if v := recover(); v != nil {
			w.panicked(v, debug.Stack())
			verdict = w.tally(w.failed())
		}
	}()
	w.count.packets.Add(1)
	w.packet = Packet{}
	if reason := w.read(); reason != readable {
		w.count.unread[reason].Add(1)
		return w.plain(Accept)
	}
	result := w.handler.Handle(w.index, &w.packet)
	switch result.Verdict {
	case Accept, Drop:
		return w.tally(result.Verdict)
	case Rewrite:
		if whole, ok := w.ip.appendRewritten(w.out.packet(), result.Payload, w.nextIdent); ok {
			w.count.rewritten.Add(1)
			return w.out.rewritten(w.message.id, whole)
		}
		w.fail("rewritten packet is too large", unix.EMSGSIZE)
	default:
		w.fail("handler returned an invalid verdict", unix.EINVAL)
	}
	return w.tally(w.failed())
}

// read takes the headers off the packet of w.message and fills in w.packet.
func (w *worker) read() Reason {
	if reason := w.ip.parse(w.message.packet); reason != readable {
		return reason
	}
	if w.message.info&infoNotVerified != 0 && !w.ip.checksumOK() {
		return BadChecksum
	}
	w.packet.Src, w.packet.Dst = w.ip.endpoints()
	w.packet.InIf, w.packet.OutIf = w.message.inIf, w.message.outIf
	w.packet.Mark = w.message.mark
	w.packet.Payload = w.ip.payload
	return readable
}

// tally counts a verdict without a new packet and returns its message.
func (w *worker) tally(v Verdict) []byte {
	if v == Drop {
		w.count.dropped.Add(1)
	} else {
		w.count.accepted.Add(1)
	}
	return w.plain(v)
}

func (w *worker) plain(v Verdict) []byte {
	if v == Drop {
		return w.out.plain(w.message.id, nfqueue.NfDrop)
	}
	return w.out.plain(w.message.id, nfqueue.NfAccept)
}

// nextIdent returns an IPv4 identification: never 0, and repeated after 65535
// others only.
func (w *worker) nextIdent() uint16 {
	w.ident++
	if w.ident == 0 {
		w.ident = 1
	}
	return w.ident
}

func (w *worker) panicked(v any, stack []byte) {
	if n := w.count.panics.Add(1); n%logEvery == 1 {
		w.log.Error("panic while handling a packet; others like it are logged once in a while",
			"verdict", w.failed(), "src", w.packet.Src, "dst", w.packet.Dst, "length", len(w.packet.Payload),
			"panics", n, "panic", v, "stack", string(stack))
	}
}

func (w *worker) fail(what string, err error) {
	if n := w.count.errors.Add(1); n%logEvery == 1 {
		w.log.Warn(what, "err", err, "errors", n)
	}
}
