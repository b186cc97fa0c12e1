package nft

// LateChains lists the filter chains on the forward hook that run after the daemon's
// and may drop what it has let pass. Such a packet has been queued already and may
// have opened a stream.
func (f *Firewall) LateChains() []Chain {
	var late []Chain
	for _, c := range f.Chains(KindFilter, Forward) {
		if c.Priority >= int(priorityForward) && f.Fate(c, Packet{})&Dropped != 0 {
			late = append(late, c)
		}
	}
	return late
}
