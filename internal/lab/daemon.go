package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// isGone tells a closed connection from an overrun one, which only lost reports.
func isGone(err error) bool {
	return err != nil && (errors.Is(err, os.ErrClosed) || strings.Contains(err.Error(), "closed") ||
		strings.Contains(err.Error(), "bad file descriptor"))
}

// Config is the daemon's configuration for a lab's firewall, to which tests
// append lines of their own.
const Config = `if_inbound  = eth0
if_outbound = ppp0
`

// Daemon is sipnatd, running in the firewall.
type Daemon struct {
	*Process
	ConfigFile string

	stateDir string
	stopped  bool // on purpose
}

// StateDir is the state_dir of the lab's daemons, where no line of their configuration
// says otherwise: labs share /run.
func (l *Lab) StateDir() string { return filepath.Join(l.Dir, "state") }

// Write writes another configuration, for the next SIGHUP.
func (d *Daemon) Write(config string) error {
	if !strings.Contains(config, "state_dir") {
		config += "state_dir = " + d.stateDir + "\n"
	}
	return os.WriteFile(d.ConfigFile, []byte(config), 0o644)
}

// BuildDaemon builds the daemon once per test binary and returns its path.
// SIPNATD_BIN names a ready one instead.
var BuildDaemon = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("SIPNATD_BIN"); bin != "" {
		return bin, nil
	}
	dir := fmt.Sprintf("%s%d", binPrefix(), os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "sipnatd")
	out, err := exec.Command("go", "build", "-o", bin, "sipnatd/cmd/sipnatd").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// binPrefix is the directory of a built daemon, the pid of the test aside. The
// next test removes it (see sweep): no test knows that it is the last one.
func binPrefix() string { return filepath.Join(os.TempDir(), namePrefix+"bin-") }

// StartDaemon starts sipnatd in the firewall with Config and further lines,
// and waits until it serves. It has no sockets of its own (mode = transparent), so
// that the first phone has the public port 5060, unless a line says otherwise. On the
// Routed firewall there is nothing to do: it returns nil, which every method of Daemon
// accepts.
func (l *Lab) StartDaemon(config ...string) *Daemon {
	if !slices.ContainsFunc(config, func(line string) bool { return strings.HasPrefix(line, "mode ") }) {
		config = append(slices.Clone(config), "mode = transparent")
	}
	return l.startDaemon(config)
}

// StartProxy is StartDaemon for both modes, the daemon's default: phones can use the
// firewall as their proxy, too.
func (l *Lab) StartProxy(config ...string) *Daemon { return l.startDaemon(config) }

func (l *Lab) startDaemon(config []string) *Daemon {
	l.T.Helper()
	if !l.NAT() {
		return nil
	}
	d, err := l.TryDaemon(Config + strings.Join(config, "\n") + "\n")
	if err != nil {
		l.T.Fatalf("%v", err)
	}
	return d
}

// TryDaemon starts sipnatd with exactly this configuration, the lab's state_dir aside,
// and returns an error if it does not come to serve.
func (l *Lab) TryDaemon(config string) (*Daemon, error) {
	l.T.Helper()
	bin, err := BuildDaemon()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(l.Dir, "sipnatd.conf")
	d := &Daemon{ConfigFile: path, stateDir: l.StateDir()}
	if err := d.Write(config); err != nil {
		return nil, err
	}
	d.Process = l.FW.Start("sipnatd", []string{bin, "-c", path})
	l.daemon = d
	l.daemons = append(l.daemons, d)
	if _, err = d.Await(`\bready\b`, Moment()); err != nil {
		d.stopped = true // refusing to serve is an answer
	}
	return d, err
}

// Stop ends the daemon with SIGTERM.
func (d *Daemon) Stop() {
	if d != nil {
		d.Process.host.lab.T.Helper()
		d.stopped = true
		if err := d.Process.Stop(); err != nil {
			d.Process.host.lab.T.Errorf("%v", err)
		}
	}
}

// Kill ends the daemon as a crash would.
func (d *Daemon) Kill() {
	if d != nil {
		d.stopped = true
		d.Process.Kill()
	}
}

// Log is what the daemon has said; "" on the Routed firewall.
func (d *Daemon) Log() string {
	if d == nil {
		return ""
	}
	return d.Process.Log()
}

// Queue is a line of /proc/net/netfilter/nfnetlink_queue.
type Queue struct {
	Number, Waiting, Dropped, UserDropped int
	Packets                               int // that it was ever given
}

// Queues are the NFQUEUE queues of the firewall.
func (l *Lab) Queues() []Queue {
	l.T.Helper()
	text, err := l.FW.ReadProc("netfilter/nfnetlink_queue")
	if err != nil {
		return nil // no such file without the module
	}
	var qs []Queue
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		n := make([]int, 8)
		for i := range n {
			n[i], _ = strconv.Atoi(f[i])
		}
		// queue, port id, waiting, copy mode, copy range, dropped, user dropped, id sequence
		qs = append(qs, Queue{Number: n[0], Waiting: n[2], Dropped: n[5], UserDropped: n[6], Packets: n[7]})
	}
	return qs
}

// CheckDaemon fails the test if the daemon has died or complained of itself, or the
// race detector of it, if it was built with one.
func (l *Lab) CheckDaemon() {
	l.T.Helper()
	for _, d := range l.daemons {
		log := d.Log()
		for _, word := range []string{"panic: ", "panic while", "DATA RACE", "goroutine "} {
			if i := strings.Index(log, word); i >= 0 {
				l.T.Errorf("the daemon's log has %q: %.300s", word, log[i:])
				break
			}
		}
		if !d.stopped && !d.Running() {
			l.T.Errorf("the daemon has ended by itself; its last lines:\n%s", lastLines([]byte(log), 10))
		}
	}
}
