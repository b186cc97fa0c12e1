package proxy

import (
	"hash/maphash"
	"net/netip"
	"time"
)

const (
	// maxDialogs bounds what is remembered; beyond it parties keep their announced
	// form, which a phone that follows RFC 3261 does not mind.
	maxDialogs = 16384

	// maxDialogsOfHost bounds those of one phone, so that none takes the others' room.
	maxDialogsOfHost = maxDialogs / 8

	// maxDialogText bounds each text that is kept of a message, in bytes.
	maxDialogText = 1024

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
}

// dialogs remembers dialogs by Call-ID and the phone's tag.
type dialogs struct {
	seed maphash.Seed
	list map[uint64]*dialog
	of   map[netip.Addr]int // how many a phone has
}

func (d *dialogs) key(callID, tag []byte) uint64 {
	return maphash.Bytes(d.seed, unmarked(callID))*3 ^ maphash.Bytes(d.seed, tag)
}

// find returns the dialog, nil if there is nothing to remember.
func (d *dialogs) find(callID, tag []byte) *dialog {
	x := d.list[d.key(callID, tag)]
	if x != nil {
		x.until = time.Now().Add(dialogTime)
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
	if d.list == nil {
		d.list, d.of = make(map[uint64]*dialog), make(map[netip.Addr]int)
	}
	x := &dialog{host: phone, until: time.Now().Add(dialogTime)}
	d.list[d.key(callID, tag)] = x
	d.of[phone]++
	return x
}

func (d *dialogs) forget(callID, tag []byte) { d.remove(d.key(callID, tag)) }

func (d *dialogs) remove(key uint64) {
	x := d.list[key]
	if x == nil {
		return
	}
	delete(d.list, key)
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
