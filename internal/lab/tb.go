package lab

import (
	"os"
	"strconv"
	"time"
)

// TB is what the kit needs of a test. *testing.T is one; the demo, which is a
// program and no test, brings its own.
type TB interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Require skips the test where it cannot run: namespaces need root. With
// SIPNATD_CI=1 nothing may be skipped silently, so there it fails instead.
func Require(t TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SIPNATD_CI") == "1" {
		t.Fatalf("lab: network namespaces need root, and SIPNATD_CI forbids skipping")
	}
	t.Skipf("lab: network namespaces need root")
}

// StockKernel reports whether SIPNATD_LAB_STOCK promises a distribution's kernel,
// which has all that a firewall can need: nothing is skipped for its sake.
func StockKernel() bool { return os.Getenv("SIPNATD_LAB_STOCK") == "1" }

// patience is the factor on every time-out of the kit: SIPNATD_LAB_SLOW, for
// emulated machines, else 1.
func patience() float64 {
	if f, err := strconv.ParseFloat(os.Getenv("SIPNATD_LAB_SLOW"), 64); err == nil && f > 0 {
		return f
	}
	return 1
}

// Patience scales a time-out by SIPNATD_LAB_SLOW (default 1).
func Patience(d time.Duration) time.Duration { return time.Duration(float64(d) * patience()) }

// Moment is the kit's ordinary time-out: much longer than anything that it
// waits for takes, yet bearable in a failing test.
func Moment() time.Duration { return Patience(8 * time.Second) }
