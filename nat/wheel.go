package nat

import "time"

// timed is something that has a deadline. Deadlines move forward lazily: an
// object stays in its slot, and is queued again when the slot comes up early.
type timed interface {
	// timer returns the object's own place in the wheel.
	timer() *timer
	// expire is called once the deadline has passed. It sets a new deadline,
	// or leaves the zero time to be forgotten.
	expire(e *Engine, now time.Time)
}

// timer is the place of one object in the wheel.
type timer struct {
	deadline time.Time // zero: none
	queued   int64     // the Unix second of the slot that holds the object, 0: none
}

const wheelSlots = 1024 // seconds; later deadlines are queued again

// wheel is a timing wheel with slots of one second. To queue, to move and to
// expire take constant time, however many objects there are.
type wheel struct {
	slots [wheelSlots][]timed
	at    int64 // the Unix second up to which the slots have been emptied
}

// set gives the object a deadline.
func (w *wheel) set(t timed, deadline time.Time) {
	tm := t.timer()
	tm.deadline = deadline
	w.queue(t, tm)
}

func (w *wheel) queue(t timed, tm *timer) {
	if tm.deadline.IsZero() {
		return
	}
	at := tm.deadline.Unix() + 1 // never early
	at = min(max(at, w.at+1), w.at+wheelSlots-1)
	if tm.queued != 0 && tm.queued <= at {
		return // comes up in time, and is queued again then
	}
	tm.queued = at
	slot := &w.slots[at%wheelSlots]
	*slot = append(*slot, t)
}

// advance expires everything whose deadline is not after now.
func (w *wheel) advance(e *Engine, now time.Time) {
	end := now.Unix()
	if end-w.at > wheelSlots { // the clock jumped: every slot is due once
		w.at = end - wheelSlots
		for i := range w.slots {
			for _, t := range w.slots[i] {
				t.timer().queued = w.at + 1 // so that none is taken for stale
			}
		}
	}
	for w.at < end {
		w.at++
		slot := w.slots[w.at%wheelSlots]
		w.slots[w.at%wheelSlots] = nil
		for i, t := range slot {
			slot[i] = nil
			tm := t.timer()
			if tm.queued == 0 || tm.queued > w.at {
				continue // moved to another slot since
			}
			tm.queued = 0
			if !tm.deadline.IsZero() && !tm.deadline.After(now) {
				tm.deadline = time.Time{}
				t.expire(e, now)
			}
			w.queue(t, tm)
		}
	}
}
