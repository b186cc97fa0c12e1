package nft

// OffloadRules lists the rules that move UDP flows over IPv4 to a flowtable, those of
// the FLOWOFFLOAD target of OpenWrt included. What is in a flowtable does not come to
// the forward hook any more. With an error it returns what it could read.
func (f *Firewall) OffloadRules() ([]Rule, error) {
	var found []Rule
	for _, r := range f.rules {
		if f.s.offloadsUDP(r) {
			found = append(found, r)
		}
	}
	found = append(found, f.legacyTargets("filter", func(t extension) bool { return t.name == offloadTarget })...)
	return found, f.Err()
}

// offloadTarget is the target of xtables that OpenWrt has.
const offloadTarget = "FLOWOFFLOAD"

// offloadsUDP follows a rule up to the statement that offloads.
func (s *ruleset) offloadsUDP(r Rule) bool {
	table := r.key()
	ev := evaluation{
		alternatives: []alternative{{match: anything}},
		elements:     func(set string) ([]interval, error) { return s.elements(setKey{table, set}) },
	}
	for e := range expressions(r.exprs) {
		if e.name == "flow_offload" || e.name == "target" && decodeXT(e.data).name == offloadTarget {
			return len(ev.alternatives) > 0
		}
		if known := decodeExpression(table.family, e.name, e.data); known != nil {
			if err := ev.apply(known); err != nil {
				s.failures = append(s.failures, err)
			}
		}
		if len(ev.alternatives) == 0 {
			return false
		}
	}
	return false
}
