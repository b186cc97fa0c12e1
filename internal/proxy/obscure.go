package proxy

import (
	"bytes"

	"sipnatd/sipmsg"
)

// With obscure_loops the Call-ID of a dialog is another one on the other side of the
// border, so that nobody takes a call that a server sends back to us for a loop. A mark
// in front of it says where the dialog was begun.
const (
	begunInside  = "x-out-"
	begunOutside = "x-in-"
)

// unmarked returns a Call-ID without marks, which is the same on all sides.
func unmarked(callID []byte) []byte {
	for {
		rest := bytes.TrimPrefix(bytes.TrimPrefix(callID, []byte(begunInside)), []byte(begunOutside))
		if len(rest) == len(callID) {
			return rest
		}
		callID = rest
	}
}

// obscure changes the Call-ID of a request that crosses the border.
func (b *branch) obscure(m *sipmsg.Message, e *sipmsg.Edits, way crossing) {
	h, ok := m.Find(sipmsg.HdrCallID)
	if !ok || !b.relay.proxy.cfg.ObscureLoops {
		return
	}
	id := m.Bytes(h.Value)
	var out []byte
	switch {
	case way == outward && bytes.HasPrefix(id, []byte(begunOutside)):
		out = id[len(begunOutside):]
	case way == outward:
		out = append([]byte(begunInside), id...)
		if m.ToTag.Empty() {
			if d := b.relay.proxy.dialogs.remember(b.relay.source(), id, m.Bytes(m.FromTag)); d != nil {
				d.callID = string(id)
				b.relay.proxy.dialogs.save(b.relay.proxy.dialogs.key(id, m.Bytes(m.FromTag)), d)
			}
		}
	case way == homeward && m.ToTag.Empty():
		out = append([]byte(begunOutside), id...)
	case way == homeward:
		d := b.relay.proxy.dialogs.find(id, m.Bytes(m.ToTag))
		if d != nil && d.callID != "" {
			out = []byte(d.callID)
		} else {
			out = append([]byte(begunOutside), id...)
		}
	default:
		return
	}
	e.Replace(h.Value, out)
}
