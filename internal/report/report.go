// Package report makes the daemon's log: lines on the standard error stream in
// the foreground, syslog in the background.
package report

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"log/syslog"
	"sync"

	"sipnatd/internal/config"
)

// Log is the daemon's log. Which messages it writes can be changed at any time.
type Log struct {
	*slog.Logger
	selected *selector
}

// New returns the daemon's log, for the selected messages.
func New(selected Selection, background bool) (*Log, error) {
	if !background {
		return newLog(slog.NewTextHandler(&stream{fd: 2}, &slog.HandlerOptions{Level: slog.LevelDebug}), selected, false), nil
	}
	w, err := dialSyslog(syslogSockets)
	if err != nil {
		return nil, fmt.Errorf("syslog: %w; run in the foreground (daemonize = no) to log on the standard error stream", err)
	}
	return newLog(newHandler(w), selected, true), nil
}

func newLog(h slog.Handler, selected Selection, background bool) *Log {
	s := &selector{background: background}
	s.set(selected)
	return &Log{slog.New(&filter{Handler: h, selected: s, class: config.DebugNoSpec}), s}
}

// Select changes which messages are written, by this log and all loggers that were
// made of it.
func (l *Log) Select(s Selection) { l.selected.set(s) }

// newHandler returns the handler of the background. syslog has a time and a level
// of its own.
func newHandler(w *syslogd) slog.Handler {
	opts := &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	}
	l := &line{out: w}
	return &handler{slog.NewTextHandler(&l.text, opts), l}
}

// line is the one record that is being formatted.
type line struct {
	sync.Mutex
	text bytes.Buffer
	out  *syslogd
}

// handler gives each record the priority that corresponds to its level.
type handler struct {
	slog.Handler
	line *line
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.line.Lock()
	defer h.line.Unlock()
	h.line.text.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	text := h.line.text.String()
	return h.line.out.write(severity(r.Level), text)
}

func severity(level slog.Level) syslog.Priority {
	switch {
	case level >= slog.LevelError:
		return syslog.LOG_ERR
	case level >= slog.LevelWarn:
		return syslog.LOG_WARNING
	case level >= slog.LevelInfo:
		return syslog.LOG_INFO
	default:
		return syslog.LOG_DEBUG
	}
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs), h.line}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.Handler.WithGroup(name), h.line}
}
