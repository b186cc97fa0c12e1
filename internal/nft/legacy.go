package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Constants of linux/netfilter_ipv4/ip_tables.h and linux/netfilter/x_tables.h.
const (
	iptGetInfo    = 64 // IPT_SO_GET_INFO
	iptGetEntries = 65 // IPT_SO_GET_ENTRIES

	iptNameSize  = 32 // XT_TABLE_MAXNAMELEN
	iptInfoSize  = 84 // struct ipt_getinfo
	iptEntrySize = 112
	iptItemSize  = 32 // struct xt_entry_match and xt_entry_target

	iptGoto        = 0x02 // IPT_F_GOTO
	iptInvertIn    = 0x01 // IPT_INV_VIA_IN
	iptInvertDest  = 0x10 // IPT_INV_DSTIP
	iptInvertProto = 0x40 // IPT_INV_PROTO
)

// maxEntryRanges bounds the ranges of ports of one entry. Two multiport matches
// make 225.
const maxEntryRanges = 256

// maxTable bounds the table that is read, in bytes.
const maxTable = 64 << 20

// legacyRedirects reads the DNAT rules of iptables-legacy.
func legacyRedirects() ([]Redirect, error) {
	table, err := readLegacy("nat")
	if err != nil || table == nil {
		return nil, err
	}
	w := legacyWalk{table: table.entries}
	w.walk(table.hooks[unix.NF_INET_PRE_ROUTING], anything, 0)
	return w.found, nil
}

// legacyRead are the tables of iptables-legacy that a Firewall has.
var legacyRead = []string{"raw", "filter", "nat"}

// legacyChains are those of their chains that are asked about packets.
var legacyChains = []Chain{
	{Family: "ip", Table: "filter", Name: "INPUT", Kind: KindFilter, Hook: Input, Priority: 0, Legacy: true},
	{Family: "ip", Table: "filter", Name: "FORWARD", Kind: KindFilter, Hook: Forward, Priority: 0, Legacy: true},
	{Family: "ip", Table: "nat", Name: "PREROUTING", Kind: KindNAT, Hook: Prerouting, Priority: -100, Legacy: true},
	{Family: "ip", Table: "nat", Name: "POSTROUTING", Kind: KindNAT, Hook: Postrouting, Priority: 100, Legacy: true},
}

// builtin names the chains of a table, by their hooks.
var builtin = map[string]map[int]string{
	"raw":    {unix.NF_INET_PRE_ROUTING: "PREROUTING", unix.NF_INET_LOCAL_OUT: "OUTPUT"},
	"filter": {unix.NF_INET_LOCAL_IN: "INPUT", unix.NF_INET_FORWARD: "FORWARD", unix.NF_INET_LOCAL_OUT: "OUTPUT"},
}

// legacyTargets lists the rules of a table of iptables-legacy whose target is a
// wanted one.
func (f *Firewall) legacyTargets(name string, wanted func(target extension) bool) []Rule {
	table := f.legacy[name]
	if table == nil {
		return nil
	}
	chains := make(map[uint32]string)
	for hook, chain := range builtin[name] {
		chains[table.hooks[hook]] = chain
	}
	var found []Rule
	chain, place := "", 0
	for at := uint32(0); ; {
		e, ok := decodeEntry(table.entries, at)
		if !ok {
			return found
		}
		if name, ok := chains[at]; ok {
			chain, place = name, 0
		}
		place++
		if t := e.target(); t.name == "ERROR" { // the head of a chain, with its name
			chain, place = text(t.info), 0
		} else if wanted(t) {
			found = append(found, Rule{Family: "ip", Table: name, Chain: chain, Place: place})
		}
		at += uint32(e.next)
	}
}

// legacyTable is a table of iptables-legacy.
type legacyTable struct {
	hooks    [5]uint32 // where in entries each hook's chain starts
	policies [5]uint32 // and where its last rule is
	entries  []byte
}

