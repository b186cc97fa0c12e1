package dialplan

import (
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	"sipnatd/sipmsg"
)

// What is remembered of calls.
const (
	maxCalls   = 4096
	maxText    = 512              // bytes of each URI
	maxRinging = 10 * time.Minute // without an answer
	maxCall    = 24 * time.Hour   // without an end

	// maxNowhere is how many calls that went nowhere are told of in a minute: a scanner
	// has any number of them.
	maxNowhere = 10
)

// calls is the log of calls: a line when one begins, and one when it has ended.
type calls struct {
	log  *slog.Logger
	now  func() time.Time
	list map[string]*call // by Call-ID
	next time.Time        // of the next look for what was forgotten

	nowhere int       // calls that were told of
	since   time.Time // since then
}

type call struct {
	from, to, called string
	begun, answered  time.Time
}

func (c *calls) init(log *slog.Logger, now func() time.Time) {
	c.log, c.now = log, now
	c.list = make(map[string]*call)
}

// Log implements [proxy.Dialplan].
func (p *Plan) Log(m *sipmsg.Message, from, to netip.AddrPort, status int) {
	c := &p.calls
	now := c.now()
	c.expire(now)
	id := text(m, m.CallID)
	known := c.list[id]
	switch {
	case m.Method == sipmsg.MethodInvite && status == 0 && m.ToTag.Empty() && known == nil && len(c.list) < maxCalls:
		known = newCall(m, now)
		c.list[id] = known
		c.log.Info("call", "from", known.from, "to", known.to, "called", known.called, "caller", from, "callee", to, "call", id)
	case m.Method == sipmsg.MethodInvite && status >= 300 && status != 401 && status != 407 && m.ToTag.Empty() && known == nil:
		if now.Sub(c.since) >= time.Minute {
			c.nowhere, c.since = 0, now
		}
		if c.nowhere++; c.nowhere <= maxNowhere {
			c.end(id, newCall(m, now), strconv.Itoa(status), now)
		}
	case known == nil:
	case m.Method == sipmsg.MethodInvite && m.ToTag.Empty() && status >= 200 && status < 300:
		if known.answered.IsZero() {
			known.answered = now
		}
	case m.Method == sipmsg.MethodInvite && m.ToTag.Empty() && status >= 300:
		// A challenge does not end it: the phone asks again with the same Call-ID.
		if known.answered.IsZero() && status != 401 && status != 407 {
			c.end(id, known, strconv.Itoa(status), now)
		}
	case m.Method == sipmsg.MethodBye && status == 0:
		c.end(id, known, "answered", now)
	}
}

func newCall(m *sipmsg.Message, now time.Time) *call {
	return &call{from: text(m, m.From.URI.All), to: text(m, m.To.URI.All), called: text(m, m.RequestURI.All), begun: now}
}

// text is what is remembered of a part of a message, and logged.
func text(m *sipmsg.Message, s sipmsg.Span) string {
	s.Hi = min(s.Hi, s.Lo+maxText)
	return string(m.Bytes(s))
}

func (c *calls) end(id string, k *call, result string, now time.Time) {
	delete(c.list, id)
	var duration time.Duration
	if !k.answered.IsZero() {
		duration = now.Sub(k.answered).Round(time.Second)
	}
	c.log.Info("call has ended", "from", k.from, "to", k.to, "called", k.called, "result", result, "duration", duration, "call", id)
}

// expire ends, now and then, calls whose end nobody has told.
func (c *calls) expire(now time.Time) {
	if now.Before(c.next) {
		return
	}
	c.next = now.Add(time.Minute)
	for id, k := range c.list {
		switch {
		case k.answered.IsZero() && now.Sub(k.begun) > maxRinging:
			c.end(id, k, "no answer", now)
		case now.Sub(k.begun) > maxCall:
			c.end(id, k, "no end", now)
		}
	}
}
