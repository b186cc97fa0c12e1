package nft

import "errors"

// OffloadRules names the rules that move UDP flows over IPv4 to a flowtable, be
// they of nft, iptables-nft or iptables-legacy (the FLOWOFFLOAD target of OpenWrt).
// What is in a flowtable does not come to the forward hook any more. With an error
// it returns what it could read.
func OffloadRules() ([]string, error) {
	s, err := dialRuleset()
	if err != nil {
		return nil, err
	}
	defer s.close()
	var found []string
	err = s.each(func(r foreignRule) {
		if s.offloadsUDP(r) {
			found = append(found, r.String())
		}
	})
	legacy, legacyErr := legacyTargets("filter", func(t extension) bool { return t.name == offloadTarget })
	return append(found, legacy...), errors.Join(append(s.failures, err, legacyErr)...)
}

// offloadTarget is the target of xtables that OpenWrt has.
const offloadTarget = "FLOWOFFLOAD"

// offloadsUDP follows a rule up to the statement that offloads.
func (s *ruleset) offloadsUDP(r foreignRule) bool {
	ev := evaluation{
		alternatives: []alternative{{match: anything}},
		elements:     func(set string) ([]interval, error) { return s.elements(setKey{r.table, set}) },
	}
	for e := range expressions(r.exprs) {
		if e.name == "flow_offload" || e.name == "target" && decodeXT(e.data).name == offloadTarget {
			return len(ev.alternatives) > 0
		}
		if known := decodeExpression(r.table.family, e.name, e.data); known != nil {
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