// readLegacy reads a table, or returns nil where there is none.
func readLegacy(name string) (*legacyTable, error) {
	there, err := hasLegacy(name)
	if err != nil || !there {
		return nil, err
	}
	table, err := askLegacy(name)
	if err != nil {
		return nil, fmt.Errorf("iptables-legacy: reading the table %s: %w", name, err)
	}
	return table, nil
}

// hasLegacy tells whether this network namespace has a table of iptables-legacy.
// To ask for the table itself would make the kernel load a module and hook an
// empty table in.
func hasLegacy(name string) (bool, error) {
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	switch {
	case err == nil:
		return slices.Contains(strings.Fields(string(names)), name), nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, fs.ErrPermission):
		// Only root may read the file, and capabilities do not help. Where the
		// module is there, asking cannot load it.
		_, err := os.Stat("/sys/module/iptable_" + name)
		return err == nil, nil
	}
	return false, fmt.Errorf("iptables-legacy: %w", err)
}

// askLegacy asks the kernel for a table.
func askLegacy(name string) (*legacyTable, error) {
	// Any IPv4 socket will do. A raw one, which the iptables program takes, needs
	// another capability.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)

	// struct ipt_getinfo {
	//	char name[XT_TABLE_MAXNAMELEN];
	//	unsigned int valid_hooks, hook_entry[5], underflow[5], num_entries, size;
	// };
	const (
		offHooks    = iptNameSize + 4
		offPolicies = offHooks + 5*4
		offSize     = offPolicies + 5*4 + 4
	)
	// The table may change between the two questions: EAGAIN.
	for range 5 {
		info := make([]byte, iptInfoSize)
		copy(info, name)
		if err := getsockopt(fd, iptGetInfo, info); err != nil {
			return nil, err
		}
		table := new(legacyTable)
		for hook := range table.hooks {
			table.hooks[hook] = binary.NativeEndian.Uint32(info[offHooks+4*hook:])
			table.policies[hook] = binary.NativeEndian.Uint32(info[offPolicies+4*hook:])
		}
		size := binary.NativeEndian.Uint32(info[offSize:])
		if size > maxTable {
			return nil, fmt.Errorf("%d bytes are too much", size)
		}

		// struct ipt_get_entries {
		//	char name[XT_TABLE_MAXNAMELEN]; unsigned int size; struct ipt_entry entrytable[];
		// };
		// with the entries aligned as 64-bit counters are.
		header := iptNameSize + 8
		if runtime.GOARCH == "386" {
			header = iptNameSize + 4
		}
		entries := make([]byte, header+int(size))
		copy(entries, name)
		binary.NativeEndian.PutUint32(entries[iptNameSize:], size)
		err = getsockopt(fd, iptGetEntries, entries)
		if err == nil {
			table.entries = entries[header:]
			return table, nil
		}
		if err != unix.EAGAIN {
			return nil, err
		}
	}
	return nil, err
}

// getsockopt asks with, and answers in, the whole of b.
func getsockopt(fd, option int, b []byte) error {
	n := uint32(len(b))
	for {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, uintptr(option),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&n)), 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// legacyWalk goes over the entries of a table.
type legacyWalk struct {
	table  []byte
	visits int
	found  []Redirect
}

// walk follows a chain from an offset into the table on, for the packets of match.
func (w *legacyWalk) walk(at uint32, match Redirect, depth int) {
	for depth <= maxDepth {
		e, ok := decodeEntry(w.table, at)
		if !ok {
			return
		}
		if w.visits += int(e.next) / iptItemSize; w.visits > maxVisits {
			return
		}
		var packets []Redirect
		for _, m := range e.match() {
			if both, ok := match.and(m); ok {
				packets = append(packets, both)
			}
		}
		w.visits += len(packets)
		t := e.target()
		if t.name != "" {
			if to, ok := xtTarget(t).target(); ok {
				for _, p := range packets {
					w.found = append(w.found, to.of(p))
				}
			}
			if t.name == "ERROR" {
				return // the head of the next chain
			}
			at += uint32(e.next)
			continue
		}

		// The standard target: a verdict, or where to go on.
		if len(t.info) < 4 {
			return
		}
		verdict := int32(binary.NativeEndian.Uint32(t.info))
		if verdict < 0 {
			if e.unconditional() {
				return
			}
		} else if next := at + uint32(e.next); uint32(verdict) != next {
			for _, p := range packets {
				w.walk(uint32(verdict), p, depth+1)
			}
		}
		at += uint32(e.next)
	}
}

