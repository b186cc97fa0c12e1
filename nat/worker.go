package nat

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sipnatd/sipmsg"
)

// Packet is a SIP message on its way across the firewall. It is a UDP datagram that
// is forwarded between an inside and an outside interface, unless Proxied or Stream
// say otherwise, with the addresses that it has in the forward hook: an outbound one
// still has its inside source, an inbound one already has its inside destination.
type Packet struct {
	Outbound bool // inside to outside
	Src, Dst netip.AddrPort
	Public   netip.Addr // the outside interface's address
	Payload  []byte

	// Proxied says that the message does not pass the firewall, but goes through
	// its proxy, by sockets of its own. Src and Dst are then the phone's and the far
	// party's signalling endpoints, and only what belongs to media is done: SDP
	// gets its public or inside form, calls are followed, streams opened and closed.
	// There is no binding, and no header is changed but Content-Length.
	//
	// The payload must have no Via of the proxy's own: requests and responses are
	// matched by the topmost Via, and the phone's endpoint. The answers may be all
	// that come or only those that are sent on; a request that comes again after a
	// failure, as one for the next server, makes its offer anew.
	Proxied bool

	// Stream says that the message came over a TCP connection which the daemon has
	// joined to one of its own: Src and Dst are the phone's endpoint and the far
	// party's, Public and PublicPort the endpoint that the daemon's connection has
	// outside. No two connections have the same one at a time; when it ends,
	// [Engine.Disconnected] must be told.
	Stream     bool
	PublicPort uint16
}

// Worker handles packets for one goroutine. Its buffers are reused: a message
// that opens nothing new is handled without allocation.
type Worker struct {
	engine *Engine
	msg    sipmsg.Message
	sdp    sipmsg.SDP
	edits  sipmsg.Edits
	bodies []sipmsg.Span
	out    []byte
	text   []byte // one replacement at a time

	now         time.Time
	inside, far netip.AddrPort // the packet's endpoints
	public      netip.Addr
	binding     *binding     // of the inside endpoint, nil where there is none
	proxied     bool         // the inside endpoint needs none
	holds       []hold       // the mappings that SDP from inside names
	relays      []netip.Addr // hosts that relay to the sender of SDP from inside
	farMedia    farMedia     // what SDP from outside says
	held        bool         // SDP from inside puts the media on hold
	lines       []mediaLine
	bodyEdited  bool
	tracked     bool   // its SDP may open streams
	refusing    bool   // its SDP should open streams, and a limit forbids it
	limited     bool   // its call or transaction could not be remembered
	unopened    bool   // the kernel has not taken its streams: there will be no new ones
	carries     bool   // SDP from inside has a stream that is not refused
	refusal     string // why one is
	noMedia     string // why the request can have no media at all
	scarce      int    // so many public ports in a row there are not; 0: not known
	contacts    int    // bindings that it has asked for by its Contacts
}

// NewWorker returns a worker of the engine.
func (e *Engine) NewWorker() *Worker { return &Worker{engine: e} }

// Handle decides about a packet. It returns the payload to send on, which is
// the worker's until its next call, or nil where the packet goes on as it is.
// Everything that the message opens is in the kernel when it returns.
func (w *Worker) Handle(p *Packet) []byte {
	e := w.engine
	if !debugs(e.log.traffic) {
		return w.handle(p)
	}
	e.traffic("received", p, p.Payload)
	out := w.handle(p)
	if out != nil {
		e.traffic("sent on", p, out)
	} else {
		e.traffic("sent on as it is", p, nil)
	}
	return out
}

func (w *Worker) handle(p *Packet) []byte {
	e := w.engine
	if err := w.msg.Index(p.Payload); err != nil {
		e.refuse(p, err)
		return nil
	}
	w.bodies = w.msg.SDPBodies(w.bodies[:0])
	w.public, w.proxied, w.unopened = p.Public, p.Proxied, false
	changed := w.decide(p)
	if !changed {
		return nil
	}
	out, err := w.edits.Splice(w.out[:0])
	if err != nil {
		e.mu.Lock()
		e.log.warn("splice", w.inside.Addr(), "a message was passed on as it was: its parts overlap", "error", err)
		e.mu.Unlock()
		return nil
	}
	w.out = out
	return out
}

// served reports whether the inside party can have calls.
func (w *Worker) served() bool { return w.binding != nil || w.proxied }

