package daemon

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/metrics"
	"syscall"

	"sipnatd/internal/config"
	"sipnatd/sipmsg"
)

// answerSignals puts another configuration in force for SIGHUP, and writes the
// counters to the log for any other signal.
func (d *Daemon) answerSignals(ctx context.Context, signals <-chan os.Signal, load func() (*config.Config, error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-signals:
			if s == syscall.SIGHUP {
				d.reload(load)
			} else {
				d.reportStatus()
			}
		}
	}
}

// reportStatus writes what the daemon holds and has done to the log.
func (d *Daemon) reportStatus() {
	stats, now := d.engine.Stats()
	d.log.Info("holds", "bindings", now.Bindings, "calls", now.Calls, "mappings", now.Mappings, "transactions", now.Transactions)
	d.log.Info("has seen", "messages", stats.Messages, "rewritten", stats.Rewritten, "calls", stats.Calls,
		"calls timed out", stats.CallsTimedOut, "streams refused", stats.StreamsRefused, "calls refused", stats.CallsRefused,
		"out of ports", stats.PortsExhausted, "over limits", stats.LimitRefusals, "kernel refusals", stats.KernelErrors)
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}} // what the last collection has left
	metrics.Read(heap)
	d.log.Info("process", "goroutines", runtime.NumGoroutine(), "heap", heap[0].Value.Uint64())
	var reasons []any
	for r, n := range stats.NotSIP {
		if n > 0 {
			reasons = append(reasons, slog.Uint64(sipmsg.Reason(r).Name(), n))
		}
	}
	d.log.Info("passed untouched, by reason", reasons...)
	if d.proxy != nil {
		d.proxy.report(d.log.Logger)
	}
	for _, q := range d.queues.Stats() {
		d.log.Info("queue", "number", q.Queue, "packets", q.Packets, "rewritten", q.Rewritten,
			"dropped", q.Dropped, "panics", q.Panics, "not understood", q.Unread.Total(),
			"dropped by the kernel", q.Kernel.Dropped())
	}
	if d.join != nil {
		s := d.join.Stats()
		d.log.Info("TCP", "connections", s.Open, "joined", s.Joined, "messages", s.Messages,
			"refused", s.Refused, "not reached", s.Failed, "not SIP", s.Foreign)
	}
	if drops, err := d.table.GuardDrops(); err == nil {
		d.log.Info("guard", "packets dropped", drops)
	}
	if strangers, err := d.table.StrangerDrops(); err == nil {
		if floods, err := d.table.FloodDrops(); err == nil {
			d.log.Info("limits", "packets of strangers dropped", strangers, "of hosts that send too much", floods)
		}
	}
	if drops, err := d.table.BoundDrops(); err == nil {
		d.log.Info("bindings", "packets of strangers dropped", drops)
	}
}
