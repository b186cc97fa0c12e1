package daemon

import (
	"testing"
	"time"

	"sipnatd/internal/check"
)

// TestRoomTold: what becomes worse is told at once, what stays once in a while, and what
// goes to and fro no more often.
func TestRoomTold(t *testing.T) {
	var r roomTold
	begin := time.Now()
	for _, c := range []struct {
		after time.Duration
		level check.Level
		want  bool
	}{
		{0, check.OK, false},
		{time.Second, check.Warning, true},
		{2 * time.Second, check.Warning, false},
		{3 * time.Second, check.OK, false},
		{4 * time.Second, check.Warning, false},
		{5 * time.Second, check.Fault, true},
		{6 * time.Second, check.Warning, false},
		{roomAgain, check.Fault, false},
		{roomAgain + 5*time.Second, check.Fault, true},
		{2*roomAgain + 5*time.Second, check.OK, false},
		{2*roomAgain + 6*time.Second, check.Warning, true},
	} {
		if got := r.due(c.level, begin.Add(c.after)); got != c.want {
			t.Errorf("%v after %v: told is %v", c.level, c.after, got)
		}
	}
}
