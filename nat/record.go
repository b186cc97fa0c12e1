package nat

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"sipnatd/sipmsg"
)

// The records of the journal. Each begins with its kind; numbers are varints, texts
// and lists have their length in front, times are the engine's own in seconds. A
// reader understands the records of its own recordVersion only: it must change with
// the form of a record, and with the numbers of the methods.
const recordVersion = 1

const (
	recordEngine      = 'e' // version, the key of the hashes, announced addresses
	recordBinding     = 'b'
	recordCall        = 'c' // with its dialogs and their sessions
	recordTransaction = 't' // with its offer, if it is one of a call
)

// writer appends to a record.
type writer []byte

func (w *writer) byte(b byte)     { *w = append(*w, b) }
func (w *writer) number(n uint64) { *w = binary.AppendUvarint(*w, n) }
func (w *writer) fixed(n uint64)  { *w = binary.LittleEndian.AppendUint64(*w, n) }
func (w *writer) text(s string)   { w.number(uint64(len(s))); *w = append(*w, s...) }
func (w *writer) time(t time.Time) {
	if t.IsZero() {
		w.number(0)
		return
	}
	w.number(uint64(max(t.Unix(), 1)))
}

// flags writes up to eight truths.
func (w *writer) flags(list ...bool) {
	var b byte
	for i, f := range list {
		if f {
			b |= 1 << i
		}
	}
	w.byte(b)
}

// addr writes an IPv4 address; any other one becomes the zero Addr.
func (w *writer) addr(a netip.Addr) {
	if !a.Is4() {
		w.byte(0)
		return
	}
	w.byte(1)
	four := a.As4()
	*w = append(*w, four[:]...)
}

func (w *writer) addrs(list []netip.Addr) {
	w.number(uint64(len(list)))
	for _, a := range list {
		w.addr(a)
	}
}

func (w *writer) endpoint(ep netip.AddrPort) {
	w.addr(ep.Addr())
	w.number(uint64(ep.Port()))
}

