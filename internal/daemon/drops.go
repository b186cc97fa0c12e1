package daemon

import (
	"context"
	"time"
)

// dropsEvery is how often the kernel is asked what it has dropped.
const dropsEvery = 5 * time.Second

// reportDrops tells the log whom the guard has turned away, and that SIP comes
// faster than it can be looked at.
func (d *Daemon) reportDrops(ctx context.Context) error {
	tick := time.NewTicker(dropsEvery)
	defer tick.Stop()
	var guard, strangers, queued uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		guard = d.reportGuard(guard)
		strangers = d.reportStrangers(strangers)
		queued = d.reportOverload(queued)
	}
}

// reportGuard returns how many packets the guard has dropped so far.
func (d *Daemon) reportGuard(before uint64) uint64 {
	now, err := d.table.GuardDrops()
	if err != nil || now == before {
		return before // a table that is lost is the monitor's concern
	}
	strays, err := d.table.Strays()
	if err != nil {
		return before
	}
	for _, s := range strays {
		d.engine.ReportStray(s.Source, s.Inside, s.Packets)
	}
	return now
}

// reportStrangers returns how many packets of unknown hosts were over the rate.
func (d *Daemon) reportStrangers(before uint64) uint64 {
	now, err := d.table.StrangerDrops()
	if err != nil {
		return before
	}
	if now > before {
		d.log.Warn("unknown hosts outside send SIP faster than is looked at, as scanners do; known peers are served as before",
			"dropped", now-before, "seconds", int(dropsEvery.Seconds()))
	}
	return now
}

// reportOverload returns how many packets the queues have lost so far.
func (d *Daemon) reportOverload(before uint64) uint64 {
	var now uint64
	for _, q := range d.queues.Stats() {
		now += q.Kernel.Dropped()
	}
	if now > before {
		d.log.Warn("SIP came faster than it was handled and was dropped; senders repeat it (more queues: setting queues)",
			"packets", now-before, "seconds", int(dropsEvery.Seconds()))
	}
	return now
}
