package state

import "fmt"

// turn makes the other file, which is empty, the one that is appended to. Both count
// until everything is copied.
func (l *Log) turn() {
	l.old, l.copied = l.size, int64(titleLen)
	l.active ^= 1
	l.size = 0
	l.title.since = l.title.generation
	l.title.generation++
	l.buf = l.title.append(l.buf)
}

// copyOn copies as much as is due with this Flush: of the old file twice what is to be
// written, at least. So when that file is done the other one is no larger than it was,
// however large records are.
func (l *Log) copyOn() error {
	for end := l.copied + 2*int64(len(l.buf)); l.old > 0 && l.copied < l.old; {
		if err := l.copySome(); err != nil {
			return err
		}
		if l.copied >= end {
			break
		}
	}
	return nil
}

// copySome looks through the next piece of the old file and adds to the buffer what
// still counts of it.
func (l *Log) copySome() error {
	if l.scratch == nil {
		l.scratch = make([]byte, copyAtOnce)
	}
	piece := l.scratch[:min(int64(len(l.scratch)), l.old-l.copied)]
	if err := l.readOld(piece); err != nil {
		return err
	}
	begin := l.copied
	for len(piece) >= recordLen {
		size := recordLen + dataLen(piece)
		if size > recordLen+maxRecord || l.copied+int64(size) > l.old {
			return l.errOld()
		}
		if size > len(piece) {
			break
		}
		if err := l.copyRecord(piece[:size]); err != nil {
			return err
		}
		piece = piece[size:]
		l.copied += int64(size)
	}
	switch {
	case l.copied > begin || l.copied == l.old:
		return nil
	case len(piece) < recordLen:
		return l.errOld()
	}
	// A single record that is larger than the piece.
	whole := make([]byte, recordLen+dataLen(piece))
	if err := l.readOld(whole); err != nil {
		return err
	}
	if err := l.copyRecord(whole); err != nil {
		return err
	}
	l.copied += int64(len(whole))
	return nil
}

// copyRecord adds a record of the old file to the buffer, if it is the newest of its
// key.
func (l *Log) copyRecord(raw []byte) error {
	key := keyOf(raw)
	e, is := l.index[key]
	if !is || int(e.file) == l.active || e.at != l.copied {
		return nil
	}
	if cutRecord(raw) == nil {
		return l.errOld()
	}
	l.index[key] = entry{at: l.size + int64(len(l.buf)), size: e.size, file: int8(l.active)}
	l.buf = append(l.buf, raw...)
	return nil
}

func (l *Log) readOld(b []byte) error {
	_, err := l.files[l.active^1].ReadAt(b, l.copied)
	return err
}

func (l *Log) errOld() error {
	return fmt.Errorf("%s has been changed by somebody else", l.names[l.active^1])
}
