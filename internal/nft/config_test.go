package nft

import (
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
		{func(c *Config) { c.SIPPorts = []uint16{0} }, "SIP ports"},
		{func(c *Config) { c.QueueFirst, c.Queues = 65535, 1 }, ""},
		{func(c *Config) { c.QueueFirst, c.Queues = 65535, 0 }, ""},
		{func(c *Config) { c.QueueFirst, c.Queues = 65535, 2 }, "65536"},
		{func(c *Config) { c.SIPDSCP, c.RTPDSCP = 63, 63 }, ""},
		{func(c *Config) { c.SIPDSCP = 64 }, "code points 64"},
		{func(c *Config) { c.RTPDSCP = 64 }, "64 of media"},
	} {
		c := reference()
		test.change(&c)
		err := c.check()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: error %v, want %q", c, err, test.want)
		}
	}
}
