package proxy

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/dchest/siphash"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

const (
	// maxPending bounds the requests of all calls that the journal has because they are
	// not answered yet, in bytes; those from outside may take half of it. A call beyond
	// that does not outlive the process until its caller repeats the INVITE.
	maxPending = 4 << 20

	// maxSpent bounds the places of one such call that are not tried again.
	maxSpent = 64
)

// pending are the INVITEs that wait for their answer. The next process is given them, and
// sends them on once more: since it makes the same branches of them, phones that ring take
// that for a repetition (RFC 3261 section 17.2.1).
type pending struct {
	relays map[uint64]*relay // by their key in the journal
	size   int               // of their requests, in bytes
	left   []*relay          // by an earlier process, until Resume
}

// inviteKey is that of a call's record.
func (r *relay) inviteKey() uint64 {
	m := &r.msg
	text := r.from.Remote.Addr().AppendTo(r.proxy.hashed[:0])
	text = append(append(text, ' '), m.Bytes(m.Via.SentBy)...)
	text = append(append(text, ' '), m.Bytes(m.Via.Branch)...)
	r.proxy.hashed = text
	secret := &r.proxy.dialogs.secret
	return siphash.Hash(secret[1], secret[0], text)
}

// await has the journal know of an INVITE before it is sent on. One of RFC 2543 has
// nothing that would tell its repetition.
func (r *relay) await() {
	p := r.proxy
	if r.key != 0 || p.dialogs.journal == nil || r.msg.Method != sipmsg.MethodInvite || r.server == nil || !r.server.Open() ||
		!bytes.HasPrefix(r.msg.Bytes(r.msg.Via.Branch), []byte(cookie)) {
		return
	}
	most, key := maxPending, r.inviteKey()
	if r.face.Side == Outside {
		most /= 2
	}
	if p.pending.size+len(r.msg.Raw) > most || len(r.msg.Raw) > longestText || p.pending.relays[key] != nil || key == 0 {
		return
	}
	if r.began.IsZero() {
		r.began = time.Now()
	}
	r.key = key
	if p.pending.relays == nil {
		p.pending.relays = make(map[uint64]*relay)
	}
	p.pending.relays[key] = r
	p.pending.size += len(r.msg.Raw)
	r.note()
}

// note brings the journal to what the call is.
func (r *relay) note() {
	if j := r.proxy.dialogs.journal; r.key != 0 && j != nil {
		r.put()
		_ = j.Flush()
	}
}

func (r *relay) put() {
	d := &r.proxy.dialogs
	b := append(d.record[:0], recordInvite)
	b = binary.LittleEndian.AppendUint64(b, d.clock(r.began))
	var flags byte
	if r.from.Kind == transport.TCP {
		flags |= 1
	}
	if r.cancelled {
		flags |= 2
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.from.Interface))
	for _, ep := range []netip.AddrPort{r.from.Local, r.from.Remote} {
		text, _ := ep.MarshalBinary() // it has no errors
		b = appendText(b, text)
	}
	var spent []byte
	for _, n := range r.spent[:min(len(r.spent), maxSpent)] {
		spent = binary.LittleEndian.AppendUint64(spent, n)
	}
	b = appendText(b, spent)
	reasons := r.reasons
	if len(reasons) > longestText {
		reasons = nil
	}
	b = appendText(b, reasons)
	d.record = appendText(b, r.msg.Raw)
	d.journal.Put(r.key, d.record)
}

// settled takes a call that has its answer out of the journal, after that was sent: who
// has it twice is better off than who never hears of it.
func (r *relay) settled() {
	p := r.proxy
	if r.key == 0 {
		return
	}
	delete(p.pending.relays, r.key)
	p.pending.size -= len(r.msg.Raw)
	if j := p.dialogs.journal; j != nil {
		j.Delete(r.key)
		_ = j.Flush()
	}
	r.key = 0
}

// readInvite is nil for what is no call that waits for its answer, or has done so for too
// long: whoever was called might be rung up for a caller who has gone.
func readInvite(b []byte, shift time.Duration) *relay {
	if len(b) < 13 {
		return nil
	}
	r := &relay{began: time.Unix(0, int64(binary.LittleEndian.Uint64(b))).Add(shift)}
	r.began = time.Now().Add(-max(time.Since(r.began), 0)) // by the monotonic clock
	flags := b[8]
	r.from.Interface = int(binary.LittleEndian.Uint32(b[9:]))
	b = b[13:]
	var texts [5][]byte
	for i := range texts {
		if len(b) < 2 {
			return nil
		}
		n := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; n > len(b) {
			return nil
		}
		texts[i], b = b[:n], b[n:]
	}
	if len(b) > 0 || len(texts[2])%8 != 0 || r.from.Local.UnmarshalBinary(texts[0]) != nil || r.from.Remote.UnmarshalBinary(texts[1]) != nil {
		return nil
	}
	if flags&1 != 0 {
		r.from.Kind = transport.TCP
	}
	r.cancelled = flags&2 != 0
	for n := texts[2]; len(n) > 0; n = n[8:] {
		r.spent = append(r.spent, binary.LittleEndian.Uint64(n))
	}
	r.reasons = bytes.Clone(texts[3])
	if r.msg.Index(bytes.Clone(texts[4])) != nil {
		return nil
	}
	return r
}

// Resume sends the calls on that an earlier process has left without an answer, and
// returns how many there are. It comes when messages can be sent.
func (p *Proxy) Resume() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.pending.left
	p.pending.left = nil
	for _, r := range left {
		p.resume(r)
	}
	return len(left)
}

// resume has a message that makes the proxy panic do so once only.
func (p *Proxy) resume(r *relay) {
	defer p.survive()
	p.resuming = r
	defer func() { p.resuming = nil }()
	_ = p.layer.Arrived(transport.Arrival{Hop: r.from, Data: bytes.Clone(r.msg.Raw)})
}

// pendingKeys are in the order in which calls began.
func (p *Proxy) pendingKeys() []uint64 {
	return slices.SortedFunc(maps.Keys(p.pending.relays), func(a, b uint64) int {
		return p.pending.relays[a].began.Compare(p.pending.relays[b].began)
	})
}
