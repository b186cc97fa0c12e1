// Package netspace puts tests into network namespaces of their own.
package netspace

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// New puts a test on a thread of its own in a new network namespace, which it returns
// and which ends with the test. The thread is never another goroutine's.
func New(t testing.TB) netns.NsHandle {
	t.Helper()
	NeedRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// NeedRoot skips a test that only root can do. Where everything has to be tested
// (SIPNATD_CI=1), that is a failure.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SIPNATD_CI") == "1" {
		t.Fatal("must run as root")
	}
	t.Skip("needs root")
}
