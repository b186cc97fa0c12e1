package daemon

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/check"
	"sipnatd/internal/config"
	"sipnatd/internal/divert"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/join"
	"sipnatd/internal/kernel"
	"sipnatd/internal/nft"
	"sipnatd/internal/report"
	"sipnatd/nat"
)

// Daemon is a sipnatd that has taken its place in the kernel.
type Daemon struct {
	log     *report.Log
	manager *manager
	lock    net.Listener // of the network namespace
	pidFile *pidFile

	faces  atomic.Pointer[ifaces.Snapshot]
	track  *conntrack.Conn
	table  *nft.Table
	kernel *kernel.Kernel
	engine *nat.Engine
	queues *divert.Divert
	calls  *journal // the engine's; nil: none is kept

	join  *join.Join // nil: TCP is forwarded like anything else
	proxy *proxyMode // nil: the daemon is transparent only

	announcer *announcer
	lookUp    chan struct{} // asks for host_outbound to be looked up
	firewall  chan struct{} // the firewall's rules may have changed

	told map[string]bool // reportFirewall's: what is wrong with the firewall, as it was last looked at

	mu        sync.Mutex // guards what follows; packets do not wait for it
	cfg       *config.Config
	announced netip.Addr                  // in place of the outside interface's own, if valid
	hairpins  bool                        // some calls between two inside phones may go through the firewall
	publics   map[netip.Addr]*outsideAddr // outside addresses that mappings may stand on
	round     int                         // of renumber
	rewatch   context.CancelFunc          // has the configured interfaces watched anew
}

