package daemon

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/config"
	"sipnatd/internal/divert"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/kernel"
	"sipnatd/internal/nft"
	"sipnatd/nat"
)

// Daemon is a sipnatd that has taken its place in the kernel.
type Daemon struct {
	cfg    *config.Config
	log    *slog.Logger
	faces  atomic.Pointer[ifaces.Snapshot]
	track  *conntrack.Conn
	table  *nft.Table
	kernel *kernel.Kernel
	engine *nat.Engine
	queues *divert.Divert

	publics map[netip.Addr]bool // outside addresses that mappings may stand on
}

// Open asks the kernel what it can do, binds the queues and installs the table.
// What is wrong with the machine is an error, or a warning where the daemon can
// work all the same.
func Open(cfg *config.Config, log *slog.Logger) (_ *Daemon, err error) {
	d := &Daemon{cfg: cfg, log: log, publics: make(map[netip.Addr]bool)}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	faces, err := ifaces.Resolve(ifaces.Config{Inside: cfg.Inside, Outside: cfg.Outside})
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	d.faces.Store(faces)
	d.reportInterfaces(faces)
	rewriter := d.findRewriter()
	if err := rewriter.refuse(); err != nil {
		return nil, err
	}
	announced, err := d.announced(faces)
	if err != nil {
		return nil, err
	}
	if d.track, err = conntrack.Open(conntrack.Options{Logger: log, Helpers: rewriter.helpers()}); err != nil {
		return nil, err
	}
	log.Info("conntrack", "helper", d.track.Helper().String(), "reason", d.track.HelperReason())
	d.reportConntrack()

	tableConfig := d.tableConfig(faces)
	onPanic := divert.Accept
	if cfg.OnFailure == config.FailDrop {
		onPanic = divert.Drop
	}
	d.queues, err = divert.Open(divert.Config{
		First: cfg.QueueNum, Queues: cfg.Queues, OnPanic: onPanic, Logger: log,
	}, divert.HandlerFunc(d.handler()))
	if err != nil {
		return nil, err
	}
	if d.table, err = nft.Open(tableConfig, log); err != nil {
		return nil, err
	}
	log.Info("table ip sipnatd installed", "kernel", d.table.Features().String(),
		"queue_num", cfg.QueueNum, "queues", cfg.Queues, "media_source", string(cfg.MediaSource))
	d.reportChains()

	d.kernel = kernel.New(tableConfig, d.table, d.track, log)
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	d.engine = nat.New(d.engineConfig(announced), d.kernel, time.Now, rand.NewChaCha8(seed), log)
	adopted := 0
	err = d.kernel.Adopt(func(c nat.Change) {
		if c.Lease > 0 {
			adopted++
		}
		d.publics[c.Public.Addr()] = true
		d.engine.Adopt(c)
	})
	if err != nil {
		return nil, err
	}
	if adopted > 0 {
		log.Info("taken over from an earlier daemon", "mappings", adopted)
	}
	d.renumber(faces)
	return d, nil
}

// Run serves until ctx ends. What is in the kernel then stays, so that running
// calls go on: leases end it if no daemon comes back. A signal has the counters
// written to the log, but for SIGHUP, which is explained there.
func (d *Daemon) Run(ctx context.Context, signals <-chan os.Signal) error {
	defer d.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tasks := []struct {
		name string
		run  func(context.Context) error
	}{
		{"queues", d.queues.Run},
		{"kernel", d.kernel.Run},
		{"clock", d.tick},
		{"table monitor", func(ctx context.Context) error { return d.table.Watch(ctx, d.kernel.Lost) }},
		{"conntrack events", func(ctx context.Context) error { return d.track.Watch(ctx, d.kernel.Event) }},
		{"interfaces", d.watchInterfaces},
		{"drops", d.reportDrops},
		{"signals", func(ctx context.Context) error { return d.answerSignals(ctx, signals) }},
	}
	errs := make(chan error, len(tasks))
	var wait sync.WaitGroup
	for _, t := range tasks {
		wait.Go(func() {
			err := t.run(ctx)
			if ctx.Err() == nil {
				errs <- fmt.Errorf("%s ended: %w", t.name, errors.Join(err, errEnded))
				cancel()
			}
		})
	}
	wait.Wait()
	d.reportStatus()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

var errEnded = errors.New("it must run as long as the daemon")

func (d *Daemon) tick(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.engine.Tick()
		}
	}
}

