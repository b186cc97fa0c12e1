package conntrack

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAnswersLost: a socket that is too small for the kernel's answers makes an error of
// the exchange. Nobody waits for them, and the next exchange is not mistaken about whose
// they are.
func TestAnswersLost(t *testing.T) {
	newWorld(t)
	c := open(t)
	if c.Helper() == HelperNone {
		t.Skip("the kernel has no helper: ", c.HelperReason())
	}
	size := func(bytes int) {
		t.Helper()
		if err := c.ch.raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes); err != nil {
				t.Fatal(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	size(1)
	var b Batch
	for n := range uint16(200) { // each is refused: there is none
		b.CloseAnchor(netip.AddrPortFrom(public.Addr(), 10000+n))
	}
	if err := c.Commit(&b); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("lost answers are %v", err)
	}
	size(1 << 18)
	b.OpenAnchor(public, time.Hour)
	if err := c.Commit(&b); err != nil {
		t.Errorf("the next exchange: %v", err)
	}
	if all, err := c.expectations(); err != nil || len(all) != 1 || all[0].dst != public {
		t.Errorf("expectations: %v, %v", all, err)
	}
}
