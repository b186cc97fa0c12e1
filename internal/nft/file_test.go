package nft

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sipnatd/internal/netspace"
	"sipnatd/rules"
)

// file is what the rule generator writes for a configuration, as far as this kernel
// takes it.
func file(t *testing.T, cfg Config) (text string, f Features) {
	t.Helper()
	f, err := Probe()
	must(t, err)
	var out strings.Builder
	must(t, rules.Write(&out, "nft", rules.Config{
		Inside: cfg.Inside, Outside: cfg.Outside,
		SIPPorts: cfg.SIPPorts, SIPPeers: cfg.SIPPeers,
		AcceptAny: cfg.AcceptAny, MediaAny: cfg.MediaAny, HairpinRouter: cfg.HairpinRouter, Bypass: cfg.Bypass,
		SIPDSCP: cfg.SIPDSCP, RTPDSCP: cfg.RTPDSCP, TCPPort: cfg.RedirectPort, ListenPort: cfg.ListenPort,
		QueueFirst: cfg.QueueFirst, Queues: cfg.Queues,
	}, rules.Options{}))
	text = out.String()
	if !f.NativeQueue {
		t.Log("this kernel has no queue statement: the file is tried without it")
		text = queueStatement.ReplaceAllString(text, "")
	}
	return text, f
}

// queueStatement is a line that ends in a queue.
var queueStatement = regexp.MustCompile(`(?m)^.*\bqueue (flags bypass )?to [0-9]+$`)

// ignoreHandle leaves out the numbers that the kernel gives.
var ignoreHandle = cmpopts.IgnoreMapEntries(func(key string, _ any) bool { return key == "handle" })

// listing reads the table as nft's JSON, sorted by kind and name; rules stay in
// their order within a chain.
func listing(t *testing.T) []map[string]any {
	t.Helper()
	out, err := exec.Command("nft", "-j", "list", "table", "ip", tableName).Output()
	must(t, err)
	var doc struct{ Nftables []map[string]map[string]any }
	must(t, json.Unmarshal(out, &doc))
	var all []map[string]any
	for _, object := range doc.Nftables {
		for kind, body := range object {
			if kind == "metainfo" {
				continue
			}
			body["object"] = kind
			all = append(all, body)
		}
	}
	key := func(m map[string]any) string {
		name, _ := m["name"].(string)
		chain, _ := m["chain"].(string)
		kind, _ := m["object"].(string)
		return kind + " " + name + chain
	}
	slices.SortStableFunc(all, func(a, b map[string]any) int { return cmp.Compare(key(a), key(b)) })
	return all
}

// TestFile holds what the rule generator writes and the table that Open installs
// equal, in every choice of the configuration. rules/siproxd.nft is one of those files.
func TestFile(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, change := range map[string]func(*Config){
		"reference":   func(*Config) {},
		"siproxd.nft": func(c *Config) { c.Bypass = true },
		"accept any":  func(c *Config) { c.AcceptAny = true },
		"media any":   func(c *Config) { c.MediaAny = true },
		"hairpin":     func(c *Config) { c.HairpinRouter = true },
		"four queues": func(c *Config) { c.Queues = 4 },
		"dscp of SIP": func(c *Config) { c.SIPDSCP = 24 },
		"dscp of RTP": func(c *Config) { c.RTPDSCP = 45 },
		"redirect":    func(c *Config) { c.RedirectPort, c.Outside = 5062, []string{"ppp0", "ppp1"} },
		"sockets":     func(c *Config) { c.ListenPort = 5060 },
		"many": func(c *Config) {
			c.Inside, c.Outside, c.SIPPorts = []string{"eth0", "br-lan.3"}, []string{"ppp0", "ppp1"}, []uint16{5060, 5080}
		},
		"peers": func(c *Config) {
			c.SIPPeers = []netip.Prefix{prefix("192.0.2.0/25"), prefix("192.0.2.128/25"), prefix("198.51.100.7/32"), prefix("198.51.100.0/24"), prefix("203.0.113.9/32")}
		},
		"all peers": func(c *Config) { c.SIPPeers = []netip.Prefix{prefix("0.0.0.0/0")} },
		"everything": func(c *Config) {
			*c = Config{Inside: []string{"eth0"}, Outside: []string{"ppp0"}, SIPPorts: []uint16{5060, 5062},
				SIPPeers: []netip.Prefix{prefix("192.0.2.0/24")}, AcceptAny: true, MediaAny: true, HairpinRouter: true, Bypass: true,
				SIPDSCP: 26, RTPDSCP: 46, QueueFirst: 7, Queues: 3}
		},
	} {
		t.Run(name, func(t *testing.T) {
			netspace.New(t)
			cfg := reference()
			change(&cfg)
			text, f := file(t, cfg)
			nftRun(t, text)
			want := listing(t)
			nftRun(t, "delete table ip sipnatd")

			open(t, cfg)
			statements := cfg.queues()
			if cfg.Awaited() {
				idle(t)
			}
			if cfg.Bypass {
				statements *= 2
			}
			if !f.NativeQueue {
				for range statements {
					deleteLastRule(t, chainDivertIn)
					deleteLastRule(t, chainDivertOut)
				}
			}
			if diff := gocmp.Diff(want, listing(t), ignoreHandle); diff != "" {
				t.Errorf("the generator (-) and Open (+) differ:\n%s", diff)
			}
		})
	}
}