// handler returns the way of a packet from its queue to the engine. Each worker
// has buffers of its own.
func (d *Daemon) handler() func(worker int, p *divert.Packet) divert.Result {
	workers := make([]*nat.Worker, max(d.cfg.Queues, 1))
	packets := make([]nat.Packet, len(workers))
	return func(worker int, p *divert.Packet) divert.Result {
		faces := d.faces.Load()
		outbound := faces.Side(p.OutIf) == ifaces.Outside
		outside := p.InIf
		if outbound {
			outside = p.OutIf
		}
		public := faces.Public(outside)
		if !public.IsValid() || faces.Side(p.InIf) == faces.Side(p.OutIf) {
			return divert.Result{Verdict: divert.Accept}
		}
		if workers[worker] == nil {
			workers[worker] = d.engine.NewWorker()
		}
		packets[worker] = nat.Packet{Outbound: outbound, Src: p.Src, Dst: p.Dst, Public: public, Payload: p.Payload}
		if out := workers[worker].Handle(&packets[worker]); out != nil {
			return divert.Result{Verdict: divert.Rewrite, Payload: out}
		}
		return divert.Result{Verdict: divert.Accept}
	}
}

func (d *Daemon) close() {
	if d.queues != nil {
		d.queues.Close()
	}
	if d.table != nil {
		d.table.Close()
	}
	if d.track != nil {
		d.track.Close()
	}
}

func (d *Daemon) engineConfig(announced netip.Addr) nat.Config {
	return nat.Config{
		SIPPorts: d.cfg.SIPPorts,
		PortLow:  d.cfg.RTPPortLow, PortHigh: d.cfg.RTPPortHigh,
		RTPTimeout:    d.cfg.RTPTimeout,
		MediaAny:      d.cfg.MediaSource == config.MediaAny,
		MediaHosts:    d.cfg.MediaHosts,
		HairpinRouter: d.cfg.Hairpin == config.HairpinRouter,
		Announced:     announced,
		Networks:      (*networks)(d),
	}
}

func (d *Daemon) tableConfig(faces *ifaces.Snapshot) nft.Config {
	helper := ""
	if d.track.Helper() == conntrack.HelperOwn { // the kernel's own would rewrite
		helper = d.track.HelperName()
	}
	return nft.Config{
		Helper: helper,
		Inside: faces.Names(ifaces.Inside), Outside: faces.Names(ifaces.Outside),
		SIPPorts: d.cfg.SIPPorts, SIPPeers: d.cfg.SIPPeers,
		AcceptAny:     d.cfg.SIPAccept == config.AcceptAny,
		MediaAny:      d.cfg.MediaSource == config.MediaAny,
		HairpinRouter: d.cfg.Hairpin == config.HairpinRouter,
		Bypass:        d.cfg.OnFailure == config.FailPass,
		SIPDSCP:       d.cfg.SIPDSCP, RTPDSCP: d.cfg.RTPDSCP,
		QueueFirst: d.cfg.QueueNum, Queues: d.cfg.Queues,
	}
}

// announced returns the address that messages name instead of the outside
// interface's own, if the configuration asks for one.
func (d *Daemon) announced(faces *ifaces.Snapshot) (netip.Addr, error) {
	host := d.cfg.HostOutbound
	if host == "" {
		return netip.Addr{}, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil || len(list) == 0 {
		return netip.Addr{}, fmt.Errorf("host_outbound: %s has no address now (%v); give an address, or leave the setting out to use the outside interface's", host, err)
	}
	a := list[0].Unmap()
	d.log.Info("host_outbound", "name", host, "announced", a)
	if faces.Own(a) {
		return netip.Addr{}, nil // the interface's address, which may change with it
	}
	return a, nil
}
