package divert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// Config says which queues are served and how.
type Config struct {
	// First is the number of the first queue, Queues how many there are,
	// numbered upwards; 0 means 1. The kernel's numbers end at 65535.
	First, Queues uint16

	// OnPanic is the verdict, Accept or Drop, for a packet whose handling
	// failed: the handler panicked, or its result is invalid or too large.
	// [Divert.SetOnPanic] changes it.
	OnPanic Verdict

	// MaxLen is how many packets may wait in each queue; the kernel drops those
	// beyond. 0 means DefaultMaxLen.
	MaxLen uint32

	// ReceiveBuffer is the socket buffer of each queue in bytes. Packets take
	// up about two to four kilobytes of it each. 0 means DefaultReceiveBuffer.
	ReceiveBuffer int

	// Logger is told of panics and errors; nil means slog.Default().
	Logger *slog.Logger
}

const (
	// DefaultMaxLen is the number of packets that can be handled, at 400 µs
	// each, before the senders of the last ones repeat them (RFC 3261, T1).
	DefaultMaxLen = 1024

	// DefaultReceiveBuffer holds DefaultMaxLen ordinary packets. (The kernel
	// doubles it for its own book-keeping.)
	DefaultReceiveBuffer = 4 << 20
)

// Divert serves a range of queues.
type Divert struct {
	workers []*worker
	log     *slog.Logger
	ran     atomic.Bool

	mu     sync.Mutex
	kernel *kernelCounters // nil if they cannot be read, or no more
	last   []KernelStats   // as read last, by worker
}

// Open binds the queues in the network namespace of the calling thread; packets
// begin to wait in them for [Divert.Run]. The error names the queue that is at
// fault, and wraps [ErrQueueInUse] if it is another process's.
func Open(cfg Config, h Handler) (*Divert, error) {
	cfg.Queues = max(cfg.Queues, 1)
	if cfg.MaxLen == 0 {
		cfg.MaxLen = DefaultMaxLen
	}
	if cfg.ReceiveBuffer <= 0 {
		cfg.ReceiveBuffer = DefaultReceiveBuffer
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	switch {
	case h == nil:
		return nil, errors.New("divert: no handler")
	case int(cfg.First)+int(cfg.Queues)-1 > 0xffff:
		return nil, fmt.Errorf("divert: queues %d to %d: the last number possible is 65535",
			cfg.First, int(cfg.First)+int(cfg.Queues)-1)
	case cfg.OnPanic != Accept && cfg.OnPanic != Drop:
		return nil, fmt.Errorf("divert: OnPanic is %v: must be accept or drop", cfg.OnPanic)
	}

	d := &Divert{log: cfg.Logger, last: make([]KernelStats, cfg.Queues)}
	for i := range int(cfg.Queues) {
		q, err := openQueue(cfg.First+uint16(i), cfg.MaxLen, cfg.ReceiveBuffer)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.workers = append(d.workers, newWorker(i, q, &cfg, h))
	}
	if k, err := openKernelCounters(); err != nil {
		d.log.Warn("packets that the kernel drops under overload will not be counted", "err", err)
	} else {
		d.kernel = &k
	}
	return d, nil
}

// SetOnPanic replaces Config.OnPanic, for the packets that come from now on.
func (d *Divert) SetOnPanic(v Verdict) {
	for _, w := range d.workers {
		w.onPanic.Store(uint32(v))
	}
}

// Run serves the queues until ctx ends, then what waits in them, and closes
// them. It returns nil then, or earlier with the error of a socket that failed.
// The handler is not called after it has returned. Run is for calling once.
func (d *Divert) Run(ctx context.Context) error {
	if d.ran.Swap(true) {
		return errors.New("divert: Run on queues that are closed or being served")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(stopped)
		for _, w := range d.workers {
			w.stop()
		}
	})
	errs := make([]error, len(d.workers))
	var wg sync.WaitGroup
	for i, w := range d.workers {
		wg.Go(func() {
			if err := w.run(); err != nil {
				errs[i] = fmt.Errorf("NFQUEUE %d: %w", w.queue.num, err)
				cancel()
			}
		})
	}
	wg.Wait()
	if !release() {
		<-stopped // it has the sockets in its hands
	}
	return errors.Join(append(errs, d.close())...)
}

// Close gives up the queues of a Divert that is not to be run. After Run has
// been called it does nothing.
func (d *Divert) Close() error {
	if d.ran.Swap(true) {
		return nil
	}
	return d.close()
}

func (d *Divert) close() error {
	d.Stats() // the last of the kernel's counters go with the queues
	var errs []error
	for _, w := range d.workers {
		if err := w.queue.close(); err != nil {
			errs = append(errs, fmt.Errorf("NFQUEUE %d: close: %w", w.queue.num, err))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel != nil {
		errs = append(errs, d.kernel.close())
		d.kernel = nil
	}
	return errors.Join(errs...)
}

// Stats returns the counts of each queue so far, in the order of the queues'
// numbers. It may be called at any time, by anyone; after Run has returned the
// counts stay. Counters are read one after the other, so that sums over
// moving ones need not agree.
func (d *Divert) Stats() []QueueStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel != nil {
		rows, err := d.kernel.read()
		if err != nil {
			d.log.Debug("kernel counters of the queues", "err", err)
		}
		for _, row := range rows {
			for i, w := range d.workers {
				if w.queue.num == row.num {
					d.last[i] = row.stats
				}
			}
		}
	}
	stats := make([]QueueStats, len(d.workers))
	for i, w := range d.workers {
		stats[i] = w.count.snapshot(w.queue.num)
		stats[i].Kernel = d.last[i]
	}
	return stats
}
