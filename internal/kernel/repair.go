package kernel

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/nft"
)

const (
	// gather is how long Run waits after it was woken, so that what others have done at
	// once is repaired at once.
	gather = 2 * time.Millisecond

	// anchorsEvery is how often the kernel is asked whether it has all anchors, though
	// it has told of none that is gone.
	anchorsEvery = time.Minute

	// Of what others do again and again, this much is repaired at once, and then with
	// these pauses; and this much is told of at once, and then so often. What is done to
	// anchors at once may take several repairs, which are cheap.
	repairBurst, repairPause = 10, 500 * time.Millisecond
	mendBurst, mendPause     = 50, 100 * time.Millisecond
	reportBurst, reportPause = 5, time.Minute
)

// A fight is what others do again and again, and is repaired again and again. Its zero
// value is peace.
type fight struct {
	repairs, reports bucket
	untold           int // repairs since the last report
}

// repaired notes a repair, and returns how long the next one has to wait. If it is to
// be told of, times is how many there were since that was last done, otherwise 0.
func (f *fight) repaired(now time.Time, burst int, each time.Duration) (pause time.Duration, times int) {
	f.untold++
	if !f.repairs.take(now, burst, each) {
		pause = each
	}
	if f.reports.take(now, reportBurst, reportPause) {
		times, f.untold = f.untold, 0
	}
	return pause, times
}

// bucket bounds how often something happens.
type bucket struct {
	filled time.Time // when it will be empty
}

// take reports whether it may happen once more: burst times at once, and then once in
// each period.
func (b *bucket) take(now time.Time, burst int, each time.Duration) bool {
	if b.filled.Before(now) {
		b.filled = now
	}
	if b.filled.Sub(now) > time.Duration(burst-1)*each {
		return false
	}
	b.filled = b.filled.Add(each)
	return true
}

