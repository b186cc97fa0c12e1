package nat

import "math/rand/v2"

// ports hands out public ports of one public address: pairs of an even and the
// following odd port, as RTP and RTCP use them (RFC 3550 section 11).
type ports struct {
	low, high int // low even, high odd
	used      []uint64
	free      int // ports
	random    *rand.Rand
}

func newPorts(low, high uint16, random *rand.Rand) *ports {
	p := &ports{low: (int(low) + 1) &^ 1, high: (int(high)+1)&^1 - 1, random: random}
	p.free = max(p.high-p.low+1, 0)
	p.used = make([]uint64, (p.free+63)/64)
	return p
}

func (p *ports) contains(port uint16) bool { return int(port) >= p.low && int(port) <= p.high }

func (p *ports) taken(i int) bool { return p.used[i/64]&(1<<(i%64)) != 0 }

// mark takes one port, if it is one of the range.
func (p *ports) mark(port uint16) {
	if i := int(port) - p.low; p.contains(port) && !p.taken(i) {
		p.used[i/64] |= 1 << (i % 64)
		p.free--
	}
}

// release gives one port back, if it is one of the range.
func (p *ports) release(port uint16) {
	if i := int(port) - p.low; p.contains(port) && p.taken(i) {
		p.used[i/64] &^= 1 << (i % 64)
		p.free++
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
	start := p.random.IntN(pairs)
	for k := range pairs {
		i := (start + k) % pairs * 2
		if i+n <= pairs*2 && p.run(i, n, usable) {
			return uint16(p.low + i)
		}
	}
	return 0
}

func (p *ports) run(i, n int, usable func(port uint16) bool) bool {
	for j := i; j < i+n; j++ {
		if p.taken(j) || !usable(uint16(p.low+j)) {
			return false
		}
	}
	return true
}
