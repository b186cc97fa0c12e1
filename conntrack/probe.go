package conntrack

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
)

// Probe tells which helper Open would choose and, in words, why none that is better.
// It leaves nothing behind, and does not disturb a daemon that runs: the conntrack
// entry and the expectation that it tries are nobody's, and our own helper goes again
// unless it was there before. It needs CAP_NET_ADMIN.
func Probe(o Options) (h Helper, reason string, err error) {
	c := &Conn{log: slog.New(slog.DiscardHandler), quiet: log.New(io.Discard, "", 0)}
	if err := c.dial(o.NetNS); err != nil {
		return HelperNone, "", errors.Join(fmt.Errorf("conntrack: %w", err), c.Close())
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	helpers := o.Helpers
	if helpers == nil {
		helpers = []Helper{HelperOwn, HelperSIP}
	}
	name := ownPolicy().name
	if _, err := readHelper(c.ch, name); err != nil {
		defer func() {
			// EBUSY: meanwhile a daemon has put it into its rules. Whatever else it is,
			// there is none.
			_ = deleteHelper(c.ch, name)
		}()
	}
	if err := c.choose(helpers); err != nil {
		return HelperNone, "", err
	}
	return c.helper, c.reason, nil
}
