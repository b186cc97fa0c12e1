package privilege

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrNotPrivileged is why a process without CAP_NET_ADMIN cannot be the daemon.
var ErrNotPrivileged = errors.New("CAP_NET_ADMIN is missing: start it as root; the setting user gives the rest of root up")

// Need returns [ErrNotPrivileged] where the calling thread lacks CAP_NET_ADMIN.
func Need() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0: the calling thread
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return ErrNotPrivileged
	}
	return nil
}
