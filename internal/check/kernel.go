package check

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
)

// packetFilter finds out what nftables can do.
func packetFilter(probe func() (nft.Features, error)) []Finding {
	f := Finding{ID: Queue, Subject: "NFQUEUE"}
	features, err := probe()
	switch {
	case err != nil:
		f.Level, f.Text, f.Remedy = Fault, err.Error(), modules("nf_tables")
	case features.NativeQueue:
		f.Text = features.String()
	case features.XTQueue:
		f.Text = features.String()
		return []Finding{f, {ID: SaveRules, Level: Note, Subject: "table ip sipnatd",
			Text: "it queues through xt NFQUEUE, which nft lists in a form that it cannot load: leave this table out where rules are saved, the daemon installs it itself"}}
	default:
		f.Level = Fault
		f.Text = "the kernel has neither the queue statement of nft nor the NFQUEUE target of xtables"
		f.Remedy = modules("nft_queue")
	}
	return []Finding{f}
}

// maps finds out whether streams can be kept in the kernel.
func maps(probe func() error) Finding {
	if err := probe(); err != nil {
		return Finding{ID: Maps, Level: Fault, Subject: "NAT maps", Text: err.Error(), Remedy: modules("nft_nat")}
	}
	return Finding{ID: Maps, Subject: "NAT maps", Text: "with timeouts"}
}

// flowtables matter where the firewall has one.
func flowtables(probe func() error) Finding {
	f := Finding{ID: Flowtable, Subject: "flowtables", Text: "the kernel has them"}
	if err := probe(); err != nil {
		f.Text = "the kernel has none, so that no SIP can get lost in one"
	}
	return f
}

// NoHelper is the finding where no helper is there to make media RELATED.
func NoHelper() Finding {
	return Finding{ID: Expectations, Level: Warning, Subject: "expectations",
		Text:   "without a conntrack helper media is not RELATED: the firewall must accept `ct status dnat` in its forward chain",
		Remedy: modules("nfnetlink_cthelper") + ", or nf_conntrack_sip (with the sysctl net.netfilter.nf_conntrack_helper=0, where it exists)"}
}

// expectations says which helper makes media RELATED.
func expectations(h conntrack.Helper, reason string) Finding {
	f := Finding{ID: Expectations, Subject: "expectations", Text: reason}
	switch h {
	case conntrack.HelperNone:
		f = NoHelper()
		f.Text += " (" + reason + ")"
	case conntrack.HelperSIP:
		f.Level = Note
		f.Text = "by the kernel's SIP helper, which keeps no flow out of a flowtable: " + reason
	}
	return f
}

// accounting finds out whether a call without media is noticed. The daemon switches it
// on when it starts.
func accounting(daemonRuns bool, values sysctls) Finding {
	const path = "net/netfilter/nf_conntrack_acct"
	f := Finding{ID: Accounting, Subject: "nf_conntrack_acct", Text: "flows are counted"}
	on, err := values.number(path)
	switch {
	case err != nil:
		f = Uncounted(err)
	case on == 0 && daemonRuns:
		f = Uncounted(nil)
	case on == 0:
		f.Text = "off; the daemon switches it on"
	}
	return f
}

// Uncounted is the finding where flows are not counted, and perhaps why.
func Uncounted(err error) Finding {
	f := Finding{ID: Accounting, Level: Warning, Subject: "nf_conntrack_acct",
		Text:   "flows are not counted, so that a call without media is not noticed",
		Remedy: set("net/netfilter/nf_conntrack_acct", 1)}
	if err != nil {
		f.Text += ": " + err.Error()
	}
	return f
}

// A module is what a feature takes: modules, the kernel's configuration, and the
// package of OpenWrt.
type module struct {
	load   []string
	option string
	kmod   string
}

var moduleOf = map[string]module{
	"nf_tables":            {[]string{"nf_tables"}, "CONFIG_NF_TABLES_IPV4", "kmod-nft-core"},
	"nft_queue":            {[]string{"nft_queue"}, "CONFIG_NFT_QUEUE", "kmod-nft-queue"},
	"nft_nat":              {[]string{"nft_nat"}, "CONFIG_NFT_NAT", "kmod-nft-nat"},
	"nf_conntrack_netlink": {[]string{"nf_conntrack_netlink"}, "CONFIG_NF_CT_NETLINK", "kmod-nf-conntrack-netlink"},
	"nfnetlink_cthelper":   {[]string{"nfnetlink_cthelper"}, "CONFIG_NF_CT_NETLINK_HELPER", "kmod-nfnetlink-cthelper"},
}

// modules says how to come by a feature that the running kernel lacks.
func modules(name string) string {
	var release unix.Utsname
	_ = unix.Uname(&release)
	version := string(bytes.TrimRight(release.Release[:], "\x00"))
	list, err := os.ReadFile("/lib/modules/" + version + "/modules.dep")
	_, openWrt := os.Stat("/etc/openwrt_release")
	return modulesFrom(moduleOf[name], version, string(list), err, openWrt == nil)
}

func modulesFrom(m module, version, list string, err error, openWrt bool) string {
	there := !slices.ContainsFunc(m.load, func(name string) bool { return !strings.Contains(list, "/"+name+".ko") })
	switch {
	case err == nil && there:
		return "modprobe -a " + strings.Join(m.load, " ")
	case openWrt:
		return "install the package " + m.kmod
	case errors.Is(err, fs.ErrNotExist) || err == nil:
		return fmt.Sprintf("a kernel with %s; Linux %s has no module %s", m.option, version, strings.Join(m.load, ", "))
	}
	return fmt.Sprintf("a kernel with %s", m.option)
}
