package nat

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"time"

	"sipnatd/sipmsg"
)

// A call whose every stream is refused must not come about: both parties would
// believe in it, and hear nothing. An m-line with port 0 alone does not keep the far
// party from accepting (RFC 3264 section 6). So the request asks, besides, for an
// extension that nobody has: whoever gets it must refuse it with 420 before anything
// rings (RFC 3261 section 8.2.2.3), and a session that it would have changed stays as
// it is (section 14.1). On the way back 420 becomes what it means: 488, with a Warning
// (section 20.43) that tells where to look.
//
// Nothing is answered in somebody else's name that way: the parties' transactions go
// on as they always do, and there is nothing to remember.

// noMedia is the option tag of the extension that nobody has.
const noMedia = "no-media-port"

var (
	requireNoMedia = []byte("Require: " + noMedia + "\r\n")
	notAcceptable  = []byte("SIP/2.0 488 Not Acceptable Here\r\n")
)

// NoMediaWarning is the header line of the answer to a request that was refused
// because the firewall opens none of its streams.
const NoMediaWarning = "Warning: 399 sipnatd \"the firewall opens no port for the media of this call, its log says why\"\r\n"

// Why a stream is refused.
const (
	reasonLimit   = "too many calls, transactions or bindings are open"
	reasonStreams = "too many streams are open"
	reasonPorts   = "no public port is left (rtp_port_low and rtp_port_high)"
	reasonKernel  = "the kernel does not take it, the error before says why"
)

// StreamError is in the error of [Kernel.Apply] where the streams that the changes open
// would carry nothing: none of them counts as open then.
type StreamError struct{ Err error }

func (s *StreamError) Error() string { return s.Err.Error() }
func (s *StreamError) Unwrap() error { return s.Err }

// NoMedia returns why the request that was handled last can have no media at all,
// though it asks for some; it is empty for all others. It matters to a proxy alone,
// which has to refuse such a request itself, by 488 with [NoMediaWarning]; see
// Packet.Proxied.
func (w *Worker) NoMedia() string { return w.noMedia }

// refuseMute has a request refused that would make a call, or a session, without any
// media, and gives the answer to an earlier one its meaning.
func (e *Engine) refuseMute(w *Worker, outbound bool) {
	m := &w.msg
	switch {
	case !m.Request:
		if m.Status == 420 && !w.proxied {
			w.explainRefusal()
		}
		return
	case m.Method != sipmsg.MethodInvite && m.Method != sipmsg.MethodUpdate:
		return // nobody can refuse an ACK
	case outbound:
		if w.carries {
			return
		}
		w.noMedia = w.refusal
	default:
		w.noMedia = e.shortage(w)
	}
	if w.noMedia == "" {
		return
	}
	e.stats.CallsRefused++
	e.log.warn("no media "+w.noMedia, w.inside.Addr(), "a call is refused, since it could have no media: "+w.noMedia,
		"call", e.log.text(m.Bytes(m.CallID)), "from", e.log.text(m.Bytes(m.From.URI.All)), "to", e.log.text(m.Bytes(m.To.URI.All)))
	if !w.proxied {
		if h, ok := m.Find(sipmsg.HdrCallID); ok {
			w.edits.Insert(h, requireNoMedia)
		}
	}
}

// explainRefusal makes 488 of a 420 that was asked for.
func (w *Worker) explainRefusal() {
	m := &w.msg
	for _, h := range m.Headers {
		if sipmsg.EqualFold(m.Bytes(h.Name), "unsupported") && bytes.Contains(m.Bytes(h.Value), []byte(noMedia)) {
			w.edits.Replace(sipmsg.Span{Hi: m.Headers[0].Line.Lo}, notAcceptable)
			w.edits.Replace(h.Line, []byte(NoMediaWarning))
			return
		}
	}
}

// fewPorts is from how many free ports on it is worth while to look for two that are
// neighbours.
const fewPorts = 64

// shortage returns why a call from outside could have no media, while nothing rings yet.
// When the phone has answered it is too late: the caller would pay for silence.
func (e *Engine) shortage(w *Worker) string {
	m := &w.msg
	if m.Method != sipmsg.MethodInvite || !m.ToTag.Empty() || !w.served() {
		return ""
	}
	if len(w.bodies) > 0 && !slices.ContainsFunc(w.sdp.Media, func(l sipmsg.Media) bool { return l.UDP && l.PortNum != 0 }) {
		return ""
	}
	if w.limited {
		return reasonLimit
	}
	if e.held(w.inside.Addr()).mappings+2 > e.cfg.Limits.MappingsPerHost {
		e.stats.LimitRefusals++
		return reasonStreams
	}
	if p := e.pool(w.publicAddr()); p.free < fewPorts && p.find(2, func(port uint16) bool { return e.usable(netip.AddrPortFrom(w.publicAddr(), port)) }) == 0 {
		e.stats.PortsExhausted++
		return reasonPorts
	}
	return ""
}

// missed notes which streams the kernel has not opened.
func (e *Engine) missed(err error) {
	if refused := (*StreamError)(nil); !errors.As(err, &refused) {
		return
	}
	for i := range e.changes {
		if c := &e.changes[i]; c.Verb == OpenStream {
			if m := e.mappings[c.Inside]; m != nil && m.public == c.Public {
				e.unopened = append(e.unopened, m)
			}
		}
	}
}

// closeUnopened closes the streams that the kernel has not opened.
func (e *Engine) closeUnopened() {
	for i, m := range e.unopened {
		e.unopened[i] = nil
		for _, s := range m.sessions {
			s.holds = slices.DeleteFunc(s.holds, func(h hold) bool { return h.mapping == m })
			e.touchAll(s.call)
		}
		m.sessions = nil
		m.tm.deadline = time.Time{}
		e.closeMapping(m)
	}
	e.unopened = e.unopened[:0]
}
