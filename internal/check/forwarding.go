package check

import (
	"fmt"
	"net/netip"

	"sipnatd/internal/ifaces"
)

// forwarding finds out whether the kernel forwards what comes in on an interface of
// either side.
func forwarding(faces []ifaces.Interface, values sysctls) []Finding {
	if on, err := values.number("net/ipv4/ip_forward"); err == nil && on == 0 {
		return []Finding{{ID: Forwarding, Level: Fault, Subject: "ip_forward", Text: "the kernel forwards nothing", Remedy: set("net/ipv4/ip_forward", 1)}}
	} else if err != nil {
		return []Finding{unread(Forwarding, "ip_forward", err)}
	}
	var all []Finding
	for _, f := range faces {
		path := "net/ipv4/conf/" + f.Name + "/forwarding"
		if on, err := values.number(path); f.Index != 0 && err == nil && on == 0 {
			all = append(all, Finding{ID: Forwarding, Level: Fault, Subject: f.Name,
				Text: fmt.Sprintf("the kernel does not forward what comes in on %s", f.Name), Remedy: set(path, 1)})
		}
	}
	if all == nil {
		all = []Finding{{ID: Forwarding, Subject: "ip_forward", Text: "the kernel forwards"}}
	}
	return all
}

// strict is the mode of rp_filter in which a packet is dropped unless its answer would
// leave by the interface that it came in on.
const strict = 1

// reversePaths asks the kernel whether it takes what comes from the Internet on each
// outside interface.
func reversePaths(faces []ifaces.Interface, far netip.Addr, values sysctls,
	leaves func(netip.Addr) (uint32, error), arrives func(src, dst netip.Addr, index uint32) error) []Finding {
	var all []Finding
	_, noRoute := leaves(far)
	every, _ := values.number("net/ipv4/conf/all/rp_filter")
	for _, f := range of(faces, ifaces.Outside) {
		path := "net/ipv4/conf/" + f.Name + "/rp_filter"
		mode, err := values.number(path)
		if err != nil {
			continue
		}
		finding := Finding{ID: ReversePath, Subject: f.Name, Text: "rp_filter lets pass what comes from the Internet"}
		if max(mode, every) == strict && noRoute == nil && arrives(far, f.Addr, f.Index) != nil {
			finding.Level, finding.Remedy = Warning, set(path, 2)
			if len(of(faces, ifaces.Outside)) == 1 && !routed(&f) {
				finding.Level = Fault
			}
			finding.Text = fmt.Sprintf("rp_filter is strict on %s, and the way to the Internet (%s) is another one: the kernel drops what comes in here", f.Name, far)
		}
		all = append(all, finding)
	}
	return all
}
