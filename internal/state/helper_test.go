package state

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"testing"
)

// here is a place for tests that need no files.
var here = place{boot: [16]byte{1, 2, 3}, namespace: 4026531840, cookie: 1}

func config(t testing.TB) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "state"), Name: "calls", UID: -1, GID: -1}
}

// start opens a log, as a process does that starts, and returns what it finds.
func start(t testing.TB, cfg Config) (*Log, map[uint64]string, Condition) {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	found := make(map[uint64]string)
	c := l.Load(func(key uint64, record []byte) { found[key] = string(record) })
	l.Reset()
	return l, found, c
}

// begin is start and everything put anew.
func begin(t testing.TB, cfg Config, records map[uint64]string) *Log {
	t.Helper()
	l, _, _ := start(t, cfg)
	for key, r := range records {
		l.Put(key, []byte(r))
	}
	flush(t, l)
	return l
}

func flush(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
}

// kill is what the end of a process does to a log.
func kill(l *Log) {
	for _, f := range l.files {
		f.Close()
	}
}

// understand is what a process finds in files.
func understand(texts ...[]byte) (map[uint64]string, Condition) {
	var images [2]image
	for i := range images {
		images[i].name = fmt.Sprintf("calls.%d", i)
		if i < len(texts) {
			images[i].text = texts[i]
		}
	}
	found, c := parse(images, here)
	records := make(map[uint64]string)
	for _, r := range found.records {
		records[keyOf(r.raw)] = string(r.raw[recordLen:])
	}
	return records, c
}

func expect(t testing.TB, got, want map[uint64]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%d records %.300s, want %d %.300s", len(got), fmt.Sprint(got), len(want), fmt.Sprint(want))
	}
}

// item is a record of the sample.
type item struct {
	key  uint64
	data string
}

// sample is a file, and where each of its records begins. The last entry is its end.
func sample() (text []byte, at []int, records []item) {
	title := title{place: here, generation: 3, since: 3}
	text = title.append(nil)
	for i, data := range []string{"first", "second", "", "third, which has more", string(bytes.Repeat(mark[:], 5)), "second"} {
		r := item{uint64(i % 4), data}
		records = append(records, r)
		at = append(at, len(text))
		text = appendRecord(text, uint64(i+1), r.key, []byte(r.data))
	}
	return text, append(at, len(text)), records
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
