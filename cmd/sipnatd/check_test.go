package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// forwarding has the test's firewall forward, and masquerade as the README has it.
func forwarding(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(`
		table inet filter {
			chain forward {
				type filter hook forward priority filter; policy drop;
				ct state established,related accept
				iifname "eth0" oifname "ppp0" accept
			}
		}
		table ip nat {
			chain postrouting {
				type nat hook postrouting priority srcnat;
				oifname "ppp0" masquerade
			}
		}`)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	ip := exec.Command("ip", "route", "replace", "default", "via", "203.0.113.10")
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("ip: %v\n%s", err, out)
	}
}

// TestCheck: the exit status tells scripts what the last lines tell people, beside the
// daemon and without it.
func TestCheck(t *testing.T) {
	firewall(t)
	conf := write(t, "")
	status := func(want int, says string, args ...string) {
		t.Helper()
		stdout, stderr, got := result(t, program(t, append([]string{"check", "-c", conf}, args...)...))
		if got != want || stderr != "" || !strings.Contains(stdout, says) {
			t.Errorf("status %d, want %d; it says\n%s%s", got, want, stdout, stderr)
		}
	}
	status(exitFailed, "FAULT")
	forwarding(t)
	status(0, "it does not run")
	must(t, os.WriteFile(conf, []byte("host_outbound = 198.51.100.7\n"), 0o644))
	status(exitWarned, "warning")
	must(t, os.WriteFile(conf, nil, 0o644))

	d := start(t, "-c", conf)
	d.says("msg=ready")
	status(0, "it runs (process ")
	d.signal(syscall.SIGTERM)
	must(t, d.Wait())
	status(0, "left it for running calls")

	stdout, _, _ := result(t, program(t, "check", "-c", conf, "-json"))
	var findings []map[string]string
	must(t, json.Unmarshal([]byte(stdout), &findings))
	if len(findings) < 20 || findings[0]["level"] != "ok" || findings[0]["id"] == "" {
		t.Errorf("in JSON it says\n%s", stdout)
	}
}

func TestCheckCalledWrongly(t *testing.T) {
	for _, args := range [][]string{{"-x"}, {"now"}, {"-c", filepath.Join(t.TempDir(), "missing")}, {"-c", write(t, "hairpin = never")}} {
		stdout, stderr, status := result(t, program(t, append([]string{"check"}, args...)...))
		if status != exitUsage || stdout != "" || !strings.HasPrefix(stderr, "sipnatd: ") {
			t.Errorf("%q: status %d, it says\n%s%s", args, status, stdout, stderr)
		}
	}
	if stdout, _, status := result(t, program(t, "check", "-h")); status != 0 || !strings.Contains(stdout, "Exit status:") {
		t.Errorf("-h: status %d, it says\n%s", status, stdout)
	}
}

// TestCheckUnprivileged: whoever may not ask the kernel is told what is not looked at,
// and the rest.
func TestCheckUnprivileged(t *testing.T) {
	firewall(t)
	forwarding(t)
	conf := write(t, "")
	cmd := program(t, "check", "-c", conf)
	unprivileged(t, cmd, filepath.Dir(conf))
	stdout, stderr, status := result(t, cmd)
	if status != exitWarned || stderr != "" || !strings.Contains(stdout, "without CAP_NET_ADMIN") ||
		!strings.Contains(stdout, "the kernel forwards") || !strings.Contains(stdout, "with 1 warning.") {
		t.Errorf("status %d, it says\n%s%s", status, stdout, stderr)
	}
}
