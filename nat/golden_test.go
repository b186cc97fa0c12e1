package nat

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fakeKernel notes what it is asked for and does as if it had done it.
type fakeKernel struct {
	before       []Change // applied before that
	applied      []Change
	translations map[netip.AddrPort]netip.AddrPort // public by inside
	forwarded    bool
	owned        map[netip.AddrPort]netip.AddrPort // inside (or zero) by public
	packets      map[netip.AddrPort]uint64
	flow         uint64 // packets of every mapping
	refuse       error
}

func (k *fakeKernel) Apply(changes []Change) error {
	k.applied = append(k.applied, changes...)
	return k.refuse
}

func (k *fakeKernel) Translation(inside, _ netip.AddrPort) (netip.AddrPort, bool, bool) {
	p, ok := k.translations[inside]
	return p, ok && k.forwarded, ok
}

func (k *fakeKernel) Owner(public netip.AddrPort) (netip.AddrPort, bool) {
	in, ok := k.owned[public]
	return in, ok
}

func (k *fakeKernel) Traffic(public netip.AddrPort) (in, out uint64) {
	return k.packets[public], k.flow
}

// fakeNetworks is the README's scenario.
type fakeNetworks struct{}

func (fakeNetworks) Inside(a netip.Addr) bool {
	return netip.MustParsePrefix("10.0.0.0/24").Contains(a)
}

func (fakeNetworks) Outside(a netip.Addr) bool {
	return netip.MustParsePrefix("203.0.113.0/24").Contains(a)
}

// Elsewhere knows a DMZ beside the inside network.
func (n fakeNetworks) Elsewhere(a netip.Addr) bool {
	return n.Inside(a) || netip.MustParsePrefix("192.0.2.128/25").Contains(a)
}

func (fakeNetworks) Own(a netip.Addr) bool {
	return a == netip.MustParseAddr(publicAddr) || a == netip.MustParseAddr("10.0.0.1")
}

// renumberedNetworks are those of a firewall whose public address changes.
type renumberedNetworks struct {
	fakeNetworks
	public netip.Addr
}

func (n *renumberedNetworks) Own(a netip.Addr) bool {
	return a == n.public || a == netip.MustParseAddr("10.0.0.1")
}

var (
	_ Kernel   = (*fakeKernel)(nil)
	_ Networks = fakeNetworks{}
)

const publicAddr = "203.0.113.1"

// world is an engine with a fake kernel and a clock that stands still.
type world struct {
	t      testing.TB
	cfg    Config
	now    time.Time
	kernel *fakeKernel
	random rand.Source
	engine *Engine
	worker *Worker
	log    *bytes.Buffer
}

func newWorld(t testing.TB, change func(*Config)) *world {
	w := &world{
		t: t, now: time.Unix(1_700_000_000, 0), log: new(bytes.Buffer), random: rand.NewPCG(1, 2),
		kernel: &fakeKernel{
			translations: map[netip.AddrPort]netip.AddrPort{},
			owned:        map[netip.AddrPort]netip.AddrPort{},
			packets:      map[netip.AddrPort]uint64{},
		},
	}
	w.cfg.Networks = fakeNetworks{}
	if change != nil {
		change(&w.cfg)
	}
	w.engine = New(w.cfg, w.kernel, func() time.Time { return w.now }, w.random, slog.New(slog.NewTextHandler(w.log,
		&slog.HandlerOptions{ReplaceAttr: withoutTime})))
	w.worker = w.engine.NewWorker()
	return w
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// packet returns a datagram from src to dst; its direction is told by the source.
func packet(src, dst string, message []byte) *Packet {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return &Packet{
		Outbound: fakeNetworks{}.Inside(s.Addr()), Src: s, Dst: d,
		Public: netip.MustParseAddr(publicAddr), Payload: message,
	}
}

// send has a message pass from src to dst. It returns what leaves, nil where the
// message goes on as it is.
func (w *world) send(src, dst string, message []byte) []byte {
	return w.worker.Handle(packet(src, dst, message))
}

// wait lets time pass, a second at a time, while media flows to the inside
// endpoints named.
func (w *world) wait(d time.Duration, flowing ...string) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(time.Second)
		for _, in := range flowing {
			if m := w.engine.mappings[netip.MustParseAddrPort(in)]; m != nil {
				w.kernel.packets[m.public] += 50
			}
		}
		w.engine.Tick()
	}
}

