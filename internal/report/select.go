package report

import (
	"context"
	"log/slog"
	"sync/atomic"

	"sipnatd/internal/config"
)

// classKey is the attribute that gives the debug messages of a logger their class,
// by one of the names of [config.DebugMask]:
//
//	log.With("class", "sip").Debug("message", ...)
//
// Messages of other levels have no class, and those of loggers without one are of
// the class nospec.
const classKey = "class"

// A Selection says which messages are written.
type Selection struct {
	Debug   config.DebugMask // classes of debug messages
	Silence int              // silence_log
}

// level is the lowest level of messages that are not debug messages.
func (s Selection) level() slog.Level {
	switch {
	case s.Silence <= 1:
		return slog.LevelInfo
	case s.Silence == 2:
		return slog.LevelWarn
	case s.Silence == 3:
		return slog.LevelError
	default:
		return slog.LevelError + 1
	}
}

// selector is a Selection that may change while messages are written.
type selector struct {
	background bool
	level      atomic.Int64
	debug      atomic.Uint32
}

// set replaces the selection. As with siproxd, silence_log = 1 keeps debug
// messages out of syslog, and a terminal shows them all the same.
func (s *selector) set(to Selection) {
	s.level.Store(int64(to.level()))
	if s.background && to.Silence > 0 {
		to.Debug = 0
	}
	s.debug.Store(uint32(to.Debug))
}

// filter is a handler for the messages that are selected. A debug message whose
// class is not costs one comparison.
type filter struct {
	slog.Handler
	selected *selector
	class    config.DebugMask
	grouped  bool // a group is open, in which class is an ordinary attribute
}

// Enabled implements slog.Handler.
func (f *filter) Enabled(_ context.Context, level slog.Level) bool {
	if level < slog.LevelInfo {
		return config.DebugMask(f.selected.debug.Load()).Has(f.class)
	}
	return int64(level) >= f.selected.level.Load()
}

// Handle implements slog.Handler.
func (f *filter) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		shown := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		shown.AddAttrs(slog.String(classKey, f.class.String()))
		r.Attrs(func(a slog.Attr) bool { shown.AddAttrs(a); return true })
		r = shown
	}
	return f.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (f *filter) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *f
	rest := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		if a.Key == classKey && !f.grouped {
			class, err := config.ParseDebug(a.Value.String())
			if err != nil {
				class = config.DebugNoSpec
			}
			with.class = class
			continue
		}
		rest = append(rest, a)
	}
	if len(rest) > 0 {
		with.Handler = f.Handler.WithAttrs(rest)
	}
	return &with
}

// WithGroup implements slog.Handler.
func (f *filter) WithGroup(name string) slog.Handler {
	with := *f
	with.Handler, with.grouped = f.Handler.WithGroup(name), true
	return &with
}
