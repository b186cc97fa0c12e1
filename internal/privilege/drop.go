package privilege

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Drop turns the process, all of its threads, into the given user (a name or a
// number) with no supplementary groups and with CAP_NET_ADMIN as its only
// capability, and makes that final: nothing it does or executes can gain a
// privilege again. The daemon needs CAP_NET_ADMIN for netfilter and rtnetlink.
// Files that the user may not read must have been opened before.
//
// An empty name is nobody in particular: root stays root. A process that was not
// started as root stays who it is, whatever the name, and loses all capabilities but
// CAP_NET_ADMIN; where the name is another user's, the error is then [ErrNotRoot], and
// all the rest has been done.
//
// After any other error the process is in a state in between and must end.
//
// It works in programs without cgo only (CGO_ENABLED=0), where the runtime
// knows every thread; in others the error is [ErrCgo].
func Drop(name string) error {
	if os.Geteuid() != 0 {
		if err := errors.Join(keepOnly(1<<unix.CAP_NET_ADMIN), seal()); err != nil {
			return err
		}
		return sameUser(name)
	}
	if name == "" {
		return nil
	}
	who, err := lookup(name)
	if err != nil {
		return err
	}
	if err := become(who); err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	if err := errors.Join(keepOnly(1<<unix.CAP_NET_ADMIN), seal()); err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	return nil
}

// Check reports whether there is a user (a name or a number) that [Drop] could
// become, so that a wrong one is found before anything is done. It is nil where Drop
// would not become anybody.
func Check(name string) error {
	if name == "" || os.Geteuid() != 0 {
		return nil
	}
	_, err := lookup(name)
	return err
}

// ErrNotRoot is why [Drop] does not become another user: who started the process has
// chosen one, and it has no means to change that.
var ErrNotRoot = errors.New("only a start as root could change the user")

// sameUser returns ErrNotRoot if the name is not the process's own user.
func sameUser(name string) error {
	if name == "" {
		return nil
	}
	if who, err := lookup(name); err == nil && who.uid == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%w: this one is number %d", ErrNotRoot, os.Geteuid())
}

// ErrCgo is why [Drop] cannot work in a program that was built with cgo.
var ErrCgo = errors.New("not possible in a program built with cgo: build it with CGO_ENABLED=0")

// become empties the bounding set, which takes CAP_SETPCAP, and changes user and
// groups while the permitted capabilities stay (PR_SET_KEEPCAPS).
func become(who account) error {
	last, err := lastCapability()
	if err != nil {
		return err
	}
	for c := uintptr(0); c <= last; c++ {
		if c == unix.CAP_NET_ADMIN {
			continue
		}
		if err := prctl(unix.PR_CAPBSET_DROP, c); err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	if err := prctl(unix.PR_SET_KEEPCAPS, 1); err != nil {
		return fmt.Errorf("keeping capabilities: %w", err)
	}
	// These three are for all threads in package syscall.
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(who.gid, who.gid, who.gid); err != nil {
		return fmt.Errorf("setresgid %d: %w", who.gid, err)
	}
	if err := syscall.Setresuid(who.uid, who.uid, who.uid); err != nil {
		return fmt.Errorf("setresuid %d: %w", who.uid, err)
	}
	return nil
}

// keepOnly makes the capabilities in the mask (numbers below 32) the permitted and
// effective ones, with none inheritable. Threads that were started with just these are
// left alone: under a system call filter there may be no capset.
func keepOnly(mask uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0: the calling thread
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if data[0].Effective == mask && data[0].Permitted == mask && data[1].Permitted == 0 {
		return nil
	}
	data = [2]unix.CapUserData{{Effective: mask, Permitted: mask}}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if err := failure(errno); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// seal clears the ambient set and forbids new privileges through execve.
func seal() error {
	if err := prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil {
		return fmt.Errorf("ambient set: %w", err)
	}
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

// prctl runs on every thread.
func prctl(option int, arg uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, uintptr(option), arg, 0, 0, 0, 0)
	return failure(errno)
}

func failure(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP: // what AllThreadsSyscall returns under cgo
		return ErrCgo
	}
	return errno
}

// lastCapability asks the kernel for the highest capability that it knows.
func lastCapability() (uintptr, error) {
	const most = 63 // the sets have 64 bits
	for c := uintptr(0); c <= most; c++ {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && c > 0 {
			return c - 1, nil
		}
		if err != nil {
			return 0, fmt.Errorf("capabilities: %w", err)
		}
	}
	return most, nil
}
