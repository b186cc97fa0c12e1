package privilege

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An attempt is something that only root may do, or a way to become root. None
// changes anything outside the process and its namespaces.
type attempt struct {
	name string
	try  func(w *workshop) error
}

// A workshop is what the attempts work on: files that root has made, and a process of
// root's, the parent.
type workshop struct {
	dir    string
	parent int
}

func (w *workshop) path(name string) string { return filepath.Join(w.dir, name) }

// attempts lists them. The last ones leave the process changed where they succeed.
func attempts() []attempt {
	return []attempt{
		{"read a file of root's", func(w *workshop) error {
			_, err := os.ReadFile(w.path("secret"))
			return err
		}},
		{"read it through another process's root", func(w *workshop) error {
			_, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", w.parent, w.path("secret")))
			return err
		}},
		{"write beside it", func(w *workshop) error {
			return os.WriteFile(w.path("written"), nil, 0o600)
		}},
		{"read the environment of root's process", func(w *workshop) error {
			_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.parent))
			return err
		}},
		{"read the memory of root's process", func(w *workshop) error {
			f, err := os.Open(fmt.Sprintf("/proc/%d/mem", w.parent))
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"trace root's process", func(w *workshop) error {
			runtime.LockOSThread() // the tracer is a thread
			defer runtime.UnlockOSThread()
			if err := unix.PtraceSeize(w.parent); err != nil {
				return err
			}
			// Detaching takes a stop, which the parent survives.
			if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, uintptr(w.parent), 0, 0, 0, 0); errno != 0 {
				return errno
			}
			var status unix.WaitStatus
			if _, err := unix.Wait4(w.parent, &status, unix.WALL, nil); err != nil {
				return err
			}
			return unix.PtraceDetach(w.parent)
		}},
		{"signal root's process", func(w *workshop) error { return unix.Kill(w.parent, 0) }},
		{"open a device of root's", func(w *workshop) error {
			f, err := os.OpenFile(w.path("device"), os.O_RDWR, 0)
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"make a device", func(w *workshop) error {
			return unix.Mknod(w.path("everybody's/device"), unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0)))
		}},
		{"open a kernel sysctl to write", func(*workshop) error { return openToWrite("/proc/sys/kernel/core_pattern") }},
		{"load a module", func(*workshop) error {
			switch err := unix.FinitModule(-1, "", 0); err {
			case unix.EBADF:
				return nil // it came as far as the missing file
			case unix.ENOSYS: // a kernel without modules
				if os.Geteuid() == 0 {
					return nil
				}
				return unix.EPERM
			default:
				return err
			}
		}},
		{"raise a capability", func(*workshop) error { return raise(unix.CAP_SYS_ADMIN) }},
		{"inherit a capability", func(*workshop) error {
			return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
		}},
		{"give a program a capability", func(w *workshop) error {
			return unix.Setxattr(w.path("public"), "security.capability", capabilityAttribute(), 0)
		}},
		{"give a file to root", func(w *workshop) error { return os.Chown(w.path("nobody's"), 0, 0) }},
		{"packets of any kind", func(*workshop) error {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}},
		{"execute a program that is set-user-ID root", func(w *workshop) error { return executeAsRoot(w.path("setuid-root")) }},
		{"execute a program that is set-group-ID root", func(w *workshop) error { return executeAsRoot(w.path("setgid-root")) }},
		{"setgid(0)", func(*workshop) error { return syscall.Setgid(0) }},
		{"setresgid(0, 0, 0)", func(*workshop) error { return syscall.Setresgid(0, 0, 0) }},
		{"setgroups(0)", func(*workshop) error { return syscall.Setgroups([]int{0}) }},
		{"setuid(0)", func(*workshop) error { return syscall.Setuid(0) }},
		{"setreuid(-1, 0)", func(*workshop) error { return syscall.Setreuid(-1, 0) }},
		{"setresuid(0, 0, 0)", func(*workshop) error { return syscall.Setresuid(0, 0, 0) }},
		{"setfsuid(0)", func(*workshop) error {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			unix.RawSyscall(unix.SYS_SETFSUID, 0, 0, 0)
			if is, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); is != 0 { // no such user: tells who it is
				return unix.EPERM
			}
			return nil
		}},
		{"a mount namespace", func(*workshop) error { return unshareBriefly(unix.CLONE_NEWNS, nil) }},
		{"mount", func(w *workshop) error {
			return unshareBriefly(unix.CLONE_NEWNS, func() error {
				if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
					return err
				}
				return unix.Mount("none", w.dir, "tmpfs", 0, "")
			})
		}},
		{"enter root's namespace", func(w *workshop) error {
			f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", w.parent))
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"chroot", func(w *workshop) error { return unix.Chroot(w.dir) }},
	}
}

func openToWrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		f.Close()
	}
	return err
}

// raise asks for a second permitted and effective capability, in the calling thread.
func raise(capability uint) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Permitted |= 1 << capability
	data[0].Effective |= 1 << capability
	data[0].Inheritable |= 1 << capability
	return unix.Capset(&header, &data[0])
}

// capabilityAttribute is CAP_SYS_ADMIN, permitted and effective (VFS_CAP_REVISION_2).
func capabilityAttribute() []byte {
	attribute := [5]uint32{0x02000001, 1 << unix.CAP_SYS_ADMIN}
	return unsafe.Slice((*byte)(unsafe.Pointer(&attribute)), unsafe.Sizeof(attribute))
}

// executeAsRoot returns EPERM where the program does not run as root, user or group.
func executeAsRoot(program string) error {
	whoami := exec.Command(program)
	whoami.Env = []string{roleVariable + "=whoami"}
	out, err := whoami.Output()
	if err != nil {
		return err
	}
	for id := range strings.FieldsSeq(string(out)) {
		if id == "0" {
			return nil
		}
	}
	return unix.EPERM
}

// roleWhoami tells the effective user and group.
func roleWhoami() int {
	fmt.Print(strconv.Itoa(os.Geteuid()), " ", strconv.Itoa(os.Getegid()))
	return 0
}

// unshareBriefly does something on a thread with a namespace of its own, which ends
// with the thread.
func unshareBriefly(flags int, do func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := unix.Unshare(flags | unix.CLONE_FS)
		if err == nil && do != nil {
			err = do()
		}
		result <- err
	}()
	return <-result
}
