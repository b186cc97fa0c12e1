package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whatever is flushed is there after the process has been killed, whatever it was
// doing: the process dies after each single Flush, and before the Flush of everything
// put anew.
func TestKilledAtAnyMoment(t *testing.T) {
	cfg := config(t)
	random := rand.New(rand.NewPCG(1, 2))
	l := begin(t, cfg, nil)
	want := map[uint64]string{}
	for range 400 {
		for range 1 + random.IntN(20) {
			key := random.Uint64N(50)
			if random.IntN(4) == 0 {
				delete(want, key)
				l.Delete(key)
				continue
			}
			want[key] = strings.Repeat("x", 1+random.IntN(600))
			l.Put(key, []byte(want[key]))
		}
		flush(t, l)
		l.Put(99, []byte("never flushed"))
		kill(l)
		found, c := map[uint64]string{}, Condition{}
		for again := true; again; { // after one that was killed before its first Flush
			l, found, c = start(t, cfg)
			if c.Health != Whole {
				t.Fatal(c)
			}
			expect(t, found, want)
			if again = random.IntN(2) == 0; again {
				l.Put(98, make([]byte, mostBuffered))
				kill(l)
			}
		}
		for key, r := range found {
			l.Put(key, []byte(r))
		}
		flush(t, l)
	}
}

// One process is killed while it copies from one file to the other, the next one
// before everything is put anew. Then all is in the file that nobody touched.
func TestKilledWhileCopying(t *testing.T) {
	cfg := config(t)
	for pieces := range 4 {
		want := make(map[uint64]string)
		l := begin(t, cfg, nil)
		for i := range uint64(150) {
			want[1000+i] = strings.Repeat("x", 200)
			l.Put(1000+i, []byte(want[1000+i]))
		}
		for i := 0; l.old == 0; i++ {
			want[1] = fmt.Sprint(i, strings.Repeat(" ", 100))
			l.Put(1, []byte(want[1]))
			flush(t, l)
		}
		for range pieces {
			want[2] += "x"
			l.Put(2, []byte(want[2]))
			flush(t, l)
		}
		if l.old == 0 {
			t.Fatal("it is done already")
		}
		kill(l)
		for range 2 {
			l, found, c := start(t, cfg)
			expect(t, found, want)
			if c.Health != Whole {
				t.Error(c)
			}
			l.Put(1, []byte("not flushed"))
			kill(l)
		}
	}
}

// A process lives long: the files stay small, and what is found is right in the middle
// of copying, too.
func TestCompaction(t *testing.T) {
	cfg := config(t)
	random := rand.New(rand.NewPCG(3, 4))
	l := begin(t, cfg, nil)
	want := map[uint64]string{}
	halfway, turns, most := 0, 0, int64(0)
	for i := range 20000 {
		key := random.Uint64N(300)
		if random.IntN(3) == 0 {
			delete(want, key)
			l.Delete(key)
		} else {
			want[key] = fmt.Sprint(i, strings.Repeat(" ", random.IntN(400)))
			l.Put(key, []byte(want[key]))
		}
		was := l.old > 0
		flush(t, l)
		most = max(most, l.size)
		if l.old > 0 && !was {
			turns++
		}
		if l.old > 0 && l.copied > int64(titleLen) && l.copied < l.old {
			halfway++
			found, c := understandFiles(t, l)
			if c.Health != Whole {
				t.Fatal(c)
			}
			if !maps.Equal(found, want) {
				t.Fatalf("after %d changes: %d records, want %d", i, len(found), len(want))
			}
		}
	}
	if turns < 10 || halfway < turns {
		t.Errorf("%d turns, seen %d times halfway", turns, halfway)
	}
	if limit := int64(2*compactFrom + 2*l.live); most > limit {
		t.Errorf("a file had %d bytes for %d that count", most, l.live)
	}
	live := 0
	for _, r := range want {
		live += recordLen + len(r)
	}
	if int64(live) != l.live {
		t.Errorf("%d bytes count, not %d", live, l.live)
	}
	kill(l)
	_, found, c := start(t, cfg)
	expect(t, found, want)
	if c.Health != Whole {
		t.Error(c)
	}
}

// understandFiles reads what the files of a log hold at this moment.
func understandFiles(t *testing.T, l *Log) (map[uint64]string, Condition) {
	t.Helper()
	var images [2]image
	for i, f := range l.files {
		images[i] = read(f, l.names[i])
	}
	found, c := parse(images, l.title.place)
	records := make(map[uint64]string)
	for _, r := range found.records {
		records[keyOf(r.raw)] = string(r.raw[recordLen:])
	}
	return records, c
}

// A record that is larger than what is looked through at once is copied too.
func TestLargeRecords(t *testing.T) {
	cfg := config(t)
	l := begin(t, cfg, nil)
	large := strings.Repeat("x", maxRecord)
	l.Put(1, []byte(large))
	flush(t, l)
	for i := range 200 {
		l.Put(2, []byte(strings.Repeat("y", 3*copyAtOnce+i)))
		flush(t, l)
	}
	if l.size > 3*maxRecord || l.title.generation < 2 {
		t.Errorf("%d bytes in generation %d", l.size, l.title.generation)
	}
	found, _ := understandFiles(t, l)
	if found[1] != large || len(found[2]) != 3*copyAtOnce+199 {
		t.Error("a record is not what it was")
	}
	l.Put(3, make([]byte, maxRecord+1))
	if err := l.Flush(); err == nil {
		t.Error("a record of any size is taken")
	}
}

