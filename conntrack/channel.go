package conntrack

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"

	ct "github.com/florianl/go-conntrack"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A channel is a ctnetlink socket over which many messages go in one sendmsg.
//
// The kernel handles them in order before the system call returns, and answers
// a message that fails in any case, one that succeeds only if asked: so the
// last one alone asks, and two system calls do where nothing fails.
type channel struct {
	nfct  *ct.Nfct
	raw   syscall.RawConn
	enc   encoder
	seq   uint32     // of the next message
	first uint32     // of the first message in enc
	in    [8192]byte // an answer
}

func openChannel(netNS int) (*channel, error) {
	nfct, err := ct.Open(&ct.Config{NetNS: netNS})
	if err != nil {
		return nil, err
	}
	// The failed message itself is known and need not come back.
	if err := nfct.SetOption(netlink.CapAcknowledge, true); err != nil {
		return nil, errors.Join(err, nfct.Close())
	}
	raw, err := nfct.Con.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, nfct.Close())
	}
	ch := &channel{nfct: nfct, raw: raw, seq: rand.Uint32()}
	ch.begin()
	return ch, nil
}

// request exchanges the single message that was encoded. The error is the
// kernel's refusal, if it was refused.
func (ch *channel) request(answered func(body []byte)) error {
	var refused error
	if err := ch.exchange(func(_ int, errno unix.Errno) { refused = errno }, answered); err != nil {
		return err
	}
	return refused
}

func (ch *channel) close() error { return ch.nfct.Close() }

// begin forgets what was encoded.
func (ch *channel) begin() {
	ch.enc.reset()
	ch.first = ch.seq
}

// next returns the sequence number for one more message.
func (ch *channel) next() uint32 {
	ch.seq++
	return ch.seq - 1
}

// exchange sends the encoded messages and calls failed with the index of each
// that the kernel refused, and answered with the content of each that it sends
// in return (after struct nlmsghdr), which must not be kept. An error means
// that it is unknown which of them took effect.
func (ch *channel) exchange(failed func(i int, errno unix.Errno), answered func(body []byte)) error {
	defer ch.begin()
	if ch.seq == ch.first {
		return nil
	}
	ch.enc.acknowledge()
	var err error
	if cerr := ch.raw.Control(func(fd uintptr) { err = ch.transact(int(fd), failed, answered) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("conntrack: netlink: %w", err)
	}
	return nil
}

func (ch *channel) transact(fd int, failed func(i int, errno unix.Errno), answered func(body []byte)) error {
	if _, err := ignoringEINTR(func() (int, error) { return unix.Write(fd, ch.enc.buf) }); err != nil {
		return err
	}
	var lost error
	for n := ch.seq - ch.first; ; {
		size, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, ch.in[:]) })
		if err == unix.ENOBUFS {
			// Some found no room. Those that did are read all the same: before the
			// socket is empty the kernel puts no other ones into it.
			lost = err
			continue
		}
		if err != nil {
			// EAGAIN too: every answer is there already.
			return fmt.Errorf("answers were lost: %w", cmp.Or(lost, err))
		}
		for in := ch.in[:size]; len(in) >= unix.SizeofNlMsghdr+4; {
			length := int(binary.NativeEndian.Uint32(in))
			if length < unix.SizeofNlMsghdr+4 || length > len(in) {
				return unix.EBADMSG
			}
			typ, seq := binary.NativeEndian.Uint16(in[4:]), binary.NativeEndian.Uint32(in[8:])
			body := in[unix.SizeofNlMsghdr:length]
			in = in[min(len(in), (length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]

			i := seq - ch.first
			if i >= n {
				continue // the answer to an exchange that failed
			}
			if typ != unix.NLMSG_ERROR {
				if answered != nil {
					answered(body)
				}
				continue
			}
			errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			if i == 0 && errno == unix.EPERM {
				return errno // nothing was looked at
			}
			if errno != 0 {
				failed(int(i), errno)
			}
			if i == n-1 {
				return lost
			}
		}
	}
}

// ignoringEINTR repeats a system call that a signal interrupted.
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}
