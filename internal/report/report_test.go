package report

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Each record is one message to syslog, with the priority of its level, and with
// neither time nor level of its own.
func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	server, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	w, err := dialSyslog([]string{"/nowhere/log", path})
	if err != nil {
		t.Fatal(err)
	}
	defer w.conn.Close()
	log := slog.New(newHandler(w))
	for _, c := range []struct {
		write func(string, ...any)
		want  string // facility daemon (3) times 8 and the severity of RFC 5424
	}{
		{log.Error, `^<27>.* sipnatd\[\d+\]: msg="two words" from=192\.0\.2\.1\n$`},
		{log.Warn, `^<28>.*: msg="two words" from=192\.0\.2\.1\n$`},
		{log.Info, `^<30>.*: msg="two words" from=192\.0\.2\.1\n$`},
		{log.Debug, `^<31>.*: msg="two words" from=192\.0\.2\.1\n$`},
		{log.With("host", "a").WithGroup("g").Info, `^<30>.*: msg="two words" host=a g\.from=192\.0\.2\.1\n$`},
	} {
		c.write("two words", "from", "192.0.2.1")
		packet := make([]byte, 512)
		server.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _, err := server.ReadFrom(packet)
		if err != nil {
			t.Fatal(err)
		}
		if got := packet[:n]; !regexp.MustCompile(c.want).Match(got) {
			t.Errorf("got %q, want %s", got, c.want)
		}
	}
}

// A syslog that does not read holds nobody up: messages are lost, and counted. One
// that was restarted gets the next one.
func TestSyslogStuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	listen := func() net.PacketConn {
		t.Helper()
		os.Remove(path)
		server, err := net.ListenPacket("unixgram", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		return server
	}
	server := listen()
	w, err := dialSyslog([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(newHandler(w))
	begin := time.Now()
	const written = 700
	for range written {
		log.Info("said")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("%d messages take %v", written, took)
	}
	next := func(wait time.Duration) (string, error) {
		packet := make([]byte, 512)
		server.SetReadDeadline(time.Now().Add(wait))
		n, _, err := server.ReadFrom(packet)
		return string(packet[:n]), err
	}
	got := 0
	for _, err := next(time.Second); err == nil; _, err = next(10 * time.Millisecond) {
		got++
	}
	if got == 0 || got == written {
		t.Fatalf("%d of %d arrive: the socket was never full", got, written)
	}
	log.Info("again")
	said, err := next(10 * time.Second)
	if want := fmt.Sprintf("messages are lost\" messages=%d\n", written-got); err != nil || !strings.HasSuffix(said, want) {
		t.Errorf("it says %q, %v; want %s", said, err, want)
	}

	server.Close()
	server = listen()
	log.Info("restarted")
	if said, err := next(10 * time.Second); err != nil || !strings.HasSuffix(said, "msg=restarted\n") {
		t.Errorf("a restarted syslog gets %q, %v", said, err)
	}
}
