package privilege

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// dropped is what a process finds after Drop.
type dropped struct {
	Need     string              // the error of Need, before
	Drop     string              // the error of Drop
	Status   map[string][]string // fields of /proc/self/task/*/status, each value once
	Threads  []string            // setresuid(0, 0, 0) as each older thread finds it, each result once
	Attempts map[string]string   // by name
	Nftables string              // adding a table and reading it back
	Public   string              // reading a file of everybody's beside those of root's
	Again    string              // Drop to the same user
	Other    string              // Drop to another one
}

// text makes an error comparable; "" is success.
func text(err error) string {
	if err == nil {
		return ""
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

const (
	dirVariable  = "SIPNATD_TEST_DIR"
	userVariable = "SIPNATD_TEST_USER"
)

// roleDrop drops to a user, with a number of threads started before, and prints what
// it is then able to do. The network namespace is the test's.
func roleDrop() int {
	const threads = 8
	var started, done sync.WaitGroup
	release := make(chan struct{})
	results := make(chan string, threads)
	for range threads {
		started.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			started.Done()
			<-release
			_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0) // this thread alone
			results <- unix.ErrnoName(errno)
		})
	}
	started.Wait()

	var d dropped
	user := os.Getenv(userVariable)
	d.Need = text(Need())
	d.Drop = text(Drop(user))
	d.Status = make(map[string][]string)
	for _, field := range []string{"Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"} {
		values, err := threadStatus(field)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		d.Status[field] = values
	}
	close(release)
	done.Wait()
	close(results)
	for result := range results {
		if !slices.Contains(d.Threads, result) {
			d.Threads = append(d.Threads, result)
		}
	}

	w := &workshop{dir: os.Getenv(dirVariable), parent: os.Getppid()}
	_, err := os.ReadFile(w.path("public"))
	d.Public = text(err)
	d.Nftables = text(addTable())
	d.Again = text(Drop(user))
	if os.Geteuid() != 0 {
		d.Other = text(Drop("2000000001"))
	}
	d.Attempts = make(map[string]string)
	for _, a := range attempts() {
		d.Attempts[a.name] = text(a.try(w))
	}
	if err := json.NewEncoder(os.Stdout).Encode(d); err != nil {
		return 1
	}
	return 0
}

// addTable programs nftables in the thread's network namespace.
func addTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "dropped"})
	if err := conn.Flush(); err != nil {
		return err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return err
	}
	if len(tables) != 1 || tables[0].Name != "dropped" {
		return fmt.Errorf("tables: %v", tables)
	}
	return nil
}

// furnish makes what the attempts work on. The directory is not below one that is
// root's alone.
func furnish(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sipnatd-privilege-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	must(t, err)
	program, err := os.ReadFile(self)
	must(t, err)
	for _, f := range []struct {
		name    string
		content []byte
		mode    os.FileMode
	}{
		{".", nil, 0o755},
		{"secret", []byte("root's"), 0o600},
		{"public", []byte("everybody's"), 0o644},
		{"nobody's", []byte("nobody's"), 0o644},
		{"program", program, 0o755},
		{"setuid-root", program, 0o755 | os.ModeSetuid},
		{"setgid-root", program, 0o755 | os.ModeSetgid},
	} {
		path := filepath.Join(dir, f.name)
		if f.content != nil {
			must(t, os.WriteFile(path, f.content, 0o600))
		}
		must(t, os.Chmod(path, f.mode))
	}
	must(t, os.Mkdir(filepath.Join(dir, "everybody's"), 0o700))
	must(t, os.Chmod(filepath.Join(dir, "everybody's"), 0o777))
	nobody, err := lookup("nobody")
	must(t, err)
	must(t, os.Chown(filepath.Join(dir, "nobody's"), nobody.uid, nobody.gid))
	// Like /dev/null, but root's.
	must(t, unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	return dir
}

// playDrop plays the role in a network namespace of its own.
func playDrop(t *testing.T, user string, attr *syscall.SysProcAttr) dropped {
	t.Helper()
	dir := furnish(t)
	attr.Cloneflags |= unix.CLONE_NEWNET
	cmd := exec.Command(filepath.Join(dir, "program"))
	cmd.Env = append(os.Environ(), roleVariable+"=drop", dirVariable+"="+dir, userVariable+"="+user)
	cmd.SysProcAttr = attr
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &errs)
	}
	var got dropped
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if strings.Contains(got.Drop, ErrCgo.Error()) {
		if os.Getenv("SIPNATD_CI") == "1" {
			t.Fatal(got.Drop)
		}
		t.Skip(got.Drop)
	}
	return got
}

