package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// loadRules has nft load a rule set in the test's namespace.
func loadRules(t *testing.T, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader("flush ruleset\n" + rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// The README's firewall is enough, says the program of it, and without "related" it
// says what docs/troubleshooting.md shows.
func TestDocumentedFirewall(t *testing.T) {
	h := firewall(t)
	ppp0, err := h.LinkByName("ppp0")
	must(t, err)
	must(t, h.RouteAdd(&netlink.Route{LinkIndex: ppp0.Attrs().Index, Gw: net.IPv4(203, 0, 113, 10),
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}))
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	conf := write(t, "rtp_port_high = 7079") // for which the smallest tables are large enough

	var rules string
	for _, block := range fenced(document(t, "README.md"), "") {
		if strings.Contains(block, "masquerade") {
			rules = block
		}
	}
	shown := fenced(document(t, "docs/troubleshooting.md"), "check")
	if rules == "" || len(shown) != 1 {
		t.Fatal("there is no firewall in the README, or no output in docs/troubleshooting.md")
	}
	loadRules(t, rules)
	if stdout, stderr, status := result(t, program(t, "check", "-c", conf)); status != 0 {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	loadRules(t, strings.ReplaceAll(rules, "established,related", "established"))
	stdout, stderr, status := result(t, program(t, "check", "-c", conf))
	if status != exitWarned {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	for line := range strings.Lines(shown[0]) {
		if !strings.Contains(stdout, line) {
			t.Errorf("it does not say\n%s, but\n%s", line, stdout)
		}
	}
}
