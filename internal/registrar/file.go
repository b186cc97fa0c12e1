package registrar

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// The file has a line for each thing it tells, with words between single blanks; words
// that come from messages are quoted as in Go. Each line ends with its own checksum, so
// that a damaged file still tells what is not damaged. Times are those of the clock, in
// seconds since 1970.
//
//	sipnatd registrations 1
//	secret HEX
//	contact UNTIL Q CSEQ TRANSPORT LOCAL REMOTE "USER" "URI" "PARAMETERS" "CALL-ID"
//	line USED TRANSPORT LOCAL REMOTE "URI"
//	account UNTIL REGISTRAR "USER" "HOST"        of the line before it
//	end LINES
const fileTitle = "sipnatd registrations "

const fileVersion = "1"

// fileKind is what a file is.
type fileKind string

const (
	ours    fileKind = ""
	notOurs fileKind = "not ours"
	siproxd fileKind = "siproxd"
	newer   fileKind = "other"
)

func (k fileKind) words() string {
	if k == siproxd {
		return "siproxd's"
	}
	return "of another version of sipnatd"
}

// recognize says what a file is by how it begins. siproxd's has three stars, whether an
// entry is in use, and when it ends.
func recognize(text []byte) fileKind {
	first, _, _ := bytes.Cut(text, []byte{'\n'})
	version, found := bytes.CutPrefix(first, []byte(fileTitle))
	switch {
	case found && string(version) == fileVersion:
		return ours
	case found:
		return newer
	case bytes.HasPrefix(first, []byte("***:")), bytes.HasPrefix(first, []byte("****:")):
		return siproxd
	}
	return notOurs
}

// writer makes lines.
type writer struct {
	text  []byte
	lines int
	begin int       // of the line
	zero  time.Time // of the clock when Registrar.now was 0
}

func (w *writer) word(s string) {
	if len(w.text) > w.begin {
		w.text = append(w.text, ' ')
	}
	w.text = append(w.text, s...)
}

func (w *writer) quoted(b []byte) { w.word(strconv.QuoteToASCII(string(b))) }

func (w *writer) number(n int64) { w.word(strconv.FormatInt(n, 10)) }

func (w *writer) time(d time.Duration) { w.number(w.zero.Add(d).Unix()) }

func (w *writer) hop(h transport.Hop) {
	w.word(h.Kind.String())
	w.word(h.Local.String())
	w.word(h.Remote.String())
}

func (w *writer) end() {
	w.word(fmt.Sprintf("%08x", crc32.ChecksumIEEE(w.text[w.begin:])))
	w.text = append(w.text, '\n')
	w.begin = len(w.text)
	w.lines++
}

// dumpAtOnce is how many things are written while messages wait.
const dumpAtOnce = 128

// dump returns what the file shall tell. Messages are handled meanwhile: each line is
// right by itself.
func (r *Registrar) dump() []byte {
	r.mu.Lock()
	bindings := slices.Clone(r.bindings)
	list := slices.Clone(r.lines.list)
	secret := r.lines.secret
	r.mu.Unlock()
	now := r.now()
	w := &writer{zero: time.Now().Add(-now)}
	w.text = append(w.text, fileTitle+fileVersion+"\n"...)
	w.begin = len(w.text)
	w.secret(secret)
	for part := range slices.Chunk(bindings, dumpAtOnce) {
		r.mu.Lock()
		for _, b := range part {
			if b.index != gone && b.expires > now {
				w.contact(b)
			}
		}
		r.mu.Unlock()
	}
	for part := range slices.Chunk(list, dumpAtOnce) {
		r.mu.Lock()
		for _, l := range part {
			if l.index != gone {
				w.line(l, now)
			}
		}
		r.mu.Unlock()
	}
	w.word("end")
	w.number(int64(w.lines))
	w.end()
	return w.text
}

func (w *writer) secret(s [16]byte) {
	w.word("secret")
	w.word(hex.EncodeToString(s[:]))
	w.end()
}

func (w *writer) contact(b *binding) {
	w.word("contact")
	w.time(b.expires)
	w.number(int64(b.q))
	w.number(int64(b.cseq))
	w.hop(b.hop)
	w.quoted([]byte(b.aor.user))
	w.quoted(b.uri())
	w.quoted(b.params())
	w.quoted(b.callID())
	w.end()
}

func (w *writer) line(l *line, now time.Duration) {
	w.word("line")
	w.time(l.used)
	w.hop(l.hop)
	w.quoted(l.uri)
	w.end()
	for _, a := range l.accounts {
		if a.expires > now {
			w.word("account")
			w.time(a.expires)
			w.word(a.at.String())
			w.quoted([]byte(a.user))
			w.quoted([]byte(a.host))
			w.end()
		}
	}
}

// reader takes lines apart. After the first error there are only zero values.
type reader struct {
	rest string
	zero time.Time
	err  error
}

var errWord = errors.New("a word is missing or wrong")

func (w *reader) word() (s string) {
	s, w.rest, _ = strings.Cut(w.rest, " ")
	if s == "" {
		w.err = cmp.Or(w.err, errWord)
	}
	return s
}

func (w *reader) quoted() []byte {
	prefix, err := strconv.QuotedPrefix(w.rest)
	if err != nil {
		w.err, w.rest = cmp.Or(w.err, errWord), ""
		return nil
	}
	w.rest = strings.TrimPrefix(w.rest[len(prefix):], " ")
	s, err := strconv.Unquote(prefix)
	w.err = cmp.Or(w.err, err)
	return []byte(s)
}

func (w *reader) number(lowest, highest int64) int64 {
	n, err := strconv.ParseInt(w.word(), 10, 64)
	if err == nil && (n < lowest || n > highest) {
		err = errWord
	}
	w.err = cmp.Or(w.err, err)
	return n
}

