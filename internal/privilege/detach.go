package privilege

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// reportVariable marks the detached child and names its report descriptor.
	reportVariable = "SIPNATD_REPORT_FD"
	reportFD       = 3 // the first of exec.Cmd.ExtraFiles

	// reportReady is the report that all went well; any other text is an error.
	reportReady = "ready"
)

// Detach runs the program again, with the same arguments, in a session of its
// own, and waits until that [Child] reports. It returns nil once the child is
// ready: the caller then exits with status 0. It returns the child's error, or
// how the child ended, if it did not get so far.
//
// Until then the child shares the standard error stream, so that its first log
// lines are seen.
func Detach() error {
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("daemonize: %w", err)
	}
	report, childEnd, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("daemonize: %w", err)
	}
	defer report.Close()

	child := exec.Command(path, os.Args[1:]...)
	child.Args[0] = os.Args[0]
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", reportVariable, reportFD))
	child.ExtraFiles = []*os.File{childEnd}
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = child.Start()
	childEnd.Close() // the child's alone: it closes the pipe when it ends, however that is
	if err != nil {
		return fmt.Errorf("daemonize: %w", err)
	}

	text, err := io.ReadAll(report)
	switch {
	case err != nil:
		return fmt.Errorf("daemonize: %w", err)
	case string(text) == reportReady:
		return child.Process.Release()
	case len(text) > 0:
		err = errors.New(string(text))
	}
	if ended := child.Wait(); err == nil {
		err = fmt.Errorf("the daemon ended before it was ready: %s", describe(ended))
	}
	return err
}

func describe(ended error) string {
	if ended == nil {
		return "exit status 0"
	}
	return ended.Error()
}

// A Child is the process that [Detach] started, with its duty to report once.
type Child struct{ report *os.File }

// Detached returns the duty of a process that [Detach] started, and nil in
// any other process. Both methods of a nil Child do nothing, so that a program
// calls them in the foreground too.
func Detached() *Child {
	if os.Getenv(reportVariable) != fmt.Sprint(reportFD) {
		return nil
	}
	os.Unsetenv(reportVariable) // not for our own children
	unix.CloseOnExec(reportFD)
	return &Child{report: os.NewFile(reportFD, "report")}
}

// Ready lets go of the terminal and the working directory and reports success:
// the parent exits with status 0. Nothing that is written to the standard streams
// is seen any more.
func (c *Child) Ready() error {
	if c == nil {
		return nil
	}
	defer c.report.Close()
	if err := letGo(); err != nil {
		return fmt.Errorf("daemonize: %w", err)
	}
	// A parent that was killed meanwhile is no reason to stop.
	if _, err := c.report.WriteString(reportReady); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("daemonize: %w", err)
	}
	return nil
}

// Fail reports why the daemon does not start; the parent returns it from
// [Detach]. The caller exits with a status that is not 0.
func (c *Child) Fail(reason error) {
	if c == nil {
		return
	}
	defer c.report.Close()
	// Where the parent is gone nobody waits for the reason.
	_, _ = c.report.WriteString(strings.TrimSpace(reason.Error()))
}

// letGo replaces the standard streams by /dev/null and goes to /.
func letGo() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return os.Chdir("/")
}
