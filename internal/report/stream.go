package report

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// stream is the standard error stream. Like syslog it does not hold up the program when
// nobody reads what is written, as in a pipe whose reader has stopped, or on a terminal
// that is: the message is lost then, and it is said how many were. And it does not end
// the program when the reader is gone, which [os.File] would for this descriptor.
type stream struct {
	fd    int
	lost  int
	cut   bool      // the last line that was begun has no end
	stuck time.Time // when a message has waited in vain last
}

// pipePiece is what a pipe takes without waiting when it says that it takes any
// (PIPE_BUF; pipe(7)).
const pipePiece = 4096

// Write writes one line. Only one caller may do so at a time.
func (s *stream) Write(line []byte) (int, error) {
	if s.lost > 0 {
		note := fmt.Sprintf("time=%s level=WARN msg=\"the log was not read: messages are lost\" messages=%d\n",
			time.Now().Format("2006-01-02T15:04:05.000Z07:00"), s.lost)
		if err := s.put([]byte(note)); err != nil {
			s.lost++
			return 0, err
		}
		s.lost = 0
	}
	if err := s.put(line); err != nil {
		s.lost++
		return 0, err
	}
	return len(line), nil
}

func (s *stream) put(line []byte) error {
	if s.cut {
		line = append([]byte{'\n'}, line...)
	}
	for first := true; len(line) > 0; first = false {
		if err := s.wait(); err != nil {
			s.cut = s.cut || !first
			return err
		}
		n, err := unix.Write(s.fd, line[:min(len(line), pipePiece)])
		if err == unix.EINTR {
			n, err = 0, nil
		}
		if err != nil {
			s.cut = s.cut || !first
			return os.NewSyscallError("write", err)
		}
		line = line[n:]
	}
	s.cut = false
	return nil
}

// wait returns when a piece can be written, or has waited in vain.
func (s *stream) wait() error {
	begin, patience := time.Now(), syslogPatience
	if begin.Sub(s.stuck) < syslogPause {
		patience = 0
	}
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
	for {
		left := max(patience-time.Since(begin), 0)
		n, err := unix.Poll(fds, int(left.Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n > 0:
			return nil
		default:
			s.stuck = time.Now()
			return os.ErrDeadlineExceeded
		}
	}
}
