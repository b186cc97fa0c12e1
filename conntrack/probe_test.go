package conntrack

import (
	"testing"

	"sipnatd/internal/netspace"
)

// TestProbe: what Open would choose is found out without a trace, and beside a
// daemon that runs.
func TestProbe(t *testing.T) {
	netspace.New(t)
	registered := func() bool {
		ch, err := openChannel(0)
		if err != nil {
			t.Fatal(err)
		}
		defer ch.close()
		_, err = readHelper(ch, ownPolicy().name)
		return err == nil
	}
	before := registered()
	helper, reason, err := Probe(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if reason == "" {
		t.Error("no reason is given")
	}
	if registered() != before {
		t.Error("the helper stays")
	}

	c, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Helper() != helper || c.HelperReason() != reason {
		t.Errorf("found %v (%s), chosen is %v (%s)", helper, reason, c.Helper(), c.HelperReason())
	}
	if _, _, err := Probe(Options{}); err != nil {
		t.Fatal(err)
	}
	if registered() != (helper == HelperOwn) {
		t.Error("the daemon's helper is gone")
	}
	if all, err := c.expectations(); err != nil || len(all) > 0 {
		t.Errorf("expectations %v (%v) are left", all, err)
	}
	if helper == HelperOwn && !before {
		if err := deleteHelper(c.ch, ownPolicy().name); err != nil {
			t.Error(err)
		}
	}
}
