package privilege

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// dropped is what a process finds after Drop.
type dropped struct {
	Drop        string              // the error of Drop
	Status      map[string][]string // fields of /proc/self/task/*/status, each value once
	Nftables    string              // adding a table and reading it back
	SecretFile  string              // reading a file of root's
	PublicFile  string              // reading a file of everybody's beside it
	Setuid      string              // becoming root
	SetuidBits  string              // the effective user of a program that is set-user-ID root
	Raise       string              // taking a second capability
	WriteSysctl string              // writing a network sysctl
	Again       string              // Drop to the same user
	Other       string              // Drop to another one
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

// roleDrop drops to nobody in a network namespace of its own, with a number of
// threads started before, and prints what it is then able to do.
func roleDrop() int {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		fmt.Fprintln(os.Stderr, "unshare:", err)
		return 1
	}
	var started, done sync.WaitGroup
	release := make(chan struct{})
	for range 8 {
		started.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			started.Done()
			<-release
		})
	}
	started.Wait()

	var d dropped
	d.Drop = text(Drop("nobody"))
	d.Status = make(map[string][]string)
	for _, field := range []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"} {
		values, err := threadStatus(field)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		d.Status[field] = values
	}
	close(release)
	done.Wait()

	dir := os.Getenv("SIPNATD_TEST_DIR")
	_, err := os.ReadFile(filepath.Join(dir, "secret"))
	d.SecretFile = text(err)
	_, err = os.ReadFile(filepath.Join(dir, "public"))
	d.PublicFile = text(err)
	d.Nftables = text(addTable())
	d.Setuid = text(syscall.Setuid(0))
	whoami := exec.Command(filepath.Join(dir, "setuid-root"))
	whoami.Env = []string{roleVariable + "=whoami"}
	out, err := whoami.Output()
	d.SetuidBits = string(out) + text(err)
	d.Raise = text(keepOnly(1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW))
	d.WriteSysctl = text(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	d.Again = text(Drop("nobody"))
	d.Other = text(Drop("2000000001"))
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

func roleWhoami() int {
	fmt.Print(os.Geteuid())
	return 0
}

func TestDrop(t *testing.T) {
	needRoot(t)
	nobody, err := lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	// Not below a directory that is root's alone.
	dir, err := os.MkdirTemp("/tmp", "sipnatd-privilege-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name    string
		content []byte
		mode    os.FileMode
	}{
		{".", nil, 0o755},
		{"secret", []byte("root's"), 0o600},
		{"public", []byte("everybody's"), 0o644},
		{"setuid-root", program, 0o755 | os.ModeSetuid},
	} {
		path := filepath.Join(dir, f.name)
		if f.content != nil {
			if err := os.WriteFile(path, f.content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(path, f.mode); err != nil {
			t.Fatal(err)
		}
	}

	out, errs, status := play(t, "drop", "SIPNATD_TEST_DIR="+dir)
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, errs)
	}
	var got dropped
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if strings.Contains(got.Drop, ErrCgo.Error()) {
		if os.Getenv("SIPNATD_CI") == "1" {
			t.Fatal(got.Drop)
		}
		t.Skip(got.Drop)
	}

	four := func(id int) []string { return []string{fmt.Sprintf("%d %d %d %d", id, id, id, id)} }
	const none, netAdmin = "0000000000000000", "0000000000001000"
	want := dropped{
		Status: map[string][]string{
			"Uid": four(nobody.uid), "Gid": four(nobody.gid), "Groups": {""},
			"CapInh": {none}, "CapPrm": {netAdmin}, "CapEff": {netAdmin}, "CapBnd": {netAdmin}, "CapAmb": {none},
			"NoNewPrivs": {"1"},
		},
		SecretFile: "EACCES",
		Setuid:     "EPERM",
		SetuidBits: fmt.Sprint(nobody.uid),
		Raise:      "EPERM",
		Other:      "only root can become the user 2000000001",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
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
