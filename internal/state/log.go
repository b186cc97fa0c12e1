package state

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// compactFrom is the size of a file, in bytes, below which outdated records in it are no
// concern.
const compactFrom = 64 << 10

// copyAtOnce is how much of the old file, in bytes, one Flush looks through for records
// that still count, unless it has much to write itself.
const copyAtOnce = 16 << 10

// mostBuffered is how much, in bytes, is kept in memory of what an owner writes anew.
const mostBuffered = 256 << 10

// A Log keeps records by key in two files. Its methods may be called concurrently.
//
// It begins with what an earlier process has left: [Log.Load] tells it, and
// [Log.Reset] makes it ready for the records of this process.
type Log struct {
	mu    sync.Mutex
	cfg   Config
	files [2]*os.File
	names [2]string
	shift time.Duration

	title   title
	phase   phase
	active  int   // the file that is appended to
	size    int64 // what has been written to it, in bytes
	buf     []byte
	err     error // of a write before Flush
	index   map[uint64]entry
	live    int64  // what the entries of the index take, in bytes
	last    uint64 // sequence of the newest record
	old     int64  // size of the other file, while records are copied from it; else 0
	copied  int64  // and how far that has come
	scratch []byte
}

// phase is what becomes of records.
type phase int

const (
	closed   phase = iota // they are not kept: before Reset, and after a failure
	renewing              // the owner writes everything anew; the other file counts until Flush
	open
)

// entry is where the newest record of a key is.
type entry struct {
	at   int64
	size int32
	file int8
}

// Reset forgets all that was written: the owner puts everything anew, after Load or a
// failure. Until the next Flush has returned, a process that is started after this one
// still finds what was there before.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	l.active ^= 1
	l.title.generation++
	l.title.since = l.title.generation
	l.size = int64(titleLen)
	if l.err = l.files[l.active].Truncate(0); l.err != nil {
		l.err = fmt.Errorf("%s: %w", l.names[l.active], l.err)
	}
	l.phase = renewing
}

func (l *Log) clear() {
	l.phase, l.err = closed, nil
	l.buf = l.buf[:0]
	clear(l.index)
	l.live, l.old, l.copied = 0, 0, 0
}

// Put has a record of a key replace the one before, from the next Flush on. An empty
// record is that of a key that is gone. It may have a megabyte.
func (l *Log) Put(key uint64, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(data) == 0 {
		l.remove(key)
		return
	}
	if l.phase == closed {
		return
	}
	if len(data) > maxRecord {
		l.err = fmt.Errorf("a record of %d bytes is too large", len(data))
		return
	}
	l.live -= int64(l.index[key].size)
	e := entry{at: l.size + int64(len(l.buf)), size: int32(recordLen + len(data)), file: int8(l.active)}
	l.append(key, data)
	l.index[key] = e
	l.live += int64(e.size)
}

// Delete has a key be gone, from the next Flush on.
func (l *Log) Delete(key uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(key)
}

func (l *Log) remove(key uint64) {
	e, is := l.index[key]
	if !is {
		return
	}
	delete(l.index, key)
	l.live -= int64(e.size)
	l.append(key, nil)
}

func (l *Log) append(key uint64, data []byte) {
	l.last++
	l.buf = appendRecord(l.buf, l.last, key, data)
	if l.phase == renewing && len(l.buf) >= mostBuffered && l.err == nil {
		l.err = l.write()
	}
}

// Flush writes down what has been put and deleted. When it has returned, that survives
// the end of the process.
//
// An error is returned once. All that was kept is then forgotten, so that nobody takes
// a part of it for the whole, and nothing is kept until [Log.Reset] is called and
// everything put anew.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == closed || l.phase == open && len(l.buf) == 0 && l.err == nil {
		return nil
	}
	if err := l.flush(); err != nil {
		l.clear()
		for _, f := range l.files {
			err = errors.Join(err, f.Truncate(0))
		}
		return err
	}
	return nil
}

func (l *Log) flush() error {
	if l.err != nil {
		return l.err
	}
	if err := l.copyOn(); err != nil {
		return err
	}
	if err := l.write(); err != nil {
		return err
	}
	switch {
	case l.phase == renewing:
		// With its title the file begins to count, and the other one ceases to.
		l.buf = l.title.append(l.buf)
		_, err := l.files[l.active].WriteAt(l.buf, 0)
		l.buf = l.buf[:0]
		if err != nil {
			return err
		}
		l.phase = open
		return l.files[l.active^1].Truncate(0)
	case l.old > 0 && l.copied == l.old:
		l.old, l.copied = 0, 0
		return l.files[l.active^1].Truncate(0)
	case l.old == 0 && l.size >= compactFrom && l.live < l.size/2:
		l.turn()
	}
	return nil
}

// write appends what is in the buffer.
func (l *Log) write() error {
	_, err := l.files[l.active].WriteAt(l.buf, l.size)
	if err != nil {
		return err
	}
	l.size += int64(len(l.buf))
	l.buf = l.buf[:0]
	if cap(l.buf) > 2*mostBuffered {
		l.buf = nil
	}
	return nil
}

// Close lets go of the files. What has been flushed stays in them.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	return errors.Join(l.files[0].Close(), l.files[1].Close())
}
