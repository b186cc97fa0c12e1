package report

import (
	"errors"
	"fmt"
	"log/syslog"
	"net"
	"os"
	"time"
)

// syslogSockets are where the local syslog listens.
var syslogSockets = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

const (
	// syslogPatience is how long a message waits for a syslog that is busy. SIP
	// waits with it.
	syslogPatience = 20 * time.Millisecond

	// syslogPause is how long no message waits after one has waited in vain.
	syslogPause = 5 * time.Second
)

// syslogd is the local syslog. Unlike that of package log/syslog it does not hold up
// the program when nobody reads what is written: the message is lost then, and it is
// said how many were.
type syslogd struct {
	paths []string
	conn  net.Conn
	lost  int
	stuck time.Time // when a message has waited in vain last
}

func dialSyslog(paths []string) (*syslogd, error) {
	s := &syslogd{paths: paths}
	return s, s.dial()
}

func (s *syslogd) dial() error {
	var errs []error
	for _, path := range s.paths {
		for _, network := range []string{"unixgram", "unix"} {
			conn, err := net.Dial(network, path)
			if err == nil {
				s.conn = conn
				return nil
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// write sends one line of text.
func (s *syslogd) write(severity syslog.Priority, text string) error {
	if s.lost > 0 {
		n := s.lost
		if err := s.send(syslog.LOG_WARNING, fmt.Sprintf("msg=\"syslog was busy: messages are lost\" messages=%d\n", n)); err != nil {
			s.lost++
			return err
		}
		s.lost = 0
	}
	err := s.send(severity, text)
	if err != nil {
		s.lost++
	}
	return err
}

// send connects again where syslog has been restarted.
func (s *syslogd) send(severity syslog.Priority, text string) error {
	message := fmt.Appendf(nil, "<%d>%s sipnatd[%d]: %s", syslog.LOG_DAEMON|severity, time.Now().Format(time.Stamp), os.Getpid(), text)
	err := s.attempt(message)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	if err := s.dial(); err != nil {
		return err
	}
	return s.attempt(message)
}

func (s *syslogd) attempt(message []byte) error {
	if s.conn == nil {
		return net.ErrClosed
	}
	now, patience := time.Now(), syslogPatience
	if now.Sub(s.stuck) < syslogPause {
		patience = time.Millisecond
	}
	if err := s.conn.SetWriteDeadline(now.Add(patience)); err != nil {
		return err
	}
	_, err := s.conn.Write(message)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.stuck = now
	}
	return err
}
