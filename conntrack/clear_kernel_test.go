package conntrack

import (
	"errors"
	"testing"
	"time"
)

// Nothing stays: neither anchors, those of an earlier process included, nor the helper.
func TestKernelClear(t *testing.T) {
	eachHelper(t, func(t *testing.T, h Helper) {
		newWorld(t)
		earlier := open(t, h)
		commitBatch(t, earlier, func(b *Batch) {
			b.OpenAnchor(public, time.Hour)
			b.Expect(public, far)
		})
		if err := earlier.Close(); err != nil {
			t.Fatal(err)
		}

		c := open(t, h)
		if err := c.Clear(); err != nil {
			t.Fatal(err)
		}
		if e := expected(t, c); len(e) != 0 {
			t.Errorf("expectations left: %v", e)
		}
		if _, err := c.Lookup(anchorTuple(public)); !errors.Is(err, ErrNotFound) {
			t.Errorf("the anchor is still there (%v)", err)
		}
		if h == HelperOwn {
			if p, err := readHelper(c.ch, ownPolicy().name); err == nil {
				t.Errorf("the helper is still there: %+v", p)
			}
		}
		if err := open(t, h).Clear(); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}
