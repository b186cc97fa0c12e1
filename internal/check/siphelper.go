package check

import (
	"errors"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
)

// Rewriter is what is known of the kernel's own SIP helper, nf_conntrack_sip, which
// would rewrite what this program has rewritten.
type Rewriter struct {
	Rules     []nft.Rule // that assign it to flows
	Automatic bool       // the kernel assigns its helpers without a rule
	Loaded    bool
	Err       error // what could not be read
}

// FindRewriter asks the kernel, and the firewall that was read with err: nil, if it
// could not be read at all.
func FindRewriter(firewall *nft.Firewall, err error) (r Rewriter) {
	errs := [3]error{err}
	if firewall != nil {
		r.Rules, errs[1] = firewall.SIPHelperRules()
	}
	r.Automatic, errs[2] = conntrack.AutomaticHelpers()
	r.Loaded = conntrack.SIPHelperLoaded()
	r.Err = errors.Join(errs[:]...)
	return r
}

// Helpers are those that conntrack may try. To try the kernel's SIP helper loads it,
// and where helpers are assigned automatically that is enough to make it rewrite.
func (r Rewriter) Helpers() []conntrack.Helper {
	if r.Automatic {
		return []conntrack.Helper{conntrack.HelperOwn}
	}
	return nil
}

// Findings judges. A fault means that the kernel rewrites SIP.
func (r Rewriter) Findings() []Finding {
	var all []Finding
	for _, rule := range r.Rules {
		all = append(all, Finding{ID: SIPHelper, Level: Fault, Subject: "firewall",
			Text:   "the kernel's SIP helper is assigned to flows and would rewrite SIP a second time: " + rule.String(),
			Remedy: rule.Removal()})
	}
	if len(r.Rules) == 0 && r.Err == nil {
		all = append(all, Finding{ID: SIPHelper, Subject: "nf_conntrack_sip", Text: "no rule assigns the kernel's SIP helper to flows"})
	}
	if r.Err != nil {
		all = append(all, Finding{ID: SIPHelper, Level: Warning, Subject: "nf_conntrack_sip",
			Text: "the firewall's rules could not all be read: if one assigns the kernel's SIP helper to flows, SIP is rewritten twice: " + r.Err.Error()})
	}
	if r.Automatic {
		f := Finding{ID: AutoHelper, Level: Fault, Subject: "nf_conntrack_helper", Remedy: set("net/netfilter/nf_conntrack_helper", 0),
			Text: "the kernel assigns its SIP helper to flows by itself and would rewrite SIP a second time"}
		if !r.Loaded {
			f.Level = Warning
			f.Text = "the kernel assigns helpers to flows by itself: should nf_conntrack_sip be loaded, SIP would be rewritten a second time"
		}
		all = append(all, f)
	}
	return all
}
