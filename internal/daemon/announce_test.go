package daemon

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestAnnouncer plays the look-ups of a name, one after the other.
func TestAnnouncer(t *testing.T) {
	const ours, outer, other = "203.0.113.1", "198.51.100.1", "198.51.100.2"
	type step struct {
		addresses string // that the name has; empty: the look-up fails
		own       string // the firewall's address
		want      string // what is announced; empty: the interface's own
		says      string // a part of what the log is told; empty: nothing
	}
	for name, steps := range map[string][]step{
		"another NAT in front": {
			{outer, "10.9.9.9", outer, ""},
			{"", "10.9.9.9", outer, "host_outbound has no address now"},
			{"", "10.9.9.9", outer, ""},
			{outer, "10.9.9.9", outer, "has an address again"},
			{other, "10.9.9.9", other, ""},
		},
		"not known at the start": {
			{"", ours, "", "host_outbound has no address now"},
			{outer, ours, outer, "has an address again"},
		},
		"several addresses": {
			{outer + " " + other, ours, outer, ""},
			{other + " " + outer, ours, outer, ""},
			{other, ours, other, ""},
		},
		"the firewall's own": {
			{ours, ours, "", ""},
			{ours, "203.0.113.2", "", ""}, // dynamic DNS is behind
			{"203.0.113.2", "203.0.113.2", "", ""},
			{outer, "203.0.113.2", outer, ""},
		},
		"before the line is up": {
			{ours, "10.9.9.9", ours, ""},
			{ours, ours, "", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log written
			a := newAnnouncer(log.logger())
			var now netip.Addr
			for i, s := range steps {
				a.resolve = func(context.Context, string) (list []netip.Addr, err error) {
					for text := range strings.FieldsSeq(s.addresses) {
						list = append(list, netip.MustParseAddr("::ffff:"+text))
					}
					if list == nil {
						err = errors.New("no such host")
					}
					return list, err
				}
				before := len(log.String())
				list, err := a.lookUp(t.Context(), "pbx.example")
				now = a.choose("pbx.example", list, err, now, func(a netip.Addr) bool { return a.String() == s.own })
				if want, _ := netip.ParseAddr(s.want); now != want {
					t.Errorf("step %d: %v is announced, want %v", i, now, want)
				}
				var said []string
				for line := range strings.Lines(log.String()[before:]) {
					if !strings.Contains(line, "level=DEBUG") {
						said = append(said, line)
					}
				}
				if text := strings.Join(said, ""); (text == "") != (s.says == "") || !strings.Contains(text, s.says) {
					t.Errorf("step %d: it says %q, want %q", i, text, s.says)
				}
			}
		})
	}
}

// TestFollowHost: messages announce what the name stands for as soon as it is looked
// up, and an answer that comes when another name is configured does not count.
func TestFollowHost(t *testing.T) {
	d, _ := newDaemon(t, "host_outbound = pbx.example\n")
	asked := make(chan string)
	answers := make(chan string)
	d.announcer.resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
		asked <- host
		if a, err := netip.ParseAddr(<-answers); err == nil {
			return []netip.Addr{a}, nil
		}
		return nil, errors.New("no such host")
	}
	look := func(meanwhile func(), answer, announced string, next time.Duration) {
		t.Helper()
		done := make(chan time.Duration)
		go func() { done <- d.lookUpHost(t.Context()) }()
		<-asked
		meanwhile()
		answers <- answer
		if got := <-done; got != next {
			t.Errorf("looks again in %v, want %v", got, next)
		}
		if got := d.announces(); got != announced {
			t.Errorf("%s is announced, want %s", got, announced)
		}
	}
	nothing := func() {}
	look(nothing, "198.51.100.7", "198.51.100.7", lookUpEvery)
	look(nothing, "", "198.51.100.7", lookUpAgain)
	look(nothing, "198.51.100.8", "198.51.100.8", lookUpEvery)
	look(func() { must(t, d.configure(parse(t, "host_outbound = sbc.example\n"))) }, "198.51.100.9", "198.51.100.8", 0)
	look(nothing, "198.51.100.10", "198.51.100.10", lookUpEvery)
	if len(d.lookUp) != 1 {
		t.Error("a reload does not ask for a look-up")
	}
}

// An address needs no look-up, and another name begins with what is announced.
func TestAnnouncerBegin(t *testing.T) {
	a := newAnnouncer(new(written).logger())
	a.resolve = func(context.Context, string) ([]netip.Addr, error) {
		t.Error("an address is looked up")
		return nil, nil
	}
	now := netip.MustParseAddr("198.51.100.1")
	list, err := a.lookUp(t.Context(), "198.51.100.9")
	if got := a.choose("198.51.100.9", list, err, now, func(netip.Addr) bool { return true }); got.String() != "198.51.100.9" {
		t.Errorf("%v is announced", got)
	}
	for host, want := range map[string]netip.Addr{"": {}, "198.51.100.9": netip.MustParseAddr("198.51.100.9"), "pbx.example": now} {
		if got := a.begin(host, now); got != want {
			t.Errorf("%q begins with %v, want %v", host, got, want)
		}
	}
}
