package nat

import (
	"math/rand/v2"
	"slices"
	"time"
)

// portRest is how long a port that was given back is not handed out again while
// there are others: whoever sent to it may not have noticed yet that its call is
// over, and must not be heard in the next one.
const portRest = time.Minute

// ports hands out public ports of one public address: pairs of an even and the
// following odd port, as RTP and RTCP use them (RFC 3550 section 11).
type ports struct {
	low, high int // low even, high odd
	used      bitmap
	tired     bitmap // given back lately
	resting   []rest // of these, the one that ends first in front
	free      int    // ports that are not used
	random    *rand.Rand
	now       func() time.Time
}

type bitmap []uint64

func (b bitmap) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitmap) clear(i int)    { b[i/64] &^= 1 << (i % 64) }

// rest is the time until a port may be handed out again.
type rest struct {
	index int
	end   time.Time
}

func newPorts(low, high uint16, random *rand.Rand, now func() time.Time) *ports {
	p := &ports{low: (int(low) + 1) &^ 1, high: (int(high)+1)&^1 - 1, random: random, now: now}
	p.free = max(p.high-p.low+1, 0)
	p.used, p.tired = make(bitmap, (p.free+63)/64), make(bitmap, (p.free+63)/64)
	return p
}

func (p *ports) contains(port uint16) bool { return int(port) >= p.low && int(port) <= p.high }

func (p *ports) taken(i int) bool { return p.used.has(i) }

// mark takes one port, if it is one of the range.
func (p *ports) mark(port uint16) {
	if i := int(port) - p.low; p.contains(port) && !p.taken(i) {
		p.used.set(i)
		p.free--
	}
}

// release gives one port back, if it is one of the range.
func (p *ports) release(port uint16) {
	if i := int(port) - p.low; p.contains(port) && p.taken(i) {
		p.used.clear(i)
		p.free++
		p.wake(false)
		p.tired.set(i)
		p.resting = append(p.resting, rest{i, p.now().Add(portRest)})
	}
}

// wake ends the rest of all ports whose time has come, or of all.
func (p *ports) wake(all bool) {
	n, now := 0, p.now()
	for n < len(p.resting) && (all || !p.resting[n].end.After(now)) {
		p.tired.clear(p.resting[n].index)
		n++
	}
	p.resting = slices.Delete(p.resting, 0, n)
}

// inherit lets the ports rest that rest in another range.
func (p *ports) inherit(old *ports) {
	for _, r := range old.resting {
		if port := uint16(old.low + r.index); p.contains(port) {
			r.index = int(port) - p.low
			p.tired.set(r.index)
			p.resting = append(p.resting, r)
		}
	}
}

// find returns an even port with n free ports from it, chosen at random so that
// nobody outside can foresee it, or 0. usable is asked about each of them. The
// ports are not marked.
func (p *ports) find(n int, usable func(port uint16) bool) uint16 {
	pairs := (p.high - p.low + 1) / 2
	if n > p.free || pairs <= 0 {
		return 0
	}
	p.wake(false)
	start := p.random.IntN(pairs)
	for {
		for k := range pairs {
			i := (start + k) % pairs * 2
			if i+n <= pairs*2 && p.run(i, n, usable) {
				return uint16(p.low + i)
			}
		}
		if len(p.resting) == 0 {
			return 0
		}
		p.wake(true) // no call is refused for their sake
	}
}

func (p *ports) run(i, n int, usable func(port uint16) bool) bool {
	for j := i; j < i+n; j++ {
		if p.taken(j) || p.tired.has(j) || !usable(uint16(p.low+j)) {
			return false
		}
	}
	return true
}
