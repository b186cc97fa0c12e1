package registrar

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// populated returns a registrar with registrations of all kinds.
func populated(t testing.TB, cfg Config) *Registrar {
	t.Helper()
	r := New(cfg, quiet())
	send(t, r, udp(phone), register("john", 7, `Contact: <sip:john@10.0.0.10:5062>;expires=600;q=0.5;+sip.instance="<urn:x y>"`), 200)
	send(t, r, tcp("10.0.0.11:33000", 5), register("john", 1, "Contact: <sip:j%20@10.0.0.11:5070;transport=tcp>;expires=900"), 200)
	send(t, r, udp("10.0.0.12:1024"), register("mary", 1, "Contact: <sip:mary@192.168.1.2>;expires=60"), 200)
	r.Registered(index(t, outside("Contact: <sip:out@10.0.0.10>;expires=900")), index(t, answer()), udp(phone), provider)
	tokenOf(t, r, "sip:idle@10.0.0.10", udp(phone))
	return r
}

// content is what a registrar knows, in words.
func content(r *Registrar) (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, b := range r.bindings {
		list = append(list, fmt.Sprintf("%s %s %s %s %d %d %s %d", b.aor.user, b.uri(), b.params(), b.callID(), b.q, b.cseq, b.hop, ceilSeconds(b.expires-now)))
	}
	for _, l := range r.lines.list {
		list = append(list, fmt.Sprintf("%s %s %s", l.token, l.uri, l.hop))
		for _, a := range l.accounts {
			list = append(list, fmt.Sprintf("%s %s@%s %s %d", l.token, a.user, a.host, a.at, ceilSeconds(a.expires-now)))
		}
	}
	slices.Sort(list)
	return list
}

func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registrations")
	synctest.Test(t, func(t *testing.T) {
		r := populated(t, Config{File: file})
		before := content(r)
		r.save(true)
		time.Sleep(30 * time.Second)
		var log journal
		again := New(Config{File: file}, log.logger())
		after := content(again)
		if len(before) != 6 || len(after) != 6 {
			t.Fatalf("before: %q\nafter: %q", before, after)
		}
		// 30 seconds are over, and connections are.
		want := strings.NewReplacer(" 600", " 570", " 900", " 870", "12:1024 60", "12:1024 30",
			"TCP 10.0.0.1:5060 10.0.0.11:33000 #5", "TCP 10.0.0.1:0 10.0.0.11:5070").Replace(strings.Join(before, "\n"))
		if got := strings.Join(after, "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if log.count("registrations restored", "contacts=3", "tokens=2") != 1 {
			t.Errorf("log: %s", log.String())
		}
		// Tokens stay what they are, even of contacts that the file does not tell.
		if tokenOf(t, again, "sip:new@10.0.0.10", udp(phone)) != tokenOf(t, r, "sip:new@10.0.0.10", udp(phone)) {
			t.Error("another token after a restart")
		}
		if got := again.Lines([]byte("john"), provider); len(got) != 1 {
			t.Errorf("%d phones are registered outside", len(got))
		}
		send(t, again, udp(phone), register("john", 7, "Contact: <sip:john@10.0.0.10:5062>;expires=0"), 500) // its order is known
		time.Sleep(30 * time.Second)
		if got := New(Config{File: file}, quiet()).Stats(); got.Contacts != 2 {
			t.Errorf("after a minute: %+v", got)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
}

// TestRun has the file written at the start, in between, and at the end.
func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registrations")
	other := filepath.Join(t.TempDir(), "others")
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{File: file, Autosave: time.Minute}
		r := New(cfg, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		wait := func(d time.Duration, name string, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if s := New(Config{File: name}, quiet()).Stats(); s.Contacts != want {
				t.Errorf("%d contacts are in the file, want %d", s.Contacts, want)
			}
		}
		wait(time.Second, file, 0)
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
		send(t, r, udp(phone), register("a", 1, "Contact: <sip:a@10.0.0.10>"), 200)
		wait(time.Second, file, 0)
		wait(time.Minute, file, 1)
		// Nothing is written where nothing has changed.
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		wait(5*time.Minute, file, 0)
		send(t, r, udp(phone), register("a", 2, "Contact: <sip:a@10.0.0.10>, <sip:b@10.0.0.10>"), 200)
		wait(time.Minute, file, 2)
		cfg = Config{File: other}
		r.Configure(cfg)
		wait(time.Second, other, 2)
		send(t, r, udp(phone), register("a", 3, "Contact: <sip:c@10.0.0.10>;expires=7000"), 200)
		wait(30*time.Minute, other, 2)
		wait(31*time.Minute, file, 0) // a and b have expired
		if s := r.Stats(); s.Contacts != 1 {
			t.Errorf("nothing is swept: %+v", s)
		}
		send(t, r, udp(phone), register("a", 4, "Contact: <sip:d@10.0.0.10>;expires=7000"), 200)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		wait(0, other, 2)
	})
}

