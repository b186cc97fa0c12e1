package conntrack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	ct "github.com/florianl/go-conntrack"
)

const sysctlDir = "/proc/sys/net/netfilter/"

// EnableAccounting has the kernel count the packets and bytes of every flow
// that begins from now on, in the network namespace of the calling thread
// (sysctl net.netfilter.nf_conntrack_acct). already says that it did before.
func EnableAccounting() (already bool, err error) {
	on, err := sysctl("nf_conntrack_acct")
	if err != nil || on != 0 {
		return on != 0, err
	}
	if err := os.WriteFile(sysctlDir+"nf_conntrack_acct", []byte("1"), 0); err != nil {
		return false, fmt.Errorf("conntrack: accounting: %w", err)
	}
	return false, nil
}

// AutomaticHelpers reports whether the kernel gives flows its helpers by itself,
// without any rule that says so, in the network namespace of the calling thread
// (sysctl net.netfilter.nf_conntrack_helper, which Linux 6.0 has no more).
func AutomaticHelpers() (bool, error) {
	on, err := sysctl("nf_conntrack_helper")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return on != 0, err
}

// SIPHelperLoaded reports whether the kernel has its helper nf_conntrack_sip, as a
// module that is loaded or built in.
func SIPHelperLoaded() bool {
	_, err := os.Stat("/sys/module/nf_conntrack_sip")
	return err == nil
}

// Limits returns the sizes of the kernel's tables and how much of them is in
// use, in the network namespace of the calling thread. The table of
// expectations is shared by all namespaces: expectMax is for all of them, but
// expectCount for this one. Counting them reads them all.
func Limits() (expectMax, expectCount, max, count int, err error) {
	var errs [4]error
	expectMax, errs[0] = sysctl("nf_conntrack_expect_max")
	max, errs[1] = sysctl("nf_conntrack_max")
	count, errs[2] = sysctl("nf_conntrack_count")
	expectCount, errs[3] = countExpectations()
	return expectMax, expectCount, max, count, errors.Join(errs[:]...)
}

func countExpectations() (int, error) {
	nfct, err := ct.Open(&ct.Config{})
	if err != nil {
		return 0, fmt.Errorf("conntrack: %w", err)
	}
	defer nfct.Close()
	all, err := nfct.Dump(ct.Expected, 0)
	if err != nil {
		return 0, fmt.Errorf("conntrack: count expectations: %w", err)
	}
	return len(all), nil
}

func sysctl(name string) (int, error) {
	b, err := os.ReadFile(sysctlDir + name)
	if err != nil {
		return 0, fmt.Errorf("conntrack: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("conntrack: sysctl %s: %w", name, err)
	}
	return n, nil
}
