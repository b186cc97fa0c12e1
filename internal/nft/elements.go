package nft

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// elements is the connection for batches. It marshals by itself, into a buffer
// that it keeps: a batch of ten elements takes a fraction of what it costs
// through the library, and a SIP message is held meanwhile.
type elements struct {
	mu      sync.Mutex
	fd      int    // -1 once closed
	port    uint32 // the socket's netlink port
	renewal renewal
	message encoder
	in      []byte

	followers []*Leases // who have read the elements, and must know what changes since
}

// renewal is how an element that may be there already is added.
type renewal uint8

const (
	renewUpdate   renewal = iota // add: renews, and fails if a map has other data
	renewDestroy                 // destroy, add
	renewReinsert                // add what may be there, delete, add: neither can fail
)

func (f Features) renewal() renewal {
	switch {
	case f.ElementUpdate:
		return renewUpdate
	case f.ElementDestroy:
		return renewDestroy
	}
	return renewReinsert
}

// sendBuffer bounds a batch: at most 150 bytes an element.
const sendBuffer = 4 << 20

func dialElements(f Features) (*elements, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("nft: netlink socket: %w", err)
	}
	e := &elements{fd: fd, renewal: f.renewal(), in: make([]byte, 8<<10)}
	setup := func() error {
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		// Connected to the kernel, so that nobody else can answer.
		if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		// Answers without the message that they answer.
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
			return err
		}
		// Beyond the system's limit where we may, which in a container we may not.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer); err != nil {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer); err != nil {
				return err
			}
		}
		name, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		e.port = name.(*unix.SockaddrNetlink).Pid
		return nil
	}
	if err := setup(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("nft: netlink socket: %w", err)
	}
	return e, nil
}

func (e *elements) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return nil
	}
	err := unix.Close(e.fd)
	e.fd = -1
	return err
}

// exchange makes the changes in one transaction and waits for the kernel's word.
// The error is about the first message that the kernel refused; it wraps the errno.
func (e *elements) exchange(ops []op, how renewal) error {
	if e.fd < 0 {
		return errors.New("nft: the table is closed")
	}
	e.message.encode(ops, how)
	if _, err := unix.Write(e.fd, e.message.out); err != nil {
		return fmt.Errorf("nft: sending %d element changes: %w", len(ops), err)
	}
	return e.answers()
}

// answers reads what the kernel has to say. It has already said it: netlink
// processes a batch within the write. Errors come in the order of the messages,
// and the acknowledgement of the last message is the last answer; only a batch
// that is refused as a whole may go without.
func (e *elements) answers() error {
	const header = unix.SizeofNlMsghdr
	var failed, lost error
	for {
		n, err := unix.Read(e.fd, e.in)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOBUFS {
			// Some found no room. Those that did are read all the same: before the
			// socket is empty the kernel puts no other ones into it.
			lost = err
			continue
		}
		if err != nil {
			if failed != nil {
				return failed
			}
			return fmt.Errorf("nft: no acknowledgement: %w", cmp.Or(lost, err))
		}
		b := e.in[:n]
		if n < header+4 || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
			continue
		}
		which, about := e.message.find(binary.NativeEndian.Uint32(b[8:]))
		if which == foreignMessage {
			continue // an answer that an earlier exchange left behind
		}
		if errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[header:]))); errno != 0 && failed == nil {
			failed = fmt.Errorf("nft: changing elements of %s: %w", about, errno)
		}
		if which == lastMessage {
			return cmp.Or(failed, lost)
		}
	}
}
