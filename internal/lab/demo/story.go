package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// story prints what happens and keeps count of what was checked. It stands in
// for a test, so that the kit can be used by a program.
type story struct {
	w      io.Writer
	color  bool
	width  int
	begin  time.Time
	number int

	mu       sync.Mutex
	passed   int
	failed   int
	cleanups []func()
}

func newStory(w *os.File) *story {
	s := &story{w: w, width: 150, begin: time.Now()}
	if fi, err := w.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" {
		s.color = true
	}
	return s
}

const (
	bold   = "1"
	green  = "32"
	red    = "1;31"
	yellow = "33"
	dim    = "2"
)

// paint colours text on a terminal.
func (s *story) paint(color, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (s *story) chapter(title string) {
	s.number++
	head := fmt.Sprintf("%d. %s", s.number, title)
	fmt.Fprintf(s.w, "\n%s\n%s\n", s.paint(bold, head), strings.Repeat("-", len(head)))
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.w, format+"\n", args...) }

// text prints a block, indented.
func (s *story) text(block string) {
	for _, line := range strings.Split(strings.Trim(block, "\n"), "\n") {
		fmt.Fprintf(s.w, "    %s\n", s.paint(dim, line))
	}
}

// check notes and prints whether something is as it should be.
func (s *story) check(ok bool, format string, args ...any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	mark := s.paint(green, "  [ok]  ")
	if ok {
		s.passed++
	} else {
		s.failed++
		mark = s.paint(red, "  [FAIL]")
	}
	fmt.Fprintf(s.w, "%s %s\n", mark, fmt.Sprintf(format, args...))
	return ok
}

// run runs the story on a goroutine of its own, so that Fatalf can end it, and
// then the cleanups, last one first.
func (s *story) run(tell func(*story)) {
	s.protect(func() { tell(s) })
	s.cleanUp()
}

// cleanUp runs what Cleanup has registered.
func (s *story) cleanUp() {
	s.chapter("Cleaning up")
	for {
		s.mu.Lock()
		n := len(s.cleanups)
		if n == 0 {
			s.mu.Unlock()
			return
		}
		f := s.cleanups[n-1]
		s.cleanups = s.cleanups[:n-1]
		s.mu.Unlock()
		s.protect(f)
	}
}

func (s *story) protect(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// end prints the verdict.
func (s *story) end(took time.Duration) {
	left := leftovers()
	s.check(len(left) == 0, "no namespace and no process is left %v", left)
	verdict := s.paint(green, fmt.Sprintf("All %d checks held", s.passed))
	if s.failed > 0 {
		verdict = s.paint(red, fmt.Sprintf("%d of %d checks FAILED", s.failed, s.passed+s.failed))
	}
	fmt.Fprintf(s.w, "\n%s, in %.1f s.\n", verdict, took.Seconds())
}

// The methods of lab.TB.

func (s *story) Helper()      {}
func (s *story) Name() string { return "demo" }

// Failed reports whether a check has failed.
func (s *story) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed > 0
}

// Cleanup registers what to do at the end.
func (s *story) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// Logf prints a remark.
func (s *story) Logf(format string, args ...any) { s.text(fmt.Sprintf(format, args...)) }

// Errorf is a failed check.
func (s *story) Errorf(format string, args ...any) { s.check(false, format, args...) }

// Fatalf is a failed check that ends the story.
func (s *story) Fatalf(format string, args ...any) {
	s.check(false, format, args...)
	runtime.Goexit()
}

// Skipf ends the story too: a demo that shows nothing has failed.
func (s *story) Skipf(format string, args ...any) { s.Fatalf(format, args...) }
