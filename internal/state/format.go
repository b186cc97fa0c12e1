package state

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"
)

// A file is a title and records. Numbers are little endian, times in nanoseconds.
//
//	title:   "sipnatd state 1\n", boot, namespace, cookie, wall, monotonic, generation, since, CRC-32C
//	record:  mark, length of the data, CRC-32C of what follows and of the length, sequence, key, data
//
// The newest record of a key is the one with the highest sequence, in whichever file it
// is; one without data says that the key is gone. Files whose generation is below the
// since of another one no longer count. A title of zeros stands before records that are
// not complete yet.
const (
	product = "sipnatd state "
	version = "1\n"

	titleLen  = len(product) + len(version) + 16 + 7*8 + 4
	recordLen = 4 + 4 + 4 + 8 + 8 // without data
)

// maxRecord is the most data that a record may have, in bytes.
const maxRecord = 1 << 20

// mark begins a record, so that the next one is found behind a damaged one.
var mark = [4]byte{0xF5, 'r', 'e', 'c'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place is where a state counts.
type place struct {
	boot      [16]byte
	namespace uint64 // inode of the network namespace
	cookie    uint64 // its number, never used twice in a boot; 0: the kernel has none (before 5.14)
}

// title begins a file.
type title struct {
	place
	wall, monotonic int64 // the writer's clocks, both at one moment
	generation      uint64
	since           uint64
}

func (t *title) append(b []byte) []byte {
	begin := len(b)
	b = append(b, product+version...)
	b = append(b, t.boot[:]...)
	for _, n := range [...]uint64{t.namespace, t.cookie, uint64(t.wall), uint64(t.monotonic), t.generation, t.since} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = binary.LittleEndian.AppendUint64(b, 0) // room
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[begin:], castagnoli))
}

// parseTitle takes a title of this version apart.
func parseTitle(b []byte) (t title, ok bool) {
	b = b[:titleLen]
	sum := binary.LittleEndian.Uint32(b[titleLen-4:])
	if crc32.Checksum(b[:titleLen-4], castagnoli) != sum {
		return t, false
	}
	b = b[len(product)+len(version):]
	b = b[copy(t.boot[:], b):]
	number := func() (n uint64) {
		n = binary.LittleEndian.Uint64(b)
		b = b[8:]
		return n
	}
	t.namespace, t.cookie = number(), number()
	t.wall, t.monotonic = int64(number()), int64(number())
	t.generation, t.since = number(), number()
	return t, true
}

// offset is what the wall clock is ahead of the monotonic one.
func (t *title) offset() time.Duration { return time.Duration(t.wall - t.monotonic) }

func appendRecord(b []byte, sequence, key uint64, data []byte) []byte {
	begin := len(b)
	b = append(b, mark[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, 0) // the checksum
	b = binary.LittleEndian.AppendUint64(b, sequence)
	b = binary.LittleEndian.AppendUint64(b, key)
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b[begin+8:], checksum(b[begin:]))
	return b
}

// checksum is that of a whole record.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[4:8], castagnoli), castagnoli, b[12:])
}

// dataLen is how much data the record says it has whose beginning b is.
func dataLen(b []byte) int { return int(binary.LittleEndian.Uint32(b[4:])) }

func sequenceOf(b []byte) uint64 { return binary.LittleEndian.Uint64(b[12:]) }

func keyOf(b []byte) uint64 { return binary.LittleEndian.Uint64(b[20:]) }

// cutRecord returns the whole record that b begins with, nil if there is none.
func cutRecord(b []byte) []byte {
	if len(b) < recordLen || !bytes.HasPrefix(b, mark[:]) {
		return nil
	}
	n := dataLen(b)
	if n > maxRecord || recordLen+n > len(b) {
		return nil
	}
	b = b[:recordLen+n]
	if binary.LittleEndian.Uint32(b[8:]) != checksum(b) {
		return nil
	}
	return b
}
