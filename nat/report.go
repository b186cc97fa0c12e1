package nat

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"time"
)

// reportEvery is how often one warning about one host is repeated.
const reportEvery = 10 * time.Minute

// maxReports bounds the memory for warnings that were given.
const maxReports = 1024

// reportsOfKind bounds the warnings of one kind within reportsTime, however many hosts
// give cause for them: addresses may be forged.
const (
	reportsOfKind = 10
	reportsTime   = time.Minute
)

// reporter writes warnings, each kind once for a host and a while, and not often for
// many hosts: a hostile peer must not fill the log.
type reporter struct {
	log   *slog.Logger
	seen  map[reportKey]*reported
	kinds map[string]*reports

	// For debug messages, each with its class (see the package's documentation).
	net, sip, reg, rtp, access, traffic *slog.Logger
}

type reportKey struct {
	kind string
	host netip.Addr
}

// reported is a warning that was given.
type reported struct {
	at     time.Time
	silent int // how often it was not since
}

// reports are the warnings of one kind.
type reports struct {
	since    time.Time // when the minute began
	written  int       // in it
	withheld int       // since the last that was written
}

func newReporter(log *slog.Logger) *reporter {
	class := func(name string) *slog.Logger { return log.With("class", name) }
	return &reporter{
		log: log, seen: make(map[reportKey]*reported), kinds: make(map[string]*reports),
		net: class("net"), sip: class("sip"), reg: class("reg"), rtp: class("rtp"),
		access: class("access"), traffic: class("nettraf"),
	}
}

// debugs reports whether debug messages of a class are written. Where there are many
// messages it is asked first, since arguments cost memory even if they are not.
func debugs(l *slog.Logger) bool { return l.Enabled(context.Background(), slog.LevelDebug) }

// due reports whether a warning is to be given, and how often it was not since the
// last time. The clock has a monotonic reading: it does not matter how it is set.
func (r *reporter) due(kind string, host netip.Addr) (silent int, ok bool) {
	now := time.Now()
	k := reportKey{kind, host}
	last := r.seen[k]
	if last != nil && now.Sub(last.at) < reportEvery {
		last.silent++
		return 0, false
	}
	of := r.kinds[kind]
	switch {
	case of == nil:
		if len(r.kinds) >= maxReports {
			clear(r.kinds)
		}
		of = &reports{since: now}
		r.kinds[kind] = of
	case now.Sub(of.since) >= reportsTime:
		of.since, of.written = now, 0
	case of.written >= reportsOfKind:
		of.withheld++
		return 0, false
	}
	of.written++
	if last != nil {
		silent = last.silent
	} else if len(r.seen) >= maxReports {
		clear(r.seen)
	}
	r.seen[k] = &reported{at: now}
	return silent, true
}

// warn reports whether it has written the warning. The debug log is told each time.
func (r *reporter) warn(kind string, host netip.Addr, msg string, args ...any) bool {
	silent, ok := r.due(kind, host)
	if !ok {
		if debugs(r.access) {
			r.access.Debug(msg, append([]any{"host", host}, args...)...)
		}
		return false
	}
	args = append([]any{"host", host}, args...)
	if silent > 0 {
		args = append(args, "times since the last of these lines", silent)
	}
	if of := r.kinds[kind]; of.withheld > 0 {
		args = append(args, "others that were not written", of.withheld)
		of.withheld = 0
	}
	r.log.Warn(msg, args...)
	return true
}

func (r *reporter) info(msg string, args ...any) { r.log.Info(msg, args...) }

// kernel reports what the kernel refused: each cause once, by the first change
// that it hit.
func (r *reporter) kernel(err error) {
	if streams, ok := err.(*StreamError); ok {
		err = streams.Err
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			r.kernel(one)
		}
		return
	}
	cause := err
	for next := err; next != nil; next = errors.Unwrap(next) {
		cause = next
	}
	if _, ok := r.due("kernel: "+cause.Error(), netip.Addr{}); ok {
		r.log.Error("the kernel refused a change", "error", err)
	}
}

// text makes a part of a message fit for a log line: control characters are
// escaped, and what is long is cut.
func (r *reporter) text(b []byte) string {
	if len(b) > 128 {
		b = b[:128]
	}
	q := strconv.QuoteToASCII(string(b))
	return q[1 : len(q)-1]
}
