package nft

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"

	"golang.org/x/sys/unix"
)

// structure stands for all of the table that only we may change: its chains, rules,
// sets and objects by their handles, which the kernel never gives twice, and the
// elements that the configuration puts in. Leased elements and counts do not matter.
type structure struct {
	sum   [sha256.Size]byte
	rules int
}

// Attributes that package unix lacks.
const (
	attrTableHandle = 4  // NFTA_TABLE_HANDLE
	attrSetHandle   = 16 // NFTA_SET_HANDLE
	attrObjHandle   = 6  // NFTA_OBJ_HANDLE
)

// listings are what there is to be read of a table, with the attributes that count.
var listings = []struct {
	kind  uint16
	attrs []uint16
}{
	{unix.NFT_MSG_GETTABLE, []uint16{unix.NFTA_TABLE_NAME, unix.NFTA_TABLE_FLAGS, attrTableHandle}},
	{unix.NFT_MSG_GETCHAIN, []uint16{unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_HANDLE, unix.NFTA_CHAIN_NAME,
		unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY, unix.NFTA_CHAIN_TYPE}},
	{unix.NFT_MSG_GETRULE, []uint16{unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, unix.NFTA_RULE_HANDLE}},
	{unix.NFT_MSG_GETSET, []uint16{unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME, unix.NFTA_SET_FLAGS,
		unix.NFTA_SET_TIMEOUT, attrSetHandle}},
	{unix.NFT_MSG_GETOBJ, []uint16{unix.NFTA_OBJ_TABLE, unix.NFTA_OBJ_NAME, unix.NFTA_OBJ_TYPE, attrObjHandle}},
}

// readStructure reads it. The error is ErrLost if there is no table.
func readStructure(ask *asker) (structure, error) {
	var s structure
	sum := sha256.New()
	for _, l := range listings {
		names := []string{tableName}
		if l.kind == unix.NFT_MSG_GETTABLE {
			names = nil // the kernel lists them all, or one without saying that it was the last
		}
		msgs, err := ask.dump(l.kind, unix.NFPROTO_IPV4, names...)
		if err != nil {
			return structure{}, lostOr("listing the table", err)
		}
		n := 0
		for _, m := range msgs {
			n += add(sum, m, l.attrs)
		}
		switch {
		case l.kind == unix.NFT_MSG_GETTABLE && n == 0:
			return structure{}, ErrLost
		case l.kind == unix.NFT_MSG_GETRULE:
			s.rules = n
		}
	}
	for set := range firstLeased {
		msgs, err := ask.dump(unix.NFT_MSG_GETSETELEM, unix.NFPROTO_IPV4, tableName, set.String())
		if err != nil {
			return structure{}, lostOr("reading set "+set.String(), err)
		}
		addElements(sum, msgs)
	}
	sum.Sum(s.sum[:0])
	return s, nil
}

// lostOr is the error of reading the table; it went while we looked if it is ENOENT.
func lostOr(doing string, err error) error {
	if errors.Is(err, unix.ENOENT) {
		return ErrLost
	}
	return fmt.Errorf("nft: %s: %w", doing, err)
}

// add takes in some attributes of a message, unless it is about another table, and
// returns how many messages that were. Attribute 1 always names the table.
func add(sum hash.Hash, m answer, attrs []uint16) int {
	for a := range attributes(m.attrs) {
		if a.kind == attrs[0] && text(a.data) != tableName {
			return 0
		}
		if slices.Contains(attrs, a.kind) {
			fmt.Fprintf(sum, "%d %x ", a.kind, a.data)
		}
	}
	return 1
}

// addElements takes in the keys of a set, in whatever order the kernel lists them.
func addElements(sum hash.Hash, msgs []answer) {
	var keys []string
	for _, m := range msgs {
		for a := range attributes(m.attrs) {
			if a.kind != elemsElements {
				continue
			}
			for item := range attributes(a.data) {
				e := decodeElement(item.data)
				keys = append(keys, fmt.Sprintf("%x %t ", e.low, e.end))
			}
		}
	}
	slices.Sort(keys)
	fmt.Fprintln(sum, keys)
}
