package report

import (
	"log/slog"
	"log/syslog"
	"net"
	"path/filepath"
	"regexp"
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
	w, err := syslog.Dial("unixgram", path, syslog.LOG_DAEMON|syslog.LOG_INFO, "sipnatd")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
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
