package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// verifyEvery is how often everything is looked at, whatever the kernel has told:
	// iptables-legacy tells nothing.
	verifyEvery = time.Minute

	// nameWait is how long the end of a transaction is waited for, which tells who
	// made it, when the kernel has told of one that matters.
	nameWait = 20 * time.Millisecond

	// reopenPause is how long Watch waits before it listens anew after a failure.
	reopenPause = 200 * time.Millisecond

	// overrunPause is how many times as long as a look at everything took the next one
	// waits, while changes come faster than they are read; but no longer than
	// overrunMost.
	overrunPause = 10
	overrunMost  = 500 * time.Millisecond
)

// monitor listens to changes of the ruleset.
type monitor struct {
	conn *netlink.Conn
}

// dialMonitor listens to all changes but those of some netlink ports, our own: every
// one of them would wake us.
func dialMonitor(own ...uint32) (*monitor, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nft: monitor: %w", err)
	}
	fail := func(err error) (*monitor, error) {
		return nil, errors.Join(fmt.Errorf("nft: monitor: %w", err), conn.Close())
	}
	// nlmsg_pid is in the host's byte order, and a filter loads in the network's. All
	// messages that come together are of one transaction, and so of one port.
	const offPID = 12
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: offPID, Size: 4}}
	for i, port := range own {
		val := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port))
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: val, SkipTrue: uint8(len(own) - i)})
	}
	filter, err := bpf.Assemble(append(prog, bpf.RetConstant{Val: ^uint32(0)}, bpf.RetConstant{Val: 0}))
	if err != nil {
		return fail(err)
	}
	if err := conn.SetBPF(filter); err != nil {
		return fail(err)
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fail(err)
	}
	return &monitor{conn}, nil
}

// Change is what others have done to the ruleset.
type Change struct {
	// Table: the daemon's table is gone from the kernel, or is not as it was
	// installed: [Table.Install] is due, and all leases.
	Table bool

	// Elements: some leases may be gone, or foreign ones there: [Table.Settle].
	Elements bool

	// Firewall: chains or rules of other tables may have changed.
	Firewall bool

	// By names the program and its process number, as "nft (4711)". Empty if it is not
	// known.
	By string
}

// everything is what may have changed when nobody has told.
var everything = Change{Table: true, Elements: true, Firewall: true}

// Watch calls changed with whatever others than this Table change in the ruleset, and
// once at the start, then every minute, and whenever changes may have gone unseen, as
// if everything but the table's own structure had changed, which is compared. It calls
// from its own goroutine and notices nothing else before changed returns, so changed
// may use the Table, and take its time. When the kernel cannot be listened to, it tries
// again; it returns when ctx ends, with its error. Only one Watch may run at a time.
func (t *Table) Watch(ctx context.Context, changed func(Change)) error {
	for told := false; ; {
		begun := time.Now()
		err := t.listen(ctx, changed)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !told || time.Since(begun) > verifyEvery {
			t.log.Warn("the kernel cannot be listened to for a moment: it does not tell of changes of the ruleset; then all is looked at anew", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(reopenPause):
		}
		_ = t.relisten() // a failure shows when the old one is listened to
	}
}

// relisten replaces the monitor, which has failed.
func (t *Table) relisten() error {
	m, err := dialMonitor(t.elements.port, t.port)
	if err != nil {
		return err
	}
	t.monitorMu.Lock()
	defer t.monitorMu.Unlock()
	if t.closed {
		return m.conn.Close()
	}
	_ = t.monitor.conn.Close()
	t.monitor = m
	return nil
}

// listen is one Watch, until the kernel fails or ctx ends.
func (t *Table) listen(ctx context.Context, changed func(Change)) error {
	t.monitorMu.Lock()
	conn := t.monitor.conn
	t.monitorMu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		// Only fails if the connection is closed, which ends Receive as well.
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()

	if err := t.report(everything, changed); err != nil { // for what happened before
		return err
	}
	next := time.Now().Add(verifyEvery)
	for c, until := (Change{}), next; ; {
		if err := conn.SetReadDeadline(until); err != nil {
			return fmt.Errorf("nft: monitor: %w", err)
		}
		if ctx.Err() != nil { // whose deadline may just have been overwritten
			return nil
		}
		msgs, err := conn.Receive()
		overrun := errors.Is(err, unix.ENOBUFS)
		switch {
		case ctx.Err() != nil:
			return nil
		case overrun:
			c = everything
			next = time.Now().Add(verifyEvery)
			drain(conn)
		case errors.Is(err, os.ErrDeadlineExceeded) && c == (Change{}):
			c = everything
			next = time.Now().Add(verifyEvery)
		case errors.Is(err, os.ErrDeadlineExceeded): // who did it remains unknown
		case err != nil:
			return fmt.Errorf("nft: monitor: %w", err)
		case !c.take(msgs): // there is more to come
			if until.Equal(next) && c != (Change{}) {
				until = time.Now().Add(nameWait)
			}
			continue
		}
		begin := time.Now()
		if err := t.report(c, changed); err != nil {
			return err
		}
		c, until = Change{}, next
		if overrun {
			t.tellOverrun(begin)
			select {
			case <-ctx.Done():
			case <-time.After(min(overrunPause*time.Since(begin), overrunMost)):
			}
		}
	}
}

// drain reads what is waiting, after an overrun. Until nothing is left, the kernel drops
// what comes, and does not say so again: a deadline will not do, which a process that gets
// no processor misses.
func drain(conn *netlink.Conn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 1)
	_ = raw.Control(func(fd uintptr) {
		for end := time.Now().Add(overrunMost); time.Now().Before(end); {
			switch _, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC); err {
			case nil, unix.ENOBUFS, unix.EINTR:
			default:
				return
			}
		}
	})
}

