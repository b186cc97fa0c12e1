package divert

import (
	"bytes"
	"slices"
	"testing"
)

func TestParseQueues(t *testing.T) {
	const text = " 5060  12345     7 2 65531     3     4     1000  1\n" +
		" 5061 4294963199     0 2 65531     0     0        0  1\n" +
		"not a line\n" +
		"99999 1 0 2 65531 0 0 0 1\n" +
		"1 2 x 2 65531 0 0 0 1\n"
	want := []queueRow{
		{5060, 12345, KernelStats{Waiting: 7, QueueDropped: 3, UserDropped: 4}},
		{5061, 4294963199, KernelStats{}},
	}
	if got := parseQueues([]byte(text)); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := want[0].stats.Dropped(); n != 7 {
		t.Errorf("dropped %d, want 7", n)
	}
}

func FuzzQueues(f *testing.F) {
	f.Add([]byte(" 5060  31337     0 2 65531     0     0       17  1\n 5061 4294967295 1 2 1 2 3 4 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if rows := parseQueues(text); len(rows) > bytes.Count(text, []byte("\n"))+1 {
			t.Errorf("%d queues in %q", len(rows), text)
		}
	})
}