// Load hands over in the order of writing, whatever was copied since.
func TestOrder(t *testing.T) {
	cfg := config(t)
	l := begin(t, cfg, nil)
	var want []uint64
	for i := range uint64(3000) {
		key := i * 7919 % 401
		want = append(slices.DeleteFunc(want, func(k uint64) bool { return k == key }), key)
		l.Put(key, make([]byte, 100))
		flush(t, l)
	}
	kill(l)
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got []uint64
	l.Load(func(key uint64, _ []byte) { got = append(got, key) })
	if !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
}

// A disk that is full is told once, leaves nothing half behind, and costs nothing but
// what was not written; with everything put anew all is well again.
func TestDiskFull(t *testing.T) {
	cfg := config(t)
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("state", cfg.Dir, "tmpfs", 0, "size=128k,mode=700"); err != nil {
		t.Skip("a small file system cannot be mounted:", err)
	}
	t.Cleanup(func() { unix.Unmount(cfg.Dir, unix.MNT_DETACH) })
	l := begin(t, cfg, map[uint64]string{1: "one"})
	ballast := cfg.Dir + "/ballast"
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	var err error
	for key := uint64(2); err == nil && key < 1000; key++ {
		l.Put(key, make([]byte, 500))
		err = l.Flush()
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal("a full disk:", err)
	}
	for i, f := range l.files {
		if info, err := f.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("%s has %d bytes: %v", l.names[i], info.Size(), err)
		}
	}
	l.Put(1, []byte("lost"))
	if err := l.Flush(); err != nil {
		t.Error("told again:", err)
	}
	if found, c := understandFiles(t, l); len(found) > 0 || c.Health != Fresh {
		t.Error(found, c)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	l.Reset()
	l.Put(7, []byte("anew"))
	flush(t, l)
	found, c := understandFiles(t, l)
	expect(t, found, map[uint64]string{7: "anew"})
	if c.Health != Whole {
		t.Error(c)
	}
}

// Somebody who destroys the old file while it is copied from is noticed.
func TestOldFileDestroyed(t *testing.T) {
	l := begin(t, config(t), nil)
	for i := 0; l.old == 0; i++ {
		l.Put(uint64(i%300), make([]byte, 200))
		flush(t, l)
	}
	old := l.files[l.active^1]
	if _, err := old.WriteAt(make([]byte, l.old/2), l.old/2); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; l.old > 0 && err == nil; i++ {
		l.Put(999, []byte("x"))
		err = l.Flush()
	}
	if err == nil || !strings.Contains(err.Error(), "changed by somebody else") {
		t.Error(err)
	}
}

// The clock has been set while no process ran.
func TestShift(t *testing.T) {
	cfg := config(t)
	l := begin(t, cfg, map[uint64]string{1: "x"})
	l.title.wall += int64(time.Hour)
	l.Reset()
	flush(t, l)
	kill(l)
	l, _, _ = start(t, cfg)
	if s := l.Shift() + time.Hour; s.Abs() > time.Second {
		t.Error(l.Shift())
	}
}

func TestNoAllocation(t *testing.T) {
	l := begin(t, config(t), nil)
	record := make([]byte, 700)
	i := uint64(0)
	step := func() {
		i++
		l.Put(i%500, record)
		l.Put(i%500, record[:300])
		l.Delete((i + 250) % 500)
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for range 5000 {
		step()
	}
	generation := l.title.generation
	if n := testing.AllocsPerRun(3000, step); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if l.title.generation == generation {
		t.Error("no compaction was among it")
	}
}

// BenchmarkPutFlush is one change of a call, of a thousand that there are, on tmpfs.
func BenchmarkPutFlush(b *testing.B) {
	cfg := config(b)
	if dir, err := os.MkdirTemp("/dev/shm", "state"); err == nil {
		b.Cleanup(func() { os.RemoveAll(dir) })
		cfg.Dir = dir
	}
	l := begin(b, cfg, nil)
	record := make([]byte, 600)
	i := uint64(0)
	for b.Loop() {
		i++
		binary.LittleEndian.PutUint64(record, i)
		l.Put(i%1000, record)
		if err := l.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}

// Whoever has large records written again and again does not make the files grow beyond
// what counts.
func TestCompactionKeepsUp(t *testing.T) {
	l := begin(t, config(t), nil)
	for i := range uint64(10000) {
		l.Put(1000+i, []byte(strings.Repeat("x", 100)))
	}
	flush(t, l)
	most := int64(0)
	for i := range 1500 {
		l.Put(1, []byte(fmt.Sprint(i, strings.Repeat("y", 60<<10))))
		flush(t, l)
		most = max(most, l.size)
	}
	if limit := 3 * l.live; most > limit {
		t.Errorf("a file had %d bytes for %d that count", most, l.live)
	}
	found, c := understandFiles(t, l)
	if c.Health != Whole || len(found) != 10001 || !strings.HasPrefix(found[1], "1499y") {
		t.Errorf("%d records, %v", len(found), c)
	}
}