// TestDamage has a file that was cut or changed at any place.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "registrations")
	r := populated(t, Config{})
	whole := r.dump()
	for cut := range len(whole) {
		one := New(Config{}, quiet())
		contacts, lines, damage := one.restore(whole[:cut], time.Now().Add(-one.now()))
		if len(damage) == 0 {
			t.Fatalf("cut after %d of %d bytes: no damage is seen", cut, len(whole))
		}
		if s := one.Stats(); s.Contacts != contacts || s.Lines != lines || contacts > 3 || lines > 2 {
			t.Fatalf("cut after %d bytes: %+v", cut, s)
		}
	}
	title := bytes.IndexByte(whole, '\n') + 1
	for i := title; i < len(whole); i++ {
		text := bytes.Clone(whole)
		text[i] ^= 4
		one := New(Config{}, quiet())
		contacts, lines, damage := one.restore(text, time.Now().Add(-one.now()))
		if len(damage) == 0 {
			t.Fatalf("byte %d: no damage is seen", i)
		}
		if whole[i] != '\n' && (contacts < 2 || lines < 1) {
			t.Fatalf("byte %d: %d contacts, %d tokens are left", i, contacts, lines)
		}
	}

	if err := os.WriteFile(file, whole[:len(whole)-40], 0o600); err != nil {
		t.Fatal(err)
	}
	var log journal
	if s := New(Config{File: file}, log.logger()).Stats(); s.Contacts != 3 {
		t.Errorf("%+v", s)
	}
	if log.count("registration_file is damaged", "contacts=3", file+".damaged") != 1 {
		t.Errorf("log: %s", log.String())
	}
	kept, err := os.ReadFile(file + ".damaged")
	if err != nil || !bytes.Equal(kept, whole[:len(whole)-40]) {
		t.Errorf("kept: %v", err)
	}
}

