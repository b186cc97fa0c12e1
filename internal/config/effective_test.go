package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// file returns the configuration as config files have it, as far as it is not
// secret. pi_shortdial is left out where nobody has set it: its default, once it is
// in the file, turns off what it says nothing of otherwise.
func file(c *Config) string {
	var b strings.Builder
	for _, v := range c.Values() {
		if v.Text != Hidden && !(v.Name == "pi_shortdial" && v.Origin == "default") {
			fmt.Fprintf(&b, "%s = %s   # %s\n", v.Name, v.Text, v.Origin)
		}
	}
	return b.String()
}

// Values say what is in effect and where it comes from, and are a configuration.
func TestValues(t *testing.T) {
	c := parse(t, "rtp_timeout = 60\nqueues = 2\nrtp_timeout = 70\nload_plugin = a\n\nload_plugin = b\nload_plugin =\nif_inbound = eth1 'eth0'\nua_string = \"a # b\"")
	if err := c.Override("-d", "debug_level", "sip,0x1"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"if_inbound = eth1, eth0 (test.conf:8)",
		"rtp_timeout = 70 (test.conf:3)",
		"queues = 2 (test.conf:2)",
		"debug_level = babble,sip (-d)",
		`ua_string = "a # b" (test.conf:9)`,
		"load_plugin = a (test.conf:4)",
		"load_plugin = b (test.conf:6)",
	}
	var got []string
	for _, v := range c.Values() {
		if v.Origin != "default" {
			got = append(got, fmt.Sprintf("%s = %s (%s)", v.Name, v.Text, v.Origin))
		} else if v.Text != v.Default {
			t.Errorf("%s: the default is %q, not %q", v.Name, v.Default, v.Text)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if again := parse(t, file(c)); len(Changes(c, again)) > 0 {
		t.Errorf("the file\n%s\ndiffers: %+v", file(c), Changes(c, again))
	}
}

func TestOverride(t *testing.T) {
	for _, tt := range []struct{ flag, name, text, err string }{
		{"-d", "debug_level", "spi", "did you mean sip?"},
		{"-d", "debug_level", "", "-d: a value is missing"},
		{"-x", "nothing", "1", "-x: there is no setting nothing"},
	} {
		c := Default()
		if err := c.Override(tt.flag, tt.name, tt.text); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v", tt.text, err)
		}
		if !alike(c, Default()) {
			t.Errorf("%s: it changed", tt.text)
		}
	}
}

// Every setting is compared, and shown as a file would have it.
func TestChanges(t *testing.T) {
	if got := Changes(Default(), parse(t, "")); got != nil {
		t.Errorf("got %+v", got)
	}
	c, err := Load(generation("0.8"))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range Changes(Default(), c) {
		if change.Old == change.New {
			t.Errorf("%+v", change)
		}
	}
	got := Changes(parse(t, "sip_ports = 5060\nhairpin = direct"), parse(t, "sip_ports = 5060 5062\nmask_host = a\nmask_host = b\nmasked_host = c\nmasked_host = d\nqueues = 2"))
	var text []string
	for _, change := range got {
		text = append(text, fmt.Sprintf("%s: %q, %q, %t", change.Name, change.Old, change.New, change.Reload))
	}
	want := []string{`sip_ports: "5060", "5060, 5062", true`, `queues: "1", "2", false`, `mask_host: "", "a, b", true`, `masked_host: "", "c, d", true`}
	if !slices.Equal(text, want) {
		t.Errorf("got  %q\nwant %q", text, want)
	}
}

func TestAsksForProxy(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "sip_ports = 5070": false, "mode = transparent\nsip_listen_port = 5060": false, "rtp_proxy_enable = 1": false,
		"mode = both": true, "mode = proxy": true, "sip_listen_port = 5060": true, "mask_host = a": true, "plugin_prefix_akey = 0": true,
		"plugindir = /x\nplugin_prefix_akey = 0": false,
	} {
		if got := parse(t, text).AsksForProxy(); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}
