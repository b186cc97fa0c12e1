package check

import (
	"fmt"

	"sipnatd/conntrack"
	"sipnatd/internal/config"
)

// Tables finds out whether the kernel's tables have room for a range of ports that is
// in full use.
func Tables(cfg *config.Config, helper conntrack.Helper) []Finding {
	return tables(cfg, helper, sysctl)
}

func tables(cfg *config.Config, helper conntrack.Helper, values sysctls) []Finding {
	var all []Finding
	ports := int(cfg.RTPPortHigh) - int(cfg.RTPPortLow) + 1
	if helper != conntrack.HelperNone {
		// In from anywhere, and out to the far party.
		all = append(all, table(ExpectTable, "net/netfilter/nf_conntrack_expect_max", 2*ports, values,
			"the expectation table is small for the port range"))
	}
	// A flow for each, and an anchor.
	return append(all, table(FlowTable, "net/netfilter/nf_conntrack_max", 2*ports, values,
		"the conntrack table is small for the port range"))
}

func table(id, path string, want int, values sysctls, small string) Finding {
	const prefix = len("net/netfilter/")
	f := Finding{ID: id, Subject: path[prefix:]}
	has, err := values.number(path)
	switch {
	case err != nil:
		f.Level, f.Text = Note, "not known: "+err.Error()
	case has < want:
		f.Level, f.Remedy = Warning, set(path, want)
		f.Text = fmt.Sprintf("%s: it has room for %d, full use needs %d", small, has, want)
	default:
		f.Text = fmt.Sprintf("room for %d, full use of the port range needs %d", has, want)
	}
	return f
}

// Room finds out how full the kernel's tables are.
func Room(helper conntrack.Helper) []Finding {
	all := flowCount(sysctl)
	if helper == conntrack.HelperNone {
		return all
	}
	if limit, count, _, _, err := conntrack.Limits(); err == nil {
		all = append(all, expectCount(limit, count))
	}
	return all
}

// nearlyFull reports whether a table has room for less than a tenth of it.
func nearlyFull(count, limit int) bool { return count >= limit/10*9 }

// expectCount finds out whether the table of expectations has room.
func expectCount(limit, count int) Finding {
	f := Finding{ID: ExpectTable, Subject: "nf_conntrack_expect", Text: fmt.Sprintf("%d of %d expectations", count, limit)}
	if nearlyFull(count, limit) {
		f.Level, f.Remedy = Warning, set("net/netfilter/nf_conntrack_expect_max", 2*limit)
		f.Text = fmt.Sprintf("the expectation table is nearly full: %d of %d expectations", count, limit)
	}
	return f
}

// flowCount finds out whether the conntrack table has room.
func flowCount(values sysctls) []Finding {
	const path = "net/netfilter/nf_conntrack_max"
	limit, err := values.number(path)
	if err != nil || limit == 0 {
		return nil
	}
	count, err := values.number("net/netfilter/nf_conntrack_count")
	if err != nil {
		return nil
	}
	f := Finding{ID: FlowTable, Subject: "nf_conntrack_count", Text: fmt.Sprintf("%d of %d flows", count, limit)}
	switch {
	case count >= limit:
		f.Level, f.Text = Fault, fmt.Sprintf("the conntrack table is full (%d): new flows are dropped", limit)
	case nearlyFull(count, limit):
		f.Level, f.Text = Warning, fmt.Sprintf("the conntrack table is nearly full: %d of %d flows", count, limit)
	default:
		return []Finding{f}
	}
	f.Remedy = set(path, 2*limit)
	return []Finding{f}
}

// ringing is how long a flow of SIP has to outlive silence where nothing but the flow
// itself lets the answer in, in seconds.
const ringing = 60

// udpTimeout finds out whether flows of SIP live long enough. With a helper, the answer
// to a call is expected whenever it comes.
func udpTimeout(helper conntrack.Helper, values sysctls) []Finding {
	const path = "net/netfilter/nf_conntrack_udp_timeout_stream"
	seconds, err := values.number(path)
	if err != nil {
		return nil
	}
	f := Finding{ID: UDPTimeout, Subject: "nf_conntrack_udp_timeout_stream", Text: fmt.Sprintf("%d s", seconds)}
	if helper == conntrack.HelperNone && seconds < ringing {
		f.Level, f.Remedy = Note, set(path, 2*ringing)
		f.Text = fmt.Sprintf("flows are forgotten after %d s of silence: where the firewall does not accept `ct status dnat`, a call that rings longer is answered in vain", seconds)
	}
	return []Finding{f}
}
