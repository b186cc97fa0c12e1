package nat

import "github.com/dchest/siphash"

// Journal keeps what the kernel cannot know, for the process that comes after this
// one: calls with their dialogs, transactions, and what the bindings are registered
// for. The engine calls it with its lock held.
type Journal interface {
	// Put notes a record under its key, in the place of what was there. The bytes
	// belong to the caller.
	Put(key uint64, record []byte)
	// Delete takes a record out.
	Delete(key uint64)
	// Flush returns when all that was noted outlives the process. Its error is for
	// the Journal to report: the engine goes on without.
	Flush() error
}

// kept is something that the journal has a record of.
type kept interface {
	// place returns the object's own place in the journal.
	place() *saved
	// appendRecord appends what the journal is to know.
	appendRecord(to []byte) []byte
}

// saved is the place of one object in the journal.
type saved struct {
	key     uint64 // 0: it has no record
	sum     uint64 // of the record that is there
	touched bool   // listed in Engine.touched
	gone    bool   // the object is no more
}

// touch has the object's record looked at when the message has been handled.
func (e *Engine) touch(o kept) {
	if s := o.place(); e.journal != nil && !s.touched && !s.gone {
		s.touched = true
		e.touched = append(e.touched, o)
	}
}

// touchAll is touch for a call and its transactions: their records name the public
// endpoints of the sessions that they have.
func (e *Engine) touchAll(c *call) {
	e.touch(c)
	for _, t := range c.transactions {
		e.touch(t)
	}
}

// strike takes the record of an object that is no more out of the journal.
func (e *Engine) strike(s *saved) {
	s.gone = true
	if s.key != 0 && e.journal != nil { // Keep counts the keys anew
		e.journal.Delete(s.key)
		e.flushDue = true
	}
	s.key = 0
}

// save brings the journal to what the touched objects are. It comes before the kernel
// is changed: what the kernel has and the journal does not know would be nobody's
// after a crash; what only the journal knows is put into the kernel by the next
// process.
func (e *Engine) save() {
	for _, o := range e.touched {
		s := o.place()
		s.touched = false
		if s.gone {
			continue
		}
		e.record = o.appendRecord(e.record[:0])
		sum := siphash.Hash(e.secret[0], e.secret[1], e.record)
		if s.key != 0 && s.sum == sum {
			continue
		}
		if s.key == 0 {
			e.lastKey++
			s.key = e.lastKey
		}
		s.sum = sum
		e.journal.Put(s.key, e.record)
		e.flushDue = true
	}
	clear(e.touched)
	e.touched = e.touched[:0]
	if e.flushDue {
		e.flushDue = false
		_ = e.journal.Flush() // which reports it
	}
}

// Keep gives the engine its journal, and writes all that it has to it. After a
// journal has failed and can be written again, or has been replaced, it is to be
// called once more. With nil there is none.
func (e *Engine) Keep(j Journal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.touched)
	e.touched = e.touched[:0]
	if e.journal = j; j == nil {
		return
	}
	e.lastKey = 0
	again := func(o kept) {
		s := o.place()
		s.key, s.touched = 0, false
		e.touch(o)
	}
	again(e)
	for _, b := range e.bindings {
		again(b)
	}
	for _, c := range e.calls {
		again(c)
	}
	for _, t := range e.transactions {
		again(t)
	}
	e.save()
}
