package check

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sipnatd/conntrack"
	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/nft"
	"sipnatd/internal/privilege"
)

// one wants a single finding of a level, with words in its text and its remedy.
func one(t *testing.T, findings []Finding, level Level, text, remedy string) {
	t.Helper()
	if len(findings) != 1 || findings[0].Level != level || !strings.Contains(findings[0].Text, text) || !strings.Contains(findings[0].Remedy, remedy) {
		t.Errorf("want a %v with %q and %q, got\n%s", level, text, remedy, told(findings))
	}
}

// values are sysctls.
func values(list ...string) sysctls {
	return func(path string) (string, error) {
		for i := 0; i < len(list); i += 2 {
			if list[i] == path {
				return list[i+1], nil
			}
		}
		return "", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
}

func TestWrite(t *testing.T) {
	findings := []Finding{
		{"user", OK, "user", "none is set", ""},
		{"late-chain", Warning, "chain a", "text", "remedy"},
		{"ip-forward", Fault, "ip_forward", "two\nlines\x1b", "sysctl"},
	}
	want := "ok       user: none is set\n" +
		"warning  chain a: text; remedy\n" +
		"FAULT    ip_forward: two lines ; sysctl\n" +
		"It does not work: 1 fault, 1 warning.\n"
	if got := told(findings); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for level, want := range map[Level]string{OK: "Nothing is wrong.", Note: "Nothing is wrong.", Warning: "It works, with 2 warnings.", Fault: "It does not work: 2 faults."} {
		two := []Finding{{Level: level}, {Level: level}}
		if got := Summary(two); got != want || Worst(two) != level {
			t.Errorf("%v: %q, worst %v", level, got, Worst(two))
		}
	}
}

func TestWriteJSON(t *testing.T) {
	findings := []Finding{{"sip-helper", Fault, "table \"raw\"", "é\x00\x1b\u2028 <a> & \\ \x7f", "nft delete"}, {ID: "user"}}
	var b bytes.Buffer
	must(t, WriteJSON(&b, findings))
	var got []map[string]string
	must(t, json.Unmarshal(b.Bytes(), &got))
	want := []map[string]string{
		{"id": "sip-helper", "level": "fault", "subject": "table \"raw\"", "text": "é\x00\x1b\u2028 <a> & \\ \x7f", "remedy": "nft delete"},
		{"id": "user", "level": "ok", "subject": "", "text": "", "remedy": ""},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	b.Reset()
	must(t, WriteJSON(&b, nil))
	if b.String() != "[]\n" {
		t.Errorf("nothing is %q", b.String())
	}
}

// The IDs are those that docs/check.md explains, and each is one.
func TestDocument(t *testing.T) {
	source, err := os.ReadFile("id.go")
	must(t, err)
	text, err := os.ReadFile("../../docs/check.md")
	must(t, err)
	_, text, found := bytes.Cut(text, []byte("\n## For programs\n"))
	if !found {
		t.Fatal("docs/check.md has no section for programs")
	}
	all := func(pattern string, text []byte) []string {
		var names []string
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
		slices.Sort(names)
		return names
	}
	defined, explained := all(`= "([a-z-]+)"`, source), all("(?m)^\\| `([a-z-]+)` \\|", text)
	if len(defined) < 30 || !slices.Equal(defined, explained) || len(slices.Compact(slices.Clone(defined))) != len(defined) {
		t.Errorf("defined are\n%q\nexplained are\n%q", defined, explained)
	}
}

func TestErr(t *testing.T) {
	findings := []Finding{{Level: Warning, Text: "w"}, {Level: Fault, Text: "a", Remedy: "b"}, {Level: Fault, Text: "c", Remedy: "d"}}
	if err := Err(findings); err == nil || err.Error() != "a; remedy: b\nc; remedy: d" {
		t.Errorf("got %v", err)
	}
	if err := Err(findings[:1]); err != nil {
		t.Errorf("got %v", err)
	}
}

// TestRewriter: the daemon does not start beside the kernel's own SIP helper, says what
// to do, and does not bring the helper in.
func TestRewriter(t *testing.T) {
	own := []conntrack.Helper{conntrack.HelperOwn}
	for _, tt := range []struct {
		name         string
		found        Rewriter
		level        Level
		text, remedy string
		helpers      []conntrack.Helper
	}{
		{"none", Rewriter{}, OK, "", "", nil},
		{"loaded, for our expectations", Rewriter{Loaded: true}, OK, "", "", nil},
		{"a rule", Rewriter{Loaded: true, Rules: []nft.Rule{{Family: "ip", Table: "raw", Chain: "PREROUTING", Place: 1}}},
			Fault, "rule 1 in table raw, chain PREROUTING", "iptables-legacy -t raw -D PREROUTING 1", nil},
		{"automatic and loaded", Rewriter{Loaded: true, Automatic: true}, Fault, "by itself", "sysctl -w net.netfilter.nf_conntrack_helper=0", own},
		{"automatic, not loaded", Rewriter{Automatic: true}, Warning, "by itself", "sysctl -w net.netfilter.nf_conntrack_helper=0", own},
		{"unknown", Rewriter{Err: errors.New("EPERM")}, Warning, "could not all be read", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			findings := slices.DeleteFunc(tt.found.Findings(), func(f Finding) bool { return f.Level == OK && tt.level != OK })
			one(t, findings, tt.level, tt.text, tt.remedy)
			if got := tt.found.Helpers(); !slices.Equal(got, tt.helpers) {
				t.Errorf("helpers %v, want %v", got, tt.helpers)
			}
		})
	}
}

func TestHostOutbound(t *testing.T) {
	outside := func(address string) []ifaces.Interface {
		return []ifaces.Interface{{Name: "ppp0", Index: 3, Up: true, Side: ifaces.Outside, Addr: netip.MustParseAddr(address)}}
	}
	for _, tt := range []struct {
		name, host, own string
		resolved        string // empty: an error
		level           Level
		text, remedy    string
	}{
		{"the interface's own, by name", "gw.example", "203.0.113.1", "203.0.113.1", OK, "203.0.113.1", ""},
		{"behind another NAT", "gw.example", "192.168.1.2", "203.0.113.1", OK, "203.0.113.1", ""},
		{"an old address", "gw.example", "203.0.113.1", "203.0.113.99", Warning, "ppp0 has a public address of its own, 203.0.113.1", "host_outbound = 203.0.113.1"},
		{"no address", "gw.example", "203.0.113.1", "", Warning, "gw.example has no address now", "host_outbound = "},
		{"no address behind another NAT", "gw.example", "192.168.1.2", "", Fault, "gw.example has no address now", "host_outbound = "},
		{"private", "gw.example", "192.168.1.2", "10.0.0.1", Warning, "10.0.0.1 is private", "host_outbound = "},
		{"shared address space", "100.64.0.7", "192.168.1.2", "", Warning, "100.64.0.7 is private", "host_outbound = "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := hostOutbound(tt.host, outside(tt.own),
				func(a netip.Addr) bool { return a == netip.MustParseAddr(tt.own) },
				func(string) ([]netip.Addr, error) {
					if tt.resolved == "" {
						return nil, errors.New("no such host")
					}
					return []netip.Addr{netip.MustParseAddr(tt.resolved)}, nil
				})
			one(t, got, tt.level, tt.text, tt.remedy)
		})
	}
	if got := hostOutbound("", outside("203.0.113.1"), nil, nil); got != nil {
		t.Errorf("without the setting: %v", got)
	}
}

