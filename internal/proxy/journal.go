package proxy

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/dchest/siphash"

	"sipnatd/nat"
)

// Records of the journal begin with what they are of. Dialogs and INVITEs are kept under
// the keys that they have here, the secret of these under 0.
const (
	recordSecret = 's'
	recordDialog = 'd'
	recordInvite = 'i' // that has no answer yet
)

// saveEvery is how old a record may be that only tells until when a dialog is remembered.
const saveEvery = time.Hour

// Restore takes over a record of the journal that an earlier process has left, and
// reports whether it was understood. shift is what has to be added to its times.
func (p *Proxy) Restore(key uint64, record []byte, shift time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &p.dialogs
	switch {
	case len(record) == 17 && record[0] == recordSecret:
		d.secret = [2]uint64{binary.LittleEndian.Uint64(record[1:]), binary.LittleEndian.Uint64(record[9:])}
		return true
	case len(record) > 0 && record[0] == recordDialog:
		x := readDialog(record[1:], shift)
		if x == nil {
			return false
		}
		if d.list[key] == nil && time.Now().Before(x.until) && len(d.list) < maxDialogs {
			d.add(key, x)
		}
		return true
	case len(record) > 0 && record[0] == recordInvite:
		r := readInvite(record[1:], shift)
		if r != nil && time.Since(r.began) < timerC {
			p.pending.left = append(p.pending.left, r)
		}
		return r != nil
	}
	return false
}

// Keep gives the proxy its journal, and writes all that it has to it. With nil there is
// none.
func (p *Proxy) Keep(j nat.Journal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &p.dialogs
	d.journal = j
	if j == nil {
		return
	}
	d.record = append(d.record[:0], recordSecret)
	for _, n := range d.secret {
		d.record = binary.LittleEndian.AppendUint64(d.record, n)
	}
	j.Put(0, d.record)
	for key, x := range d.list {
		x.sum = 0
		d.put(key, x)
	}
	for _, key := range p.pendingKeys() {
		p.pending.relays[key].put()
	}
	_ = j.Flush()
}

// save brings the journal to what a dialog is, before the other side hears of it.
func (d *dialogs) save(key uint64, x *dialog) {
	if d.journal != nil && d.put(key, x) {
		_ = d.journal.Flush()
	}
}

// put reports whether the record is another one than before.
func (d *dialogs) put(key uint64, x *dialog) bool {
	if x.until.Sub(x.saved) > saveEvery {
		x.saved = x.until
	}
	b := append(d.record[:0], recordDialog)
	b = binary.LittleEndian.AppendUint64(b, d.clock(x.saved))
	b = appendText(b, x.host.AsSlice())
	for _, text := range []string{x.local, x.remote, string(x.routes), x.callID} {
		b = appendText(b, []byte(text))
	}
	d.record = b
	sum := siphash.Hash(d.secret[0], d.secret[1], b)
	if sum == x.sum {
		return false
	}
	x.sum = sum
	d.journal.Put(key, b)
	return true
}

// clock returns a time for a record: nanoseconds since 1970 by a clock that goes on evenly
// where the machine's is set.
func (d *dialogs) clock(t time.Time) uint64 {
	return uint64(d.began.Add(t.Sub(d.began)).UnixNano())
}

// longestText is what appendText can write, in bytes.
const longestText = 1<<16 - 1

func appendText(b, text []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(text))), text...)
}

// readDialog is nil for what is no dialog.
func readDialog(b []byte, shift time.Duration) *dialog {
	if len(b) < 8 {
		return nil
	}
	x := &dialog{until: time.Unix(0, int64(binary.LittleEndian.Uint64(b))).Add(shift)}
	x.until = time.Now().Add(min(time.Until(x.until), dialogTime)) // by the monotonic clock
	b = b[8:]
	var texts [5][]byte
	for i := range texts {
		if len(b) < 2 {
			return nil
		}
		n := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; n > len(b) || n > maxDialogText {
			return nil
		}
		texts[i], b = b[:n], b[n:]
	}
	var ok bool
	if x.host, ok = netip.AddrFromSlice(texts[0]); !ok || len(b) > 0 {
		return nil
	}
	x.local, x.remote, x.callID = string(texts[1]), string(texts[2]), string(texts[4])
	if len(texts[3]) > 0 {
		x.routes = bytes.Clone(texts[3])
	}
	return x
}
