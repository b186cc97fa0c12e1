package config

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// FuzzParse looks for input that breaks the parser, that passes although the daemon
// could not run with it, or that is not shown as it is read.
func FuzzParse(f *testing.F) {
	for _, version := range generations {
		example, err := os.ReadFile(generation(version))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(example))
	}
	for _, s := range settings {
		f.Add(s.Name + " = " + s.Default)
	}
	f.Add("if_inbound = \"eth0\", 'eth1' # c\nsip_peers = 10.0.0.0/8\nhost_outbound = a.b\ndebug_level = -1")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f", strings.NewReader(text))
		lines := strings.Count(text, "\n") + 1
		if err != nil {
			var errs Errors
			if !errors.As(err, &errs) || c != nil {
				t.Fatalf("got %v and %T %v", c, err, err)
			}
			last := 0
			for _, e := range errs {
				if e.Line < max(last, 1) || e.Line > lines {
					t.Errorf("line %d of %d, after line %d: %v", e.Line, lines, last, e)
				}
				last = e.Line
				if strings.ContainsFunc(e.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("not printable: %q", e.Error())
				}
			}
			return
		}
		if c.RTPPortLow%2 != 0 || c.RTPPortHigh <= c.RTPPortLow || c.RTPPortLow < 1024 ||
			len(c.SIPPorts) == 0 || c.Queues == 0 || int(c.QueueNum)+int(c.Queues) > 65536 || c.RTPTimeout <= 0 {
			t.Errorf("accepted: %+v", c)
		}
		for _, p := range slices.Concat(c.MediaHosts, c.SIPPeers) {
			if !p.IsValid() || p != p.Masked() || !p.Addr().Is4() {
				t.Errorf("accepted the network %v", p)
			}
		}
		for _, w := range c.Warnings {
			if strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("not printable: %q", w)
			}
		}
		c.Proxy.AuthPassword = "" // is not shown
		again, err := Parse("f", strings.NewReader(file(c)))
		if err != nil {
			t.Fatalf("what it comes to is no configuration: %v\n%s", err, file(c))
		}
		if changes := Changes(c, again); len(changes) > 0 {
			t.Errorf("what it comes to is another configuration: %+v\n%s", changes, file(c))
		}
	})
}
