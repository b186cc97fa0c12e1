package daemon

import (
	"hash/fnv"
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
	journal *journal              // nil: there is none
}

// Adopt implements [proxy.Networks].
func (d *domains) Adopt(domain string, server netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.servers == nil || len(d.servers) >= maxDomains {
		for old := range d.servers {
			if d.journal != nil {
				d.journal.Delete(domainKey(old))
			}
		}
		d.servers = make(map[string]netip.Addr)
	}
	d.servers[domain] = server
	if d.journal != nil {
		d.put(domain, server)
		_ = d.journal.Flush()
	}
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

// A domain's record is recordDomain, its address, and its name. It shares the journal of
// the registrar, whose keys count from 1 and whose records begin with a small letter.
const (
	recordDomain = 'D'
	domainKeys   = 1 << 63
)

func (d *domains) put(domain string, server netip.Addr) {
	if !server.Is4() {
		return // the announced one is never another
	}
	d.journal.Put(domainKey(domain), append(append([]byte{recordDomain}, server.AsSlice()...), domain...))
}

func domainKey(domain string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(domain)) // never fails
	return domainKeys | h.Sum64()
}

// restore takes over the record of an earlier process, if it is that of a domain.
func (d *domains) restore(record []byte) bool {
	if len(record) < 6 || record[0] != recordDomain {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.servers == nil {
		d.servers = make(map[string]netip.Addr)
	}
	if len(d.servers) >= maxDomains {
		return true
	}
	d.servers[string(record[5:])] = netip.AddrFrom4([4]byte(record[1:5]))
	return true
}

// keep gives it a journal, and writes everything to that. With nil there is none.
func (d *domains) keep(j *journal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.journal = j; j == nil {
		return
	}
	for domain, server := range d.servers {
		d.put(domain, server)
	}
	_ = j.Flush()
}
