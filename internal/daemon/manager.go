package daemon

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// managerVariable names the socket of a service manager that wants to be told how
// the daemon is (sd_notify(3)).
const managerVariable = "NOTIFY_SOCKET"

// Supervised reports whether a service manager waits to be told that the daemon is
// ready. It wants the process that it has started, and not one in the background.
func Supervised() bool { return os.Getenv(managerVariable) != "" }

// manager is the service manager. A nil one is told nothing.
type manager struct{ conn net.Conn }

// dialManager returns nil where there is no service manager, or one that cannot be
// told.
func dialManager() (*manager, error) {
	name := os.Getenv(managerVariable)
	if name == "" {
		return nil, nil
	}
	conn, err := net.Dial("unixgram", name) // @ begins an abstract name, for both
	if err != nil {
		return nil, fmt.Errorf("%s: %w", managerVariable, err)
	}
	return &manager{conn}, nil
}

func (m *manager) ready() { m.tell("READY=1\nSTATUS=serves") }

func (m *manager) stopping() { m.tell("STOPPING=1") }

// reloading says that ready, or failed, will follow.
func (m *manager) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	m.tell(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

// failed ends a reload that has changed nothing.
func (m *manager) failed() {
	m.tell("READY=1\nSTATUS=serves; the changed configuration is not in force, see the log")
}

// tell sends one message. A manager that does not listen any more is its own
// concern.
func (m *manager) tell(state string) {
	if m != nil {
		_, _ = m.conn.Write([]byte(state))
	}
}

func (m *manager) close() {
	if m != nil {
		m.conn.Close()
	}
}
