package proxy

import "net/netip"

// registrar finds out whether the registrar of a phone's domain is the firewall, before
// anybody else is asked: one of the domain's servers has an address of its own then, and
// nobody has told the name. siproxd takes any such domain for its own, too.
func (r *relay) registrar(s Server) {
	r.locate(s, func(list []Target) { r.registrarFound(s, list) })
}

func (r *relay) registrarFound(s Server, list []Target) {
	for _, t := range list {
		if networks := r.proxy.parts.Networks; networks.Own(t.Addr.Addr().String(), int(t.Addr.Port())) {
			networks.Adopt(s.Host, t.Addr.Addr())
			r.respond(r.proxy.parts.Registrar.Register(&r.msg, r.from))
			return
		}
	}
	r.registerAt(s)
}

// isName tells whether a host is to be looked up.
func isName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil
}
