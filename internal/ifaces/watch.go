package ifaces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// settle is how long further notifications are gathered after the first: one
	// "ip link set up" makes several, a routing daemon makes thousands.
	settle = 100 * time.Millisecond

	// tryAgain is how long Watch waits after the kernel has refused to answer.
	tryAgain = time.Second
)

// Watch calls changed with the present snapshot at once, and then with a new
// one each time it differs from the last. It returns when the context ends, and
// not before: where the kernel does not answer, log receives one message, and it
// is asked again and again. It works in the network namespace of the calling thread.
func Watch(ctx context.Context, c Config, log *slog.Logger, changed func(*Snapshot)) {
	w := watcher{config: c, changed: changed, pause: tryAgain, dial: dial, read: Resolve}
	w.run(ctx, log)
}

// watcher is a Watch.
type watcher struct {
	config  Config
	pause   time.Duration // after an error
	changed func(*Snapshot)
	dial    func() (*netlink.Conn, error)
	read    func(Config) (*Snapshot, error)
	last    *Snapshot
}

func dial() (*netlink.Conn, error) {
	return netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV4_ROUTE,
	})
}

func (w *watcher) run(ctx context.Context, log *slog.Logger) {
	failing := false
	for {
		err := w.follow(ctx, func() {
			if failing {
				failing = false
				log.Info("the interfaces are watched again")
			}
		})
		if ctx.Err() != nil {
			return
		}
		if !failing {
			failing = true
			log.Warn("the interfaces cannot be watched for now: until they can, changes of theirs are not noticed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.pause):
		}
	}
}

// follow watches until the context ends or the kernel fails. It calls ready when it
// has been told everything.
func (w *watcher) follow(ctx context.Context, ready func()) error {
	conn, err := w.dial()
	if err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()

	for {
		s, err := w.read(w.config)
		if err != nil {
			return err
		}
		ready()
		if w.last == nil || !s.Equal(w.last) {
			w.changed(s)
			w.last = s
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