// refused is that every attempt fails for want of a privilege.
func refused() map[string]string {
	all := make(map[string]string)
	for _, a := range attempts() {
		all[a.name] = "EPERM"
	}
	for _, name := range []string{
		"read a file of root's", "read it through another process's root", "write beside it",
		"read the environment of root's process", "read the memory of root's process", "enter root's namespace",
		"open a device of root's", "open a kernel sysctl to write",
	} {
		all[name] = "EACCES"
	}
	return all
}

func four(id int) []string { return []string{fmt.Sprintf("%d %d %d %d", id, id, id, id)} }

const noCapability, netAdmin = "0000000000000000", "0000000000001000"

func TestDrop(t *testing.T) {
	needRoot(t)
	nobody, err := lookup("nobody")
	must(t, err)
	want := dropped{
		Status: map[string][]string{
			"Uid": four(nobody.uid), "Gid": four(nobody.gid), "Groups": {""},
			"CapPrm": {netAdmin}, "CapEff": {netAdmin}, "CapBnd": {netAdmin}, "CapAmb": {noCapability},
			"NoNewPrivs": {"1"},
		},
		Threads:  []string{"EPERM"},
		Attempts: refused(),
		Other:    ErrNotRoot.Error() + ": this one is number " + fmt.Sprint(nobody.uid),
	}
	// As root is logged in, with groups besides.
	root := &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{0, 4}}}
	if diff := cmp.Diff(want, playDrop(t, "nobody", root)); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// As a service manager starts it: an unprivileged user with one ambient capability. The
// setting user is not needed then, and another name than its own changes nothing.
func TestStartUnprivileged(t *testing.T) {
	needRoot(t)
	nobody, err := lookup("nobody")
	must(t, err)
	notRoot := ErrNotRoot.Error() + ": this one is number " + fmt.Sprint(nobody.uid)
	for user, says := range map[string]string{"": "", "nobody": "", "root": notRoot, "no-such-user": notRoot} {
		t.Run("user="+user, func(t *testing.T) {
			got := playDrop(t, user, &syscall.SysProcAttr{
				Credential:  &syscall.Credential{Uid: uint32(nobody.uid), Gid: uint32(nobody.gid)},
				AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
			})
			want := dropped{
				Drop: says, Again: says, Other: notRoot,
				Status: map[string][]string{
					"Uid": four(nobody.uid), "Gid": four(nobody.gid), "Groups": {""},
					"CapPrm": {netAdmin}, "CapEff": {netAdmin}, "CapAmb": {noCapability},
					"NoNewPrivs": {"1"},
				},
				Threads:  []string{"EPERM"},
				Attempts: refused(),
			}
			delete(got.Status, "CapBnd") // the service manager's
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
		})
	}
}

// Root can do all that is attempted, so that the refusals above mean something.
func TestAttemptsAsRoot(t *testing.T) {
	needRoot(t)
	got := playDrop(t, "", &syscall.SysProcAttr{})
	for _, a := range attempts() {
		if says := got.Attempts[a.name]; says != "" {
			t.Errorf("%s: %s", a.name, says)
		}
	}
}

// Without the one capability it does not start at all.
func TestNeed(t *testing.T) {
	needRoot(t)
	nobody, err := lookup("nobody")
	must(t, err)
	got := playDrop(t, "", &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(nobody.uid), Gid: uint32(nobody.gid)},
	})
	if got.Need != ErrNotPrivileged.Error() || got.Nftables == "" {
		t.Errorf("Need: %q; adding a table: %q", got.Need, got.Nftables)
	}
}

func TestLookup(t *testing.T) {
	for _, tt := range []struct {
		name string
		want account
		err  string
	}{
		{"root", account{}, "user root is root, so there is nothing to drop: name another, or none"},
		{"0", account{}, "user 0 is root, so there is nothing to drop: name another, or none"},
		{"no-such-user", account{}, "there is no user no-such-user"},
		{"-1", account{}, "there is no user -1"},
		{"2000000001", account{uid: 2000000001, gid: 2000000001}, ""},
	} {
		got, err := lookup(tt.name)
		if got != tt.want || err == nil && tt.err != "" || err != nil && err.Error() != tt.err {
			t.Errorf("lookup(%q) = %+v, %v; want %+v, %s", tt.name, got, err, tt.want, tt.err)
		}
	}
	byName, err := lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	if byNumber, err := lookup(fmt.Sprint(byName.uid)); err != nil || byNumber != byName {
		t.Errorf("by number %+v, %v; by name %+v", byNumber, err, byName)
	}
}
