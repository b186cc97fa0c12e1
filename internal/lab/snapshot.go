package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Snapshot is what the firewall has open for others at a moment, and what its daemon
// takes up.
type Snapshot struct {
	open   map[string]bool // elements, expectations, anchors, and flows from outside to inside
	queues map[int]Queue
	memory int // resident, in bytes
	files  int // descriptors of the daemon
}

// maxGrowth is by how much the daemon's memory may differ between two snapshots: what
// the collector has not returned, and no more.
const maxGrowth = 24 << 20

// opening are the sets and maps of the table that let somebody in, or through. The
// others count and refuse: they have a fixed size and time-outs of their own.
var opening = []string{"bindings", "publics", "signalling", "bound", "peers", "known", "streams", "sources", "open"}

// Snapshot takes one. Of the table, what opens something counts with its keys, whatever
// their leases.
func (l *Lab) Snapshot() *Snapshot {
	l.T.Helper()
	s := &Snapshot{open: make(map[string]bool), queues: make(map[int]Queue)}
	if !l.NAT() || l.daemon == nil {
		return s
	}
	table := l.Table()
	for _, set := range opening {
		for _, e := range table[set] {
			s.open[strings.TrimSpace(fmt.Sprint(set, " ", e.Key, " ", e.Value))] = true
		}
	}
	for _, e := range l.Expectations() {
		s.open[fmt.Sprint("expectation of ", e.Dst, " from ", e.Src)] = true
	}
	bindings, streams := l.Bindings(), l.Streams()
	for _, f := range l.Conntracks() {
		switch {
		case f.Anchor():
			s.open[fmt.Sprint("anchor ", f.Orig)] = true
		case bindings[f.Orig.Dst].IsValid() || streams[f.Orig.Dst].IsValid(): // the sets say who may
		case !InsideNet.Contains(f.Orig.Src.Addr()) && InsideNet.Contains(f.Reply.Src.Addr()):
			s.open[fmt.Sprint("flow ", f.Orig, " to ", f.Reply.Src)] = true
		}
	}
	for _, q := range l.Queues() {
		s.queues[q.Number] = q
	}
	s.memory, _ = l.daemon.Memory()
	s.files = l.daemon.OpenFiles()
	return s
}

// Opened is what is open now and was not then, in order.
func (s *Snapshot) Opened(now *Snapshot) []string { return missing(now.open, s.open) }

// Closed is what was open then and is not now, in order.
func (s *Snapshot) Closed(now *Snapshot) []string { return missing(s.open, now.open) }

func missing(in, from map[string]bool) (list []string) {
	for key := range in {
		if !from[key] {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

// CheckUnchanged fails the test unless all is as it was at the snapshot: nothing was
// opened, closed or redirected, and the daemon has not grown. What was sent before must
// have been answered, or followed by something that was.
func (l *Lab) CheckUnchanged(before *Snapshot, after string) {
	l.T.Helper()
	if !l.NAT() || l.daemon == nil {
		return
	}
	var now *Snapshot
	// A connection that was just closed has its file a moment longer.
	l.Until(Moment(), func() bool { now = l.Snapshot(); return now.files <= before.files })
	if opened := before.Opened(now); len(opened) > 0 {
		l.T.Errorf("%s: this was opened:\n%s", after, strings.Join(opened, "\n"))
	}
	if closed := before.Closed(now); len(closed) > 0 {
		l.T.Errorf("%s: this was closed:\n%s", after, strings.Join(closed, "\n"))
	}
	if now.files > before.files {
		l.T.Errorf("%s: the daemon has %d files open, before %d", after, now.files, before.files)
	}
	if now.memory > before.memory+maxGrowth {
		l.T.Errorf("%s: the daemon has %d MiB of memory, before %d", after, now.memory>>20, before.memory>>20)
	}
	for n, q := range now.queues {
		if lost := q.Dropped + q.UserDropped - before.queues[n].Dropped - before.queues[n].UserDropped; lost > 0 {
			l.T.Errorf("%s: queue %d has dropped %d packets", after, n, lost)
		}
	}
}

// Has reports whether a map of the table had an element.
func (s *Snapshot) Has(name string, key, value netip.AddrPort) bool {
	return s.open[fmt.Sprint(name, " ", key, " ", value)]
}
