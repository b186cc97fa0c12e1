package daemon

import (
	"log/slog"
	"net/netip"
	"sync"
)

// maxDomains bounds the domains that are learned.
const maxDomains = 64

// domains are host names that are the firewall's own because phones register in them
// and the DNS says so, without being named in the configuration.
type domains struct {
	log *slog.Logger

	mu      sync.Mutex
	servers map[string]netip.Addr // which of our addresses each has
}

// Adopt implements [proxy.Networks].
func (d *domains) Adopt(domain string, server netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.servers == nil || len(d.servers) >= maxDomains {
		d.servers = make(map[string]netip.Addr)
	}
	d.servers[domain] = server
	d.log.Info("a domain is taken for the firewall's own: phones register in it, and its address is one of ours; name it to have it known from the start",
		"domain", domain, "address", server, "setting", "sip_domains")
}

// server returns the address for which a domain was adopted, if it was.
func (d *domains) server(domain string) (netip.Addr, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.servers[domain]
	return a, ok
}
