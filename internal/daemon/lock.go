package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is an abstract unix socket, of which there is one in each network
// namespace. It is gone with the process, however that ends.
const lockName = "@sipnatd"

// lockPatience is how long a daemon that is about to end is waited for, as in a
// restart by a script that does not wait itself.
const lockPatience = 3 * time.Second

// lockNamespace makes this process the only daemon of its network namespace until
// the listener is closed. Two would undo each other's table.
//
// Everybody may take the name, so it does not count that somebody has it who could
// not be a daemon; the listener is nil then, and the reason is a warning for the
// log.
func lockNamespace() (lock net.Listener, warning string, err error) {
	end := time.Now().Add(lockPatience)
	for {
		lock, err := net.Listen("unix", lockName)
		if err == nil {
			return lock, "", nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, "", fmt.Errorf("lock of the network namespace: %w", err)
		}
		holder, ended := awaitHolder(end)
		switch {
		case ended:
			continue
		case holder == nil:
			return nil, "", errors.New("another sipnatd runs in this network namespace: stop it first")
		case !mayServe(holder):
			return nil, fmt.Sprintf("process %s of user %d pretends to be the daemon of this network namespace: a second daemon would not be noticed",
				describe(holder.Pid), holder.Uid), nil
		}
		return nil, "", fmt.Errorf("another sipnatd runs in this network namespace, process %s: stop it first", describe(holder.Pid))
	}
}

// awaitHolder waits until whoever has the lock gives it up, and tells who has it if
// that lasts too long.
func awaitHolder(end time.Time) (holder *unix.Ucred, ended bool) {
	conn, err := net.Dial("unix", lockName)
	if err != nil {
		return nil, errors.Is(err, unix.ECONNREFUSED) && time.Now().Before(end) // gone meanwhile
	}
	defer conn.Close()
	if raw, err := conn.(*net.UnixConn).SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			holder, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		})
	}
	// Nobody accepts the connection: its end is the listener's.
	conn.SetReadDeadline(end)
	_, err = conn.Read(make([]byte, 1))
	return holder, !errors.Is(err, os.ErrDeadlineExceeded)
}

// mayServe reports whether a process has, or had when it took the lock, the rights
// of a daemon: those of root, of this process, or CAP_NET_ADMIN in the same user
// namespace.
func mayServe(p *unix.Ucred) bool {
	if p.Uid == 0 || int(p.Uid) == os.Geteuid() || p.Pid == 0 {
		return true
	}
	own, _ := os.Readlink("/proc/self/ns/user")
	if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", p.Pid)); err != nil || theirs != own {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	if err != nil {
		return false
	}
	_, text, _ := strings.Cut(string(status), "\nCapEff:")
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	caps, err := strconv.ParseUint(text, 16, 64)
	return err == nil && caps&(1<<unix.CAP_NET_ADMIN) != 0
}

// describe names a process, as "4711 (sipnatd)".
func describe(pid int32) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return strconv.Itoa(int(pid))
	}
	return fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(string(text)))
}

// Alone does something that no daemon of this network namespace may see half done: it
// is not begun while one runs, and none starts meanwhile.
func Alone(do func() error) error {
	lock, _, err := lockNamespace()
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Close()
	}
	return do()
}
