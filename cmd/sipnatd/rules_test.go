package main

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"sipnatd/rules"
)

// Without a format, and when asked, it tells the formats.
func TestRulesUsage(t *testing.T) {
	for _, args := range [][]string{{"rules"}, {"rules", "-h"}, {"rules", "nft", "-h"}} {
		stdout, stderr, status := result(t, program(t, args...))
		if status != 0 || stderr != "" {
			t.Errorf("%s: status %d, %s", args, status, stderr)
		}
		for _, f := range rules.Formats() {
			if !strings.Contains(stdout, "\n  "+f.Name+" ") || !strings.Contains(stdout, f.Load) {
				t.Errorf("%s: nothing of %s in\n%s", args, f.Name, stdout)
			}
		}
	}
}

// What is wrong is said, and nothing is written.
func TestRulesWrong(t *testing.T) {
	good := write(t, "if_inbound = eth0\nif_outbound = ppp0\n")
	for _, c := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"format", []string{"iptable"}, exitUsage, "did you mean iptables?"},
		{"two formats", []string{"nft", "ufw"}, exitUsage, `unexpected argument "ufw"`},
		{"flag", []string{"-all", "nft"}, exitUsage, "see sipnatd rules -h"},
		{"flag after the format", []string{"nft", "-all"}, exitUsage, "see sipnatd rules -h"},
		{"no whole form", []string{"-c", good, "-whole", "ufw"}, exitFailed, "ufw has no whole form"},
		{"configuration", []string{"-c", write(t, "sip_ports = sip\n"), "nft"}, exitUsage, "sip_ports = sip"},
		{"interfaces", []string{"-c", write(t, "if_inbound = eth0\nif_outbound = eth0;reboot\n"), "nft"}, exitFailed, "eth0;reboot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, status := result(t, program(t, append([]string{"rules"}, c.args...)...))
			if status != c.status || stdout != "" || !strings.Contains(stderr, c.says) {
				t.Errorf("status %d, want %d; it writes %q and says %s", status, c.status, stdout, stderr)
			}
		})
	}
}

// The file is for the interfaces of the configuration, or for those that are found;
// where there are none it says what to set. It needs no capability.
func TestRulesInterfaces(t *testing.T) {
	h := firewall(t)
	run := func(args ...string) (stdout, stderr string, status int) {
		cmd := program(t, append([]string{"rules"}, args...)...)
		powerless := exec.Command("setpriv", append([]string{"--bounding-set=-all"}, cmd.Args...)...)
		powerless.Env = cmd.Env
		return result(t, powerless)
	}
	empty := write(t, "")

	stdout, stderr, status := run("-c", empty, "iptables")
	if status != exitFailed || stdout != "" || !strings.Contains(stderr, "set if_outbound") || strings.Contains(stderr, "set if_inbound") {
		t.Errorf("without a default route: status %d, %s%s", status, stdout, stderr)
	}

	must(t, h.RouteAdd(&netlink.Route{Gw: net.ParseIP("203.0.113.254")}))
	stdout, stderr, status = run("-c", empty, "iptables")
	if status != 0 || !strings.Contains(stdout, "-A FORWARD -i eth0 -o ppp0 -j ACCEPT\n") ||
		!strings.Contains(stderr, "if_inbound is not set: the rules are for eth0") || !strings.Contains(stderr, "if_outbound is not set: the rules are for ppp0") {
		t.Errorf("with a default route: status %d, %s%s", status, stdout, stderr)
	}
	found := stdout

	stdout, stderr, status = run("-c", write(t, "if_inbound = eth0\nif_outbound = ppp0\n"), "iptables")
	if status != 0 || stderr != "" || stdout != found {
		t.Errorf("configured: status %d, %s%s", status, stdout, stderr)
	}
	stdout, _, status = run("-c", write(t, "if_inbound = lan\nif_outbound = wan\nsip_ports = 5062\nsip_dscp = 24\n"), "nft", "-whole")
	for _, words := range []string{`iifname "lan" oifname "wan" udp dport 5062 accept`, "ip dscp set 24", "policy drop"} {
		if status != 0 || !strings.Contains(stdout, words) {
			t.Errorf("interfaces that are not there: status %d, nothing of %q in %s", status, words, stdout)
		}
	}

	// A box in front gets the address that it has to send to.
	stdout, _, status = run("-c", empty, "ipchains")
	if status != 0 || !strings.Contains(stdout, "\nsipnatd=203.0.113.1\n") {
		t.Errorf("status %d, %s", status, stdout)
	}
}
