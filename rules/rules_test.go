package rules

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write siproxd.nft anew")

// scenario is the reference configuration: that of siproxd's README, all else being
// the default.
func scenario() Config {
	return Config{
		Inside: []string{"eth0"}, Outside: []string{"ppp0"},
		InsideNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		SIPPorts:       []uint16{5060},
		Bypass:         true,
		QueueFirst:     5060, Queues: 1,
		PortLow: 7070, PortHigh: 7080,
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// written is the file of a format.
func written(t *testing.T, format string, cfg Config, opts Options) string {
	t.Helper()
	var out bytes.Buffer
	must(t, Write(&out, format, cfg, opts))
	return out.String()
}

// siproxd.nft is what the generator writes. That it is what the daemon installs,
// internal/nft tests.
func TestReference(t *testing.T) {
	const name = "siproxd.nft"
	want := written(t, "nft", scenario(), Options{})
	if *update {
		must(t, os.WriteFile(name, []byte(want), 0o644))
	}
	got, err := os.ReadFile(name)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s is not what the generator writes: go test ./rules -update", name)
	}
}

// What no file can be written for is said, and nothing is written.
func TestWrong(t *testing.T) {
	for _, test := range []struct {
		name, format string
		opts         Options
		change       func(*Config)
		says         string
	}{
		{"near", "ntf", Options{}, nil, `there is no format "ntf"; did you mean nft?`},
		{"far", "ebtables-save", Options{}, nil, "there are nft"},
		{"no inside", "nft", Options{}, func(c *Config) { c.Inside = nil }, "set if_inbound"},
		{"no outside", "nft", Options{}, func(c *Config) { c.Outside = nil }, "set if_outbound"},
		{"shell", "nft", Options{}, func(c *Config) { c.Inside = []string{"$(reboot)"} }, `"$(reboot)" cannot be written`},
		{"option", "nft", Options{}, func(c *Config) { c.Inside = []string{"-j"} }, `"-j" cannot be written`},
		{"long name", "nft", Options{}, func(c *Config) { c.Outside = []string{"a-name-of-16-byt"} }, "cannot be written"},
		{"code point", "nft", Options{}, func(c *Config) { c.RTPDSCP = 64 }, "0 to 63"},
		{"no whole form", "ufw", Options{Whole: true}, nil, "ufw has no whole form"},
		{"no ports", "nft", Options{}, func(c *Config) { c.SIPPorts = nil }, "sip_ports"},
		{"queues", "nft", Options{}, func(c *Config) { c.QueueFirst, c.Queues = 65535, 2 }, "65536"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := scenario()
			if test.change != nil {
				test.change(&cfg)
			}
			var out bytes.Buffer
			err := Write(&out, test.format, cfg, test.opts)
			if err == nil || !strings.Contains(err.Error(), test.says) || out.Len() > 0 {
				t.Errorf("error %v, want %q; written: %s", err, test.says, &out)
			}
		})
	}
}

// Every file says what it is for, and has no traces of its template.
func TestForm(t *testing.T) {
	for name, cfg := range configurations() {
		for _, f := range Formats() {
			for _, opts := range []Options{{}, {Whole: f.Whole}, {Remove: true}, {Whole: f.Whole, Remove: true}} {
				text := written(t, f.Name, cfg, opts)
				p := page{cfg, opts, f}
				about := name + ", " + p.Command()
				for _, what := range []string{p.Command(), p.Loading()} {
					if !strings.Contains(text, what) {
						t.Errorf("%s: nothing of %q", about, what)
					}
				}
				if !opts.Remove && !strings.Contains(text, p.Removal()) {
					t.Errorf("%s: it does not say how it is taken away", about)
				}
				for _, s := range p.Settings() {
					if !strings.Contains(text, s.Name) {
						t.Errorf("%s: nothing of %s", about, s.Name)
					}
				}
				if strings.Contains(text, "<no value>") || strings.Contains(text, "\n\n\n") || !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") {
					t.Errorf("%s: empty places in\n%s", about, text)
				}
				for line := range strings.Lines(text) {
					if strings.TrimRight(line, " \t\n") != strings.TrimSuffix(line, "\n") {
						t.Errorf("%s: space at the end of %q", about, line)
					}
				}
			}
		}
	}
}

// TestMethods: templates can call every method that is there for them.
func TestMethods(t *testing.T) {
	p := &page{}
	have := p.Methods()
	all := reflect.TypeOf(p)
	for i := range all.NumMethod() {
		if name := all.Method(i).Name; name != "Methods" && have[name] == nil {
			t.Errorf("%s is not in Methods", name)
		}
	}
}
