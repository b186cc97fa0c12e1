package daemon

import (
	"errors"
	"fmt"
	"strings"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
)

// kernelRewriter is what is known of the kernel's own SIP helper, which would
// rewrite what this daemon has rewritten.
type kernelRewriter struct {
	rules     []string // that assign it to flows
	automatic bool     // the kernel assigns its helpers without a rule
	loaded    bool
}

// findRewriter asks the kernel. What cannot be read is no reason not to serve.
func (d *Daemon) findRewriter() (k kernelRewriter) {
	var errs [3]error
	firewall, err := nft.ReadFirewall()
	errs[0] = err
	if firewall != nil {
		defer firewall.Close()
		var rules []nft.Rule
		rules, errs[1] = firewall.SIPHelperRules()
		for _, r := range rules {
			k.rules = append(k.rules, r.String())
		}
	}
	k.automatic, errs[2] = conntrack.AutomaticHelpers()
	k.loaded = conntrack.SIPHelperLoaded()
	if err := errors.Join(errs[:]...); err != nil {
		d.log.Warn("the firewall's rules could not all be read: if one assigns the kernel's SIP helper to flows, SIP is rewritten twice", "error", err)
	}
	return k
}

// refuse is an error where the kernel rewrites SIP.
func (k kernelRewriter) refuse() error {
	switch {
	case len(k.rules) > 0:
		return fmt.Errorf("the kernel's SIP helper is assigned to flows and would rewrite SIP a second time; remove: %s", strings.Join(k.rules, "; "))
	case k.automatic && k.loaded:
		return errors.New("the kernel assigns its SIP helper to flows by itself and would rewrite SIP a second time; set the sysctl net.netfilter.nf_conntrack_helper=0")
	}
	return nil
}

// helpers are those that conntrack may try. To try the kernel's SIP helper loads
// it, and where helpers are assigned automatically that is enough to make it rewrite.
func (k kernelRewriter) helpers() []conntrack.Helper {
	if k.automatic {
		return []conntrack.Helper{conntrack.HelperOwn}
	}
	return nil
}
