package nft

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestConfigCheck(t *testing.T) {
	for _, test := range []struct {
		change func(*Config)
		want   string // in the error; empty: none
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Inside, c.Outside = nil, nil }, ""},
		{func(c *Config) { c.Inside = []string{"eth0", ""} }, `""`},
		{func(c *Config) { c.Outside = []string{"a-name-of-16-byt"} }, "1 to 15 bytes"},
		{func(c *Config) { c.Outside = []string{"a-name-of-15-by"} }, ""},
		{func(c *Config) { c.Outside = []string{"ppp*"} }, "patterns"},
		{func(c *Config) { c.Outside = []string{"ppp0", "eth0"} }, "both inside and outside"},
		{func(c *Config) { c.SIPPorts = nil }, "SIP ports"},
		{func(c *Config) { c.SIPPorts = []uint16{0} }, "SIP ports"},
		{func(c *Config) { c.QueueFirst, c.Queues = 65535, 1 }, ""},
		{func(c *Config) { c.QueueFirst, c.Queues = 65535, 0 }, ""},
		{func(c *Config) { c.QueueFirst, c.Queues = 65535, 2 }, "65536"},
	} {
		c := reference()
		test.change(&c)
		err := c.check()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: error %v, want %q", c, err, test.want)
		}
	}
}

func TestPeerRanges(t *testing.T) {
	for _, test := range []struct{ peers, want string }{
		{"", ""},
		{"192.0.2.1/32", "192.0.2.1-192.0.2.1"},
		{"192.0.2.77/24", "192.0.2.0-192.0.2.255"},
		{"192.0.2.0/24 192.0.2.128/25", "192.0.2.0-192.0.2.255"},
		{"192.0.2.128/25 192.0.2.0/25", "192.0.2.0-192.0.2.255"},
		{"192.0.2.0/25 203.0.113.0/24 192.0.2.0/24", "192.0.2.0-192.0.2.255 203.0.113.0-203.0.113.255"},
		{"0.0.0.0/0 192.0.2.0/24", "0.0.0.0-255.255.255.255"},
		{"240.0.0.0/4 255.255.255.255/32", "240.0.0.0-255.255.255.255"},
		{"2001:db8::/32", ""},
		{"::ffff:192.0.2.0/120", "192.0.2.0-192.0.2.255"},
	} {
		var c Config
		for _, p := range strings.Fields(test.peers) {
			c.SIPPeers = append(c.SIPPeers, netip.MustParsePrefix(p))
		}
		var got []string
		for _, r := range c.peerRanges() {
			got = append(got, fmt.Sprintf("%v-%v", r.first, r.last))
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: %s, want %s", test.peers, s, test.want)
		}
	}
}
