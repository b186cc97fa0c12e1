package privilege

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestCanRead: what a user may read is tried as that user, the directories on the way
// included, and this process stays what it is.
func TestCanRead(t *testing.T) {
	needRoot(t)
	const stranger, member = "2000000001", "2000000002"
	dir := t.TempDir()
	must(t, errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)))
	file := func(name string, mode fs.FileMode, group int) string {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, errors.Join(os.WriteFile(path, nil, mode), os.Chmod(path, mode), os.Chown(path, 0, group)))
		return path
	}
	for _, tt := range []struct {
		name, path string
		want       error
	}{
		{"everybody's", file("public", 0o644, 0), nil},
		{"root's", file("secret", 0o600, 0), fs.ErrPermission},
		{"the group's", file("shared", 0o640, 2000000001), nil},
		{"root's group's", file("staff", 0o640, 0), fs.ErrPermission},
		{"behind a directory of root's", file("closed/public", 0o644, 0), fs.ErrPermission},
		{"none", filepath.Join(dir, "missing"), fs.ErrNotExist},
	} {
		if got := CanRead(stranger, tt.path); !errors.Is(got, tt.want) || got == nil != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if err := CanRead(member, filepath.Join(dir, "shared")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another's group: %v", err)
	}
	if _, err := os.ReadFile(filepath.Join(dir, "secret")); err != nil {
		t.Errorf("root cannot read any more: %v", err)
	}
}

// TestCanCreate: so is where a user may put files.
func TestCanCreate(t *testing.T) {
	needRoot(t)
	const stranger = "2000000001"
	dir := t.TempDir()
	must(t, errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)))
	directory := func(name string, mode fs.FileMode, group int) string {
		path := filepath.Join(dir, name)
		must(t, errors.Join(os.MkdirAll(path, 0o700), os.Chmod(path, mode), os.Chown(path, 0, group)))
		return path
	}
	for _, tt := range []struct {
		name, path string
		want       error
	}{
		{"everybody's", directory("public", 0o777, 0), nil},
		{"root's", directory("secret", 0o755, 0), fs.ErrPermission},
		{"the group's", directory("shared", 0o770, 2000000001), nil},
		{"none", filepath.Join(dir, "missing"), fs.ErrNotExist},
		{"of a kind that takes none", "/proc", fs.ErrPermission},
	} {
		if got := CanCreate(stranger, tt.path); !errors.Is(got, tt.want) || got == nil != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
