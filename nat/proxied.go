package nat

import "sipnatd/sipmsg"

// proxied handles a message whose way across the border the proxy arranges
// (Packet.Proxied): the headers are the proxy's, so all that is done here is
// what SDP asks for. The inside endpoint needs no binding, since signalling goes
// to the proxy's own sockets.
func (e *Engine) proxied(w *Worker, outbound bool) {
	var t *transaction
	if m := w.msg.CSeqMethod; negotiates(m) || m == sipmsg.MethodBye { // no other one has anything that its answer brings back
		t = e.transaction(w, outbound)
	}
	if t != nil && w.msg.Request && t.final >= 300 {
		e.tryAgain(t, w.now)
	}
	c := e.call(w, t, outbound)
	if outbound {
		e.outboundMedia(w, t, c)
	} else {
		e.inboundMedia(w, t, c)
	}
}
