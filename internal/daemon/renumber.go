package daemon

import (
	"maps"
	"net/netip"
	"slices"

	"sipnatd/internal/ifaces"
)

// renumber has the engine give up the outside addresses that are gone, as soon as
// there is another one. A line that goes down and comes back with its address
// costs no call. It is called with the daemon's lock.
func (d *Daemon) renumber(s *ifaces.Snapshot) {
	fresh := false
	for _, i := range s.Interfaces() {
		if i.Side == ifaces.Outside && i.Addr.IsValid() && !d.publics[i.Addr] {
			d.publics[i.Addr], fresh = true, true
		}
	}
	if !fresh {
		return
	}
	d.lookUpSoon() // a name may stand for the new one
	gone := make(map[netip.Addr]bool)
	for a := range d.publics {
		if !s.Own(a) {
			gone[a] = true
			delete(d.publics, a)
		}
	}
	if len(gone) == 0 {
		return
	}
	d.log.Warn("outside addresses are gone: their calls end, phones are reachable again when they have registered anew",
		"addresses", slices.SortedFunc(maps.Keys(gone), netip.Addr.Compare))
	d.engine.Withdraw(func(a netip.Addr) bool { return gone[a] })
	if d.join != nil {
		d.join.Withdraw(func(a netip.Addr) bool { return gone[a] })
	}
}
