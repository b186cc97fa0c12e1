package proxy

import "net/netip"

// maxLearned bounds the domains that are learned.
const maxLearned = 64

// learn notes that a domain is the firewall's own, where one of its servers' addresses
// is: phones register there, and nobody has told its name. siproxd takes any such name
// for its own. The name counts for as long as the address does.
func (p *Proxy) learn(domain string, servers []Target) bool {
	for _, t := range servers {
		if !p.parts.Networks.Own(t.Addr.Addr().String(), int(t.Addr.Port())) {
			continue
		}
		if _, known := p.learned[domain]; !known && len(p.learned) >= maxLearned {
			clear(p.learned)
		}
		p.learned[domain] = t.Addr.Addr()
		p.log.Info("a domain is taken for the firewall's own: phones register in it, and its address is one of ours", "domain", domain, "address", t.Addr.Addr(), "setting", "sip_domains")
		return true
	}
	return false
}

// ownDomain reports whether a domain was learned.
func (p *Proxy) ownDomain(domain string, port int) bool {
	addr, ok := p.learned[domain]
	return ok && p.parts.Networks.Own(addr.String(), port)
}

// registrar finds out whether the registrar of a phone's domain is the firewall, before
// anybody else is asked.
func (r *relay) registrar(s Server) {
	p := r.proxy
	list, ok := p.parts.Locator.Locate(s, func(list []Target) {
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.survive()
		r.registrarFound(s, list)
	})
	if ok {
		r.registrarFound(s, list)
	}
}

func (r *relay) registrarFound(s Server, list []Target) {
	if r.proxy.learn(s.Host, list) {
		r.respond(r.proxy.parts.Registrar.Register(&r.msg, r.from))
		return
	}
	r.registerAt(s)
}

// isName tells whether a host is to be looked up.
func isName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil
}
