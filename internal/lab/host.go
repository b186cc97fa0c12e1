package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 looks for named namespaces.
const netnsDir = "/run/netns"

// Host is one network namespace: a phone, the firewall, a switch, a server.
//
// A goroutine that owns an OS thread lives in the namespace as long as the
// host does. Do lends it out; sockets and processes are created there and
// belong to the namespace for good, whoever uses them later.
type Host struct {
	Name string     // the role, e.g. "phone1"; unique in its lab
	NS   string     // the name for `ip netns exec`
	Addr netip.Addr // its (first) address

	lab   *Lab
	files map[string]string // see File
	fd    int               // the namespace
	calls chan func()
	done  chan struct{}
	once  sync.Once
}

// newHost creates a namespace with the loopback interface up.
func newHost(l *Lab, name string) (*Host, error) {
	h := &Host{
		Name:  name,
		NS:    l.id + "-" + name,
		lab:   l,
		calls: make(chan func()),
		done:  make(chan struct{}),
	}
	errc := make(chan error)
	go h.live(errc)
	if err := <-errc; err != nil {
		return nil, fmt.Errorf("namespace %s: %w", h.NS, err)
	}
	return h, nil
}

// live is the thread in the namespace.
func (h *Host) live(errc chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == os.Getpid() {
		// The main thread must not move, /proc/self is its view.
		go h.live(errc)
		<-h.done
		runtime.UnlockOSThread()
		return
	}
	err := h.enter()
	errc <- err
	if err != nil {
		return
	}
	for {
		select {
		case f := <-h.calls:
			f()
		case <-h.done:
			return
		}
	}
}

// enter makes the namespace and gives it its name.
func (h *Host) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
	fd, err := unix.Open(self, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	h.fd = fd
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(netnsDir, h.NS)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(self, name, "bind", unix.MS_BIND, ""); err != nil {
		return err
	}
	for _, s := range []string{
		"net/ipv4/conf/all/rp_filter=0",
		"net/ipv4/conf/default/rp_filter=0",
		"net/ipv4/conf/all/send_redirects=0",
		"net/ipv4/conf/default/send_redirects=0",
		"net/ipv6/conf/all/disable_ipv6=1",
		"net/ipv6/conf/default/disable_ipv6=1",
	} {
		path, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return linkUp("lo")
}

// close gives the name back. The namespace goes when its last process and
// socket are gone.
func (h *Host) close() {
	h.once.Do(func() {
		close(h.done)
		removeName(filepath.Join(netnsDir, h.NS))
		unix.Close(h.fd)
	})
}

func removeName(path string) {
	unix.Unmount(path, unix.MNT_DETACH)
	os.Remove(path)
}

// Do runs f on the thread in the namespace. f must not call Do of the same host.
func (h *Host) Do(f func() error) error {
	errc := make(chan error, 1)
	select {
	case h.calls <- func() { errc <- f() }:
		return <-errc
	case <-h.done:
		return fmt.Errorf("%s: namespace is gone", h.NS)
	}
}

// Output runs a command in the namespace to its end and returns what it wrote
// to stdout; the error holds what it wrote to stderr.
func (h *Host) Output(argv ...string) (string, error) { return h.Pipe("", argv...) }

// Pipe is Output with input for the command.
func (h *Host) Pipe(stdin string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := h.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(argv, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), err
}

// Run is Output for commands that must succeed.
func (h *Host) Run(argv ...string) string {
	h.lab.T.Helper()
	out, err := h.Output(argv...)
	if err != nil {
		h.lab.T.Fatalf("%v", err)
	}
	return out
}

// Sysctl sets a kernel parameter of the namespace, e.g.
// "net.netfilter.nf_conntrack_udp_timeout".
func (h *Host) Sysctl(name, value string) {
	h.lab.T.Helper()
	path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	if err := h.Do(func() error { return os.WriteFile(path, []byte(value), 0) }); err != nil {
		h.lab.T.Fatalf("%s: sysctl %s=%s: %v", h.Name, name, value, err)
	}
}

// ReadProc reads a file under /proc/net as the namespace sees it, e.g.
// "netfilter/nfnetlink_queue".
func (h *Host) ReadProc(name string) (string, error) {
	var b []byte
	err := h.Do(func() (err error) {
		b, err = os.ReadFile(fmt.Sprintf("/proc/self/task/%d/net/%s", unix.Gettid(), name))
		return err
	})
	return string(b), err
}

// ListenUDP opens a UDP socket in the namespace. Port 0 chooses one.
//
// A port that was closed may be in use for a moment longer: a program that is
// just being started has a copy of every socket until it runs.
func (h *Host) ListenUDP(at netip.AddrPort) (*net.UDPConn, error) {
	deadline := time.Now().Add(Patience(time.Second))
	for {
		var c *net.UDPConn
		err := h.Do(func() (err error) {
			c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
			return err
		})
		if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(deadline) {
			return c, err
		}
		time.Sleep(time.Millisecond) // the kernel does not tell when
	}
}

// DialTCP connects from within the namespace.
func (h *Host) DialTCP(to netip.AddrPort) (net.Conn, error) {
	var c net.Conn
	err := h.Do(func() (err error) {
		c, err = net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(to))
		return err
	})
	return c, err
}

// File gives programs that are started on the host from now on a file of their own
// in place of one that this machine has, such as /etc/resolv.conf.
func (h *Host) File(path, text string) {
	h.lab.T.Helper()
	f, err := os.CreateTemp(h.lab.Dir, h.Name+"-"+filepath.Base(path)+"-")
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Chmod(0o644), f.Close())
	}
	if err != nil {
		h.lab.T.Fatalf("%s: %s: %v", h.Name, path, err)
	}
	if h.files == nil {
		h.files = make(map[string]string)
	}
	h.files[path] = f.Name()
}

// withFiles is a command line that sees the host's own files. The program is the
// process that is started, in a mount namespace.
func (h *Host) withFiles(argv []string) []string {
	for path, file := range h.files {
		argv = append([]string{
			"unshare", "--mount", "sh", "-c", `mount --bind "$0" "$1" && shift && exec "$@"`, file, path,
		}, argv...)
	}
	return argv
}

// At is the host's address with a port.
func (h *Host) At(port int) netip.AddrPort { return netip.AddrPortFrom(h.Addr, uint16(port)) }
