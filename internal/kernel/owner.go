package kernel

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/internal/nft"
)

// forwardsFor is how long the list of the administrator's forwards is believed.
const forwardsFor = 5 * time.Second

// forwards is what the administrator's own DNAT rules lead to.
type forwards struct {
	list []nft.Redirect
	read time.Time
}

// Owner implements nat.Kernel.
func (k *Kernel) Owner(public netip.AddrPort) (inside netip.AddrPort, taken bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if to, ok := k.forwarded(public, time.Now()); ok {
		return to, true
	}
	return netip.AddrPort{}, boundLocally(public)
}

// forwarded returns where the administrator's own DNAT sends packets from outside
// to a public endpoint.
func (k *Kernel) forwarded(public netip.AddrPort, now time.Time) (inside netip.AddrPort, ok bool) {
	if now.Sub(k.forwards.read) > forwardsFor {
		list, err := nft.Redirects()
		if err != nil {
			k.log.Debug("the firewall's own DNAT rules were not read", "error", err)
		}
		k.forwards = forwards{list, now}
	}
	for i := range k.forwards.list {
		r := &k.forwards.list[i]
		if r.Low == 0 && r.High == 65535 || !slices.ContainsFunc(k.config.Outside, r.From) {
			continue // a host that gets the rest, which our chain comes before; or not about what comes from outside
		}
		if to, ok := r.Target(public); ok {
			return to, true
		}
	}
	return netip.AddrPort{}, false
}

// boundLocally reports whether a local socket has the endpoint, by trying to
// take it. A port that may not be tried counts as one that is taken; an address
// that is not the machine's has no sockets.
func boundLocally(ep netip.AddrPort) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(ep.Port()), Addr: ep.Addr().As4()})
	return err != nil && !errors.Is(err, unix.EADDRNOTAVAIL)
}
