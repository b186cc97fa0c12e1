package nft

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Commit makes the changes of b in one netlink exchange: all of them, or none and
// an error. On return the kernel has them. If the table is gone it returns
// [ErrLost]. It leaves b as it is.
func (t *Table) Commit(b *Batch) error {
	if b.err != nil {
		return b.err
	}
	if len(b.ops) == 0 {
		return nil
	}
	e := t.elements
	e.mu.Lock()
	defer e.mu.Unlock()

	e.note(b.ops)
	err := e.exchange(b.ops, e.renewal)
	switch {
	case errors.Is(err, unix.EEXIST):
		// A map has other data for a key of ours.
		return t.replace(b.ops)
	case errors.Is(err, unix.ENOENT):
		// No such table or set; or, on old kernels, an element that expired between
		// two messages of the exchange.
		if lost := t.verify(); lost != nil {
			return lost
		}
		return e.exchange(b.ops, e.renewal)
	}
	return err
}

// replace makes the changes whatever data the maps have now.
func (t *Table) replace(ops []op) error {
	e := t.elements
	if t.features.ElementDestroy {
		return e.exchange(ops, renewDestroy)
	}
	for _, m := range []set{mapBindings, mapStreams, mapPublics} {
		there, err := t.read(m)
		if err != nil {
			return err
		}
		data := make(map[cell]cell, len(there))
		for _, elem := range there {
			var key, val cell
			copy(key[:], elem.Key)
			copy(val[:], elem.Val)
			data[key] = val
		}
		for i := range ops {
			o := &ops[i]
			if o.set != m {
				continue
			}
			if val, ok := data[o.key]; ok {
				o.stale = val
			}
			if o.remove {
				delete(data, o.key)
			} else {
				data[o.key] = o.data
			}
		}
	}
	return e.exchange(ops, renewReinsert)
}