// tellOverrun tells the log, not more than once a minute, that changes were missed.
func (t *Table) tellOverrun(now time.Time) {
	if now.Sub(t.overrun) < verifyEvery {
		return
	}
	t.overrun = now
	t.log.Warn("the ruleset changes faster than the kernel's word of it is read: it is looked at anew, as a whole")
}

// report calls changed, unless there is nothing to tell.
func (t *Table) report(c Change, changed func(Change)) error {
	if c.Table {
		switch err := t.verify(); {
		case err == nil:
			c.Table = false // it has been repaired since
		case !errors.Is(err, ErrLost):
			return err
		}
	}
	if c.Table || c.Elements || c.Firewall {
		changed(c)
	}
	return nil
}

// take adds what messages tell of, and reports whether they end a transaction that
// matters.
func (c *Change) take(msgs []netlink.Message) (ended bool) {
	for _, m := range msgs {
		const nfgenmsg = 4
		if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < nfgenmsg {
			continue
		}
		kind, family, attrs := m.Header.Type&0xff, m.Data[0], m.Data[nfgenmsg:]
		if kind == unix.NFT_MSG_NEWGEN {
			ended = *c != (Change{})
			if ended {
				c.By = author(attrs)
			}
			continue
		}
		// The first two attributes of all but rules and objects are the names of the
		// table and of what is in it; all have the table's.
		var table, name string
		for a := range attributes(attrs) {
			switch a.kind {
			case unix.NFTA_TABLE_NAME:
				table = text(a.data)
			case unix.NFTA_SET_ELEM_LIST_SET:
				name = text(a.data)
			}
			if a.kind > unix.NFTA_SET_ELEM_LIST_SET {
				break
			}
		}
		ours := family == unix.NFPROTO_IPV4 && table == tableName
		switch kind {
		case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
			if ours {
				c.takeElement(name)
			}
		case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN,
			unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
			c.Table = c.Table || ours
			c.Firewall = c.Firewall || !ours
		case unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELOBJ, unix.NFT_MSG_NEWOBJ:
			c.Table = c.Table || ours
		}
	}
	return ended
}

// takeElement adds that an element of a set of ours has changed. What rules add to
// sets is nobody's doing.
func (c *Change) takeElement(name string) {
	s := setOf(name)
	c.Table = c.Table || s < firstLeased
	c.Elements = c.Elements || slices.Contains(settled[:], s)
}

// author reads who has made a transaction.
func author(attrs []byte) string {
	var name string
	var pid uint32
	for a := range attributes(attrs) {
		switch a.kind {
		case unix.NFTA_GEN_PROC_NAME:
			name = text(a.data)
		case unix.NFTA_GEN_PROC_PID:
			pid = number(a.data)
		}
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%s (%d)", name, pid)
}

// verify returns ErrLost unless the table is in the kernel as it was installed.
func (t *Table) verify() error {
	t.slow.Lock()
	defer t.slow.Unlock()
	now, err := readStructure(t.slow.ask)
	if err == nil && now != t.installed {
		err = ErrLost
	}
	return err
}