// reader takes a record apart. After the first error there are only zero values.
type reader struct {
	rest  []byte
	shift time.Duration // to the times of this process
	bad   bool
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.bad = true
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// small reads a number that is at most highest.
func (r *reader) small(highest int) int {
	n := r.number()
	if n > uint64(highest) {
		r.bad = true
		return 0
	}
	return int(n)
}

// length reads the length of a list whose elements have at least one byte each.
func (r *reader) length() int {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) fixed() uint64 {
	if len(r.rest) < 8 {
		r.bad, r.rest = true, nil
		return 0
	}
	n := binary.LittleEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return n
}

func (r *reader) text() string {
	n := r.length()
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

func (r *reader) time() time.Time {
	n := r.number()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(int64(min(n, 1<<40)), 0).Add(r.shift)
}

func (r *reader) flags(list ...*bool) {
	b := r.byte()
	for i, f := range list {
		*f = b&(1<<i) != 0
	}
}

func (r *reader) addr() netip.Addr {
	if r.byte() == 0 {
		return netip.Addr{}
	}
	if len(r.rest) < 4 {
		r.bad, r.rest = true, nil
		return netip.Addr{}
	}
	a := netip.AddrFrom4([4]byte(r.rest))
	r.rest = r.rest[4:]
	return a
}

func (r *reader) addrs() (list []netip.Addr) {
	for range r.length() {
		list = append(list, r.addr())
	}
	return list
}

func (r *reader) endpoint() netip.AddrPort {
	a := r.addr()
	port := r.small(65535)
	if !a.IsValid() || port == 0 {
		r.bad = r.bad || a.IsValid()
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, uint16(port))
}

// place and appendRecord make the engine's own record.
func (e *Engine) place() *saved { return &e.saved }

func (e *Engine) appendRecord(to []byte) []byte {
	w := writer(to)
	w.byte(recordEngine)
	w.number(recordVersion)
	w.fixed(e.secret[0])
	w.fixed(e.secret[1])
	announced := e.formerly
	if a := e.cfg.Announced; a.IsValid() && !slices.Contains(announced, a) { // the next process may announce another
		announced = append(slices.Clip(announced), a)
	}
	w.addrs(announced)
	return w
}

func (b *binding) place() *saved { return &b.saved }

// appendRecord leaves out whom the phone has sent to, and when: the kernel knows the
// first, and the second changes with every message.
func (b *binding) appendRecord(to []byte) []byte {
	w := writer(to)
	w.byte(recordBinding)
	w.endpoint(b.inside)
	w.endpoint(b.public)
	w.endpoint(b.former)
	w.flags(b.forwarded, b.bare)
	w.number(uint64(b.port))
	w.number(uint64(len(b.registrations)))
	for i := range b.registrations {
		r := &b.registrations[i]
		w.addr(r.registrar)
		w.fixed(r.record)
		w.time(r.until)
	}
	return w
}

func (r *reader) readBinding() *binding {
	b := &binding{inside: r.endpoint(), public: r.endpoint(), former: r.endpoint()}
	r.flags(&b.forwarded, &b.bare)
	b.port = uint16(r.small(65535))
	for range r.length() {
		b.registrations = append(b.registrations, registration{r.addr(), r.fixed(), r.time()})
	}
	r.bad = r.bad || b.inside.Port() == 0 || b.public.Port() == 0
	return b
}

func (t *transaction) place() *saved { return &t.saved }

// appendRecord leaves out when the transaction ends: each repetition moves that.
func (t *transaction) appendRecord(to []byte) []byte {
	w := writer(to)
	w.byte(recordTransaction)
	w.fixed(t.key.id)
	w.addr(t.key.inside)
	w.byte(byte(t.key.method))
	w.flags(t.key.outbound, t.offered, t.lateOnly, t.agreed, t.call != nil)
	w.addr(t.peer)
	w.number(uint64(t.cseq))
	w.number(t.serial)
	w.text(t.sentBy)
	w.text(t.from)
	w.text(t.to)
	w.number(uint64(t.final))
	if t.call == nil {
		return w
	}
	w.fixed(t.call.key.id)
	var local, remote uint64
	if t.dialog != nil {
		local, remote = t.dialog.local, t.dialog.remote
	}
	w.fixed(local)
	w.fixed(remote)
	w.session(t.offer)
	w.session(t.previous)
	w.farMedia(t.far)
	return w
}

// transactionRecord is a transaction as its record has it.
type transactionRecord struct {
	transaction   *transaction
	called        bool   // it is one of a call
	call          uint64 // the hash of its Call-ID
	local, remote uint64 // hashes of its dialog's tags, 0: none
	holding       []*session
}

func (r *reader) readTransaction() (rec transactionRecord) {
	t := new(transaction)
	rec.transaction = t
	t.key.id = r.fixed()
	t.key.inside = r.addr()
	t.key.method = sipmsg.Method(r.byte())
	r.flags(&t.key.outbound, &t.offered, &t.lateOnly, &t.agreed, &rec.called)
	t.peer = r.addr()
	t.cseq = uint32(r.number())
	t.serial = r.number()
	t.sentBy, t.from, t.to = r.text(), r.text(), r.text()
	t.final = r.small(999)
	if !rec.called {
		return rec
	}
	rec.call, rec.local, rec.remote = r.fixed(), r.fixed(), r.fixed()
	t.offer, t.previous = r.readSession(&rec.holding), r.readSession(&rec.holding)
	t.far = r.readFarMedia()
	return rec
}

func (c *call) place() *saved { return &c.saved }

func (c *call) appendRecord(to []byte) []byte {
	w := writer(to)
	w.byte(recordCall)
	w.fixed(c.key.id)
	w.addr(c.key.inside)
	w.text(c.id)
	w.text(c.local)
	w.text(c.remote)
	w.time(c.sessionUntil)
	w.addrs(c.peers)
	w.number(uint64(len(c.guests)))
	for _, a := range c.guests {
		w.addr(a)
		w.flags(len(c.bindings) > 0 && slices.Contains(c.bindings[0].peers, a))
	}
	w.number(uint64(len(c.bindings)))
	for _, b := range c.bindings {
		w.endpoint(b.inside)
	}
	w.number(uint64(len(c.dialogs)))
	for _, d := range c.dialogs {
		w.fixed(d.local)
		w.fixed(d.remote)
		w.number(d.latest)
		w.flags(d.confirmed)
		if d.invite != nil {
			w.number(d.invite.serial)
		} else {
			w.number(0)
		}
		w.session(d.session)
	}
	return w
}

// session writes a session, or that there is none, and whether it holds its mappings:
// one that was let go may come back.
func (w *writer) session(s *session) {
	if s == nil {
		w.byte(0)
		return
	}
	w.byte(1)
	w.flags(s.unknown, s.answered, s.held, s.holding())
	w.addrs(s.sources)
	w.addrs(s.relays)
	w.number(uint64(len(s.holds)))
	for i := range s.holds {
		h := &s.holds[i]
		w.endpoint(h.mapping.inside)
		w.endpoint(h.mapping.public)
		w.number(uint64(h.line))
		w.number(uint64(h.pair))
		w.flags(h.rtcp)
		w.endpoint(h.far)
	}
}

// readSession reads a session whose mappings are the record's, with no more than their
// endpoints. One that holds them is added to holding.
func (r *reader) readSession(holding *[]*session) *session {
	if r.byte() == 0 {
		return nil
	}
	s, holds := new(session), false
	r.flags(&s.unknown, &s.answered, &s.held, &holds)
	s.sources, s.relays = r.addrs(), r.addrs()
	for range r.length() {
		h := hold{mapping: &mapping{inside: r.endpoint(), public: r.endpoint()}, line: r.small(1 << 16), pair: r.small(1 << 16)}
		r.flags(&h.rtcp)
		h.far = r.endpoint()
		s.holds = append(s.holds, h)
	}
	if holds {
		*holding = append(*holding, s)
	}
	return s
}

// holding reports whether the session holds its mappings.
func (s *session) holding() bool {
	return slices.ContainsFunc(s.holds, func(h hold) bool { return slices.Contains(h.mapping.sessions, s) })
}

func (w *writer) farMedia(f *farMedia) {
	if f == nil {
		w.byte(0)
		return
	}
	w.byte(1)
	w.flags(f.unknown, f.held, f.nowhere)
	w.addrs(f.sources)
	w.number(uint64(len(f.lines)))
	for i := range f.lines {
		l := &f.lines[i]
		w.endpoint(l.rtp)
		w.endpoint(l.rtcp)
		w.number(uint64(max(l.pairs, 0)))
		w.flags(l.rejected)
	}
}

func (r *reader) readFarMedia() *farMedia {
	if r.byte() == 0 {
		return nil
	}
	f := new(farMedia)
	r.flags(&f.unknown, &f.held, &f.nowhere)
	f.sources = r.addrs()
	for range r.length() {
		l := farLine{rtp: r.endpoint(), rtcp: r.endpoint(), pairs: r.small(65535)}
		r.flags(&l.rejected)
		f.lines = append(f.lines, l)
	}
	return f
}