func TestTables(t *testing.T) {
	const expect, flows, count = "net/netfilter/nf_conntrack_expect_max", "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_count"
	cfg := config.Default() // 930 ports
	one(t, tables(cfg, conntrack.HelperNone, values(flows, "262144")), OK, "room for 262144", "")
	one(t, tables(cfg, conntrack.HelperNone, values(flows, "1024")), Warning, "the conntrack table is small", "sysctl -w net.netfilter.nf_conntrack_max=1860")
	one(t, tables(cfg, conntrack.HelperOwn, values(expect, "1024", flows, "262144"))[:1], Warning, "the expectation table is small", "sysctl -w net.netfilter.nf_conntrack_expect_max=1860")
	one(t, tables(cfg, conntrack.HelperNone, values()), Note, "not known", "")

	one(t, flowCount(values(flows, "1000", count, "100")), OK, "100 of 1000", "")
	one(t, flowCount(values(flows, "1000", count, "900")), Warning, "nearly full: 900 of 1000", "sysctl -w net.netfilter.nf_conntrack_max=2000")
	one(t, flowCount(values(flows, "1000", count, "1000")), Fault, "the conntrack table is full", "sysctl -w net.netfilter.nf_conntrack_max=2000")
	one(t, []Finding{expectCount(1000, 899)}, OK, "899 of 1000", "")
	one(t, []Finding{expectCount(1000, 900)}, Warning, "nearly full: 900 of 1000", "sysctl -w net.netfilter.nf_conntrack_expect_max=2000")

	const stream = "net/netfilter/nf_conntrack_udp_timeout_stream"
	one(t, udpTimeout(conntrack.HelperOwn, values(stream, "30")), OK, "30 s", "")
	one(t, udpTimeout(conntrack.HelperNone, values(stream, "120")), OK, "120 s", "")
	one(t, udpTimeout(conntrack.HelperNone, values(stream, "30")), Note, "30 s", "sysctl -w "+strings.ReplaceAll(stream, "/", ".")+"=120")
}

