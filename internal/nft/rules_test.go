package nft

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write testdata/rules.txt anew; the lines of nft in it are kept where the count of rules is")

const goldenFile = "testdata/rules.txt"

// variant is a configuration on a kernel.
type variant struct {
	name     string
	config   Config
	features Features
}

// variants differ in their rules. The first is the reference.
func variants() []variant {
	native, xt := Features{NativeQueue: true, Hash: true}, Features{XTQueue: true, Hash: true}
	var all []variant
	add := func(name string, f Features, change func(*Config)) {
		c := reference()
		if change != nil {
			change(&c)
		}
		all = append(all, variant{name, c, f})
	}
	bypass := func(c *Config) { c.Bypass = true }
	four := func(c *Config) { c.Queues = 4 }
	fourBypass := func(c *Config) { c.Queues, c.Bypass = 4, true }
	add("reference", native, nil)
	add("accept any", native, func(c *Config) { c.AcceptAny = true })
	add("media any", native, func(c *Config) { c.MediaAny = true })
	add("hairpin router", native, func(c *Config) { c.HairpinRouter = true })
	add("bypass", native, bypass)
	add("four queues", native, four)
	add("four queues, bypass", native, fourBypass)
	add("four queues, no hash", Features{NativeQueue: true}, fourBypass)
	add("helper", native, func(c *Config) { c.Helper = "sipnatd" })
	add("redirect", native, func(c *Config) {
		c.RedirectPort, c.Outside = 5062, []string{"ppp0", "ppp1"}
	})
	add("sockets", native, func(c *Config) { c.ListenPort = 5060 })
	mark := func(c *Config) { c.SIPDSCP, c.RTPDSCP = 24, 46 }
	add("dscp", native, mark)
	add("dscp, media any", native, func(c *Config) { mark(c); c.MediaAny = true })
	add("xt", xt, nil)
	add("xt, accept any", xt, func(c *Config) { c.AcceptAny = true })
	add("xt, media any", xt, func(c *Config) { c.MediaAny = true })
	add("xt, hairpin router", xt, func(c *Config) { c.HairpinRouter = true })
	add("xt, bypass", xt, bypass)
	add("xt, four queues", xt, four)
	add("xt, four queues, bypass", xt, fourBypass)
	add("xt, dscp", xt, mark)
	add("xt, dscp, media any", xt, func(c *Config) { mark(c); c.MediaAny = true })
	add("xt, four queues, no hash", Features{XTQueue: true}, fourBypass)
	return all
}

// goldenRule is a line of nft and the expressions that it stands for, each with
// its netlink bytes.
type goldenRule struct {
	Line  string
	Exprs []string
}

// golden reads testdata/rules.txt:
//
//	[variant]
//	chain name
//		line of nft
//			expression  bytes
//
// A chain that a variant does not show is as in the reference.
func golden(t *testing.T) map[string]map[string][]goldenRule {
	t.Helper()
	text, err := os.ReadFile(goldenFile)
	must(t, err)
	all := make(map[string]map[string][]goldenRule)
	var variant, chain string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		depth := len(line) - len(strings.TrimLeft(line, "\t"))
		word := strings.TrimSpace(line)
		switch {
		case word == "" || word[0] == '#':
		case depth == 0 && word[0] == '[':
			variant = strings.Trim(word, "[]")
			all[variant] = make(map[string][]goldenRule)
			if variant != "reference" {
				maps.Copy(all[variant], all["reference"])
			}
		case depth == 0:
			chain = strings.TrimPrefix(word, "chain ")
			all[variant][chain] = nil
		case depth == 1:
			all[variant][chain] = append(all[variant][chain], goldenRule{Line: word})
		case depth == 2:
			rules := all[variant][chain]
			last := &rules[len(rules)-1]
			last.Exprs = append(last.Exprs, strings.Join(strings.Fields(word), " "))
		}
	}
	return all
}

// marshalled gives an expression's kind and its netlink bytes.
func marshalled(t *testing.T, e expr.Any) string {
	t.Helper()
	b, err := expr.Marshal(unix.NFPROTO_IPV4, e)
	must(t, err)
	kind := strings.ToLower(reflect.TypeOf(e).Elem().Name())
	return kind + " " + hex.EncodeToString(b)
}

// TestRules compares each rule's exact netlink bytes with those that stand beside
// its line of nft. TestListing has the kernel and nft confirm the lines.
func TestRules(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	if *update {
		writeGolden(t)
	}
	want := golden(t)
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) {
			got := make(map[string][]goldenRule)
			for _, c := range chains(v.config, v.features) {
				got[c.name] = nil
				for i, r := range c.rules {
					g := goldenRule{}
					if i < len(want[v.name][c.name]) {
						g.Line = want[v.name][c.name][i].Line
					}
					for _, e := range r {
						g.Exprs = append(g.Exprs, marshalled(t, e))
					}
					got[c.name] = append(got[c.name], g)
				}
			}
			if diff := cmp.Diff(want[v.name], got); diff != "" {
				t.Errorf("%s (-), rules (+):\n%s", goldenFile, diff)
			}
		})
	}
}

// writeGolden writes the file from the rules. Lines that it does not have yet are
// to be filled in by hand.
func writeGolden(t *testing.T) {
	t.Helper()
	old := golden(t)
	var b strings.Builder
	b.WriteString("# The rules of every configuration: the line of nft, and below it the expressions\n" +
		"# that it stands for with their netlink bytes (little-endian).\n" +
		"# A chain that a configuration does not show is as in the reference.\n")
	reference := make(map[string][]goldenRule)
	for _, v := range variants() {
		fmt.Fprintf(&b, "\n[%s]\n", v.name)
		for _, c := range chains(v.config, v.features) {
			var rules []goldenRule
			for i, r := range c.rules {
				g := goldenRule{Line: "?"}
				if known := old[v.name][c.name]; len(known) == len(c.rules) {
					g.Line = known[i].Line
				}
				for _, e := range r {
					g.Exprs = append(g.Exprs, marshalled(t, e))
				}
				rules = append(rules, g)
			}
			if v.name == "reference" {
				reference[c.name] = rules
			} else if same := func(a, b goldenRule) bool { return slices.Equal(a.Exprs, b.Exprs) }; slices.EqualFunc(rules, reference[c.name], same) {
				continue
			}
			fmt.Fprintf(&b, "chain %s\n", c.name)
			for _, g := range rules {
				fmt.Fprintf(&b, "\t%s\n", g.Line)
				for _, e := range g.Exprs {
					kind, bytes, _ := strings.Cut(e, " ")
					fmt.Fprintf(&b, "\t\t%-9s %s\n", kind, bytes)
				}
			}
		}
	}
	must(t, os.WriteFile(goldenFile, []byte(b.String()), 0o644))
}
