package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Slow lets the daemon compute for so much of the time only, until stop is called, as if
// the machine were that much slower. It does so by signals, which every kernel has.
func (d *Daemon) Slow(share float64) (stop func()) {
	const period = 10 * time.Millisecond
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer d.Signal(syscall.SIGCONT)
		for {
			d.Signal(syscall.SIGSTOP)
			time.Sleep(time.Duration((1 - share) * float64(period)))
			d.Signal(syscall.SIGCONT)
			select {
			case <-quit:
				return
			case <-time.After(time.Duration(share * float64(period))):
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(quit); <-done }) }
	d.host.lab.T.Cleanup(stop)
	return stop
}

// Memory is what the daemon has in memory now, and what it has had at most, in bytes.
func (d *Daemon) Memory() (now, peak int) {
	d.host.lab.T.Helper()
	text := d.proc("status")
	return kilobytes(text, "VmRSS:"), kilobytes(text, "VmHWM:")
}

// ForgetPeak has Memory's peak begin anew (proc(5), clear_refs).
func (d *Daemon) ForgetPeak() error {
	return os.WriteFile(d.procFile("clear_refs"), []byte("5"), 0)
}

// kilobytes finds a line of proc's status, in bytes.
func kilobytes(text, name string) (n int) {
	for line := range strings.Lines(text) {
		if _, err := fmt.Sscanf(line, name+" %d kB", &n); err == nil {
			return n << 10
		}
	}
	return 0
}

// CPUTime is how long the daemon has computed, in user space and in the kernel.
func (d *Daemon) CPUTime() time.Duration {
	d.host.lab.T.Helper()
	_, rest, _ := strings.Cut(d.proc("stat"), ") ") // the name may contain blanks
	fields := strings.Fields(rest)                  // from the third one on (proc_pid_stat(5))
	user, _ := strconv.Atoi(fields[14-3])
	system, _ := strconv.Atoi(fields[15-3])
	return time.Duration(user+system) * 10 * time.Millisecond // ticks
}

// OpenFiles is how many file descriptors the daemon has.
func (d *Daemon) OpenFiles() int {
	d.host.lab.T.Helper()
	files, err := os.ReadDir(d.procFile("fd"))
	if err != nil {
		d.host.lab.T.Fatalf("the daemon's files: %v", err)
	}
	return len(files)
}

// proc reads a file of the daemon's directory in /proc.
func (d *Daemon) proc(name string) string {
	d.host.lab.T.Helper()
	text, err := os.ReadFile(d.procFile(name))
	if err != nil {
		d.host.lab.T.Fatalf("the daemon's %s: %v", name, err)
	}
	return string(text)
}

func (d *Daemon) procFile(name string) string {
	return fmt.Sprintf("/proc/%d/%s", d.Cmd.Process.Pid, name)
}
