package kernel

import (
	"net/netip"
	"time"
)

const (
	// hostLease is how long a host outside is known, as one is that a phone has sent to
	// itself: an hour, and half of that again before it is renewed.
	hostLease = 90 * time.Minute

	// maxHosts bounds the hosts that are known so.
	maxHosts = 4096

	// hostsEvery is how often it is looked whether there is room again.
	hostsEvery = time.Minute
)

// Know exempts a host outside from the limits on strangers for an hour at least: somebody
// inside has sent to it by way of the daemon. Calls for a host that is known cost nothing.
func (k *Kernel) Know(host netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	until, there := k.hosts[host]
	if until.Sub(now) > hostLease-hostLease/3 {
		return nil
	}
	if !there && len(k.hosts) >= maxHosts {
		if now.Sub(k.hostsRead) < hostsEvery {
			return nil
		}
		k.hostsRead = now
		for old, until := range k.hosts {
			if until.Before(now) {
				delete(k.hosts, old)
			}
		}
		if len(k.hosts) >= maxHosts {
			return nil // it is a stranger, as all were
		}
	}
	k.hosts[host] = now.Add(hostLease)
	k.elements.Reset()
	k.anchors.Reset()
	k.elements.Know(host, hostLease)
	return k.commit(now)
}