// TestForeignFile has a file of somebody else's.
func TestForeignFile(t *testing.T) {
	for _, c := range []struct {
		name, text, message, kept string
		written                   bool
	}{
		{"siproxd's", "***:1:1700000000\nsip\njohn\n10.0.0.10\n", "is siproxd's and is not read", ".siproxd", true},
		{"an old siproxd's", "****:0:0\n", "is siproxd's and is not read", ".siproxd", true},
		{"a newer one", "sipnatd registrations 2\nwhatever\n", "of another version", ".other", true},
		{"an empty one", "", "", "", true},
		{"users", "root:x:0:0:root:/root:/bin/sh\n", "is left alone", "", false},
		{"zeros", strings.Repeat("\x00", 4096), "is left alone", "", false},
	} {
		file := filepath.Join(t.TempDir(), "registrations")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var log journal
		r := New(Config{File: file}, log.logger())
		r.save(true)
		r.save(true)
		if c.message != "" && log.count(c.message) != 1 || c.message == "" && log.Len() != 0 {
			t.Errorf("%s: log: %s", c.name, log.String())
		}
		text, err := os.ReadFile(file)
		if err != nil || strings.HasPrefix(string(text), fileTitle+fileVersion) != c.written {
			t.Errorf("%s: %q, %v", c.name, text, err)
		}
		if !c.written && string(text) != c.text {
			t.Errorf("%s: it was changed", c.name)
		}
		if c.kept != "" {
			if text, err := os.ReadFile(file + c.kept); err != nil || string(text) != c.text {
				t.Errorf("%s: kept %q, %v", c.name, text, err)
			}
		}
		// By a reload, it is not written over either.
		if !c.written {
			r = New(Config{}, log.logger())
			r.claim(file)
			r.save(true)
			if text, _ := os.ReadFile(file); string(text) != c.text {
				t.Errorf("%s: it was changed after a reload", c.name)
			}
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var log journal
	New(Config{File: pipe}, log.logger()).save(true)
	if log.count("can not be read", "not a regular file") != 1 {
		t.Errorf("log: %s", log.String())
	}
}

// TestUnwritable has a directory that the daemon may not write to.
func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "missing", "registrations")
	var log journal
	r := New(Config{File: file}, log.logger())
	for range 3 {
		r.save(true)
	}
	if log.count("registration_file can not be written", "mkdir -p") != 1 || log.count("") != 1 {
		t.Errorf("log: %s", log.String())
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	r.save(true)
	if log.count("registration_file is written again") != 1 {
		t.Errorf("log: %s", log.String())
	}
	if got := remedy("/var/lib/x/registrations", &os.PathError{Err: syscall.EACCES}); !strings.Contains(got, fmt.Sprintf("chown %d /var/lib/x", os.Geteuid())) {
		t.Errorf("remedy: %s", got)
	}
	// What stands where the new file would is not followed, and a directory not removed.
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, file+".new"); err != nil {
		t.Fatal(err)
	}
	r.save(true)
	if text, _ := os.ReadFile(victim); string(text) != "dear" {
		t.Errorf("a link was followed: %q", text)
	}
	if err := os.MkdirAll(filepath.Join(file+".new", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.save(true)
	if log.count("registration_file can not be written") != 2 {
		t.Errorf("log: %s", log.String())
	}
}

// TestUnprivileged has a directory that belongs to somebody else.
func TestUnprivileged(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	var log journal
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Geteuid() == 0 {
			// This thread alone, which ends with the goroutine, is nobody for files.
			runtime.LockOSThread()
			if _, err := unix.SetfsuidRetUid(65534); err != nil {
				t.Error(err)
			}
		}
		r := New(Config{File: filepath.Join(dir, "registrations")}, log.logger())
		for range 3 {
			r.save(true)
		}
	}()
	<-done
	if log.count("registration_file can not be written", "permission denied", "the directory must belong to") != 1 || log.count("") != 1 {
		t.Errorf("log: %s", log.String())
	}
}

// FuzzRestore has any text for a file. What it makes of it must stand the way back.
func FuzzRestore(f *testing.F) {
	f.Add(populated(f, Config{}).dump())
	f.Add([]byte("sipnatd registrations 1\nend 0 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		// Checksums would hide everything behind them.
		var sealed []byte
		w := writer{text: sealed}
		for raw := range bytes.Lines(text) {
			body := bytes.TrimSuffix(raw, []byte{'\n'})
			if i := bytes.LastIndexByte(body, ' '); i >= 0 && len(w.text) > 0 {
				body = body[:i]
			}
			if len(body) == 0 {
				continue
			}
			w.word(string(body))
			if w.begin == 0 {
				w.text = append(w.text, '\n')
				w.begin = len(w.text)
				continue
			}
			w.end()
		}
		r := New(Config{}, quiet())
		contacts, lines, _ := r.restore(w.text, time.Now().Add(-r.now()))
		if s := r.Stats(); s.Contacts != contacts || s.Lines > lines {
			t.Fatalf("%d contacts, %d tokens, %+v", contacts, lines, s)
		}
		for _, b := range r.bindings {
			if badURI(b.uri()) || bytes.ContainsAny(b.params(), "\r\n") {
				t.Fatalf("%q %q would go into a message", b.uri(), b.params())
			}
		}
		again := New(Config{}, quiet())
		more, _, damage := again.restore(r.dump(), time.Now().Add(-again.now()))
		if len(damage) > 0 || more > contacts {
			t.Fatalf("of %d contacts %d came back, %q", contacts, more, damage)
		}
	})
}