// time returns a time as Registrar.now has it.
func (w *reader) time() time.Duration {
	return time.Unix(w.number(0, 1<<40), 0).Sub(w.zero)
}

func (w *reader) hop() (h transport.Hop) {
	switch w.word() {
	case transport.UDP.String():
		h.Kind = transport.UDP
	case transport.TCP.String():
		h.Kind = transport.TCP
	default:
		w.err = cmp.Or(w.err, errWord)
	}
	for _, a := range []*netip.AddrPort{&h.Local, &h.Remote} {
		var err error
		*a, err = netip.ParseAddrPort(w.word())
		w.err = cmp.Or(w.err, err)
	}
	if h.Remote.Port() == 0 {
		w.err = cmp.Or(w.err, errWord)
	}
	return h
}

// uri is a quoted SIP URI.
func (w *reader) uri() []byte {
	b := w.quoted()
	u := sipmsg.ParseURI(b)
	if u.Scheme != sipmsg.SchemeSIP || u.Host.Empty() || badURI(b) || len(b) > maxContact {
		w.err = cmp.Or(w.err, errWord)
	}
	return b
}

// restore takes over what a file of ours tells, and says what is damaged. zero is what
// its clock showed when Registrar.now was 0.
func (r *Registrar) restore(text []byte, zero time.Time) (contacts, lines int, damage []string) {
	now := r.now()
	w := reader{zero: zero}
	number, ended := 0, false
	var last *line
	for raw := range bytes.Lines(text) {
		if number++; number == 1 {
			continue // the title
		}
		bad := func(why string) {
			if len(damage) < 5 {
				damage = append(damage, fmt.Sprintf("line %d: %s", number, why))
			}
		}
		body, ok := checked(raw)
		if !ok {
			bad("the checksum is wrong")
			last = nil
			continue
		}
		w.rest, w.err = body, nil
		what := w.word()
		switch what {
		case "secret":
			secret, err := hex.DecodeString(w.word())
			if w.err = cmp.Or(w.err, err); err == nil && len(secret) == len(r.lines.secret) {
				copy(r.lines.secret[:], secret)
			}
		case "contact":
			if r.restoreContact(&w, now) {
				contacts++
			}
		case "line":
			if last = r.restoreLine(&w, now); last != nil {
				lines++
			}
		case "account":
			r.restoreAccount(&w, last, now)
		case "end":
			if n := w.number(0, 1<<40); w.err == nil && n != int64(number-2) {
				bad(fmt.Sprintf("%d lines are missing or too many", n-int64(number-2)))
			}
			ended = true
		default:
			bad("unknown")
		}
		if w.err != nil {
			bad(w.err.Error())
		}
	}
	if !ended {
		damage = append(damage, "the end is missing")
	}
	return contacts, lines, damage
}

// checked returns a line without its checksum.
func checked(raw []byte) (string, bool) {
	line, found := strings.CutSuffix(string(raw), "\n")
	if i := strings.LastIndexByte(line, ' '); found && i >= 0 {
		return line[:i], line[i+1:] == fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(line[:i])))
	}
	return "", false
}

func (r *Registrar) restoreContact(w *reader, now time.Duration) bool {
	b := &binding{expires: min(w.time(), now+r.cfg.MaxExpires), q: int16(w.number(noQ, 1000)), cseq: uint32(w.number(0, 1<<32-1)), hop: w.hop()}
	user, uri, params, callID := w.quoted(), w.uri(), w.quoted(), w.quoted()
	if len(user) == 0 || len(user) > maxName || len(uri)+len(params)+len(callID) > maxContact || bytes.ContainsAny(params, "\r\n") {
		w.err = cmp.Or(w.err, errWord)
	}
	if w.err != nil || b.expires <= now || len(r.bindings) >= r.cfg.Limits.Total {
		return false
	}
	if a := r.aors[string(user)]; find(a, uri, b.hop, false) != nil {
		return false // twice
	}
	b.setText(uri, params, callID)
	b.hop = restored(uri, b.hop)
	r.add(user, b)
	return true
}

func (r *Registrar) restoreLine(w *reader, now time.Duration) *line {
	used, hop := max(min(w.time(), now), now-lineIdle), w.hop()
	uri := w.uri()
	if w.err != nil || len(r.lines.list) >= r.cfg.Limits.Total {
		return nil
	}
	// The key has no address that restored could change.
	l := r.line(uri, hop)
	if l == nil {
		return nil
	}
	l.used, l.hop = used, restored(uri, hop)
	return l
}

func (r *Registrar) restoreAccount(w *reader, l *line, now time.Duration) {
	a := account{expires: min(w.time(), now+1<<32*time.Second)}
	a.at, _ = netip.ParseAddr(w.word()) // where it is not known, the zero one's text is there
	a.user, a.host = string(w.quoted()), string(w.quoted())
	if w.err == nil && l != nil && a.expires > now {
		r.account(l, a, now)
	}
}

// restored returns where a phone is after a restart. Its connection has gone: if its
// URI says that it can be connected to, there.
func restored(uri []byte, hop transport.Hop) transport.Hop {
	if hop.Kind != transport.TCP {
		return hop
	}
	u := sipmsg.ParseURI(uri)
	host, ok := sipmsg.ParseAddr(uri[u.Host.Lo:u.Host.Hi])
	if ok && host == hop.Remote.Addr() && (u.PortNum != 0 || u.Port.Empty()) {
		hop.Remote = netip.AddrPortFrom(host, uint16(cmp.Or(u.PortNum, 5060)))
	}
	hop.Local = netip.AddrPortFrom(hop.Local.Addr(), 0)
	return hop
}
