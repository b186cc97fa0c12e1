package proxy

import (
	"net/netip"
	"time"

	"github.com/dchest/siphash"

	"sipnatd/nat"
)

const (
	// maxDialogs bounds what is remembered; beyond it parties keep their announced
	// form, which a phone that follows RFC 3261 does not mind.
	maxDialogs = 8192

	// maxDialogsOfHost bounds those of one phone, so that none takes the others' room.
	maxDialogsOfHost = maxDialogs / 4

	// maxDialogText bounds each text that is kept of a message, in bytes.
	maxDialogText = 512

	// dialogTime is how long a dialog is remembered after its last message.
	dialogTime = 12 * time.Hour
)

// dialog is what the outside must not see of a dialog, and a phone must get back: the
// parties as the phone writes them, where they name inside hosts, and the inside
// proxies between the phone and us.
type dialog struct {
	local, remote string // host and port of the URIs, "" where they were not changed
	routes        []byte // Route header lines
	callID        string // of the dialog inside, where it is another one outside
	host          netip.Addr
	until         time.Time
	sum           uint64    // of its record in the journal; 0: it has none
	saved         time.Time // what the record says of until
}

// dialogs remembers dialogs by Call-ID and the phone's tag.
type dialogs struct {
	secret [2]uint64 // of the hash; the next process has it from the journal
	list   map[uint64]*dialog
	of     map[netip.Addr]int // how many a phone has

	journal nat.Journal // nil: there is none
	record  []byte      // the last one, reused
	began   time.Time
}

func (d *dialogs) key(callID, tag []byte) uint64 {
	return siphash.Hash(d.secret[0], d.secret[1], unmarked(callID))*3 ^ siphash.Hash(d.secret[0], d.secret[1], tag)
}

// find returns the dialog, nil if there is nothing to remember.
func (d *dialogs) find(callID, tag []byte) *dialog {
	key := d.key(callID, tag)
	x := d.list[key]
	if x != nil {
		x.until = time.Now().Add(dialogTime)
		if x.until.Sub(x.saved) > saveEvery {
			d.save(key, x)
		}
	}
	return x
}

// remember returns a phone's dialog, a new one if it must be, or nil where there is no
// room.
func (d *dialogs) remember(phone netip.Addr, callID, tag []byte) *dialog {
	if x := d.find(callID, tag); x != nil || len(tag) == 0 || len(callID) > maxDialogText ||
		len(d.list) >= maxDialogs || d.of[phone] >= maxDialogsOfHost {
		return x
	}
	x := &dialog{host: phone, until: time.Now().Add(dialogTime)}
	d.add(d.key(callID, tag), x)
	return x
}

func (d *dialogs) add(key uint64, x *dialog) {
	if d.list == nil {
		d.list, d.of = make(map[uint64]*dialog), make(map[netip.Addr]int)
	}
	d.list[key] = x
	d.of[x.host]++
}

func (d *dialogs) forget(callID, tag []byte) { d.remove(d.key(callID, tag)) }

func (d *dialogs) remove(key uint64) {
	x := d.list[key]
	if x == nil {
		return
	}
	delete(d.list, key)
	if d.journal != nil && x.sum != 0 {
		d.journal.Delete(key) // which goes with the next record: it keeps nobody from anything
	}
	if d.of[x.host]--; d.of[x.host] == 0 {
		delete(d.of, x.host)
	}
}

func (d *dialogs) expire(now time.Time) {
	for k, x := range d.list {
		if now.After(x.until) {
			d.remove(k)
		}
	}
}