func TestKernel(t *testing.T) {
	features := func(f nft.Features, err error) func() (nft.Features, error) {
		return func() (nft.Features, error) { return f, err }
	}
	one(t, packetFilter(features(nft.Features{NativeQueue: true}, nil)), OK, "native", "")
	one(t, packetFilter(features(nft.Features{}, nil)), Fault, "neither", "nft_queue")
	one(t, packetFilter(features(nft.Features{}, errors.New("no table"))), Fault, "no table", "nf_tables")
	xt := packetFilter(features(nft.Features{XTQueue: true}, nil))
	one(t, xt[:1], OK, "xt NFQUEUE", "")
	one(t, xt[1:], Note, "leave this table out", "")

	refused := func() error { return errors.New("refused") }
	works := func() error { return nil }
	one(t, []Finding{maps(refused)}, Fault, "refused", "nft_nat")
	one(t, []Finding{maps(works)}, OK, "", "")
	one(t, []Finding{flowtables(refused)}, OK, "none", "")
	one(t, []Finding{flowtables(works)}, OK, "has them", "")

	one(t, []Finding{expectations(conntrack.HelperOwn, "helper")}, OK, "helper", "")
	one(t, []Finding{expectations(conntrack.HelperSIP, "few")}, Note, "few", "")
	one(t, []Finding{expectations(conntrack.HelperNone, "why")}, Warning, "media is not RELATED", "nf_conntrack_sip")

	const acct = "net/netfilter/nf_conntrack_acct"
	one(t, []Finding{accounting(false, values(acct, "0"))}, OK, "off; the daemon", "")
	one(t, []Finding{accounting(true, values(acct, "0"))}, Warning, "not counted", "sysctl -w net.netfilter.nf_conntrack_acct=1")
	one(t, []Finding{accounting(true, values(acct, "1"))}, OK, "counted", "")
	one(t, []Finding{accounting(false, values())}, Warning, "not counted", "sysctl -w")
}

