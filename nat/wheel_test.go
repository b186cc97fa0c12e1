package nat

import (
	"math/rand/v2"
	"testing"
	"time"
)

// alarm is a timed object that notes when it expires.
type alarm struct {
	tm    timer
	rang  []time.Time
	again time.Duration // sets itself anew
	wheel *wheel
}

func (a *alarm) timer() *timer { return &a.tm }

func (a *alarm) expire(_ *Engine, now time.Time) {
	a.rang = append(a.rang, now)
	if a.again > 0 {
		a.wheel.set(a, now.Add(a.again))
	}
}

var wheelStart = time.Unix(1_700_000_000, 0)

func newWheel() *wheel { return &wheel{at: wheelStart.Unix()} }

// advanceBy lets the wheel's time pass, a second at a time.
func advanceBy(w *wheel, from time.Time, d time.Duration) time.Time {
	for end := from.Add(d); from.Before(end); {
		from = from.Add(time.Second)
		w.advance(nil, from)
	}
	return from
}

func TestWheelExpiresOnTime(t *testing.T) {
	for _, d := range []time.Duration{
		-time.Hour, 0, time.Millisecond, 999 * time.Millisecond, time.Second, 1500 * time.Millisecond,
		(wheelSlots - 2) * time.Second, (wheelSlots - 1) * time.Second, wheelSlots * time.Second,
		(wheelSlots + 1) * time.Second, 3 * wheelSlots * time.Second, 24 * time.Hour,
	} {
		w, a := newWheel(), new(alarm)
		deadline := wheelStart.Add(d)
		w.set(a, deadline)
		end := advanceBy(w, wheelStart, max(d, 0)+3*time.Second)
		if len(a.rang) != 1 {
			t.Errorf("%v: expired %d times", d, len(a.rang))
			continue
		}
		late := a.rang[0].Sub(max0(deadline))
		if late < 0 || late > 2*time.Second {
			t.Errorf("%v: expired %v late", d, late)
		}
		if advanceBy(w, end, 2*wheelSlots*time.Second); len(a.rang) != 1 {
			t.Errorf("%v: expired again", d)
		}
	}
}

// max0 is the first moment at which something with this deadline can expire.
func max0(deadline time.Time) time.Time {
	if deadline.Before(wheelStart) {
		return wheelStart
	}
	return deadline
}

func TestWheelMovesDeadlines(t *testing.T) {
	s := time.Second
	tests := []struct {
		name string
		sets []time.Duration // one a second
		want time.Duration   // 0: never
	}{
		{"later", []time.Duration{10 * s, 20 * s}, 20 * s},
		{"earlier", []time.Duration{20 * s, 10 * s}, 10 * s},
		{"to and fro", []time.Duration{20 * s, 5 * s, 30 * s, 8 * s, 40 * s}, 40 * s},
		{"fro and to", []time.Duration{40 * s, 20 * s, 30 * s}, 30 * s},
		{"beyond a turn and back", []time.Duration{2 * wheelSlots * s, 10 * s}, 10 * s},
		{"into the past", []time.Duration{20 * s, -s}, 1 * s},
	}
	for _, tt := range tests {
		w, a, now := newWheel(), new(alarm), wheelStart
		for _, d := range tt.sets {
			w.set(a, wheelStart.Add(d))
			now = advanceBy(w, now, s)
		}
		advanceBy(w, now, 3*wheelSlots*s)
		if len(a.rang) != 1 {
			t.Errorf("%s: expired %d times", tt.name, len(a.rang))
		} else if late := a.rang[0].Sub(wheelStart.Add(tt.want)); late < 0 || late > 2*s {
			t.Errorf("%s: expired %v late", tt.name, late)
		}
	}
}

