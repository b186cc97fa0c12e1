package nft

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// asker puts questions to nf_tables, one after the other, and waits. A ruleset
// takes many questions, and somebody is on the phone.
type asker struct {
	fd  int
	seq uint32
	out []byte
	in  []byte
}

// answer is a message of the kernel's.
type answer struct {
	family byte
	attrs  []byte
}

// Sizes of what the messages start with.
const (
	headerSize   = unix.SizeofNlMsghdr
	nfgenmsgSize = 4 // struct nfgenmsg { __u8 nfgen_family, version; __be16 res_id; }
)

// dumpBuffer holds whatever the kernel sends at once, which is 32 KiB at most.
const dumpBuffer = 64 << 10

func dialAsker() (*asker, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("nft: netlink socket: %w", err)
	}
	// Connected to the kernel, so that nobody else can answer. It answers at once.
	err = unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("nft: netlink socket: %w", err)
	}
	return &asker{fd: fd, in: make([]byte, dumpBuffer)}, nil
}

func (a *asker) close() { unix.Close(a.fd) }

// dump asks for a list: of everything of its kind in the family, or in the table
// that names begins with, or in the set that it ends with. In all messages that
// list something, attributes 1 and 2 are the names of these.
func (a *asker) dump(kind uint16, family byte, names ...string) ([]answer, error) {
	a.seq++
	b := append(a.out[:0], make([]byte, headerSize)...)
	b = append(b, family, unix.NFNETLINK_V0, 0, 0)
	for i, name := range names {
		b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(name)+1))
		b = binary.NativeEndian.AppendUint16(b, uint16(i+1))
		b = append(append(b, name...), 0)
		for len(b)%unix.NLA_ALIGNTO != 0 {
			b = append(b, 0)
		}
	}
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.NFNL_SUBSYS_NFTABLES<<8|kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(b[8:], a.seq)
	a.out = b
	if _, err := unix.Write(a.fd, b); err != nil {
		return nil, err
	}
	return a.answers()
}

// answers reads the list, up to its end.
func (a *asker) answers() ([]answer, error) {
	var all []answer
	for {
		n, err := unix.Read(a.fd, a.in)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		b := append([]byte(nil), a.in[:n]...) // the answers keep it
		for len(b) >= headerSize {
			size := int(binary.NativeEndian.Uint32(b))
			if size < headerSize || size > len(b) {
				return nil, unix.EBADMSG
			}
			body := b[headerSize:size]
			ours := binary.NativeEndian.Uint32(b[8:]) == a.seq
			kind := binary.NativeEndian.Uint16(b[4:])
			b = b[min(len(b), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
			switch {
			case !ours:
			case kind == unix.NLMSG_DONE, kind == unix.NLMSG_ERROR:
				if len(body) >= 4 {
					if errno := int32(binary.NativeEndian.Uint32(body)); errno < 0 {
						return nil, unix.Errno(-errno)
					}
				}
				return all, nil
			case len(body) >= nfgenmsgSize:
				all = append(all, answer{body[0], body[nfgenmsgSize:]})
			}
		}
	}
}
