package locate

import (
	"testing"
	"time"
)

// FuzzFiles reads resolv.conf and hosts.
func FuzzFiles(f *testing.F) {
	f.Add("# c\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch example.org. b\noptions ndots:2 timeout:3 attempts:9\n")
	f.Add("127.0.0.1 localhost\n::1 localhost\n192.0.2.1\tpbx.example.org pbx. # c\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := readResolvConf(text)
		if len(c.servers) < 1 || len(c.servers) > 3 || len(c.search) > 6 || c.attempts < 1 || c.attempts > 5 ||
			c.timeout < time.Second || c.timeout > 5*time.Second {
			t.Errorf("%+v", c)
		}
		for _, s := range c.servers {
			if !s.IsValid() {
				t.Errorf("the server %v", s)
			}
		}
		for _, domain := range c.search {
			if !validName(domain) {
				t.Errorf("the domain %q", domain)
			}
		}
		for name, list := range readHosts(text) {
			if len(list) < 1 || len(list) > maxTargets {
				t.Errorf("%q has %d addresses", name, len(list))
			}
		}
	})
}
