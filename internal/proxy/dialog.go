package proxy

import (
	"hash/maphash"
	"time"
)

const (
	// maxDialogs bounds what is remembered; beyond it parties keep their announced
	// form, which a phone that follows RFC 3261 does not mind.
	maxDialogs = 16384

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
	until         time.Time
}

// dialogs remembers dialogs by Call-ID and the phone's tag.
type dialogs struct {
	seed maphash.Seed
	list map[uint64]*dialog
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

// remember returns the dialog, a new one if it must be, or nil where there is no room.
func (d *dialogs) remember(callID, tag []byte) *dialog {
	if x := d.find(callID, tag); x != nil || len(tag) == 0 || len(d.list) >= maxDialogs {
		return x
	}
	if d.list == nil {
		d.list = make(map[uint64]*dialog)
	}
	x := &dialog{until: time.Now().Add(dialogTime)}
	d.list[d.key(callID, tag)] = x
	return x
}

func (d *dialogs) forget(callID, tag []byte) { delete(d.list, d.key(callID, tag)) }

func (d *dialogs) expire(now time.Time) {
	for k, x := range d.list {
		if now.After(x.until) {
			delete(d.list, k)
		}
	}
}
