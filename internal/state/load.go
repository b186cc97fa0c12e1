package state

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Health says how much of a state could be read.
type Health string

// What a state is like.
const (
	Fresh   Health = "fresh"   // there is none, or none that counts here and now
	Whole   Health = "whole"   // every record whose Flush has returned is there
	Damaged Health = "damaged" // some records are lost, or outdated ones have come back
)

// A Condition is what has been found at the start.
type Condition struct {
	Health  Health
	Records int    // how many have been handed over
	Reason  string // what is damaged or does not count, in words; empty if there is nothing to say
}

// maxFile is the most that is read of a file, in bytes. Two of them fit into the
// memory of any machine that has had that many calls.
const maxFile = 256 << 20

// Load hands over the records that an earlier process has left, in the order in which
// they were written. fn must not keep the record. Whatever is wrong with the files is
// survived and told.
func (l *Log) Load(fn func(key uint64, record []byte)) Condition {
	l.mu.Lock()
	var images [2]image
	for i, f := range l.files {
		images[i] = read(f, filepath.Base(l.names[i]))
	}
	found, condition := parse(images, l.title.place)
	if found.title != nil {
		l.shift = l.title.offset() - found.title.offset()
		l.title.generation = found.title.generation
		l.active = found.newest
		l.unite(images, found)
	}
	l.mu.Unlock()
	for _, r := range found.records {
		fn(keyOf(r.raw), r.raw[recordLen:])
	}
	return condition
}

// unite copies to the newest file what only the other one has, so that there is one
// for Reset to use. Where that fails, it is lost only if this process is killed before
// its owner has put everything anew.
func (l *Log) unite(images [2]image, found findings) {
	var missing []byte
	for _, r := range found.records {
		if r.file != found.newest {
			missing = append(missing, r.raw...)
		}
	}
	if missing != nil {
		_, _ = l.files[found.newest].WriteAt(missing, int64(len(images[found.newest].text)))
	}
}

// Shift is what must be added to a time of the wall clock that the earlier process has
// put into a record, to be the same moment by the clock as it was when this process
// opened the log. It differs from 0 where the clock has been set in between. It is
// right for times that are reckoned from the process's beginning, as time.Time does
// with its monotonic reading; 0 before Load.
func (l *Log) Shift() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shift
}

// image is what a file holds.
type image struct {
	name string
	text []byte
	err  error
}

func read(f *os.File, name string) image {
	info, err := f.Stat()
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("it has %d MiB, which no state of ours has", info.Size()>>20)
	}
	if err != nil {
		return image{name: name, err: err}
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
	return image{name, text, err}
}

// record is the newest one of its key.
type record struct {
	raw  []byte
	file int
}

// findings are what two files tell together.
type findings struct {
	records []record
	title   *title // of the newest file; nil: none counts
	newest  int    // its number
}

// part is one file's contribution.
type part struct {
	image
	title  title
	counts bool   // it is a state of this boot and network namespace
	other  string // why it is none, where that is no damage
	damage string

	unfinished bool // its records were not complete
}

// parse puts together what two files tell.
func parse(images [2]image, here place) (found findings, c Condition) {
	var parts [2]part
	since := uint64(0)
	for i, image := range images {
		parts[i] = recognize(image, here)
		if p := &parts[i]; p.counts {
			since = max(since, p.title.since)
			if found.title == nil || p.title.generation > found.title.generation {
				found.title, found.newest = &p.title, i
			}
		}
	}
	newest := make(map[uint64]record)
	c.Health = Fresh
	for i := range parts {
		p := &parts[i]
		switch {
		case p.counts && p.title.generation < since:
			continue // what was worth something is in the other file
		case p.unfinished && found.title == nil:
			p.damage = "was not finished, or its beginning is destroyed"
		case p.counts:
			p.damage = scan(p.text[titleLen:], i, newest)
			if c.Health == Fresh {
				c.Health = Whole
			}
		}
		if p.damage != "" {
			c.Health = Damaged
		}
		if why := cmp.Or(p.damage, p.other); why != "" {
			if c.Reason != "" {
				c.Reason += "; "
			}
			c.Reason += p.name + " " + why
		}
	}
	for _, r := range newest {
		if len(r.raw) > recordLen {
			found.records = append(found.records, r)
		}
	}
	slices.SortFunc(found.records, func(a, b record) int { return cmp.Compare(sequenceOf(a.raw), sequenceOf(b.raw)) })
	c.Records = len(found.records)
	return found, c
}

// recognize says what a file is by its title.
func recognize(i image, here place) part {
	p := part{image: i}
	own := len(product) + len(version)
	switch {
	case i.err != nil:
		p.damage = "cannot be read: " + i.err.Error()
	case len(i.text) == 0:
	case bytes.Count(i.text[:min(len(i.text), titleLen)], []byte{0}) == min(len(i.text), titleLen):
		p.unfinished = true // the other file has them all
	case !bytes.HasPrefix(i.text, []byte(product)) && len(i.text) >= len(product):
		p.damage = "is no state of sipnatd, or its beginning is destroyed"
	case len(i.text) < titleLen:
		p.damage = "ends within its title"
	case string(i.text[len(product):own]) != version:
		p.other = "is of another version of sipnatd"
	default:
		var ok bool
		if p.title, ok = parseTitle(i.text); !ok {
			p.damage = "has a damaged title"
			break
		}
		p.other = p.title.elsewhere(here)
		p.counts = p.other == ""
	}
	return p
}

// elsewhere says why a state does not count here.
func (p *place) elsewhere(here place) string {
	switch {
	case p.boot != here.boot:
		return "is from before the machine was started"
	case p.namespace != here.namespace, p.cookie != here.cookie && p.cookie != 0 && here.cookie != 0:
		return "is that of another network namespace"
	}
	return ""
}

// scan adds the records of a file to the newest ones, and says what is damaged.
func scan(text []byte, file int, newest map[uint64]record) string {
	lost, torn := 0, 0
	for len(text) > 0 {
		raw := cutRecord(text)
		if raw == nil {
			outdate(text, file, newest)
			skip := bytes.Index(text[1:], mark[:]) + 1
			if skip == 0 {
				skip = len(text)
			}
			torn = skip
			lost += skip
			text = text[skip:]
			continue
		}
		text = text[len(raw):]
		torn = 0
		if old, is := newest[keyOf(raw)]; !is || sequenceOf(old.raw) < sequenceOf(raw) {
			newest[keyOf(raw)] = record{raw, file}
		}
	}
	switch {
	case lost == 0:
		return ""
	case lost == torn:
		return "ends within a record"
	}
	return fmt.Sprintf("has %d damaged bytes", lost)
}

// outdate takes away what a damaged record was to replace: an outdated record tells what
// is not true any more, which is worse than nothing. Its key may be damaged as well; then
// there is hardly one like it.
func outdate(text []byte, file int, newest map[uint64]record) {
	if len(text) < recordLen || !bytes.HasPrefix(text, mark[:]) {
		return
	}
	raw := text[:recordLen]
	if old, is := newest[keyOf(raw)]; is && sequenceOf(old.raw) < sequenceOf(raw) {
		newest[keyOf(raw)] = record{raw, file}
	}
}