// decide collects the edits that the message needs, and brings the kernel to
// what it asks for. The lock is given back even by a panic, which costs the one
// packet and not all that follow.
func (w *Worker) decide(p *Packet) (changed bool) {
	e := w.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	w.now = e.now()
	e.stats.Messages++
	w.inside, w.far = p.Dst, p.Src
	if p.Outbound {
		w.inside, w.far = p.Src, p.Dst
	}
	e.unopened = e.unopened[:0]
	e.edit(w, p)
	e.commit(w.now)
	if len(e.unopened) > 0 {
		// The message must not announce what leads nowhere. It is handled as if it came
		// once more, and got no port this time.
		e.closeUnopened()
		w.unopened = true
		e.edit(w, p)
		e.commit(w.now)
	}
	changed = w.edits.Len() > 0
	if changed {
		e.stats.Rewritten++
	}
	return changed
}

// edit collects the edits that the message needs, and what it asks of the kernel.
func (e *Engine) edit(w *Worker, p *Packet) {
	w.edits.Reset(p.Payload)
	w.binding = nil
	w.holds = w.holds[:0]
	w.relays = w.relays[:0]
	w.farMedia.reset()
	w.held, w.bodyEdited, w.limited, w.carries = false, false, false, false
	w.refusal, w.noMedia = "", ""
	w.scarce, w.contacts = 0, 0
	switch {
	case p.Proxied:
		e.proxied(w, p.Outbound)
	case p.Outbound:
		e.outbound(w, p)
	default:
		e.inbound(w, p)
	}
	e.refuseMute(w, p.Outbound)
	w.edits.FixContentLength(&w.msg)
	if w.bodyEdited {
		e.warnSigned(w)
	}
	e.trace(w, p)
}

// refuse counts what is not a SIP message. It passes as it is and opens nothing.
func (e *Engine) refuse(p *Packet, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	reason, _ := err.(sipmsg.Reason) // Index returns no other errors
	e.stats.NotSIP[reason]++
	if reason == sipmsg.ErrKeepAlive {
		e.stats.KeepAlives++
		if b := e.bindings[p.Src]; b != nil && p.Outbound {
			b.lastSent = e.now()
			e.extend(b, b.lastSent)
			e.commit(b.lastSent)
		}
		return
	}
	host := p.Dst.Addr()
	if p.Outbound {
		host = p.Src.Addr()
	}
	e.log.warn("notsip", host, "a packet on a SIP port is not a SIP message: it passed untouched and opened nothing",
		"reason", err, "from", p.Src, "to", p.Dst)
}

// warnSDP tells of a session description that is none, or has too many parts.
func (e *Engine) warnSDP(w *Worker, err error) {
	e.log.warn("sdp", w.inside.Addr(), "a session description is not understood: it passed as it is and opened nothing",
		"reason", err, "call", e.log.text(w.msg.Bytes(w.msg.CallID)), "far", w.far)
}

// warnSigned tells of a body that was changed although its sender protects it:
// digest authentication with qop auth-int (RFC 7616 section 3.4.3) and
// S/MIME (RFC 3261 section 23) cannot survive a NAT.
func (e *Engine) warnSigned(w *Worker) {
	m := &w.msg
	signed := bytes.Contains(m.Bytes(m.ContentType), []byte("multipart/signed"))
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrAuthorization || h.Kind == sipmsg.HdrProxyAuthorization {
			signed = signed || bytes.Contains(m.Bytes(h.Value), []byte("auth-int"))
		}
	}
	if signed {
		e.log.warn("signed", w.far.Addr(), "a signed body was changed, which its receiver will refuse: auth-int and S/MIME do not survive NAT",
			"call", e.log.text(m.Bytes(m.CallID)))
	}
}

// trace tells the debug log of a message, and what is replaced in it by what, or
// why nothing is. It costs nothing while its debug messages are off.
func (e *Engine) trace(w *Worker, p *Packet) {
	if !debugs(e.log.sip) {
		return
	}
	m := &w.msg
	what := string(m.Bytes(m.MethodName))
	if !m.Request {
		what = fmt.Sprintf("%d %s", m.Status, m.Bytes(m.CSeqMethodName))
	}
	var changes []string
	for span, with := range w.edits.All() {
		changes = append(changes, fmt.Sprintf("%s > %s", e.log.text(m.Bytes(span)), e.log.text(with)))
	}
	note := ""
	switch {
	case !w.served() && !p.Outbound:
		note = "nobody inside has this endpoint: the message passes as it is"
	case !w.served():
		note = "its sender gets no binding"
	case w.limited:
		note = "its call or transaction is not remembered"
	case len(changes) == 0:
		note = "nothing in it has to change"
	}
	e.log.sip.Debug("message", "what", e.log.text([]byte(what)), "from", p.Src, "to", p.Dst,
		"call", e.log.text(m.Bytes(m.CallID)), "changes", strings.Join(changes, ", "), "note", note)
}
