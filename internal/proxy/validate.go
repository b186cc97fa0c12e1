package proxy

import (
	"bytes"
	"strconv"

	"sipnatd/sipmsg"
)

// allowed are the methods that are known here, for those who ask.
const allowed = "Allow: INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS, PRACK, UPDATE, SUBSCRIBE, NOTIFY, PUBLISH, INFO, REFER, MESSAGE\r\n"

// validate judges the request by RFC 3261 section 16.3, and answers it where it can
// not go on.
func (r *relay) validate() bool {
	m := &r.msg
	if m.Method == sipmsg.MethodRegister && r.face.Side == Outside {
		r.refuse(403, "")
		return false
	}
	if m.RequestURI.Scheme != sipmsg.SchemeSIP {
		r.refuse(416, "") // sips, too: there is no TLS here
		return false
	}
	if h, ok := m.Find(sipmsg.HdrMaxForwards); ok {
		n, err := strconv.Atoi(string(m.Bytes(h.Value)))
		switch {
		case err != nil || n < 0:
			r.refuse(400, "Bad Max-Forwards")
			return false
		case n == 0 && m.Method == sipmsg.MethodOptions:
			r.options()
			return false
		case n == 0:
			r.refuse(483, "")
			return false
		}
	}
	r.hash = r.loopHash()
	if r.looped() {
		r.proxy.stats.Loops++
		r.refuse(482, "")
		return false
	}
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrOther && sipmsg.EqualFold(m.Bytes(h.Name), "proxy-require") {
			unsupported := append([]byte("Unsupported: "), bytes.TrimSpace(m.Bytes(h.Value))...)
			r.respond(Answer{Status: 420, Headers: append(unsupported, "\r\n"...)})
			return false
		}
	}
	return true
}

// options answers an OPTIONS to the proxy itself (section 11).
func (r *relay) options() {
	r.respond(Answer{Status: 200, Headers: []byte(allowed + "Accept: application/sdp\r\nAccept-Encoding: identity\r\nAccept-Language: en\r\n")})
}
