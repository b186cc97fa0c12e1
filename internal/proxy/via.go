package proxy

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/dchest/siphash"

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
	text := r.proxy.hashed[:0]
	part := func(s sipmsg.Span) { text = append(append(text, m.Bytes(s)...), 0) }
	for _, s := range []sipmsg.Span{m.RequestURI.All, m.CallID, m.FromTag, m.ToTag, m.CSeqMethodName} {
		part(s)
	}
	text = strconv.AppendUint(text, uint64(m.CSeq), 10)
	text = append(text, byte(r.face.Side))
	for _, x := range m.Headers {
		if x.Kind == sipmsg.HdrRoute || x.Kind == sipmsg.HdrProxyAuthorization {
			part(x.Value)
		}
	}
	return r.proxy.hash(text)
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

// makeUnique returns what makes a branch one that no other request has. A request that comes
// again must get the same again where there is no transaction that knows it: because it
// needs none (section 16.11), or because the process that had it has ended. The next hop
// then takes what we send for the repetition that it is, not for a second call (section
// 8.2.2.2).
func (b *branch) makeUnique() uint64 {
	r := b.relay
	via := &r.msg.Via
	if r.server != nil && !bytes.HasPrefix(r.msg.Bytes(via.Branch), []byte(cookie)) {
		return rand.Uint64() // RFC 2543 has nothing that tells repetitions
	}
	text := r.proxy.hashed[:0]
	text = append(append(text, r.msg.Bytes(via.SentBy)...), 0)
	text = append(append(text, r.msg.Bytes(via.Branch)...), 0)
	if r.server != nil {
		text = append(append(text, r.msg.Bytes(r.msg.MethodName)...), 0)
		text = append(r.from.Remote.Addr().AppendTo(text), 0)
		text = append(append(text, b.target.uri...), 0)
		text = b.hop.Remote.AppendTo(append(text, byte(b.hop.Kind)))
	}
	n := r.proxy.hash(text)
	if slices.Contains(r.uniques, n) {
		return rand.Uint64() // the same place twice
	}
	r.uniques = append(r.uniques, n)
	return n
}

// hash is the same for the same text, in the next process, too.
func (p *Proxy) hash(text []byte) uint64 {
	p.hashed = text
	return siphash.Hash(p.dialogs.secret[0], p.dialogs.secret[1], text)
}

// appendVia appends our Via header line for the request of a branch.
func (b *branch) appendVia(dst []byte) []byte {
	r, f := b.relay, b.face
	dst = append(append(dst, "Via: SIP/2.0/"...), b.hop.Kind.String()...)
	dst = append(dst, ' ')
	dst = sipmsg.AppendHostPort(dst, f.Named.Addr(), int(f.Named.Port()))
	dst = append(append(dst, ";branch="...), cookie...)
	b.unique = b.makeUnique()
	unique, hash := hash16(b.unique), hash16(r.hash)
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