// deleteLastRule deletes the last rule of a chain.
func deleteLastRule(t *testing.T, chain string) {
	t.Helper()
	var handle string
	for line := range strings.Lines(nftList(t, "-a", "list", "chain", "ip", tableName, chain)) {
		if _, h, ok := strings.Cut(line, "# handle "); ok {
			handle = strings.TrimSpace(h)
		}
	}
	nftList(t, "delete", "rule", "ip", tableName, chain, "handle", handle)
}

// TestFileTwice loads the file over itself: rules must not add up, leases stay.
func TestFileTwice(t *testing.T) {
	netspace.New(t)
	text, _ := file(t, reference())
	nftRun(t, text)
	once := listing(t)
	nftRun(t, "add element ip sipnatd guarded { 10.1.0.2 . 4000 timeout 1h }")
	nftRun(t, text)
	if got := nftList(t, "list", "set", "ip", tableName, "guarded"); !strings.Contains(got, "10.1.0.2 . 4000") {
		t.Errorf("the lease is gone:\n%s", got)
	}
	nftRun(t, "flush set ip sipnatd guarded")
	if diff := gocmp.Diff(once, listing(t), ignoreHandle); diff != "" {
		t.Errorf("loaded once (-) and twice (+):\n%s", diff)
	}
}

// TestOpenAfterFile: a table from the file is taken over as it is, with the leases
// in it.
func TestOpenAfterFile(t *testing.T) {
	netspace.New(t)
	text, _ := file(t, reference())
	nftRun(t, text)
	nftRun(t, "add element ip sipnatd streams { 198.51.100.1 . 7070 timeout 1h : 10.1.0.2 . 4000 }")
	handle := tableHandle(t)

	table := open(t, reference())
	if got := tableHandle(t); got != handle {
		t.Errorf("table handle %v, was %v: it was made anew", got, handle)
	}
	wantMappings(t, table, Mapping{Inside: ap("10.1.0.2:4000"), Public: ap("198.51.100.1:7070"), Stream: true})
}

// tableHandle gives the number that the kernel gave the table, a new one each time
// that a table is made.
func tableHandle(t *testing.T) float64 {
	t.Helper()
	for _, object := range listing(t) {
		if object["object"] == "table" {
			return object["handle"].(float64)
		}
	}
	t.Fatal("no table")
	return 0
}

// TestListing: nft prints the rules of every configuration as the lines that stand
// beside their bytes in TestRules.
func TestListing(t *testing.T) {
	netspace.New(t)
	f, err := Probe()
	must(t, err)
	all := golden(t)
	for _, v := range variants() {
		if v.features.NativeQueue != f.NativeQueue || v.features.Hash != f.Hash {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			netspace.New(t)
			if v.config.Helper != "" {
				ownHelper(t)
			}
			want := make(map[string][]string)
			for chain, rules := range all[v.name] {
				for _, r := range rules {
					want[chain] = append(want[chain], r.Line)
				}
			}
			open(t, v.config)
			if diff := gocmp.Diff(want, lines(nftList(t, "list", "table", "ip", tableName))); diff != "" {
				t.Errorf("%s (-), nft prints (+):\n%s", goldenFile, diff)
			}
		})
	}
}

// lines reads a listing of nft as the rules of each chain.
func lines(listing string) map[string][]string {
	chains := make(map[string][]string)
	chain := ""
	for line := range strings.Lines(listing) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "chain "):
			chain = strings.Fields(line)[1]
		case line == "}":
			chain = ""
		case chain != "" && !strings.HasPrefix(line, "type "):
			chains[chain] = append(chains[chain], line)
		}
	}
	return chains
}
