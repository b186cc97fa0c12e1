package report

import (
	"bufio"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newPipe is a log that writes into a pipe. Its write end blocks, as the standard error
// stream does.
func newPipe(t *testing.T) (*slog.Logger, *os.File) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	r := os.NewFile(uintptr(fds[0]), "log")
	t.Cleanup(func() { r.Close() })
	return slog.New(slog.NewTextHandler(&stream{fd: fds[1]}, nil)), r
}

// TestPipeFull: who does not read the log holds nobody up, and is told what is missing
// when he reads on. Lines stay lines.
func TestPipeFull(t *testing.T) {
	log, r := newPipe(t)
	long := strings.Repeat("x", 3*pipePiece)
	begin := time.Now()
	const lines = 1000
	for range lines {
		log.Info("line", "text", long)
	}
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("%d lines that nobody reads take %v", lines, d)
	}
	done := make(chan struct{})
	var got []string
	first := make(chan struct{})
	go func() {
		defer close(done)
		s := bufio.NewReader(r)
		for {
			line, err := s.ReadString('\n')
			if err != nil {
				return
			}
			if got = append(got, line); len(got) == 1 {
				close(first)
			}
			if strings.Contains(line, "the last") {
				return
			}
		}
	}()
	<-first
	time.Sleep(10 * time.Millisecond) // for the reader to come to the pipe's end
	log.Info("the last")
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the last line does not come")
	}
	if n := len(got); n < 2 || !strings.Contains(got[n-2], "messages are lost") {
		t.Errorf("before the last line: %.100q", got[max(n-2, 0):])
	}
	for _, line := range got {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line is %.100q", line)
		}
	}
}

// TestPipeClosed: a log without a reader ends nobody, though a write to the standard
// error stream by package os would.
func TestPipeClosed(t *testing.T) {
	log, r := newPipe(t)
	r.Close()
	log.Info("to nobody")
}
