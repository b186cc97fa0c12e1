package nft

import (
	"errors"
	"slices"
	"time"

	"github.com/google/nftables"
)

// Leases are the leased elements that are in the kernel, as they were when they were
// read.
type Leases struct {
	sets [numSets]map[cell]held

	// changed are the elements that Commit has changed since then. How they are is not
	// known.
	changed map[place]bool
}

// place names an element.
type place struct {
	set set
	key cell
}

// held is what a leased element has besides its key.
type held struct {
	data    cell
	expires time.Duration // 0: never
}

// leaseError is how far a lease may be from what it should be. The kernel counts in
// its own clock ticks, and time passes while elements are read.
const leaseError = 10 * time.Second

// settled are the leased sets that Settle brings to what is wanted. Of hosts that are known
// only those that are missing count: the others stay so for longer than anybody remembers
// why. And "serving" is no mapping.
var settled = [...]set{setSignalling, mapBindings, setBound, setPeers, setKnown, mapStreams, mapPublics, setGuarded, setSources, setOpen}

// Leases reads them, for Settle, which must follow unless there is an error.
func (t *Table) Leases() (*Leases, error) {
	all := &Leases{changed: make(map[place]bool)}
	t.elements.follow(all)
	for _, s := range settled {
		elems, err := t.read(s)
		if err != nil {
			t.elements.unfollow(all)
			return nil, err
		}
		there := make(map[cell]held, len(elems))
		for i := range elems {
			key, l := leaseOf(&elems[i])
			there[key] = l
		}
		all.sets[s] = there
	}
	return all, nil
}

// follow has the changes noted that are made from now on.
func (e *elements) follow(l *Leases) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.followers = append(e.followers, l)
}

func (e *elements) unfollow(l *Leases) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.followers = slices.DeleteFunc(e.followers, func(other *Leases) bool { return other == l })
}

// note has those know who have read the elements before.
func (e *elements) note(ops []op) {
	for _, l := range e.followers {
		for i := range ops {
			l.changed[place{ops[i].set, ops[i].key}] = true
		}
	}
}

func leaseOf(e *nftables.SetElement) (key cell, l held) {
	copy(key[:], e.Key)
	copy(l.data[:], e.Val)
	l.expires = e.Expires
	return key, l
}

// Settle brings the leased elements to what want says, which is all that should be,
// from what was there. It returns of how many elements that was due: those that were
// missing or mapped to something else, and foreign ones. These go, except that a media
// endpoint stays under the guard for linger. Elements that Commit has changed since they
// were read are left alone.
func (t *Table) Settle(there *Leases, want *Batch, linger time.Duration) (missing, foreign int, err error) {
	t.elements.unfollow(there)
	due, missing, foreign := there.settle(want, linger)
	for ops := range slices.Chunk(due.ops, settleBatch) {
		err = errors.Join(err, t.Commit(&Batch{ops: ops, err: due.err}))
	}
	return missing, foreign, err
}

// settleBatch is how many element changes go into one exchange.
const settleBatch = 500

// settle returns the changes that are due. A lease that is not what it should be is due,
// too, but does not count: it is not known whose doing that is.
func (there *Leases) settle(want *Batch, linger time.Duration) (due *Batch, missing, foreign int) {
	due = &Batch{err: want.err}
	var wanted [numSets]map[cell]int // the last change of an element counts
	for i := range want.ops {
		o := &want.ops[i]
		if wanted[o.set] == nil {
			wanted[o.set] = make(map[cell]int)
		}
		wanted[o.set][o.key] = i
	}
	for _, s := range settled {
		for key, l := range there.sets[s] {
			switch _, ok := wanted[s][key]; {
			case ok, s == setKnown, there.changed[place{s, key}]:
			case s == setGuarded:
				if l.expires == 0 || l.expires > linger+leaseError {
					due.put(s, key, cell{}, linger)
					foreign++
				}
			default:
				due.drop(s, key, l.data)
				foreign++
			}
		}
		for key, i := range wanted[s] {
			o := want.ops[i]
			l, ok := there.sets[s][key]
			should := time.Duration(o.millis) * time.Millisecond
			switch {
			case there.changed[place{s, key}]:
			case !ok || l.data != o.data:
				missing++
				o.stale = l.data
				due.ops = append(due.ops, o)
			case s == setKnown:
			case l.expires == 0 || (l.expires-should).Abs() > leaseError:
				due.ops = append(due.ops, o)
			}
		}
	}
	return due, missing, foreign
}
