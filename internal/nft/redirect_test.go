package nft

import (
	"net/netip"
	"slices"
	"testing"
)

func TestRedirectTarget(t *testing.T) {
	pbx := ap("10.0.0.9:0")
	for _, tt := range []struct {
		name     string
		redirect Redirect
		public   string
		want     string // "" if the rule does not match
	}{
		{"all ports", Redirect{High: 65535, To: pbx}, "192.0.2.1:5060", "10.0.0.9:5060"},
		{"another port", Redirect{Low: 5060, High: 5060, To: pbx}, "192.0.2.1:5061", ""},
		{"first port", Redirect{Low: 5060, High: 5062, To: pbx}, "192.0.2.1:5060", "10.0.0.9:5060"},
		{"last port", Redirect{Low: 5060, High: 5062, To: pbx}, "192.0.2.1:5062", "10.0.0.9:5062"},
		{"address", Redirect{High: 65535, Addr: netip.MustParsePrefix("192.0.2.0/28"), To: pbx}, "192.0.2.15:9", "10.0.0.9:9"},
		{"another address", Redirect{High: 65535, Addr: netip.MustParsePrefix("192.0.2.0/28"), To: pbx}, "192.0.2.16:9", ""},
		{"mapped address", Redirect{High: 65535, Addr: netip.MustParsePrefix("192.0.2.0/28"), To: pbx}, "[::ffff:192.0.2.1]:9", "10.0.0.9:9"},
		{"port translated", Redirect{High: 65535, To: ap("10.0.0.9:6000")}, "192.0.2.1:5060", "10.0.0.9:6000"},
		{"port within the target's", Redirect{High: 65535, To: ap("10.0.0.9:6000"), last: 6010}, "192.0.2.1:6005", "10.0.0.9:6005"},
		{"port without the target's", Redirect{High: 65535, To: ap("10.0.0.9:6000"), last: 6010}, "192.0.2.1:6011", "10.0.0.9:6000"},
		{"shifted", Redirect{High: 65535, To: ap("10.0.0.9:6000"), last: 6010, shift: true, base: 5060}, "192.0.2.1:5063", "10.0.0.9:6003"},
		{"shifted round", Redirect{High: 65535, To: ap("10.0.0.9:6000"), last: 6010, shift: true, base: 5060}, "192.0.2.1:5071", "10.0.0.9:6000"},
		{"network", Redirect{High: 65535, To: ap("10.0.0.0:0"), network: 24}, "192.0.2.77:5060", "10.0.0.77:5060"},
		{"redirection", Redirect{Low: 5060, High: 5060}, "192.0.2.1:5060", "invalid AddrPort"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.redirect.Target(ap(tt.public))
			if ok != (tt.want != "") {
				t.Fatalf("Target(%s) matches: %v", tt.public, ok)
			}
			if ok && got.String() != tt.want {
				t.Errorf("Target(%s) = %v, want %s", tt.public, got, tt.want)
			}
		})
	}
}

func TestRedirectAnd(t *testing.T) {
	net24, net28 := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.16/28")
	for _, tt := range []struct {
		name string
		a, b Redirect
		want *Redirect // nil: nothing in common
	}{
		{"ports overlap", Redirect{Low: 1, High: 9}, Redirect{Low: 5, High: 20}, &Redirect{Low: 5, High: 9}},
		{"ports do not", Redirect{Low: 1, High: 4}, Redirect{Low: 5, High: 20}, nil},
		{"one address", Redirect{Addr: net24}, Redirect{}, &Redirect{Addr: net24}},
		{"address within", Redirect{Addr: net24}, Redirect{Addr: net28}, &Redirect{Addr: net28}},
		{"addresses apart", Redirect{Addr: net28}, Redirect{Addr: netip.MustParsePrefix("192.0.2.0/28")}, nil},
		{"one interface", Redirect{}, Redirect{InIf: "wan0"}, &Redirect{InIf: "wan0"}},
		{"interface of a pattern", Redirect{InIf: "wan*"}, Redirect{InIf: "wan0"}, &Redirect{InIf: "wan0"}},
		{"pattern of a pattern", Redirect{InIf: "wan*"}, Redirect{InIf: "wan1*"}, &Redirect{InIf: "wan1*"}},
		{"interfaces apart", Redirect{InIf: "wan*"}, Redirect{InIf: "lan0"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, pair := range [][2]Redirect{{tt.a, tt.b}, {tt.b, tt.a}} {
				got, ok := pair[0].and(pair[1])
				switch {
				case ok != (tt.want != nil):
					t.Errorf("%+v and %+v have something in common: %v", pair[0], pair[1], ok)
				case ok && got != *tt.want:
					t.Errorf("%+v and %+v: %+v, want %+v", pair[0], pair[1], got, *tt.want)
				}
			}
		})
	}
}

func TestComplement(t *testing.T) {
	for _, tt := range []struct {
		name     string
		of, want []Redirect
	}{
		{"nothing", nil, []Redirect{anything}},
		{"anything", []Redirect{anything}, nil},
		{"a port", []Redirect{{Low: 5, High: 5}}, []Redirect{{High: 4}, {Low: 6, High: 65535}}},
		{"the ends", []Redirect{{Low: 65535, High: 65535}, {}}, []Redirect{{Low: 1, High: 65534}}},
		{"overlaps", []Redirect{{Low: 0, High: 9}, {Low: 3, High: 4}, {Low: 10, High: 11}}, []Redirect{{Low: 12, High: 65535}}},
		{"not only ports", []Redirect{{Low: 5, High: 5, InIf: "wan0"}}, []Redirect{anything}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := complement(tt.of); !slices.Equal(got, tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestPrefixes(t *testing.T) {
	for _, tt := range []struct {
		low, high uint32
		want      []string
	}{
		{0, 0xffffffff, []string{"0.0.0.0/0"}},
		{0xffffffff, 0xffffffff, []string{"255.255.255.255/32"}},
		{0xc0000203, 0xc0000209, []string{"192.0.2.3/32", "192.0.2.4/30", "192.0.2.8/31"}},
		{0xc0000200, 0xc00002ff, []string{"192.0.2.0/24"}},
		{2, 1, nil},
	} {
		var got []string
		for _, p := range prefixes(tt.low, tt.high) {
			got = append(got, p.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("prefixes(%#x, %#x) = %v, want %v", tt.low, tt.high, got, tt.want)
		}
	}
}