// legacyEntry is a rule:
//
//	struct ipt_ip {
//		struct in_addr src, dst, smsk, dmsk;
//		char iniface[IFNAMSIZ], outiface[IFNAMSIZ];
//		unsigned char iniface_mask[IFNAMSIZ], outiface_mask[IFNAMSIZ];
//		__u16 proto; __u8 flags, invflags;
//	};
//	struct ipt_entry {
//		struct ipt_ip ip;
//		unsigned int nfcache;
//		__u16 target_offset, next_offset;
//		unsigned int comefrom;
//		struct xt_counters counters; // 64-bit packets, bytes
//		unsigned char elems[];       // matches, then the target
//	};
type legacyEntry struct {
	raw          []byte
	targetOffset uint16
	next         uint16
}

// decodeEntry checks the entry's lengths.
func decodeEntry(table []byte, at uint32) (e legacyEntry, ok bool) {
	if uint64(at)+iptEntrySize > uint64(len(table)) {
		return e, false
	}
	b := table[at:]
	e.targetOffset = binary.NativeEndian.Uint16(b[88:])
	e.next = binary.NativeEndian.Uint16(b[90:])
	if e.targetOffset < iptEntrySize || int(e.next) < int(e.targetOffset)+iptItemSize || int(e.next) > len(b) {
		return e, false
	}
	e.raw = b[:e.next]
	return e, true
}

// decodeItem decodes struct xt_entry_match or struct xt_entry_target:
//
//	struct { __u16 size; char name[29]; __u8 revision; unsigned char data[]; }
func decodeItem(b []byte) extension {
	return extension{name: text(b[2:31]), revision: uint32(b[31]), info: b[iptItemSize:]}
}

func (e legacyEntry) target() extension { return decodeItem(e.raw[e.targetOffset:]) }

// unconditional tells whether every packet meets the target.
func (e legacyEntry) unconditional() bool {
	return e.targetOffset == iptEntrySize && !slices.ContainsFunc(e.raw[:84], func(b byte) bool { return b != 0 })
}

// match returns the UDP packets that match.
func (e legacyEntry) match() []Redirect {
	one, ok := e.header()
	if !ok {
		return nil
	}
	match := []Redirect{one}
	for b := e.raw[iptEntrySize:e.targetOffset]; len(b) >= iptItemSize; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < iptItemSize || size > len(b) {
			break
		}
		var both []Redirect
		for _, m := range xtMatch(decodeItem(b[:size])).match() {
			for _, have := range match {
				if r, ok := have.and(m); ok && len(both) < maxEntryRanges {
					both = append(both, r)
				}
			}
		}
		match = both
		b = b[size:]
	}
	return match
}

// header decodes struct ipt_ip.
func (e legacyEntry) header() (r Redirect, ok bool) {
	b := e.raw
	r = anything
	proto, invert := binary.NativeEndian.Uint16(b[80:]), b[83]
	if proto != 0 && (proto == unix.IPPROTO_UDP) == (invert&iptInvertProto != 0) {
		return r, false
	}
	if mask := binary.BigEndian.Uint32(b[12:]); mask != 0 && invert&iptInvertDest == 0 {
		// A mask with gaps is taken to end at the first.
		r.Addr = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[4:])), bits.LeadingZeros32(^mask)).Masked()
	}
	if invert&iptInvertIn == 0 {
		low, high := [unix.IFNAMSIZ]byte(b[16:]), [unix.IFNAMSIZ]byte(b[16:])
		for i, mask := range b[48:64] {
			low[i] &= mask
			high[i] |= ^mask
		}
		r.InIf = interfacePattern(low, high)
	}
	return r, true
}
