package rules

// Sources are the networks whose packets are masqueraded, one "" for all of them where
// the inside networks are not known.
func (p *page) Sources() []string {
	var sources []string
	for _, n := range p.InsideNetworks {
		if n.Addr().Is4() {
			sources = append(sources, n.Masked().String())
		}
	}
	if len(sources) == 0 {
		return []string{""}
	}
	return sources
}
