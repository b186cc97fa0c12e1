package sipmsg

import (
	"net/netip"
	"strings"
	"testing"
)

var addrTexts = []string{
	"", "1", "1.2.3", "1.2.3.4", "255.255.255.255", "256.1.1.1", "01.2.3.4", "0.0.0.0", "1.2.3.4.", ".1.2.3.4", "1.2.3.4.5",
	"1..3.4", "1.2.3.4x", "example.com", "a.b", "fe80", "::", ":::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9",
	"1:2:3:4:5:6:7", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::8:9", "1::2::3", "12345::", "g::", "::1.2.3.4", "::ffff:192.0.2.1",
	"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3.4:5", "::1.2.3", "::1.2.3.400", "1:", ":1", ":1:2:3:4:5:6:7",
	"fe80::1%eth0", "2001:DB8::A", "1:2:3:4:5:6:7:", "::1:", "1.2.3.4::", "::1.02.3.4", "0:0:0:0:0:0:0:0", "::12345", "1:::2",
}

// sameAddr compares ParseAddr with package netip.
func sameAddr(t *testing.T, text string) {
	t.Helper()
	got, ok := ParseAddr([]byte(text))
	if strings.HasPrefix(text, "[") {
		text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
		if strings.Contains(text, ".") && !strings.Contains(text, ":") {
			text = "no IPv4 in brackets"
		}
	}
	want, err := netip.ParseAddr(text)
	if err != nil || want.Zone() != "" {
		want = netip.Addr{}
	}
	if got != want || ok != want.IsValid() {
		t.Errorf("%q: got %v, %v, want %v", text, got, ok, want)
	}
}

func TestParseAddr(t *testing.T) {
	for _, text := range addrTexts {
		sameAddr(t, text)
		sameAddr(t, "["+text+"]")
	}
	for _, text := range []string{"[", "]", "[]", "[::1", "::1]", "[1.2.3.4]", "[[::1]]"} {
		if a, ok := ParseAddr([]byte(text)); ok {
			t.Errorf("%q is %v", text, a)
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, text := range addrTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !strings.ContainsAny(text, "[]") {
			sameAddr(t, text)
		}
	})
}

func TestAppendHostPort(t *testing.T) {
	for _, c := range []struct {
		addr string
		port int
		want string
	}{
		{"192.0.2.1", 0, "192.0.2.1"},
		{"192.0.2.1", 5060, "192.0.2.1:5060"},
		{"2001:db8::1", 0, "[2001:db8::1]"},
		{"2001:db8::1", 65535, "[2001:db8::1]:65535"},
	} {
		if got := string(AppendHostPort([]byte("x"), netip.MustParseAddr(c.addr), c.port)); got != "x"+c.want {
			t.Errorf("got %q, want x%s", got, c.want)
		}
	}
}
