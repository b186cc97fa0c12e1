package nft

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// sane fails the fuzz test on redirects that nobody could mean.
func sane(t *testing.T, all []Redirect) {
	t.Helper()
	for _, r := range all {
		if r.Low > r.High || r.To.Port() > r.last || r.network < 0 || r.network > 32 {
			t.Errorf("%+v", r)
		}
		r.Target(ap("192.0.2.1:5060"))
	}
}

// decided fails the fuzz test where a packet has no fate, or one that is none.
func decided(t *testing.T, f *Firewall, c Chain) {
	t.Helper()
	for _, p := range []Packet{{}, {In: "eth0", Out: "ppp0", DstPorts: Ports{5060, 5060}, State: StateNew}} {
		if fate := f.Fate(c, p); fate == 0 || fate&^(Accepted|Dropped|Translated) != 0 {
			t.Errorf("fate %05b", fate)
		}
	}
}

func FuzzXtables(f *testing.F) {
	f.Add("udp", uint32(0), []byte{0, 0, 0xff, 0xff, 0xc4, 0x13, 0xc5, 0x13, 0})
	f.Add("multiport", uint32(1), append([]byte{1, 2, 0xc4, 0x13, 0xc5, 0x13, 46: 0}, 1))
	f.Add("multiport", uint32(0), []byte{1, 15, 31: 0})
	f.Add("conntrack", uint32(3), []byte{xtctFlags: 1, xtctState: 6, xtctSize: 0})
	f.Add("DNAT", uint32(0), []byte{1, 0, 0, 0, 3, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0xc4, 0x13, 0xc5})
	f.Add("DNAT", uint32(2), []byte{0x23, 0, 0, 0, 10, 0, 0, 1, 20: 10, 23: 2, 36: 0x13, 0xc4, 0x13, 0xc5, 0x10, 0})
	f.Add("NETMAP", uint32(0), []byte{1, 0, 0, 0, 1, 0, 0, 0, 10, 0, 0, 0, 10, 0, 0, 255, 19: 0})
	f.Fuzz(func(t *testing.T, name string, revision uint32, info []byte) {
		for _, m := range (xtMatch{name, revision, info}).match() {
			if m.Low > m.High {
				t.Errorf("%+v", m)
			}
		}
		(xtMatch{name, revision, info}).about(&Packet{State: StateNew})
		if helper := assignedHelper(info); len(helper) > 16 {
			t.Errorf("the helper %q", helper)
		}
		if to, ok := (xtTarget{name, revision, info}).target(); ok {
			sane(t, []Redirect{to.of(anything)})
		}
	})
}

// The seed is a table with each kind of rule, as the kernel gave it out.
func FuzzLegacyTable(f *testing.F) {
	table, err := os.ReadFile("testdata/iptables-legacy-nat.bin")
	must(f, err)
	f.Add(uint32(0), table)
	f.Add(uint32(len(table)), table)
	f.Fuzz(func(t *testing.T, start uint32, table []byte) {
		w := legacyWalk{table: table}
		w.walk(start, anything, 0)
		sane(t, w.found)

		at := [5]uint32{start, start, start, start, start}
		f := &Firewall{legacy: map[string]*legacyTable{"filter": {hooks: at, policies: at, entries: table}}}
		decided(t, f, Chain{Table: "filter", Hook: Forward, Legacy: true})
	})
}

// The seeds are the daemon's own rules.
func FuzzRule(f *testing.F) {
	c := reference()
	c.HairpinRouter, c.Queues = true, 2
	for _, ch := range chains(c, Features{Hash: true}) {
		for _, r := range ch.rules {
			var list []netlink.Attribute
			for _, e := range r {
				b, err := expr.Marshal(unix.NFPROTO_IPV4, e)
				must(f, err)
				list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: b})
			}
			b, err := netlink.MarshalAttributes(list)
			must(f, err)
			f.Add(b, []byte{1, 2, 3})
		}
	}
	f.Fuzz(func(t *testing.T, rule, elements []byte) {
		in := []interval{{}, {low: elements, high: elements, data: elements, chain: "c"}}
		in = append(in, joinEnds([]element{decodeElement(elements), {interval: interval{low: elements}, end: true}})...)
		found, jumps, err := evaluate(decodeExpressions(unix.NFPROTO_IPV4, rule), []Redirect{anything},
			func(string) ([]interval, error) { return in, nil })
		must(t, err)
		sane(t, found)
		for _, j := range jumps {
			sane(t, j.match)
		}

		table := tableKey{unix.NFPROTO_IPV4, "t"}
		f := &Firewall{
			byChain: map[chainKey][]Rule{{table, "c"}: {{Family: "ip", Table: "t", Chain: "c", exprs: rule}}},
			s:       &ruleset{declared: map[tableKey]map[string]setDeclaration{table: {}}},
		}
		decided(t, f, Chain{Family: "ip", Table: "t", Name: "c"})
		find(in, elements, len(rule)%2 == 0)
	})
}

// Lists are cut off where the kernel's answer is.
func TestAttributes(t *testing.T) {
	whole := []byte{6, 0, 1, 0, 'a', 'b', 0, 0, 4, 0, 2, 0x80}
	if binary.NativeEndian.Uint16(whole) != 6 {
		t.Skip("written down for little-endian machines")
	}
	for cut, want := range map[int]string{len(whole): "1ab2", 11: "1ab", 8: "1ab", 6: "1ab", 5: "", 0: ""} {
		var got string
		for a := range attributes(whole[:cut]) {
			got += string(rune('0'+a.kind)) + string(a.data)
		}
		if got != want {
			t.Errorf("the first %d bytes: %q, want %q", cut, got, want)
		}
	}
}