// Open asks the kernel what it can do, binds the queues and installs the table.
// What is wrong with the machine is an error, or a warning where the daemon can
// work all the same.
func Open(cfg *config.Config, log *report.Log) (_ *Daemon, err error) {
	d := &Daemon{
		cfg: cfg, log: log, publics: make(map[netip.Addr]*outsideAddr), hairpins: cfg.Hairpin == config.HairpinRouter,
		announcer: newAnnouncer(log.Logger), lookUp: make(chan struct{}, 1),
		firewall: make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	d.reportConfig()
	if err := d.takePlace(); err != nil {
		return nil, err
	}
	faces, err := ifaces.Resolve(watched(cfg))
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	d.faces.Store(faces)
	d.reportInterfaces(faces)
	firewall, err := nft.ReadFirewall()
	if firewall != nil {
		defer firewall.Close()
	}
	rewriter := check.FindRewriter(firewall, err)
	if err := check.Err(rewriter.Findings()); err != nil {
		return nil, err
	}
	d.tell(rewriter.Findings())
	if cfg.HostOutbound != "" {
		ctx, cancel := context.WithTimeout(context.Background(), lookUpStart)
		list, err := d.announcer.lookUp(ctx, cfg.HostOutbound)
		cancel()
		d.announce(d.announcer.choose(cfg.HostOutbound, list, err, netip.Addr{}, faces.Own))
	}
	netLog := log.With("class", "net")
	if d.track, err = conntrack.Open(conntrack.Options{Logger: netLog, Helpers: rewriter.Helpers()}); err != nil {
		return nil, err
	}
	log.Info("conntrack", "helper", d.track.Helper().String(), "reason", d.track.HelperReason())
	d.reportConntrack()

	tableConfig := d.tableConfig(cfg, faces)
	d.queues, err = divert.Open(divert.Config{
		First: cfg.QueueNum, Queues: cfg.Queues, OnPanic: onPanic(cfg), Logger: netLog,
	}, divert.HandlerFunc(d.handler()))
	if err != nil {
		return nil, err
	}
	if d.table, err = nft.Open(tableConfig, netLog); err != nil {
		return nil, err
	}
	log.Info("table ip sipnatd installed", "kernel", d.table.Features().String(),
		"queue_num", cfg.QueueNum, "queues", cfg.Queues, "media_source", string(cfg.MediaSource))
	d.reportFirewall(firewall)

	d.kernel = kernel.New(tableConfig, d.table, d.track, netLog)
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	d.engine = nat.New(d.engineConfig(), d.kernel, time.Now, rand.NewChaCha8(seed), log.Logger)
	d.calls = openJournal(cfg, stateCalls, log)
	adopted, began := 0, time.Now()
	err = d.kernel.Adopt(func(c nat.Change) {
		if c.Lease > 0 {
			adopted++
		}
		d.publics[c.Public.Addr()] = new(outsideAddr)
		d.engine.Adopt(c)
	})
	if err != nil {
		return nil, err
	}
	d.takeOver(adopted, began)
	d.renumber(faces)
	if joinsTCP(cfg) {
		if err := d.openJoin(faces); err != nil {
			return nil, err
		}
	}
	if cfg.Mode != config.ModeTransparent {
		err := d.openProxy()
		switch {
		case err == nil:
		case cfg.AsksForProxy():
			return nil, fmt.Errorf("proxy mode: %w; mode = transparent does without it", err)
		default: // a PBX on the firewall has the port, perhaps
			log.Info("there is no proxy mode, which nothing asks for either", "reason", err)
		}
	}
	return d, nil
}

// takePlace makes this process the only daemon, and writes its number down. A pid
// file that cannot be written costs nobody a call: that is a warning.
func (d *Daemon) takePlace() (err error) {
	if d.manager, err = dialManager(); err != nil {
		d.log.Warn("the service manager cannot be told that the daemon is ready", "error", err)
	}
	warning := ""
	if d.lock, warning, err = lockNamespace(); err != nil {
		return err
	}
	if warning != "" {
		d.log.Warn(warning)
	}
	if d.cfg.PIDFile == "" {
		return nil
	}
	d.pidFile, err = writePIDFile(d.cfg.PIDFile)
	switch {
	case errors.Is(err, errTaken):
		return fmt.Errorf("pid_file: %w", err)
	case err != nil:
		d.log.Warn("the pid file is not written; its directory must be there, and writable when the daemon starts", "error", err)
	}
	return nil
}

// Run serves until ctx ends. What is in the kernel then stays, so that running
// calls go on: leases end it if no daemon comes back. SIGHUP among the signals puts
// the configuration in force that load returns; any other one has the counters
// written to the log.
func (d *Daemon) Run(ctx context.Context, signals <-chan os.Signal, load func() (*config.Config, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type task struct {
		name string
		run  func(context.Context) error
	}
	tasks := []task{
		{"queues", d.queues.Run},
		{"kernel", d.kernel.Run},
		{"clock", d.tick},
		{"table monitor", d.watchTable},
		{"firewall", d.followFirewall},
		{"conntrack events", func(ctx context.Context) error { return d.track.Watch(ctx, d.kernel.Event) }},
		{"interfaces", d.watchInterfaces},
		{"host_outbound", d.followHost},
		{"drops", d.reportDrops},
		{"room", d.watchRoom},
		{"state", d.runState},
		{"signals", func(ctx context.Context) error { return d.answerSignals(ctx, signals, load) }},
	}
	if d.join != nil {
		tasks = append(tasks, task{"joined connections", d.runJoin})
	}
	if d.proxy != nil {
		tasks = append(tasks, task{"proxy mode", d.runProxy})
	}
	errs := make(chan error, len(tasks))
	var wait sync.WaitGroup
	d.manager.ready()
	for _, t := range tasks {
		wait.Go(func() {
			err := t.run(ctx)
			if ctx.Err() == nil {
				errs <- fmt.Errorf("%s ended: %w", t.name, errors.Join(err, errEnded))
				cancel()
			}
		})
	}
	wait.Go(func() {
		<-ctx.Done()
		d.manager.stopping()
	})
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
	transparent := d.cfg.Mode != config.ModeProxy
	return func(worker int, p *divert.Packet) divert.Result {
		faces := d.faces.Load()
		outbound := faces.Side(p.OutIf) == ifaces.Outside
		outside := p.InIf
		if outbound {
			outside = p.OutIf
		}
		public := faces.Public(outside)
		if !transparent || !public.IsValid() || faces.Side(p.InIf) == faces.Side(p.OutIf) {
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

// OnFailure is what happens to SIP when the daemon has ended.
func (d *Daemon) OnFailure() config.OnFailure {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.OnFailure
}

// Close gives up what the process holds, its place as the last: who waits for that
// finds the queues free. What is in the kernel stays.
func (d *Daemon) Close() {
	if d.proxy != nil {
		d.proxy.close()
	}
	if d.join != nil {
		d.join.Close()
	}
	if d.queues != nil {
		d.queues.Close()
	}
	if d.table != nil {
		d.table.Close()
	}
	if d.track != nil {
		d.track.Close()
	}
	d.calls.close()
	d.pidFile.close()
	d.manager.close()
	if d.lock != nil {
		d.lock.Close()
	}
}

// engineConfig is the engine's policy. Packets are handled as it says as soon as the
// engine has it.
func (d *Daemon) engineConfig() nat.Config {
	return nat.Config{
		SIPPorts: d.cfg.SIPPorts,
		PortLow:  d.cfg.RTPPortLow, PortHigh: d.cfg.RTPPortHigh,
		RTPTimeout:    d.cfg.RTPTimeout,
		MediaAny:      d.cfg.MediaSource == config.MediaAny,
		MediaHosts:    d.cfg.MediaHosts,
		HairpinRouter: d.cfg.Hairpin == config.HairpinRouter,

		RegisterExpiresMax: d.cfg.RegisterExpiresMax,

		Announced: d.announced,
		Networks:  (*networks)(d),
	}
}

func (d *Daemon) tableConfig(cfg *config.Config, faces *ifaces.Snapshot) nft.Config {
	helper := ""
	if d.track.Helper() == conntrack.HelperOwn { // the kernel's own would rewrite
		helper = d.track.HelperName()
	}
	return nft.Config{
		Helper: helper,
		Inside: faces.Names(ifaces.Inside), Outside: faces.Names(ifaces.Outside),
		SIPPorts: forwarded(cfg), SIPPeers: cfg.SIPPeers,
		AcceptAny:     cfg.SIPAccept == config.AcceptAny,
		MediaAny:      cfg.MediaSource == config.MediaAny,
		HairpinRouter: cfg.Hairpin == config.HairpinRouter || d.hairpins,
		Bypass:        cfg.OnFailure == config.FailPass,
		SIPDSCP:       cfg.SIPDSCP, RTPDSCP: cfg.RTPDSCP,
		RedirectPort: redirectPort(cfg), ListenPort: listenPort(cfg),
		QueueFirst: cfg.QueueNum, Queues: cfg.Queues,
	}
}

// listenPort is where the daemon is spoken to as a proxy, 0 if it is none.
func listenPort(cfg *config.Config) uint16 {
	if cfg.Mode == config.ModeTransparent {
		return 0
	}
	return cfg.ListenPort
}

// forwarded are the ports whose forwarded traffic is looked at.
func forwarded(cfg *config.Config) []uint16 {
	if cfg.Mode == config.ModeProxy {
		return nil
	}
	return cfg.SIPPorts
}

// onPanic is the verdict for a packet whose handling failed.
func onPanic(cfg *config.Config) divert.Verdict {
	if cfg.OnFailure == config.FailDrop {
		return divert.Drop
	}
	return divert.Accept
}

func watched(cfg *config.Config) ifaces.Config {
	return ifaces.Config{Inside: cfg.Inside, Outside: cfg.Outside}
}
