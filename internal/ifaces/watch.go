package ifaces

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// settle is how long further notifications are gathered after the first: one
// "ip link set up" makes several, a routing daemon makes thousands.
const settle = 100 * time.Millisecond

// Watch calls changed with the present snapshot at once, and then with a new
// one each time it differs from the last. It runs until the context ends, and
// returns nil then; any other end is an error. It works in the network
// namespace of the calling thread.
func Watch(ctx context.Context, c Config, changed func(*Snapshot)) error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV4_ROUTE,
	})
	if err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()

	var last *Snapshot
	for {
		s, err := Resolve(c)
		if err != nil {
			return err
		}
		if last == nil || !s.Equal(last) {
			changed(s)
			last = s
		}
		if err := awaitChange(ctx, conn); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// awaitChange returns when something was notified and a moment has passed, or
// when the context ends.
func awaitChange(ctx context.Context, conn *netlink.Conn) error {
	var deadline time.Time // none until the first notification
	for {
		if err := conn.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("rtnetlink: %w", err)
		}
		// The end of the context sets a deadline too, which was just overwritten
		// if it came first.
		if ctx.Err() != nil {
			return nil
		}
		// The content does not matter, nor that notifications were lost
		// (ENOBUFS): everything is asked for again.
		switch _, err := conn.Receive(); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			return fmt.Errorf("rtnetlink: %w", err)
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(settle)
		}
	}
}