func TestModules(t *testing.T) {
	queue := moduleOf["nft_queue"]
	const there, other = "kernel/net/netfilter/nft_queue.ko.xz: kernel/x\n", "kernel/net/netfilter/my_nft_queue.ko:\n"
	for _, tt := range []struct {
		list    string
		err     error
		openWrt bool
		want    string
	}{
		{there, nil, false, "modprobe -a nft_queue"},
		{there, nil, true, "modprobe -a nft_queue"},
		{other, nil, false, "a kernel with CONFIG_NFT_QUEUE; Linux 6.1 has no module nft_queue"},
		{"", fs.ErrNotExist, false, "a kernel with CONFIG_NFT_QUEUE; Linux 6.1 has no module nft_queue"},
		{"", fs.ErrNotExist, true, "install the package kmod-nft-queue"},
		{"", fs.ErrPermission, false, "a kernel with CONFIG_NFT_QUEUE"},
	} {
		if got := modulesFrom(queue, "6.1", tt.list, tt.err, tt.openWrt); got != tt.want {
			t.Errorf("%q, %v, OpenWrt %v: %q, want %q", tt.list, tt.err, tt.openWrt, got, tt.want)
		}
	}
}

func TestAccount(t *testing.T) {
	known := func(string) error { return nil }
	reads := func(err error) func(string, string) error { return func(string, string) error { return err } }
	cfg := config.Default()
	one(t, account(cfg, nil, nil), OK, "none is set", "")
	cfg.User, cfg.File = "nobody", "/etc/sipnatd.conf"
	one(t, account(cfg, func(string) error { return errors.New("there is no user nobody") }, nil), Fault, "there is no user", "useradd")
	one(t, account(cfg, known, reads(nil))[1:], OK, "can read", "")
	one(t, account(cfg, known, reads(privilege.ErrNotRoot))[1:], Note, "not tried", "")
	one(t, account(cfg, known, reads(fs.ErrPermission))[1:], Warning, "cannot read", "/etc/sipnatd.conf && chmod g+r /etc/sipnatd.conf")
}

func TestParseSockets(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		t.Skip("the sample is of a little-endian machine")
	}
	const text = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  640: 017100CB:1B9E 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1234 2 0000000000000000 0
  641: 00000000:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1235 2 0000000000000000 0
  642: 017100CB:1B9F 0A00000A:0035 01 00000000:00000000 00:00000000 00000000     0        0 1236 2 0000000000000000 0
  643: 0000000000000000FFFF0000017100CB:1BA0 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1237 2 0 0
  644: 00000000000000000000000000000000:1BA1 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1238 2 0 0
  garbage: 1: 2 07 5 6 7 8 9 10
