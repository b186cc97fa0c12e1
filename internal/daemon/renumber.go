package daemon

import (
	"maps"
	"net/netip"
	"slices"

	"sipnatd/internal/ifaces"
)

// outsideAddr is what is known of an outside address that mappings may stand on.
type outsideAddr struct {
	line    string // the interface that had it last, "" if that is not known
	since   int    // the round of renumber that first saw it; 0: an earlier daemon has left it
	missing bool   // and it has been reported
}

// renumber has everything follow the outside addresses: what stands on one that is
// gone moves to the one that has come since. As long as there is none, all stays as it
// is, so that a line which goes down and comes back with its address costs no call.
// It is called with the daemon's lock.
func (d *Daemon) renumber(s *ifaces.Snapshot) {
	d.round++
	present := make(map[netip.Addr]bool)
	fresh := false
	for _, i := range s.Interfaces() {
		for _, p := range i.Addrs {
			if i.Side != ifaces.Outside {
				continue
			}
			present[p.Addr()] = true
			if d.publics[p.Addr()] == nil {
				d.publics[p.Addr()] = &outsideAddr{since: d.round}
				fresh = true
			}
			d.publics[p.Addr()].line = i.Name
		}
	}
	if fresh {
		d.lookUpSoon() // a name may stand for the new one
	}
	successors := make(map[netip.Addr]netip.Addr)
	for _, a := range slices.SortedFunc(maps.Keys(d.publics), netip.Addr.Compare) {
		was := d.publics[a]
		if present[a] || was.line == "" && s.Own(a) {
			if was.missing {
				was.missing = false
				d.log.Info("an outside address is back: what stands on it goes on", "address", a, "interface", was.line)
			}
			continue
		}
		if to := d.successor(s, was); to.IsValid() {
			successors[a] = to
		} else if !was.missing {
			was.missing = true
			d.log.Warn("an outside address is gone: what stands on it waits for it, or for another one",
				"address", a, "interface", was.line)
		}
	}
	if len(successors) > 0 {
		d.move(successors)
	}
}

// successor returns the address that has come in the place of one that is gone: that
// of its own interface, or of another where that one has none, as when the next link
// gets another name. An address that was there before is none: it has another purpose.
func (d *Daemon) successor(s *ifaces.Snapshot, was *outsideAddr) (to netip.Addr) {
	latest := was.since
	for _, i := range s.Interfaces() {
		if i.Side != ifaces.Outside || !i.Addr.IsValid() {
			continue
		}
		since := d.publics[i.Addr].since
		switch {
		case i.Name == was.line && since > was.since:
			return i.Addr
		case i.Name == was.line:
			return netip.Addr{}
		case since > latest:
			to, latest = i.Addr, since
		}
	}
	return to
}

// move brings what stands on lost addresses to their successors.
func (d *Daemon) move(successors map[netip.Addr]netip.Addr) {
	moved := d.engine.Renumber(func(a netip.Addr) (to netip.Addr, ok bool) {
		to, ok = successors[a]
		return to, ok
	})
	for a, to := range successors {
		d.log.Warn("the outside address has changed: SIP and media leave by the new one; "+
			"who calls a phone finds it there when it has registered again, and who talks to it when it has renewed its offer",
			"old", a, "new", to, "interface", d.publics[to].line)
		delete(d.publics, a)
	}
	d.log.Info("moved to the new outside address", "bindings", moved.Bindings, "streams", moved.Streams,
		"calls", moved.Calls, "ended for want of ports", moved.Ended)
	if d.join != nil {
		d.join.Withdraw(func(a netip.Addr) bool { return successors[a].IsValid() })
	}
}
