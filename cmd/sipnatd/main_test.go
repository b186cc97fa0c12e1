package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sipnatd/internal/config"
	"sipnatd/internal/netspace"
)

// programVariable makes the test program be sipnatd.
const programVariable = "SIPNATD_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program is sipnatd, about to be started with arguments.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), programVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// result runs sipnatd to its end.
func result(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	overdue := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer overdue.Stop()
	err := cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "siproxd.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUsage(t *testing.T) {
	for _, flag := range []string{"-h", "-help", "--help"} {
		stdout, stderr, status := result(t, program(t, flag))
		if status != 0 || stderr != "" {
			t.Errorf("%s: status %d, %s", flag, status, stderr)
		}
		for _, c := range commands() {
			if !strings.Contains(stdout, "\n  "+c.name+" ") || !strings.Contains(stdout, c.what) {
				t.Errorf("%s: nothing of sipnatd %s in\n%s", flag, c.name, stdout)
			}
		}
		for _, s := range config.Settings() {
			if s.Effect == config.Effective && !regexp.MustCompile(`(?m)^  `+s.Name+` *= ?`+regexp.QuoteMeta(s.Default)+`$`).MatchString(stdout) {
				t.Errorf("%s: nothing of %s in\n%s", flag, s.Name, stdout)
			}
		}
	}
}

// The settings that -h shows are a configuration: that of an empty file.
func TestUsageIsAConfiguration(t *testing.T) {
	stdout, _, _ := result(t, program(t, "-h"))
	_, settings, found := strings.Cut(stdout, "defaults:\n")
	settings, _, more := strings.Cut(settings, "\n\n")
	if !found || !more {
		t.Fatalf("no settings in\n%s", stdout)
	}
	c, err := config.Parse("-h", strings.NewReader(settings))
	if err != nil {
		t.Fatal(err)
	}
	if changes := config.Changes(config.Default(), c); len(changes) > 0 || len(c.Warnings) > 0 {
		t.Errorf("got %+v, %q", changes, c.Warnings)
	}
}

// What keeps it from starting is said in full, before anything is changed: these
// need neither root nor netfilter.
func TestWrong(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.conf")
	good := write(t, "")
	for _, c := range []struct {
		name   string
		args   []string
		status int
		says   []string
	}{
		{"unknown flag", []string{"-x"}, exitUsage, []string{"-x", "see sipnatd -h"}},
		{"flag without its value", []string{"-c"}, exitUsage, []string{"-c", "see sipnatd -h"}},
		{"argument", []string{"start"}, exitUsage, []string{`"start"`, "see sipnatd -h"}},
		{"debug class", []string{"-c", good, "-d", "spi"}, exitUsage, []string{"-d: ", "did you mean sip?"}},
		{"no file", []string{"-c", missing}, exitFailed, []string{missing, "no such file", "an empty file is enough"}},
		{"directory", []string{"-c", t.TempDir()}, exitFailed, []string{"is a directory"}},
		{"settings", []string{"-c", write(t, "hairpin = never\nrtp_port_lo = 7070\n")}, exitUsage,
			[]string{"siproxd.conf:1: hairpin = never", "direct or router", "siproxd.conf:2: rtp_port_lo", "did you mean rtp_port_low?"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, status := result(t, program(t, c.args...))
			if status != c.status || stdout != "" || !strings.HasPrefix(stderr, "sipnatd: ") {
				t.Errorf("status %d, want %d; it says\n%s%s", status, c.status, stdout, stderr)
			}
			for _, words := range c.says {
				if strings.Count(stderr, words) != 1 {
					t.Errorf("it does not say %q once:\n%s", words, stderr)
				}
			}
		})
	}
}

// firewall puts the test on a thread of its own in a new network namespace with
// the interfaces eth0 (10.0.0.1) and ppp0 (203.0.113.1), and with a /run of its own.
// There is no default route.
func firewall(t *testing.T) *netlink.Handle {
	t.Helper()
	ns := netspace.New(t)
	must(t, errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("run", "/run", "tmpfs", 0, "mode=755")))
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	for name, address := range map[string]string{"eth0": "10.0.0.1/24", "ppp0": "203.0.113.1/24"} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		must(t, h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}))
		for _, end := range []string{name + "-peer", name} {
			l, err := h.LinkByName(end)
			must(t, err)
			must(t, h.LinkSetUp(l))
			if end == name {
				a, err := netlink.ParseAddr(address)
				must(t, err)
				must(t, h.AddrAdd(l, a))
			}
		}
	}
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// running is sipnatd in the foreground, with the lines that it writes.
type running struct {
	*exec.Cmd
	t     *testing.T
	lines chan string
	log   []string
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	return follow(t, program(t, args...))
}