`
	got := ""
	for _, s := range parseSockets([]byte(text), unconnected) {
		got += fmt.Sprintf("%v %d, ", s.local, s.inode)
	}
	if want := "203.0.113.1:7070 1234, 0.0.0.0:5060 1235, 203.0.113.1:7072 1237, [::]:7073 1238, "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLocalPorts(t *testing.T) {
	faces := []ifaces.Interface{{Name: "ppp0", Index: 3, Up: true, Side: ifaces.Outside, Addr: netip.MustParseAddr("203.0.113.1"),
		Addrs: []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("203.0.113.2/24")}}}
	owners := func([]uint64) map[uint64]process {
		return map[uint64]process{1: {7, "tftpd"}, 2: {8, "asterisk"}}
	}
	ports := func(list ...string) []Finding {
		var sockets []socket
		for i := 0; i < len(list); i += 2 {
			inode := map[string]uint64{"tftpd": 1, "asterisk": 2, "": 3}[list[i]]
			sockets = append(sockets, socket{netip.MustParseAddrPort(list[i+1]), inode})
		}
		return localPorts(config.Default(), faces, sockets, owners)
	}
	one(t, ports(), OK, "no program", "")
	one(t, ports("tftpd", "10.0.0.1:7070", "tftpd", "0.0.0.0:69"), OK, "no program", "")
	one(t, ports("tftpd", "203.0.113.2:7070"), Warning, "process 7 (tftpd) has port 7070 of", "rtp_port_low")
	one(t, ports("", "[::]:7999"), Warning, "another process has port 7999 of", "")
	one(t, ports("tftpd", "0.0.0.0:7080", "tftpd", "[::]:7080", "tftpd", "0.0.0.0:7070", "tftpd", "0.0.0.0:7071", "tftpd", "0.0.0.0:7072", "tftpd", "0.0.0.0:7073"),
		Warning, "has port 7070, 7071, 7072, 7073 and 1 other of", "")
	one(t, ports("asterisk", "0.0.0.0:5060", "asterisk", "0.0.0.0:5060"), Note, "process 8 (asterisk) speaks SIP here itself", "")
}

func TestEphemeralPorts(t *testing.T) {
	const between, reserved = "net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports"
	cfg := config.Default()
	one(t, ephemeralPorts(cfg, values(between, "32768\t60999", reserved, "")), OK, "", "")
	one(t, ephemeralPorts(cfg, values(between, "1024\t65000", reserved, "")), Note, "ports 7070 to 7999", `sysctl -w net.ipv4.ip_local_reserved_ports="7070-7999"`)
	one(t, ephemeralPorts(cfg, values(between, "7990\t65000", reserved, "5060,9000-9999")), Note, "ports 7990 to 7999", `="5060,9000-9999,7070-7999"`)
	one(t, ephemeralPorts(cfg, values(between, "1024\t65000", reserved, "5060,7000-7500,7501-8000")), OK, "", "")
	one(t, ephemeralPorts(cfg, values(between, "1024\t65000", reserved, "7071-7999")), Note, "", "")
}

func TestOthers(t *testing.T) {
	cfg := config.Default()
	level := func(o others, privileged bool) string {
		var all []string
		for _, f := range o.findings(cfg, privileged) {
			all = append(all, fmt.Sprintf("%v %s", f.Level, f.ID))
		}
		return strings.Join(all, ", ")
	}
	for _, tt := range []struct {
		name string
		o    others
		want string
	}{
		{"nobody", others{}, "ok daemon, ok siproxd, ok queue-number"},
		{"the daemon", others{daemon: process{5, "sipnatd"}}, "ok daemon, ok siproxd, ok queue-number"},
		{"a second one", others{daemon: process{5, "sipnatd"}, more: []process{{6, "sipnatd"}}}, "ok daemon, warning daemon, ok siproxd, ok queue-number"},
		{"its predecessor", others{siproxd: []process{{5, "siproxd"}}}, "ok daemon, warning siproxd, ok queue-number"},
		{"somebody else", others{queues: map[uint16]process{5060: {7, "suricata"}}}, "ok daemon, ok siproxd, FAULT queue-number"},
		{"not known", others{err: fs.ErrPermission}, "ok daemon, ok siproxd, note queue-number"},
	} {
		if got := level(tt.o, true); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := level(others{err: fs.ErrPermission, more: []process{{6, "sipnatd"}}}, false); got != "ok daemon, ok daemon, ok siproxd" {
		t.Errorf("without privileges: %s", got)
	}
	if got := (others{}).table(true); len(got) != 1 || got[0].Level != Note {
		t.Errorf("a table that is left: %v", got)
	}
	if (others{daemon: process{5, "sipnatd"}}).table(true) != nil || (others{}).table(false) != nil {
		t.Error("a table is said to be left")
	}
}

func TestSet(t *testing.T) {
	for path, want := range map[string]string{
		"net/ipv4/ip_forward":             "sysctl -w net.ipv4.ip_forward=1",
		"net/ipv4/conf/eth0.7/forwarding": "sysctl -w net/ipv4/conf/eth0.7/forwarding=1",
	} {
		if got := set(path, 1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzSockets(f *testing.F) {
	f.Add([]byte("  29: 0100007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 17 2 0000 0\n" +
		"  30: 00000000000000000000000000000000:13C4 00000000000000000000000000000000:0000 07 0:0 0:0 0 101 0 17 2 0 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, s := range parseSockets(text, unconnected) {
			if !s.local.IsValid() || s.local.Addr().Is4In6() {
				t.Errorf("%v in %q", s, text)
			}
		}
	})
}
