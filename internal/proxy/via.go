package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"math/rand/v2"
	"strconv"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// A branch is the cookie, 16 digits that no other one has, and 16 digits that are the
// same for the same request if it comes back.
const (
	cookie    = "z9hG4bK"
	branchLen = len(cookie) + 32
)

// loopHash is the same whenever a request with the same fate comes: what the proxy
// judges by is in it, what changes on the way (Via, Max-Forwards) is not (section
// 16.6, item 8, and RFC 5393 section 4.2).
func (r *relay) loopHash() uint64 {
	m := &r.msg
	var h maphash.Hash
	h.SetSeed(r.proxy.seed)
	part := func(s sipmsg.Span) {
		_, _ = h.Write(m.Bytes(s)) // cannot fail
		_ = h.WriteByte(0)
	}
	for _, s := range []sipmsg.Span{m.RequestURI.All, m.CallID, m.FromTag, m.ToTag, m.CSeqMethodName} {
		part(s)
	}
	_, _ = h.WriteString(strconv.FormatUint(uint64(m.CSeq), 10))
	_ = h.WriteByte(byte(r.face.Side))
	for _, x := range m.Headers {
		if x.Kind == sipmsg.HdrRoute || x.Kind == sipmsg.HdrProxyAuthorization {
			part(x.Value)
		}
	}
	return h.Sum64()
}

// looped reports whether one of the Vias is ours, of the same request.
func (r *relay) looped() bool {
	m := &r.msg
	want := hash16(r.hash)
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrVia {
			continue
		}
		for it := m.Vias(h); ; {
			v, ok := it.Next()
			if !ok {
				break
			}
			b := m.Bytes(v.Branch)
			if len(b) == branchLen && string(b[branchLen-16:]) == string(want[:]) {
				return true
			}
		}
	}
	return false
}

func hash16(n uint64) (text [16]byte) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	hex.Encode(text[:], b[:])
	return text
}

// unique returns what makes a branch one that no other request has. Without a
// transaction, a request that comes again must get the same again (section 16.11).
func (r *relay) unique() uint64 {
	if r.server != nil {
		return rand.Uint64()
	}
	var h maphash.Hash
	h.SetSeed(r.proxy.seed)
	_, _ = h.Write(r.msg.Bytes(r.msg.Via.SentBy)) // cannot fail
	_ = h.WriteByte(0)
	_, _ = h.Write(r.msg.Bytes(r.msg.Via.Branch))
	return h.Sum64()
}

// appendVia appends our Via header line for a request that goes from a face over a
// transport.
func (r *relay) appendVia(dst []byte, f Face, kind transport.Kind) []byte {
	dst = append(append(dst, "Via: SIP/2.0/"...), kind.String()...)
	dst = append(dst, ' ')
	dst = sipmsg.AppendHostPort(dst, f.Named.Addr(), int(f.Named.Port()))
	dst = append(append(dst, ";branch="...), cookie...)
	unique, hash := hash16(r.unique()), hash16(r.hash)
	dst = append(append(dst, unique[:]...), hash[:]...)
	cfg := &r.proxy.cfg
	if f.Side == Inside && cfg.RportInside || f.Side == Outside && cfg.RportOutside {
		dst = append(dst, ";rport"...)
	}
	return append(dst, "\r\n"...)
}

// appendRoute appends the URI under which dialogs come back to a face, in angle
// brackets. The token, if there is one, is that of the phone.
func appendRoute(dst []byte, f Face, kind transport.Kind, token string) []byte {
	dst = append(dst, "<sip:"...)
	dst = sipmsg.AppendHostPort(dst, f.Named.Addr(), int(f.Named.Port()))
	if kind == transport.TCP {
		dst = append(dst, ";transport=tcp"...)
	}
	if token != "" {
		dst = append(append(dst, ";"+lineParam+"="...), token...)
	}
	return append(dst, ";lr>"...)
}