// follow starts it.
func follow(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{Cmd: cmd, t: t, lines: make(chan string, 256)}
	pipe, err := r.StderrPipe()
	must(t, err)
	must(t, r.Start())
	t.Cleanup(func() { r.Process.Kill(); r.Wait() })
	go func(from io.Reader) {
		defer close(r.lines)
		for s := bufio.NewScanner(from); s.Scan(); {
			r.lines <- s.Text()
		}
	}(pipe)
	return r
}

// says waits for a line with the words and returns it.
func (r *running) says(words string) string {
	r.t.Helper()
	overdue := time.After(time.Minute)
	for {
		select {
		case line, more := <-r.lines:
			if !more {
				r.t.Fatalf("it ended without saying %q:\n%s", words, strings.Join(r.log, "\n"))
			}
			r.log = append(r.log, line)
			if strings.Contains(line, words) {
				return line
			}
		case <-overdue:
			r.t.Fatalf("it does not say %q:\n%s", words, strings.Join(r.log, "\n"))
		}
	}
}

func (r *running) signal(s os.Signal) {
	r.t.Helper()
	must(r.t, r.Process.Signal(s))
}

// An empty configuration, before the line is up: it serves, says what is missing,
// and follows when it comes. Signals do what -h says.
func TestEmptyConfiguration(t *testing.T) {
	h := firewall(t)
	d := start(t, "-c", write(t, ""))
	d.says("no IPv4 default route")
	d.says("msg=ready")

	ppp0, err := h.LinkByName("ppp0")
	must(t, err)
	must(t, h.RouteAdd(&netlink.Route{LinkIndex: ppp0.Attrs().Index, Gw: net.IPv4(203, 0, 113, 10),
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}))
	if line := d.says("msg=interfaces"); !strings.Contains(line, "inside eth0 (10.0.0.1); outside ppp0 (203.0.113.1)") {
		t.Errorf("it says %s", line)
	}

	d.signal(syscall.SIGUSR1)
	for _, line := range []string{"msg=holds", `msg="has seen"`, "msg=process", "passed untouched", "msg=queue", "msg=guard"} {
		d.says(line)
	}
	d.signal(syscall.SIGHUP)
	if line := d.says("configuration read again"); !strings.Contains(line, `"settings changed"=0`) {
		t.Errorf("it says %s", line)
	}
	d.signal(syscall.SIGTERM)
	d.says("on_failure = pass")
	if err := d.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// Whoever starts it in a wrong way is told the remedy, once, before anything is
// installed.
func TestWrongStart(t *testing.T) {
	firewall(t)
	for _, c := range []struct{ name, config, says string }{
		{"no such user", "user = no-such-user", "user = no-such-user: there is no user no-such-user"},
		{"root", "user = root", "name another, or none"},
		{"in the background", "user = no-such-user\ndaemonize = yes", "user = no-such-user: there is no user no-such-user"},
	} {
		// No subtest: it would have a thread, and so a namespace, of its own.
		stdout, stderr, status := result(t, program(t, "-c", write(t, c.config)))
		if status != exitFailed || stdout != "" || strings.Count(stderr, c.says) != 1 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: status %d, it says\n%s%s", c.name, status, stdout, stderr)
		}
	}
}

func TestWithoutPrivileges(t *testing.T) {
	firewall(t)
	conf := write(t, "")
	cmd := program(t, "-c", conf)
	unprivileged(t, cmd, filepath.Dir(conf))
	if _, stderr, status := result(t, cmd); status != exitFailed || !strings.Contains(stderr, "start it as root") {
		t.Errorf("status %d, it says\n%s", status, stderr)
	}
}

// unprivileged has a program be run by nobody, from a directory of the test's: nobody
// else may enter that of the test program.
func unprivileged(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	text, err := os.ReadFile(cmd.Path)
	must(t, err)
	cmd.Path = filepath.Join(dir, "sipnatd")
	must(t, os.WriteFile(cmd.Path, text, 0o755))
	must(t, errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)))
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
}