func TestWheelForgets(t *testing.T) {
	w, a := newWheel(), new(alarm)
	w.set(a, wheelStart.Add(5*time.Second))
	a.tm.deadline = time.Time{}
	now := advanceBy(w, wheelStart, 2*wheelSlots*time.Second)
	if len(a.rang) != 0 {
		t.Error("expired without a deadline")
	}
	for _, slot := range w.slots {
		if len(slot) != 0 {
			t.Error("an object without a deadline is kept")
		}
	}
	w.set(a, now.Add(time.Second))
	if advanceBy(w, now, 3*time.Second); len(a.rang) != 1 {
		t.Error("does not expire when it is set again")
	}
}

func TestWheelSetInExpire(t *testing.T) {
	w := newWheel()
	a := &alarm{wheel: w, again: 7 * time.Second}
	w.set(a, wheelStart.Add(7*time.Second))
	advanceBy(w, wheelStart, 71*time.Second)
	if n := len(a.rang); n < 8 || n > 10 {
		t.Errorf("expired %d times in 71 s, every 7 s", n)
	}
}

// TestWheelJump has no tick for longer than a turn, as in a machine that was
// paused: everything that is due expires at once, the rest in its time.
func TestWheelJump(t *testing.T) {
	w := newWheel()
	alarms := make([]*alarm, 4000)
	for i := range alarms {
		alarms[i] = new(alarm)
		w.set(alarms[i], wheelStart.Add(time.Duration(i)*time.Second))
	}
	now := wheelStart.Add(2500 * time.Second)
	w.advance(nil, now)
	for i, a := range alarms {
		if due := i <= 2500; due != (len(a.rang) == 1) {
			t.Fatalf("%d s: expired %d times after 2500 s", i, len(a.rang))
		}
	}
	advanceBy(w, now, 1502*time.Second)
	for i, a := range alarms {
		if len(a.rang) != 1 {
			t.Fatalf("%d s: expired %d times in the end", i, len(a.rang))
		}
	}
}

// TestWheelModel compares the wheel with a list of deadlines.
func TestWheelModel(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	w, now := newWheel(), wheelStart
	alarms := make([]*alarm, 200)
	for i := range alarms {
		alarms[i] = new(alarm)
	}
	for range 20_000 {
		a := alarms[random.IntN(len(alarms))]
		switch random.IntN(6) {
		case 0:
			a.tm.deadline = time.Time{}
		case 1, 2, 3:
			w.set(a, now.Add(time.Duration(random.IntN(1<<random.IntN(14)))*time.Second))
			a.rang = nil
		default:
			step := time.Duration(1+random.IntN(1<<random.IntN(5))) * time.Second
			if random.IntN(500) == 0 {
				step = time.Duration(random.IntN(5*wheelSlots)) * time.Second
			}
			now = now.Add(step)
			deadlines := make([]time.Time, len(alarms))
			for i, a := range alarms {
				deadlines[i] = a.tm.deadline
				a.rang = nil
			}
			w.advance(nil, now)
			for i, a := range alarms {
				d := deadlines[i]
				switch n := len(a.rang); {
				case n > 1:
					t.Fatalf("expired %d times", n)
				case n == 1 && (d.IsZero() || d.After(now)):
					t.Fatalf("expired %v early", d.Sub(now))
				case n == 0 && !d.IsZero() && now.Sub(d) > 2*time.Second:
					t.Fatalf("not expired %v after its deadline", now.Sub(d))
				}
			}
		}
	}
}

// TestClockIsSteady: setting the wall clock ends nothing. The engine's time has a
// monotonic reading, and so goes on evenly, and its wall time is what that makes of the
// first one, which slots and records count by.
func TestClockIsSteady(t *testing.T) {
	begin := time.Now()
	readings := []time.Time{begin, begin.Add(time.Second), begin.Add(time.Hour)}
	now := steady(func() time.Time {
		next := readings[0]
		readings = readings[1:]
		return next
	})
	for _, want := range readings {
		got := now()
		if got == got.Round(0) {
			t.Errorf("%v is a wall time", got)
		}
		if got.UnixNano() != want.UnixNano() {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
