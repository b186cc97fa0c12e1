package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// dropsEvery is how often the kernel is asked what it has dropped.
	dropsEvery = 5 * time.Second

	// dropsRepeat is how often the log tells of drops of one kind that go on.
	dropsRepeat = time.Minute

	// floodsNamed is how many hosts one line names.
	floodsNamed = 3
)

// drops is a counter of packets that were dropped, and what the log says of it: within
// dropsEvery when it begins to grow, and no more often than each dropsRepeat.
type drops struct {
	read func() (packets uint64, err error)
	tell func(packets uint64, in time.Duration)

	told  uint64    // what the counter was then
	at    time.Time // when that was
	since time.Time // since when it has grown; zero: it has not
}

// look reads the counter.
func (d *drops) look(now time.Time) {
	count, err := d.read()
	if err != nil {
		return // a table that is lost is the monitor's concern
	}
	if count <= d.told {
		d.told = count // less in a table that was made anew
		return
	}
	if d.since.IsZero() {
		d.since = now.Add(-dropsEvery)
	}
	if now.Sub(d.at) < dropsRepeat {
		return
	}
	d.tell(count-d.told, now.Sub(d.since).Round(time.Second))
	d.told, d.at, d.since = count, now, time.Time{}
}

// reportDrops tells the log whom the guard has turned away, and that SIP comes
// faster than it can be looked at.
func (d *Daemon) reportDrops(ctx context.Context) error {
	tick := time.NewTicker(dropsEvery)
	defer tick.Stop()
	counters := d.dropCounters()
	for i := range counters { // an earlier daemon has told of what there is
		counters[i].told, _ = counters[i].read()
	}
	guard, _ := d.table.GuardDrops()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			guard = d.reportGuard(guard)
			for i := range counters {
				counters[i].look(now)
			}
		}
	}
}

// reportGuard returns how many packets the guard has dropped so far.
func (d *Daemon) reportGuard(before uint64) uint64 {
	now, err := d.table.GuardDrops()
	if err != nil || now == before {
		return before
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

// dropCounters are those of SIP.
func (d *Daemon) dropCounters() []drops {
	all := []drops{
		{read: d.table.StrangerDrops, tell: func(packets uint64, in time.Duration) {
			d.log.Warn("unknown hosts outside send SIP faster than is looked at, as scanners do; known peers are served as before "+
				"(hosts that are to be served: setting sip_peers)", "dropped", packets, "in", in)
		}},
		{read: d.table.FloodDrops, tell: func(packets uint64, in time.Duration) {
			d.log.Warn("a host sends more SIP than is looked at of any: the rest of it is dropped, others are served as before",
				"hosts", d.floods(), "dropped", packets, "in", in)
		}},
		{read: d.queueDrops, tell: func(packets uint64, in time.Duration) {
			d.log.Warn("SIP came faster than it was handled and was dropped; senders repeat it (more queues: setting queues)",
				"dropped", packets, "in", in)
		}},
	}
	if d.proxy != nil {
		all = append(all, drops{read: d.proxy.drops, tell: func(packets uint64, in time.Duration) {
			d.log.Warn("SIP to the proxy came faster than it was handled, or is more than is remembered, and was dropped; senders repeat it",
				"dropped", packets, "in", in)
		}})
	}
	return all
}

// queueDrops is how many packets the queues have lost.
func (d *Daemon) queueDrops() (packets uint64, err error) {
	for _, q := range d.queues.Stats() {
		packets += q.Kernel.Dropped()
	}
	return packets, nil
}

// floods names the hosts that have sent the most of what was too much.
func (d *Daemon) floods() string {
	floods, err := d.table.Floods()
	if err != nil || len(floods) == 0 {
		return "unknown"
	}
	var names []string
	for _, f := range floods[:min(len(floods), floodsNamed)] {
		names = append(names, f.Host.String())
	}
	if rest := len(floods) - len(names); rest > 0 {
		names = append(names, fmt.Sprintf("%d more", rest))
	}
	return strings.Join(names, ", ")
}

// drops is how many messages were not handled: the sockets were full, or the limits of
// what is remembered were reached.
func (m *proxyMode) drops() (uint64, error) {
	return m.transport.Stats().UDPDrops + m.proxy.Stats().Stats.Refused, nil
}
