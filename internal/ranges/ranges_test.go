package ranges

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	for _, test := range []struct{ networks, want string }{
		{"", ""},
		{"192.0.2.1/32", "192.0.2.1"},
		{"192.0.2.77/24", "192.0.2.0-192.0.2.255"},
		{"192.0.2.0/24 192.0.2.128/25", "192.0.2.0-192.0.2.255"},
		{"192.0.2.128/25 192.0.2.0/25", "192.0.2.0-192.0.2.255"},
		{"192.0.2.0/25 203.0.113.0/24 192.0.2.0/24", "192.0.2.0-192.0.2.255 203.0.113.0-203.0.113.255"},
		{"0.0.0.0/0 192.0.2.0/24", "0.0.0.0-255.255.255.255"},
		{"240.0.0.0/4 255.255.255.255/32", "240.0.0.0-255.255.255.255"},
		{"2001:db8::/32", ""},
		{"::ffff:192.0.2.0/120", "192.0.2.0-192.0.2.255"},
	} {
		var networks []netip.Prefix
		for _, p := range strings.Fields(test.networks) {
			networks = append(networks, netip.MustParsePrefix(p))
		}
		var got []string
		for _, r := range Merge(networks) {
			got = append(got, fmt.Sprint(r))
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: %s, want %s", test.networks, s, test.want)
		}
	}
}
