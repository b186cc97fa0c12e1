package daemon

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"sipnatd/conntrack"
	"sipnatd/internal/config"
	"sipnatd/internal/divert"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/kernel"
	"sipnatd/internal/netspace"
	"sipnatd/internal/nft"
	"sipnatd/internal/report"
	"sipnatd/nat"
)

// refusing is a table that the kernel may not install.
type refusing struct {
	err       error
	installed nft.Config
}

// Install implements kernel.Table.
func (r *refusing) Install(c nft.Config) error {
	if r.err == nil {
		r.installed = c
	}
	return r.err
}

// Commit implements kernel.Table.
func (r *refusing) Commit(*nft.Batch) error { return nil }

// Mappings implements kernel.Table.
func (r *refusing) Mappings() ([]nft.Mapping, error) { return nil, nil }

// Leases implements kernel.Table.
func (r *refusing) Leases() (*nft.Leases, error) { return nil, nil }

// Settle implements kernel.Table.
func (r *refusing) Settle(*nft.Leases, *nft.Batch, time.Duration) (missing, foreign int, err error) {
	return 0, 0, nil
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("sipnatd.conf", strings.NewReader(text))
	must(t, err)
	return cfg
}

// newDaemon is a daemon in a network namespace of its own, with a table that may be
// refused.
func newDaemon(t *testing.T, text string) (*Daemon, *refusing) {
	t.Helper()
	netspace.New(t)
	log, err := report.New(report.Selection{Silence: 4}, false)
	must(t, err)
	cfg := parse(t, text)
	d := &Daemon{cfg: cfg, log: log, publics: make(map[netip.Addr]*outsideAddr),
		announcer: newAnnouncer(log.Logger), lookUp: make(chan struct{}, 1)}
	t.Cleanup(d.Close)
	d.track, err = conntrack.Open(conntrack.Options{Logger: log.Logger})
	must(t, err)
	d.queues, err = divert.Open(divert.Config{First: cfg.QueueNum, Logger: log.Logger},
		divert.HandlerFunc(func(int, *divert.Packet) divert.Result { return divert.Result{} }))
	must(t, err)
	faces, err := ifaces.Resolve(watched(cfg))
	must(t, err)
	d.faces.Store(faces)
	table := new(refusing)
	must(t, table.Install(d.tableConfig(cfg, faces)))
	d.kernel = kernel.New(table.installed, table, d.track, log.Logger)
	d.engine = nat.New(d.engineConfig(), d.kernel, time.Now, rand.NewPCG(1, 2), log.Logger)
	return d, table
}

// announces returns what a message from inside announces.
func (d *Daemon) announces() string {
	message := strings.ReplaceAll(`OPTIONS sip:example.org SIP/2.0
Via: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bKping
From: <sip:alice@example.org>;tag=p
To: <sip:example.org>
Call-ID: ping
CSeq: 1 OPTIONS
Contact: <sip:alice@10.0.0.10:5060>

`, "\n", "\r\n")
	out := string(d.engine.NewWorker().Handle(&nat.Packet{Outbound: true,
		Src: netip.MustParseAddrPort("10.0.0.10:5060"), Dst: netip.MustParseAddrPort("203.0.113.9:5060"),
		Public: netip.MustParseAddr("203.0.113.1"), Payload: []byte(message)}))
	_, contact, _ := strings.Cut(out, "Contact: <sip:alice@")
	contact, _, _ = strings.Cut(contact, ":")
	return contact
}

// A configuration that the kernel refuses changes nothing at all; the same one is in
// force as a whole when the kernel takes it.
func TestConfigureRefused(t *testing.T) {
	d, table := newDaemon(t, "if_inbound = eth0\nif_outbound = ppp0\n")
	cfg, faces := d.cfg, d.faces.Load()
	const changed = `
if_inbound = eth0 eth1
if_outbound = ppp0
host_outbound = 198.51.100.7
sip_ports = 5060 5070
hairpin = router
queue_num = 9
`
	table.err = errors.New("busy")
	if err := d.configure(parse(t, changed)); err == nil || !strings.Contains(err.Error(), "the kernel refuses it: busy") {
		t.Errorf("refused with %v", err)
	}
	if d.cfg != cfg || d.faces.Load() != faces || d.hairpins || len(d.lookUp) != 0 || d.announces() != "203.0.113.1" {
		t.Errorf("after a refusal: %+v, %v announced", d.cfg, d.announces())
	}

	table.err = nil
	must(t, d.configure(parse(t, changed)))
	if got := d.announces(); got != "198.51.100.7" {
		t.Errorf("%s is announced", got)
	}
	if got := strings.Join(table.installed.Inside, " "); got != "eth0 eth1" || len(table.installed.SIPPorts) != 2 || table.installed.QueueFirst != cfg.QueueNum {
		t.Errorf("installed %+v", table.installed)
	}

	// A call between two phones may still go through the firewall.
	must(t, d.configure(parse(t, "hairpin = direct\n")))
	if !table.installed.HairpinRouter {
		t.Error("calls that go through the firewall lose their rules")
	}
	if got := d.announces(); got != "203.0.113.1" {
		t.Errorf("without host_outbound %s is announced", got)
	}
}

// A file that was read and is gone is not an empty one.
func TestConfigureWithoutFile(t *testing.T) {
	d, _ := newDaemon(t, "sip_ports = 5060 5070\n")
	before := d.cfg
	if err := d.configure(config.Default()); err == nil || !strings.Contains(err.Error(), "sipnatd.conf is gone") {
		t.Error(err)
	}
	d.reload(func() (*config.Config, error) { return nil, os.ErrPermission })
	if d.cfg != before {
		t.Error("another configuration is in force")
	}
}
