package nft

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// monitor listens to changes of the ruleset.
type monitor struct {
	conn *netlink.Conn
}

// dialMonitor listens to all changes but those of one netlink port, our own
// batches': every one of them would wake us.
func dialMonitor(own uint32) (*monitor, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nft: monitor: %w", err)
	}
	fail := func(err error) (*monitor, error) {
		return nil, errors.Join(fmt.Errorf("nft: monitor: %w", err), conn.Close())
	}
	// nlmsg_pid is in the host's byte order, and a filter loads in the network's.
	const offPID = 12
	port := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, own))
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offPID, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: ^uint32(0)},
		bpf.RetConstant{Val: 0},
	})
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

// Watch calls lost whenever the table is found to be gone from the kernel, or to
// lack a chain, a set, or rules: after "nft flush ruleset", which every reload of
// a firewall does. It calls from its own goroutine and notices nothing else before
// lost returns, so lost may call [Table.Install] and [Table.Commit]. Watch
// returns when ctx ends, with its error, or when the kernel cannot be listened to.
// Only one Watch may run at a time.
func (t *Table) Watch(ctx context.Context, lost func()) error {
	conn := t.monitor.conn
	stop := context.AfterFunc(ctx, func() {
		// Only fails if the connection is closed, which ends Receive as well.
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()

	// For what happened between Open and now.
	suspect := true
	for {
		if suspect {
			err := t.verify()
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, ErrLost):
				lost()
			case err != nil:
				return err
			}
		}
		msgs, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			suspect = true // some changes went unseen
		case err != nil:
			return fmt.Errorf("nft: monitor: %w", err)
		default:
			suspect = concernsUs(msgs)
		}
	}
}

// concernsUs tells whether something of our table was deleted.
func concernsUs(msgs []netlink.Message) bool {
	for _, m := range msgs {
		if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
			continue
		}
		switch m.Header.Type & 0xff {
		case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET:
		default:
			continue
		}
		const nfgenmsg = 4
		if len(m.Data) < nfgenmsg || m.Data[0] != unix.NFPROTO_IPV4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[nfgenmsg:])
		if err != nil {
			continue
		}
		for ad.Next() {
			// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE and NFTA_SET_TABLE
			// are one and the same number.
			if ad.Type() == unix.NFTA_TABLE_NAME && string(bytes.TrimRight(ad.Bytes(), "\x00")) == tableName {
				return true
			}
		}
	}
	return false
}

// verify returns ErrLost unless the table is in the kernel with all its chains,
// sets and as many rules as were installed.
func (t *Table) verify() error {
	t.slow.Lock()
	defer t.slow.Unlock()
	state, _, err := t.inspect()
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return ErrLost // it went while we looked
		}
		return err
	}
	if state != ours {
		return ErrLost
	}
	for _, c := range t.chains {
		rules, err := t.slow.conn.GetRules(t.table, &nftables.Chain{Name: c.name})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("nft: reading chain %s: %w", c.name, err)
		}
		if len(rules) != len(c.rules) {
			return ErrLost
		}
	}
	return nil
}
