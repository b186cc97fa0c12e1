package daemon

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// TestDrops: the log is told soon of what is dropped, of all of it, and not often.
func TestDrops(t *testing.T) {
	type said struct {
		packets uint64
		in      time.Duration
	}
	var count uint64
	var failure error
	var got []said
	d := drops{
		read: func() (uint64, error) { return count, failure },
		tell: func(packets uint64, in time.Duration) { got = append(got, said{packets, in}) },
	}
	now := time.Unix(1e9, 0)
	look := func(grows uint64) {
		now = now.Add(dropsEvery)
		count += grows
		d.look(now)
	}
	look(0)
	look(0)
	for range 2 * int(time.Minute/dropsEvery) {
		look(100)
	}
	look(0)
	failure = errors.New("the table is gone")
	look(0)
	count, failure = 0, nil // and made anew
	look(0)
	look(7)
	for range int(time.Minute / dropsEvery) {
		look(0)
	}
	want := []said{{100, 5 * time.Second}, {1200, time.Minute}, {1100, time.Minute}, {7, 50 * time.Second}}
	if !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}
