package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs in a namespace. Its output, stdout and stderr
// together, is kept in memory and in a log file of the report directory.
type Process struct {
	Name string
	Cmd  *exec.Cmd

	host *Host
	log  *os.File
	in   io.WriteCloser
	gate sync.Mutex // held while nobody reads the output

	mu     sync.Mutex
	grown  chan struct{} // closed and replaced whenever output or the end comes
	out    []byte
	mark   int
	ended  bool
	err    error
	exited chan struct{}
}

// ProcessOption changes how a process is started.
type ProcessOption func(*exec.Cmd)

// InDir sets the working directory.
func InDir(dir string) ProcessOption { return func(c *exec.Cmd) { c.Dir = dir } }

// WithEnv adds environment variables, "NAME=value".
func WithEnv(env ...string) ProcessOption {
	return func(c *exec.Cmd) { c.Env = append(os.Environ(), env...) }
}

// WithPIDNamespace makes the process the first of a process namespace, so that
// its children die with it whatever happens.
func WithPIDNamespace() ProcessOption {
	return func(c *exec.Cmd) { c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID }
}

// Start runs a program in the namespace until it ends, is stopped, or the lab
// ends. The name is for logs and reports.
func (h *Host) Start(name string, argv []string, opts ...ProcessOption) *Process {
	h.lab.T.Helper()
	argv = h.withFiles(argv)
	p := &Process{
		Name:   name,
		Cmd:    exec.Command(argv[0], argv[1:]...),
		host:   h,
		grown:  make(chan struct{}),
		exited: make(chan struct{}),
	}
	// A group of its own, so that a terminal's ^C goes to the test alone, and
	// killed with the thread, should the test crash.
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	for _, o := range opts {
		o(p.Cmd)
	}
	if err := p.start(); err != nil {
		h.lab.T.Fatalf("%s: start %s: %v", h.Name, strings.Join(argv, " "), err)
	}
	h.lab.mu.Lock()
	h.lab.procs = append(h.lab.procs, p)
	h.lab.mu.Unlock()
	return p
}

func (p *Process) start() (err error) {
	file := fmt.Sprintf("%s-%s.log", p.host.Name, strings.ReplaceAll(p.Name, "/", "_"))
	p.log, err = os.OpenFile(filepath.Join(p.host.lab.Dir, file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p.Cmd.Stdout, p.Cmd.Stderr = w, w
	if p.in, err = p.Cmd.StdinPipe(); err != nil {
		return err
	}
	err = p.host.Do(p.Cmd.Start)
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	go p.read(r)
	return nil
}

// read collects the output to its end, and the end of the process.
func (p *Process) read(r *os.File) {
	waited := make(chan struct{})
	go func() {
		err := p.Cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		// A grandchild may keep the pipe open for ever.
		r.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		close(waited)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		p.mu.Lock()
		p.out = append(p.out, buf[:n]...)
		p.log.Write(buf[:n])
		if err != nil {
			p.ended = true
		}
		close(p.grown)
		p.grown = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			break
		}
		p.pass()
	}
	r.Close()
	p.log.Close()
	<-waited
	close(p.exited)
}

// pass returns when the output is read.
func (p *Process) pass() {
	p.gate.Lock()
	defer p.gate.Unlock()
}

// Log is everything the process has written.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.out)
}

// Ignore has nobody read what the process writes: its pipe is full, until read is
// called.
func (p *Process) Ignore() (read func()) {
	p.host.lab.T.Helper()
	p.gate.Lock()
	pipe, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/2", p.Cmd.Process.Pid), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		p.host.lab.T.Fatalf("%v", err)
	}
	defer pipe.Close()
	pipe.SetWriteDeadline(time.Now().Add(time.Second)) // the reader takes once more
	if _, err := io.Copy(pipe, endless{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		p.host.lab.T.Fatalf("the pipe is not full: %v", err)
	}
	return p.gate.Unlock
}

// endless is a reader of empty lines.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '\n'
	}
	return len(b), nil
}

// Mark makes later WaitLine calls look only at output from now on.
func (p *Process) Mark() {
	p.mu.Lock()
	p.mark = len(p.out)
	p.mu.Unlock()
}

// WaitLine waits until the output since the last Mark has a match for the
// regular expression (multi-line mode) and returns it with its groups.
func (p *Process) WaitLine(re string, timeout time.Duration) []string {
	p.host.lab.T.Helper()
	m, err := p.Await(re, timeout)
	if err != nil {
		p.host.lab.T.Fatalf("%v", err)
	}
	return m
}

// Await is WaitLine with an error instead of a failed test.
func (p *Process) Await(re string, timeout time.Duration) ([]string, error) {
	r := regexp.MustCompile("(?m)" + re)
	deadline := time.After(timeout)
	for {
		p.mu.Lock()
		m := r.FindSubmatch(p.out[p.mark:])
		ended, grown := p.ended, p.grown
		tail := lastLines(p.out, 12)
		p.mu.Unlock()
		if m != nil {
			s := make([]string, len(m))
			for i := range m {
				s[i] = string(m[i])
			}
			return s, nil
		}
		if ended {
			return nil, fmt.Errorf("%s ended without a line matching %q; its last lines:\n%s", p.Name, re, tail)
		}
		select {
		case <-grown:
		case <-deadline:
			return nil, fmt.Errorf("%s: no line matching %q within %v; its last lines:\n%s", p.Name, re, timeout, tail)
		}
	}
}

// Wait waits for the end of the process and returns its error, as
// exec.Cmd.Wait does.
func (p *Process) Wait(timeout time.Duration) error {
	select {
	case <-p.exited:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	case <-time.After(timeout):
		return fmt.Errorf("%s still runs after %v", p.Name, timeout)
	}
}

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Input writes to the standard input of the process.
func (p *Process) Input(s string) error {
	_, err := io.WriteString(p.in, s)
	return err
}

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error { return p.Cmd.Process.Signal(s) }

// Stop asks the process to end with SIGTERM and waits; one that does not obey
// within a moment is killed, and an error says so.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)
	if err := p.Wait(Moment()); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return nil
		}
		p.kill()
		return err
	}
	return nil
}

// Kill ends the process at once, as a crash would.
func (p *Process) Kill() { p.kill() }

func (p *Process) kill() {
	if !p.Running() {
		return
	}
	syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL) // its group: it and its children
	select {
	case <-p.exited:
	case <-time.After(Moment()):
	}
}

func lastLines(b []byte, n int) string {
	lines := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}
