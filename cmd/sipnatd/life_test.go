package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rewrite puts another text in the place of a file.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

// ends waits for the end that SIGTERM makes.
func (r *running) ends() {
	r.t.Helper()
	r.signal(syscall.SIGTERM)
	r.says(`msg="stopped: `)
	if err := r.Wait(); err != nil {
		r.t.Errorf("after SIGTERM: %v", err)
	}
}

// What the command line says counts more than the file, and goes on doing so when
// that is read again.
func TestCommandLineOverReload(t *testing.T) {
	firewall(t)
	conf, pid := write(t, "debug_level = rtp\n"), filepath.Join(t.TempDir(), "x.pid")
	d := start(t, "--config", conf, "--debug=config", "--pid-file", pid)
	d.says("msg=ready")
	if text, err := os.ReadFile(pid); err != nil || string(text) != fmt.Sprintln(d.Process.Pid) {
		t.Errorf("the pid file has %q, %v", text, err)
	}
	rewrite(t, conf, "debug_level = all\npid_file = /nowhere/x.pid\nqueues = 2\non_failure = drop\n")
	d.signal(syscall.SIGHUP)
	d.says(`takes effect with the next start" setting=queues "in force"=1 then=2`)
	d.says(`"settings changed"=1`)
	d.says(`class=config name=debug_level value=config from=-d`)
	for _, line := range d.log {
		if strings.Contains(line, "setting=debug_level") || strings.Contains(line, "setting=pid_file") {
			t.Errorf("it says %s", line)
		}
	}
	d.ends()
	if log := strings.Join(d.log, "\n"); !strings.Contains(log, "on_failure = drop") {
		t.Errorf("it does not end with the changed on_failure:\n%s", log)
	}
	if _, err := os.Lstat(pid); !os.IsNotExist(err) {
		t.Errorf("the pid file is left: %v", err)
	}
}

// A daemon that has become another user may not read its file any more: it says
// what to do, and goes on.
func TestReloadUnreadable(t *testing.T) {
	firewall(t)
	conf := write(t, "user = nobody\npid_file = "+filepath.Join(t.TempDir(), "x.pid")+"\n")
	must(t, os.Chmod(conf, 0o600))
	d := start(t, "-c", conf)
	d.says("msg=ready")
	d.signal(syscall.SIGHUP)
	if line := d.says("not in force"); !strings.Contains(line, "permission denied") || !strings.Contains(line, "the daemon is user 65534 now; let that user read the file") {
		t.Errorf("it says %s", line)
	}
	must(t, os.Chmod(conf, 0o644))
	for dir := filepath.Dir(conf); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	d.signal(syscall.SIGHUP)
	d.says("configuration read again")
	d.ends()
}

// What is in the way of a pid file is told; only another daemon's file is a reason
// not to start.
func TestPIDFile(t *testing.T) {
	firewall(t)
	d := start(t, "-c", write(t, ""), "-p", "/nowhere/x.pid")
	d.says("the pid file is not written")
	d.says("msg=ready")
	d.ends()

	pid := filepath.Join(t.TempDir(), "x.pid")
	first := start(t, "-c", write(t, ""), "-p", pid)
	first.says("msg=ready")
	firewall(t) // another network namespace
	_, stderr, status := result(t, program(t, "-c", write(t, ""), "-p", pid))
	if want := fmt.Sprintf("the file is another daemon's, process %d (", first.Process.Pid); status != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("status %d, it says %s, want %s", status, stderr, want)
	}
	first.ends()
}

// In the background, the pid file has the number of the process that serves.
func TestPIDFileInBackground(t *testing.T) {
	firewall(t)
	if server, err := net.ListenPacket("unixgram", "/dev/log"); err == nil { // nobody logs here
		t.Cleanup(func() { server.Close(); os.Remove("/dev/log") })
		go func() {
			for packet := make([]byte, 1); err == nil; {
				_, _, err = server.ReadFrom(packet)
			}
		}()
	}
	path := filepath.Join(t.TempDir(), "x.pid")
	_, stderr, status := result(t, program(t, "-c", write(t, "daemonize = yes\n"), "-p", path))
	text, _ := os.ReadFile(path)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if status != 0 || err != nil {
		t.Fatalf("status %d, pid file %q, it says\n%s", status, text, stderr)
	}
	must(t, syscall.Kill(pid, syscall.SIGTERM))
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the pid file is left")
		}
	}
}

// Stop and start, without waiting between the two, as scripts do.
func TestRestart(t *testing.T) {
	firewall(t)
	conf, pid := write(t, ""), filepath.Join(t.TempDir(), "x.pid")
	d := start(t, "-c", conf, "-p", pid)
	d.says("msg=ready")
	for range 3 {
		d.signal(syscall.SIGTERM)
		next := start(t, "-c", conf, "-p", pid)
		next.says("msg=ready")
		if err := d.Wait(); err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
		if text, err := os.ReadFile(pid); err != nil || string(text) != fmt.Sprintln(next.Process.Pid) {
			t.Errorf("the pid file has %q, %v", text, err)
		}
		d = next
	}
	d.ends()
}

// A service manager is told when it is ready, reads its file again, and stops; what
// it has started stays in the foreground.
func TestServiceManager(t *testing.T) {
	firewall(t)
	socket := filepath.Join(t.TempDir(), "notify")
	server, err := net.ListenPacket("unixgram", socket)
	must(t, err)
	t.Cleanup(func() { server.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	told := func(want string) {
		t.Helper()
		packet := make([]byte, 512)
		server.SetReadDeadline(time.Now().Add(time.Minute))
		n, _, err := server.ReadFrom(packet)
		must(t, err)
		if !regexp.MustCompile(want).Match(packet[:n]) {
			t.Errorf("told %q, want %s", packet[:n], want)
		}
	}
	conf := write(t, "daemonize = yes\n")
	d := start(t, "-c", conf)
	told(`^READY=1\n`)
	d.says("daemonize has no effect")
	d.says("msg=ready")
	d.signal(syscall.SIGHUP)
	told(`^RELOADING=1\nMONOTONIC_USEC=\d+$`)
	told(`^READY=1\nSTATUS=serves$`)
	rewrite(t, conf, "hairpin = never\n")
	d.signal(syscall.SIGHUP)
	told(`^RELOADING=1\n`)
	told(`^READY=1\nSTATUS=.*not in force`)
	d.ends()
	told(`^STOPPING=1$`)
}

// A name that cannot be looked up does not keep it from starting.
func TestHostOutboundUnknown(t *testing.T) {
	firewall(t) // without a way to any server
	d := start(t, "-c", write(t, "host_outbound = pbx.example.net\n"))
	d.says("host_outbound has no address now")
	d.says("msg=ready")
	d.ends()
}
