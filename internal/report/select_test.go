package report

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/config"
)

// written returns the words of the messages that a log has written.
func written(text string) []string {
	var words []string
	for line := range strings.Lines(text) {
		_, word, _ := strings.Cut(line, "msg=")
		word, _, _ = strings.Cut(strings.TrimSpace(word), " ")
		words = append(words, word)
	}
	return words
}

// Debug messages are selected by their class, the others by silence_log; in the
// background silence_log counts for debug messages, too.
func TestSelection(t *testing.T) {
	for _, c := range []struct {
		debug      config.DebugMask
		silence    int
		background bool
		want       string
	}{
		{0, 1, false, "info warn error"},
		{config.DebugAll, 1, false, "sip rtp plain info warn error"},
		{config.DebugSIP, 1, false, "sip info warn error"},
		{config.DebugRTP | config.DebugNoSpec, 1, false, "rtp plain info warn error"},
		{config.DebugAuth, 0, false, "info warn error"},
		{config.DebugAll, 1, true, "info warn error"},
		{config.DebugSIP, 0, true, "sip info warn error"},
		{config.DebugAll, 2, true, "warn error"},
		{0, 3, true, "error"},
		{0, 4, true, ""},
		{0, 2, false, "warn error"},
		{config.DebugSIP, 4, false, "sip"},
	} {
		var out bytes.Buffer
		log := newLog(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}), Selection{config.DebugAll, 0}, c.background)
		sip, rtp := log.With("class", "sip"), log.With("class", "sip").With("call", 1, "class", "rtp")
		log.Select(Selection{c.debug, c.silence}) // counts for loggers that were made before
		sip.Debug("sip")
		rtp.Debug("rtp")
		log.Debug("plain")
		log.Info("info")
		sip.Warn("warn")
		rtp.Error("error")
		if got := strings.Join(written(out.String()), " "); got != c.want {
			t.Errorf("debug %v, silence %d, background %v: %q, want %q", c.debug, c.silence, c.background, got, c.want)
		}
	}
}

// A debug message shows its class, others have none, and within a group the name
// is free.
func TestClassIsShown(t *testing.T) {
	var out bytes.Buffer
	plain := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	log := newLog(slog.NewTextHandler(&out, plain), Selection{Debug: config.DebugAll}, false)
	sip := log.With("class", "sip", "queue", 7)
	sip.Debug("one", "n", 1)
	sip.Warn("two")
	log.Debug("three")
	log.WithGroup("g").With("class", "of its own").Info("four")
	want := []string{
		"level=DEBUG msg=one queue=7 class=sip n=1",
		"level=WARN msg=two queue=7",
		"level=DEBUG msg=three class=nospec",
		`level=INFO msg=four g.class="of its own"`,
	}
	if got := strings.Split(strings.TrimSpace(out.String()), "\n"); !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", fmt.Sprint(got), fmt.Sprint(want))
	}
}

// What is not selected costs no memory.
func TestDisabledAllocatesNothing(t *testing.T) {
	var out bytes.Buffer
	log := newLog(slog.NewTextHandler(&out, nil), Selection{Debug: config.DebugReg, Silence: 1}, false)
	sip := log.With("class", "sip")
	if n := testing.AllocsPerRun(100, func() { sip.Debug("message", "what", "INVITE") }); n != 0 || out.Len() > 0 {
		t.Errorf("%v allocations, %q", n, &out)
	}
}
