package rules

import "net/netip"

// sharedAddressSpace is for carrier-grade NAT (RFC 6598).
var sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10")

// Masqueraded says that sipnatd's outside address is none of the Internet's: a box in
// front of it masquerades.
func (p *page) Masqueraded() bool {
	return p.PublicAddr.IsPrivate() || sharedAddressSpace.Contains(p.PublicAddr)
}

// Behind are the networks that a masquerading box has behind it: sipnatd's address,
// and the inside networks where they are the same.
func (p *page) Behind() []string {
	for _, n := range p.InsideNetworks {
		if n.Contains(p.PublicAddr) {
			return []string{n.Masked().String()}
		}
	}
	return []string{p.PublicAddr.String()}
}

// Signalling are the ports that sipnatd is sent SIP on.
func (p *page) Signalling() []uint16 {
	if p.ListenPort == 0 {
		return p.SIPPorts
	}
	ports := []uint16{p.ListenPort}
	for _, port := range p.SIPPorts {
		if port != p.ListenPort {
			ports = append(ports, port)
		}
	}
	return ports
}
