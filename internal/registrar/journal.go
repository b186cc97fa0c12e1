package registrar

import (
	"slices"
	"time"

	"sipnatd/nat"
)

// A record of the journal is what the file has of the same: a contact, a token with its
// accounts, or the secret. Times are those of the clock as it was at the start.

// saveEvery is how old a record may be that only tells when a token was used last.
const saveEvery = time.Hour

// Restore takes in a record of the journal that an earlier process has left. Nothing
// happens before [Registrar.Resume].
func (r *Registrar) Restore(record []byte, shift time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backlog, r.shift = append(r.backlog, record...), shift
}

// Resume goes on with the registrations of the records given to Restore. If they are
// whole, what the file has told is older and does not count.
func (r *Registrar) Resume(whole bool) (contacts, tokens int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.backlog == nil {
		return 0, 0
	}
	if whole {
		for _, b := range slices.Clone(r.bindings) {
			r.remove(b)
		}
		for _, l := range slices.Clone(r.lines.list) {
			r.removeLine(l)
		}
	}
	contacts, tokens, _ = r.restore(slices.Concat([]byte(fileTitle+fileVersion+"\n"), r.backlog), r.start.Add(-r.shift))
	r.backlog = nil
	return contacts, tokens
}

// Keep gives the registrar its journal, and writes all that it has to it. With nil there
// is none.
func (r *Registrar) Keep(j nat.Journal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journal, r.lastKey = j, 0
	if j == nil {
		return
	}
	w := r.recorder()
	w.secret(r.lines.secret)
	r.put(new(uint64), w)
	for _, b := range r.bindings {
		b.key = 0
		r.putContact(b)
	}
	for _, l := range r.lines.list {
		l.key = 0
		r.putLine(l)
	}
	_ = j.Flush() // the journal's owner is told by itself
}

// recorder writes the next record.
func (r *Registrar) recorder() *writer { return &writer{text: r.record[:0], zero: r.start} }

func (r *Registrar) put(key *uint64, w *writer) {
	r.record = w.text
	if *key == 0 {
		r.lastKey++
		*key = r.lastKey
	}
	r.journal.Put(*key, w.text)
}

func (r *Registrar) putContact(b *binding) {
	w := r.recorder()
	w.contact(b)
	r.put(&b.key, w)
}

func (r *Registrar) putLine(l *line) {
	w := r.recorder()
	l.saved = r.now()
	w.line(l, l.saved)
	r.put(&l.key, w)
}

// saveContact, saveLine and strike bring the journal to what there is, before anybody is
// told of it.
func (r *Registrar) saveContact(b *binding) {
	if r.journal != nil {
		r.putContact(b)
		_ = r.journal.Flush()
	}
}

func (r *Registrar) saveLine(l *line) {
	if r.journal != nil {
		r.putLine(l)
		_ = r.journal.Flush()
	}
}

func (r *Registrar) strike(key *uint64) {
	if r.journal != nil && *key != 0 {
		r.journal.Delete(*key)
		_ = r.journal.Flush()
	}
	*key = 0
}
