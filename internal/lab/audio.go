package lab

import (
	"fmt"
	"sort"
	"strings"
)

// AudioBothWays waits until n packets of a media stream have passed the
// firewall in each direction, on both of its sides, between the same two
// endpoints: real phones send where they were told, and answer there.
func (l *Lab) AudioBothWays(n int) {
	l.T.Helper()
	l.AudioBothWaysSince(0, 0, n)
}

// AudioBothWaysSince is AudioBothWays from these marks of the captures on.
func (l *Lab) AudioBothWaysSince(inside, wire, n int) {
	l.T.Helper()
	for _, side := range []struct {
		*Capture
		mark int
	}{{l.Inside, inside}, {l.Wire, wire}} {
		err := side.Wait(side.mark, Moment(), func(ps []*Packet) bool { return bothWays(ps, n) })
		if err != nil {
			l.T.Fatalf("audio does not run both ways: %v\n%s", err, side.MediaTable())
		}
	}
}

func bothWays(ps []*Packet, n int) bool {
	counts := make(map[Path]int)
	for _, p := range ps {
		if p.IsMedia() {
			counts[Path{p.Src, p.Dst}]++
		}
	}
	for p, there := range counts {
		if back := counts[Path{p.Dst, p.Src}]; there >= n && back >= n {
			return true
		}
	}
	return false
}

// MediaTable is a readable form of Media.
func (c *Capture) MediaTable() string {
	var lines []string
	for p, n := range c.Media() {
		lines = append(lines, fmt.Sprintf("  %-7s %22v -> %-22v %5d packets", c.Name, p.Src, p.Dst, n.Packets))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// Tone is the pitch in Hz of the PCMU that went along a path: what the
// receiver hears. 0 for silence.
func (c *Capture) Tone(p Path) int {
	const headerLen, rate = 12, 8000
	var crossings, samples int
	last := 0
	for _, packet := range c.Packets() {
		if packet.Src != p.Src || packet.Dst != p.Dst || len(packet.Payload) <= headerLen || packet.Payload[1]&0x7f != 0 {
			continue
		}
		for _, b := range packet.Payload[headerLen:] {
			samples++
			sign := loud(b)
			if sign != 0 && last != 0 && sign != last {
				crossings++
			}
			if sign != 0 {
				last = sign
			}
		}
	}
	if samples == 0 {
		return 0
	}
	return crossings * rate / 2 / samples
}

// loud is the sign of a µ-law sample (ITU-T G.711), 0 for a soft one.
func loud(b byte) int {
	b = ^b
	if b&0x70 == 0 { // the lowest segment
		return 0
	}
	if b&0x80 != 0 {
		return -1
	}
	return 1
}
