package nat

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fakeKernel notes what it is asked for and does as if it had done it.
type fakeKernel struct {
	applied      []Change
	translations map[netip.AddrPort]netip.AddrPort // public by inside
	forwarded    bool
	owned        map[netip.AddrPort]netip.AddrPort // inside (or zero) by public
	packets      map[netip.AddrPort]uint64
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

func (k *fakeKernel) Packets(publics []netip.AddrPort, counts []uint64) {
	for i, p := range publics {
		counts[i] = k.packets[p]
	}
}

// fakeNetworks is the README's scenario.
type fakeNetworks struct{}

func (fakeNetworks) Inside(a netip.Addr) bool {
	return netip.MustParsePrefix("10.0.0.0/24").Contains(a)
}

func (fakeNetworks) Outside(a netip.Addr) bool {
	return netip.MustParsePrefix("203.0.113.0/24").Contains(a)
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
	engine *Engine
	worker *Worker
	log    *bytes.Buffer
}

func newWorld(t testing.TB, change func(*Config)) *world {
	w := &world{
		t: t, now: time.Unix(1_700_000_000, 0), log: new(bytes.Buffer),
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
	w.engine = New(w.cfg, w.kernel, func() time.Time { return w.now }, rand.NewPCG(1, 2), slog.New(slog.NewTextHandler(w.log, nil)))
	w.worker = w.engine.NewWorker()
	return w
}

// send has a message pass from src to dst; outbound is told by the source.
func (w *world) send(src, dst string, message []byte) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	out := w.worker.Handle(&Packet{
		Outbound: fakeNetworks{}.Inside(s.Addr()), Src: s, Dst: d,
		Public: netip.MustParseAddr(publicAddr), Payload: message,
	})
	if out == nil {
		return message
	}
	return out
}

// wait lets time pass, a second at a time.
func (w *world) wait(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(time.Second)
		w.engine.Tick()
	}
}

// changes returns what the kernel was asked for since the last call.
func (w *world) changes() string {
	var b strings.Builder
	for _, c := range w.kernel.applied {
		fmt.Fprintln(&b, c)
	}
	w.kernel.applied = nil
	return b.String()
}

// TestGolden plays the cases of testdata. A case is a folder with in.sip,
// out.sip, kernel and, if need be, config. in.sip holds one message or several,
// each after a line "== SOURCE > DESTINATION", or a line "== wait DURATION";
// out.sip holds them as they leave, and kernel what each one asks of the
// kernel. Lines end as in the files, where a message needs CRLF they have it:
// .sip files are written with LF and a case says "crlf" in config to get CRLF.
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

func playGolden(t *testing.T, dir string) {
	settings, _ := os.ReadFile(filepath.Join(dir, "config"))
	lf := false
	w := newWorld(t, func(c *Config) {
		for line := range strings.Lines(string(settings)) {
			lf = configure(t, c, strings.Fields(line)) || lf
		}
	})
	for line := range strings.Lines(string(settings)) {
		prepareKernel(w.kernel, strings.Fields(line))
	}
	in, err := os.ReadFile(filepath.Join(dir, "in.sip"))
	if err != nil {
		t.Fatal(err)
	}
	var out, kernel strings.Builder
	for _, step := range strings.Split("\n"+string(in), "\n== ")[1:] {
		head, text, _ := strings.Cut(step, "\n")
		fmt.Fprintf(&out, "== %s\n", head)
		fmt.Fprintf(&kernel, "== %s\n", head)
		fields := strings.Fields(head)
		if fields[0] == "wait" {
			d, err := time.ParseDuration(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			w.wait(d)
		} else {
			message := text + "\n"
			if !lf {
				message = strings.ReplaceAll(message, "\n", "\r\n")
			}
			got := string(w.send(fields[0], fields[2], []byte(message)))
			if !lf {
				got = strings.ReplaceAll(got, "\r\n", "\n")
			}
			out.WriteString(got)
		}
		kernel.WriteString(w.changes())
	}
	compareGolden(t, filepath.Join(dir, "out.sip"), out.String())
	compareGolden(t, filepath.Join(dir, "kernel"), kernel.String())
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

// configure takes one line of a case's config. It reports whether the case's
// messages keep their LF.
func configure(t *testing.T, c *Config, f []string) (lf bool) {
	if len(f) == 0 {
		return false
	}
	switch f[0] {
	case "lf":
		return true
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
	case "calls_per_host":
		fmt.Sscan(f[1], &c.Limits.CallsPerHost)
	case "translation", "forwarded", "owned":
	default:
		t.Fatalf("config: %q is not known", f[0])
	}
	return false
}

// prepareKernel takes the lines of a case's config that say what the kernel
// knows: "translation INSIDE PUBLIC", "forwarded INSIDE PUBLIC", "owned PUBLIC [INSIDE]".
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
	}
}