// changes returns what the kernel was asked for since the last call, and what
// was logged.
func (w *world) changes() string {
	var b strings.Builder
	for _, c := range w.kernel.applied {
		fmt.Fprintln(&b, c)
	}
	w.kernel.before = append(w.kernel.before, w.kernel.applied...)
	w.kernel.applied = nil
	for line := range strings.Lines(w.log.String()) {
		b.WriteString("log " + line)
	}
	w.log.Reset()
	return b.String()
}

// TestGolden plays the cases of testdata, which are the specification of what a
// message turns into. A case is a folder with in.sip, out.sip, kernel and, if
// need be, config. in.sip says first what it shows, then holds steps, each after
// one of these lines:
//
//	== SOURCE > DESTINATION           a message
//	== SOURCE > DESTINATION proxied   one that goes through the proxy
//	== SOURCE > DESTINATION tcp PORT  one on a connection with this public port
//	== end PORT                       of that connection
//	== wait DURATION [INSIDE...]      time passes, while media flows to endpoints
//	== adopt KIND INSIDE PUBLIC TIME  a binding or stream was in the kernel at the start
//	== renumber ADDRESS               the firewall's public address becomes another one
//	== state                          what the engine holds
//
// out.sip holds the messages as they leave, "unchanged" for one that goes on as
// it is; kernel holds what each step asks of the kernel and what is logged.
//
// The files end their lines with LF, the messages get CRLF but where config says
// lf. No inside address may leave in a message, its Call-ID aside, but where
// config says why: "leaks REASON".
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/in.sip")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, in := range cases {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) { playGolden(t, dir) })
	}
}

// golden is one case as it is played.
type golden struct {
	*world
	public      netip.Addr
	networks    *renumberedNetworks
	lf, leaks   bool
	out, kernel strings.Builder
}

// step is one step of a case: the words after "==", and the text below.
type step struct {
	head []string
	text string
}

func playGolden(t *testing.T, dir string) {
	g, steps := openGolden(t, dir)
	for _, s := range steps {
		g.step(t, s)
	}
	compareGolden(t, filepath.Join(dir, "out.sip"), g.out.String())
	compareGolden(t, filepath.Join(dir, "kernel"), g.kernel.String())
}