// Changed repairs what others have done to the table, from memory, and deletes the
// flows that began wrongly meanwhile. While somebody changes it again and again it
// returns late, so that as much time is left for others.
func (k *Kernel) Changed(ctx context.Context, c nft.Change) {
	k.mu.Lock()
	if c.Firewall {
		k.forwards.read = time.Time{}
	}
	if c.Table {
		k.log.Debug("the table is not as it was installed", "by", c.By)
		if err := k.restore(time.Now()); err != nil {
			k.log.Error("the table could not be restored", "error", err)
		}
	}
	k.mu.Unlock()
	var missing, foreign int
	if c.Elements {
		missing, foreign = k.settle()
	}
	if !c.Table && missing+foreign == 0 {
		return
	}
	pause, tell := k.tableFight.repaired(time.Now(), repairBurst, repairPause)
	if tell > 0 {
		k.tellChange(c, missing, foreign, tell)
	}
	if pause > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// tellChange tells the log what was repaired.
func (k *Kernel) tellChange(c nft.Change, missing, foreign, times int) {
	var attrs []any
	if c.By != "" {
		attrs = append(attrs, "by", c.By)
	}
	if missing+foreign > 0 {
		attrs = append(attrs, "missing", missing, "foreign", foreign)
	}
	if times > 1 {
		attrs = append(attrs, "times", times)
	}
	what := "the table ip sipnatd was removed from the kernel or changed, as a firewall reload does; it is restored"
	if !c.Table {
		what = "others have changed elements of the table ip sipnatd; they are restored"
	}
	k.log.Warn(what, attrs...)
}

// restore installs the table with everything that is known, and deletes the
// flows that began while it was away.
func (k *Kernel) restore(now time.Time) error {
	k.lost = true
	if err := k.table.Install(k.config); err != nil {
		return err
	}
	k.lost = false
	k.searchSoon()
	return k.putAll(now)
}

// searchSoon has the flow table searched at once.
func (k *Kernel) searchSoon() {
	k.sweepDue, k.sweepNext = true, time.Time{}
	k.wake()
}

// wake has Run look what is to be done.
func (k *Kernel) wake() {
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

// settle brings the elements to what is known. They are read without the lock, which
// packets wait for: what changes meanwhile is known by then.
func (k *Kernel) settle() (missing, foreign int) {
	there, err := k.table.Leases()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		missing, foreign, err = k.settleWith(there, time.Now())
	}
	if err != nil {
		k.repairDue = true
	}
	if missing+foreign > 0 {
		k.searchSoon()
	}
	return missing, foreign
}

// repair is settle after the kernel has refused a batch.
func (k *Kernel) repair(now time.Time) {
	there, err := k.table.Leases()
	if err != nil {
		return // it stays due
	}
	k.repairDue = false
	if _, _, err := k.settleWith(there, now); err != nil {
		k.repairDue = true
	}
}

func (k *Kernel) settleWith(there *nft.Leases, now time.Time) (missing, foreign int, err error) {
	k.elements.Reset()
	k.want(now, func() {})
	defer k.elements.Reset()
	missing, foreign, err = k.table.Settle(there, &k.elements, guardLinger)
	if errors.Is(err, nft.ErrLost) {
		k.lost = true
	}
	return missing, foreign, err
}

// putAll adds, or renews, the elements of all mappings.
func (k *Kernel) putAll(now time.Time) (err error) {
	k.repairDue = false
	k.elements.Reset()
	k.want(now, func() {
		if k.elements.Len() >= restoreBatch {
			err = errors.Join(err, k.commitElements())
		}
	})
	err = errors.Join(err, k.commitElements())
	if err != nil {
		k.repairDue = true
	}
	return err
}

// want puts all elements that should be there into the batch, and calls more after each
// mapping. The guard of a closed stream is left to the next one of its endpoint, if there
// is one: put in before that one's sources it would drop what they send meanwhile.
func (k *Kernel) want(now time.Time, more func()) {
	for _, e := range k.closing {
		if left := e.end.Sub(now); e.stream && left > 0 && (k.inside[e.inside] == nil || k.inside[e.inside].closed) {
			k.elements.KeepGuard(e.inside, left)
			more()
		}
	}
	for _, e := range k.public {
		if lease := e.end.Sub(now); lease > 0 && !e.closed {
			k.putElements(e, lease)
			more()
		}
	}
	for host, end := range k.hosts {
		if lease := end.Sub(now); lease > 0 {
			k.elements.Know(host, lease)
			more()
		}
	}
}

// commitElements sends the element changes that there are.
func (k *Kernel) commitElements() error {
	defer k.elements.Reset()
	if k.elements.Len() == 0 {
		return nil
	}
	err := k.table.Commit(&k.elements)
	if errors.Is(err, nft.ErrLost) {
		k.lost = true
	}
	return err
}

// unanchored notes that a mapping's anchor is gone, or an expectation below it.
func (k *Kernel) unanchored(public netip.AddrPort) {
	if e := k.public[public]; e != nil && !e.closed && !e.forwarded {
		k.missing[public] = true
		k.wake()
	}
}

// mend creates the anchors again that others have deleted.
func (k *Kernel) mend(now time.Time) {
	if k.track.Helper() == conntrack.HelperNone {
		return
	}
	k.mu.Lock()
	unsure := k.anchorsUnsure || now.Sub(k.anchorsRead) >= anchorsEvery
	if unsure {
		k.anchorsUnsure, k.anchorsRead = false, now
	}
	k.mu.Unlock()
	var missing []netip.AddrPort
	if unsure {
		var err error
		if missing, err = k.track.Missing(); err != nil {
			k.log.Debug("the expectations were not read", "error", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, public := range missing {
		k.unanchored(public)
	}
	if len(k.missing) == 0 || now.Before(k.mendNext) {
		return
	}
	n, err := k.renew(maps.Keys(k.missing), now)
	clear(k.missing)
	if n == 0 { // they have run out, with their mappings
		return
	}
	pause, tell := k.anchorFight.repaired(now, mendBurst, mendPause)
	if pause > 0 {
		k.mendNext = now.Add(pause)
		time.AfterFunc(pause, k.wake)
	}
	switch {
	case err != nil:
		k.renewed = time.Time{} // with the next tick
	case tell > 0:
		k.log.Warn("others have deleted expectations, as conntrack -F does; they are created again", "mappings", n, "times", tell)
	}
}
