package divert

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrQueueInUse is in the error of [Open] when another socket serves one of
// the queues.
var ErrQueueInUse = errors.New("already in use")

// bindTimeout bounds the wait for the kernel's answer to a bind. It answers at
// once, unless packets have filled the socket before.
const bindTimeout = 2 * time.Second

// queue is the netlink socket that serves one queue. The library opens it;
// reading and writing happen on the bare descriptor.
type queue struct {
	num uint16
	con *netlink.Conn
	raw syscall.RawConn
}

// openQueue binds queue num in the calling thread's network namespace.
func openQueue(num uint16, maxLen uint32, receiveBuffer int) (*queue, error) {
	nfq, err := nfqueue.Open(&nfqueue.Config{NfQueue: num})
	if err != nil {
		return nil, fmt.Errorf("netfilter netlink socket: %w", err)
	}
	q := &queue{num: num, con: nfq.Con}
	if err := q.configure(maxLen, receiveBuffer); err != nil {
		q.con.Close()
		return nil, err
	}
	return q, nil
}

func (q *queue) configure(maxLen uint32, receiveBuffer int) (err error) {
	// An overrun drops packets and is counted by the kernel; it must not
	// disturb the reading of the others.
	if err := q.con.SetOption(netlink.NoENOBUFS, true); err != nil {
		return fmt.Errorf("NFQUEUE %d: %w", q.num, err)
	}
	if err := q.con.SetOption(netlink.CapAcknowledge, true); err != nil {
		return fmt.Errorf("NFQUEUE %d: %w", q.num, err)
	}
	if err := q.con.SetReadBuffer(receiveBuffer); err != nil {
		return fmt.Errorf("NFQUEUE %d: receive buffer: %w", q.num, err)
	}
	if err := q.con.SetWriteBuffer(2 * maxPacket); err != nil { // one verdict, as the kernel counts memory
		return fmt.Errorf("NFQUEUE %d: send buffer: %w", q.num, err)
	}
	if q.raw, err = q.con.SyscallConn(); err != nil {
		return fmt.Errorf("NFQUEUE %d: %w", q.num, err)
	}
	if err := q.bind(maxLen); err != nil {
		return q.explain(err)
	}
	return nil
}

// bind sends the configuration and waits for its acknowledgement.
func (q *queue) bind(maxLen uint32) error {
	if err := q.write(bindMessage(q.num, maxLen)); err != nil {
		return err
	}
	// Not before the request: it loads the kernel's module where that is missing.
	if err := q.con.SetReadDeadline(time.Now().Add(bindTimeout)); err != nil {
		return err
	}
	if err := q.acknowledged(); err != nil {
		return err
	}
	return q.con.SetReadDeadline(time.Time{})
}

// acknowledged waits for the kernel's answer to a request. Packets that another
// processor has queued before the kernel came to answer are in front of it. There
// is no worker for them yet, so they are sent through the hook, and by it into the
// queue, once more.
func (q *queue) acknowledged() error {
	var (
		in      = make([]byte, messageBuffer)
		verdict = newVerdictMessage(q.num)
		packet  queued
		answer  error
	)
	err := q.raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.Read(int(fd), in)
			if err == unix.EAGAIN {
				return false
			}
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				answer = os.NewSyscallError("read", err)
				return true
			}
			for typ, msg, rest, ok := nextMessage(in[:n]); ok; typ, msg, rest, ok = nextMessage(rest) {
				switch typ {
				case unix.NLMSG_ERROR:
					if e := errno(msg); e != 0 {
						answer = e
					}
					return true
				case msgPacket:
					if packet.decode(msg) {
						if _, err := unix.Write(int(fd), verdict.plain(packet.id, nfqueue.NfRepeat)); err != nil {
							answer = os.NewSyscallError("write", err)
							return true
						}
					}
				}
			}
		}
	})
	return errors.Join(err, answer)
}

// write sends one message to the kernel, which has acted on it on return.
func (q *queue) write(msg []byte) error {
	var err error
	if cerr := q.raw.Control(func(fd uintptr) {
		_, err = unix.Write(int(fd), msg)
	}); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("write", err)
}

// close gives the queue up and closes the socket. Nothing may read it any more.
func (q *queue) close() error {
	return errors.Join(q.write(unbindMessage(q.num)), q.con.Close())
}

// explain adds to an error of bind what the administrator can do about it.
func (q *queue) explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EBUSY):
		// The kernel says EPERM for another's queue and for a missing capability.
		if owner, ok := queueOwner(q.num); ok {
			return fmt.Errorf("NFQUEUE %d is %w by %s: stop that, or set queue_num to a number that is free",
				q.num, ErrQueueInUse, owner)
		}
		return fmt.Errorf("NFQUEUE %d: %w: CAP_NET_ADMIN is needed (run as root)", q.num, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("NFQUEUE %d: %w: the kernel has no nfnetlink_queue (modprobe nfnetlink_queue)", q.num, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("NFQUEUE %d: no answer from the kernel within %v", q.num, bindTimeout)
	}
	return fmt.Errorf("NFQUEUE %d: bind: %w", q.num, err)
}