func openGolden(t *testing.T, dir string) (g *golden, steps []step) {
	g = &golden{public: netip.MustParseAddr(publicAddr)}
	g.networks = &renumberedNetworks{public: g.public}
	settings, _ := os.ReadFile(filepath.Join(dir, "config"))
	g.world = newWorld(t, func(c *Config) {
		c.Networks = g.networks
		for line := range strings.Lines(string(settings)) {
			g.configure(t, c, strings.Fields(line))
		}
	})
	for line := range strings.Lines(string(settings)) {
		prepareKernel(g.world.kernel, strings.Fields(line))
	}
	in, err := os.ReadFile(filepath.Join(dir, "in.sip"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Split("\n"+string(in), "\n== ")[1:] {
		head, text, _ := strings.Cut(s, "\n")
		steps = append(steps, step{strings.Fields(head), text + "\n"})
	}
	return g, steps
}

func (g *golden) step(t *testing.T, s step) {
	fmt.Fprintf(&g.out, "== %s\n", strings.Join(s.head, " "))
	fmt.Fprintf(&g.kernel, "== %s\n", strings.Join(s.head, " "))
	g.play(t, s.head, s.text)
	g.kernel.WriteString(g.changes())
}

// play takes one step.
func (g *golden) play(t *testing.T, f []string, text string) {
	switch f[0] {
	case "wait":
		g.wait(duration(t, f[1]), f[2:]...)
		return
	case "adopt":
		c := Change{Verb: OpenBinding, Inside: netip.MustParseAddrPort(f[2]), Public: netip.MustParseAddrPort(f[3]), Lease: duration(t, f[4])}
		if f[1] == "stream" {
			c.Verb = OpenStream
		}
		g.engine.Adopt(c)
		for _, host := range f[5:] { // who may send
			a := Change{Verb: AllowPeer, Inside: c.Inside, Public: c.Public, Far: netip.AddrPortFrom(netip.MustParseAddr(host), 0)}
			if c.Verb == OpenStream {
				a.Verb = AllowSource
			}
			g.engine.Adopt(a)
		}
		return
	case "end":
		g.engine.Disconnected(netip.MustParseAddrPort(publicAddr + ":" + f[1]))
		return
	case "renumber":
		old, to := g.public, netip.MustParseAddr(f[1])
		g.public, g.networks.public = to, to
		r := g.engine.Renumber(func(a netip.Addr) (netip.Addr, bool) { return to, a == old })
		fmt.Fprintf(&g.kernel, "moved: bindings %d, streams %d, of calls %d, of which ended %d\n", r.Bindings, r.Streams, r.Calls, r.Ended)
		return
	case "state":
		_, n := g.engine.Stats()
		fmt.Fprintf(&g.kernel, "bindings %d, calls %d, mappings %d, transactions %d\n",
			n.Bindings, n.Calls, n.Mappings, n.Transactions)
		return
	}
	if !g.lf {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	p := packet(f[0], f[2], []byte(text))
	p.Public = g.public
	p.Proxied = slices.Contains(f[3:], "proxied")
	if p.Stream = slices.Contains(f[3:], "tcp"); p.Stream {
		fmt.Sscan(f[4], &p.PublicPort)
	}
	got := g.worker.Handle(p)
	if !g.leaks && p.Outbound {
		leaving := string(got)
		if got == nil {
			leaving = text
		}
		if p.Proxied { // its headers are the proxy's
			_, leaving, _ = strings.Cut(leaving, "\r\n\r\n")
		}
		for line := range strings.Lines(leaving) {
			if strings.Contains(line, "10.0.0.") && !strings.HasPrefix(line, "Call-ID:") {
				t.Errorf("an inside address leaves: %q", line)
			}
		}
	}
	if got == nil {
		g.out.WriteString("unchanged\n")
		return
	}
	if g.lf {
		g.out.Write(got)
		return
	}
	g.out.WriteString(strings.ReplaceAll(string(got), "\r\n", "\n"))
}

func duration(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		a, b := "(end)", "(end)"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			t.Errorf("%s:%d\n got %q\nwant %q", file, i+1, a, b)
			return
		}
	}
}

// configure takes one line of a case's config.
func (g *golden) configure(t *testing.T, c *Config, f []string) {
	if len(f) == 0 {
		return
	}
	number := func() (n int) {
		if _, err := fmt.Sscan(f[1], &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch f[0] {
	case "lf":
		g.lf = true
	case "leaks":
		g.leaks = true
	case "media_any":
		c.MediaAny = true
	case "hairpin_router":
		c.HairpinRouter = true
	case "announced":
		c.Announced = netip.MustParseAddr(f[1])
	case "media_host":
		c.MediaHosts = append(c.MediaHosts, netip.MustParsePrefix(f[1]))
	case "ports":
		fmt.Sscan(f[1]+" "+f[2], &c.PortLow, &c.PortHigh)
	case "register_expires_max":
		c.RegisterExpiresMax = duration(t, f[1])
	case "rtp_timeout":
		c.RTPTimeout = duration(t, f[1])
	case "hold_timeout":
		c.HoldTimeout = duration(t, f[1])
	case "bindings":
		c.Limits.Bindings = number()
	case "bindings_per_host":
		c.Limits.BindingsPerHost = number()
	case "calls":
		c.Limits.Calls = number()
	case "calls_per_host":
		c.Limits.CallsPerHost = number()
	case "mappings_per_host":
		c.Limits.MappingsPerHost = number()
	case "mappings_per_call":
		c.Limits.MappingsPerCall = number()
	case "transactions":
		c.Limits.Transactions = number()
	case "peers_per_binding":
		c.Limits.PeersPerBinding = number()
	case "translation", "forwarded", "owned", "refuse":
	default:
		t.Fatalf("config: %q is not known", f[0])
	}
}

// prepareKernel takes the lines of a case's config that say what the kernel
// knows: "translation INSIDE PUBLIC", "forwarded INSIDE PUBLIC", "owned PUBLIC
// [INSIDE]", and what it answers to every change: "refuse REASON".
func prepareKernel(k *fakeKernel, f []string) {
	if len(f) == 0 {
		return
	}
	switch f[0] {
	case "translation", "forwarded":
		k.translations[netip.MustParseAddrPort(f[1])] = netip.MustParseAddrPort(f[2])
		k.forwarded = f[0] == "forwarded"
	case "owned":
		in := netip.AddrPort{}
		if len(f) > 2 {
			in = netip.MustParseAddrPort(f[2])
		}
		k.owned[netip.MustParseAddrPort(f[1])] = in
	case "refuse":
		k.refuse = errors.New(strings.Join(f[1:], " "))
	}
}
