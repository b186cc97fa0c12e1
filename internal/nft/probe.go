package nft

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Features is what the running kernel can do, found by trying.
type Features struct {
	// NativeQueue: the queue statement (CONFIG_NFT_QUEUE).
	NativeQueue bool

	// XTQueue: the NFQUEUE target of xtables through nft_compat. It is tried only
	// where the queue statement is missing.
	XTQueue bool

	// Hash: jhash (CONFIG_NFT_HASH), which spreads SIP over queues by flow. Without
	// it they are spread by address pair.
	Hash bool

	// ElementUpdate: adding an element again renews its lease (Linux 6.12).
	ElementUpdate bool

	// ElementDestroy: removing an element that is gone is no error (Linux 6.3).
	ElementDestroy bool
}

// String names the features for the log.
func (f Features) String() string {
	queue := "none"
	switch {
	case f.NativeQueue:
		queue = "native"
	case f.XTQueue:
		queue = "xt NFQUEUE"
	}
	renewal := "delete and add"
	switch {
	case f.ElementUpdate:
		renewal = "update"
	case f.ElementDestroy:
		renewal = "destroy and add"
	}
	spread := "by address pair"
	if f.Hash {
		spread = "by flow"
	}
	return fmt.Sprintf("queue %s, spread %s; lease renewal: %s", queue, spread, renewal)
}

// Probe asks the kernel of the caller's network namespace. It needs CAP_NET_ADMIN
// and leaves nothing behind.
func Probe() (Features, error) {
	conn, err := nftables.New()
	if err != nil {
		return Features{}, fmt.Errorf("nft: %w", err)
	}
	return probe(conn)
}

func probe(conn *nftables.Conn) (Features, error) {
	var f Features
	scratch := scratchTable()
	if err := tryRule(conn, scratch, accept()); err != nil {
		return f, fmt.Errorf("nft: the kernel refuses a table: %w", err)
	}
	try := func(r rule) bool { return tryRule(conn, scratch, r) == nil }
	f.NativeQueue = try(toQueue(0, 1, true, Features{NativeQueue: true}))
	if !f.NativeQueue {
		f.XTQueue = try(toQueue(0, 1, true, Features{}))
	}
	f.Hash = try(join(udp(), saddrSportDaddrDport(), hashIs(2, 0)))
	var err error
	f.ElementDestroy, f.ElementUpdate, err = tryElements(conn, scratch)
	return f, err
}

// scratchTable is one that nobody else has.
func scratchTable() *nftables.Table {
	return &nftables.Table{Name: fmt.Sprintf("%s_probe_%d", tableName, os.Getpid()), Family: nftables.TableFamilyIPv4}
}

// tryRule offers a rule to the kernel in a transaction that also deletes the
// table again: it is examined, and never seen.
func tryRule(conn *nftables.Conn, t *nftables.Table, r rule) error {
	conn.AddTable(t)
	c := conn.AddChain(&nftables.Chain{Name: "probe", Table: t})
	conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: r})
	conn.DelTable(t)
	return conn.Flush()
}

// tryElements finds out how elements are removed and renewed.
func tryElements(conn *nftables.Conn, t *nftables.Table) (destroy, update bool, err error) {
	s := setSIPPorts.declare(t)
	s.HasTimeout = true
	key := []byte{0, 9}
	const short, long = 100 * time.Second, 1000 * time.Second

	conn.AddTable(t)
	if err := conn.AddSet(s, []nftables.SetElement{{Key: key, Timeout: short}}); err != nil {
		return false, false, err
	}
	if err := conn.Flush(); err != nil {
		return false, false, fmt.Errorf("nft: the kernel refuses a set with timeouts: %w", err)
	}
	defer func() {
		conn.DelTable(t)
		err = errors.Join(err, conn.Flush())
	}()

	if err := conn.SetDestroyElements(s, []nftables.SetElement{{Key: []byte{0, 10}}}); err != nil {
		return false, false, err
	}
	destroy = conn.Flush() == nil

	if err := conn.SetAddElements(s, []nftables.SetElement{{Key: key, Timeout: long}}); err != nil {
		return false, false, err
	}
	if err := conn.Flush(); err != nil {
		return destroy, false, fmt.Errorf("nft: the kernel refuses to add an element again: %w", err)
	}
	got, err := conn.GetSetElements(s)
	if err != nil {
		return destroy, false, fmt.Errorf("nft: reading a set: %w", err)
	}
	update = len(got) == 1 && got[0].Timeout == long
	return destroy, update, nil
}

// missingQueue says what to do about a kernel without any queue.
func missingQueue() error {
	release := "this kernel"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release = "Linux " + strings.TrimRight(string(u.Release[:]), "\x00")
	}
	return fmt.Errorf("nft: %s has neither the queue statement (module nft_queue) "+
		"nor the NFQUEUE target (modules nft_compat and xt_NFQUEUE)", release)
}
