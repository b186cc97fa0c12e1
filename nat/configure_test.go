package nat

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

var mediaA = netip.MustParseAddrPort("10.0.0.10:4000")

// configure gives the engine of the world another policy.
func (w *world) configure(change func(*Config)) {
	change(&w.cfg)
	w.engine.Configure(w.cfg)
}

// port is where the stream of an inside endpoint is announced.
func (w *world) port(inside netip.AddrPort) uint16 {
	w.t.Helper()
	if m := w.engine.mappings[inside]; m != nil {
		return m.public.Port()
	}
	w.t.Fatalf("%v has no stream", inside)
	return 0
}

// Another port range counts for new streams. One that is open keeps its port, and
// nobody else gets it.
func TestConfigurePorts(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.PortLow, c.PortHigh = 7070, 7071 })
	first, second, third := sampleCall(0), sampleCall(1), sampleCall(2)
	invite := func(s sample) netip.AddrPort {
		t.Helper()
		w.send(s.phone, provider, s.invite)
		w.send(provider, s.phone, s.answer)
		host := netip.MustParseAddrPort(s.phone).Addr()
		_, port, _ := bytes.Cut(s.invite, []byte("m=audio "))
		ep := netip.MustParseAddrPort(host.String() + ":" + string(port[:5]))
		w.port(ep)
		return ep
	}
	a := invite(first)
	w.kernel.applied = nil
	w.configure(func(c *Config) { c.PortLow, c.PortHigh = 20000, 20001 })
	if len(w.kernel.applied) > 0 {
		t.Errorf("the kernel is asked for %v", w.kernel.applied)
	}
	if again := w.send(first.phone, provider, first.invite); !bytes.Contains(again, []byte("m=audio 7070 ")) {
		t.Errorf("the open stream is announced as\n%s", again)
	}
	if b := invite(second); w.port(b) != 20000 {
		t.Errorf("a new stream is at %d", w.port(b))
	}
	// Back to the old range, which the first call fills.
	w.configure(func(c *Config) { c.PortLow, c.PortHigh = 7070, 7073 })
	if c := invite(third); w.port(c) != 7072 || w.port(a) != 7070 {
		t.Errorf("streams at %d and %d", w.port(a), w.port(c))
	}
	for _, fault := range auditPorts(w.engine) {
		t.Error(fault)
	}
}

// A port that was given back rests in the next range, too.
func TestConfigureResting(t *testing.T) {
	p := testPorts(7070, 7079)
	p.mark(7074)
	p.release(7074)
	q := testPorts(7072, 7075)
	q.inherit(p)
	for range 20 {
		if port := q.find(2, anyPort); port != 7072 {
			t.Fatalf("found %d", port)
		}
	}
	q.mark(7072)
	q.mark(7073)
	if port := q.find(2, anyPort); port != 7074 {
		t.Errorf("the resting port is not given to the last one who asks: %d", port)
	}
}

// media_source counts for running calls: the guard opens, and closes again but for
// the sources that were named.
func TestConfigureMediaAny(t *testing.T) {
	w, l := newLedgerWorld(t, Config{})
	adopted := Change{Verb: OpenStream, Inside: netip.MustParseAddrPort("10.0.0.77:4000"), Public: netip.MustParseAddrPort(publicAddr + ":7998"), Lease: time.Hour}
	l.apply(adopted)
	w.engine.Adopt(adopted)
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
	w.cfg = l.config
	stream := l.inside[mediaA]
	for _, open := range []bool{false, true, true, false} {
		w.configure(func(c *Config) { c.MediaAny = open })
		if stream.open != open || len(stream.hosts) != 1 {
			t.Errorf("any %v: the guard is open %v, for %v", open, stream.open, stream.hosts)
		}
		if l.inside[adopted.Inside].open {
			t.Errorf("any %v: the guard of an adopted stream is open", open)
		}
	}
	for _, f := range audit(w.engine, l) {
		t.Error(f)
	}
}

// Messages announce the new address, and what they announced before is understood
// as long as dialogs may name it.
func TestConfigureAnnounced(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Announced = netip.MustParseAddr("198.51.100.200") })
	w.send(phoneA, provider, inviteA)
	bye := func(uri string) string {
		return string(w.send(provider, phoneA, []byte(crlf(`BYE sip:alice@`+uri+` SIP/2.0
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKbye`+uri+`
From: <sip:bob@example.org>;tag=a6c85cf
To: "Alice" <sip:alice@example.org>;tag=1928301774
Call-ID: a84b4c76e66710@10.0.0.10
CSeq: 2 BYE
Content-Length: 0

`))))
	}
	for _, announced := range []string{"198.51.100.201", "198.51.100.202", ""} {
		w.configure(func(c *Config) { c.Announced, _ = netip.ParseAddr(announced) })
		want := announced
		if want == "" {
			want = publicAddr
		}
		if out := w.send(phoneA, provider, pingOut); !bytes.Contains(out, []byte("Contact: <sip:alice@"+want+":5060>")) {
			t.Errorf("announced %s: leaves as\n%s", want, out)
		}
		for _, uri := range []string{"198.51.100.200:5060", want + ":5060"} {
			if in := bye(uri); !strings.HasPrefix(in, "BYE sip:alice@10.0.0.10:5060 ") {
				t.Errorf("announced %s: a BYE to %s arrives as\n%s", want, uri, in)
			}
		}
	}
	for i := range 3 * maxFormerly {
		w.configure(func(c *Config) { c.Announced = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) })
	}
	if len(w.engine.formerly) != maxFormerly {
		t.Errorf("%d addresses are remembered", len(w.engine.formerly))
	}
}

// The timeout counts for running calls, whether it gets shorter or longer. A call
// that has media lives on.
func TestConfigureTimeout(t *testing.T) {
	for _, c := range []struct {
		to, lives, ends time.Duration
	}{{10 * time.Second, 8 * time.Second, 30 * time.Second}, {time.Hour, 50 * time.Minute, 80 * time.Minute}} {
		w, l := newLedgerWorld(t, Config{})
		adopted := Change{Verb: OpenStream, Inside: netip.MustParseAddrPort("10.0.0.77:4000"), Public: netip.MustParseAddrPort(publicAddr + ":7998"), Lease: 30 * time.Minute}
		l.apply(adopted)
		w.engine.Adopt(adopted)
		w.send(phoneA, provider, inviteA)
		w.send(provider, phoneA, answerA)
		public := w.engine.mappings[mediaA].public
		for range 200 {
			l.packets[public]++
			w.wait(time.Second)
		}
		w.cfg = l.config
		w.configure(func(cfg *Config) { cfg.RTPTimeout = c.to })
		for range 60 {
			l.packets[public]++
			w.wait(time.Second)
		}
		if _, n := w.engine.Stats(); n.Calls != 1 {
			t.Fatalf("to %v: a call with media has ended", c.to)
		}
		if c.to < time.Minute && w.engine.mappings[adopted.Inside] != nil {
			t.Errorf("to %v: a silent stream of an earlier daemon is left", c.to)
		}
		w.wait(c.lives)
		if _, n := w.engine.Stats(); n.Calls != 1 {
			t.Errorf("to %v: the call has ended after %v of silence", c.to, c.lives)
		}
		w.wait(c.ends - c.lives)
		if _, n := w.engine.Stats(); n.Calls != 0 {
			t.Errorf("to %v: the call is left after %v of silence", c.to, c.ends)
		}
		for _, f := range audit(w.engine, l) {
			t.Error(f)
		}
	}
}

// What is decided for each message is decided anew.
func TestConfigureNextMessage(t *testing.T) {
	w := newWorld(t, nil)
	gateway := []byte(strings.Replace(string(inviteA), "c=IN IP4 10.0.0.10", "c=IN IP4 10.0.0.50", 1))
	if out := w.send(phoneA, provider, gateway); !bytes.Contains(out, []byte("m=audio 0 ")) {
		t.Fatalf("another host's stream is not refused:\n%s", out)
	}
	w.configure(func(c *Config) { c.MediaHosts = []netip.Prefix{netip.MustParsePrefix("10.0.0.50/32")} })
	if out := w.send(phoneA, provider, gateway); bytes.Contains(out, []byte("m=audio 0 ")) {
		t.Errorf("the media host's stream is refused:\n%s", out)
	}
	w.configure(func(c *Config) { c.SIPPorts = []uint16{5060, 4500} })
	port := []byte(strings.Replace(strings.Replace(string(inviteA), "m=audio 4000", "m=audio 4500", 1), "nashds8", "other", 1))
	if out := w.send(phoneA, provider, port); !bytes.Contains(out, []byte("m=audio 0 ")) {
		t.Errorf("a stream to a port that is now a SIP port is not refused:\n%s", out)
	}

	// Media between two inside phones.
	w = newWorld(t, nil)
	w.send(phoneA, provider, inviteA)
	other := sampleCall(100)
	w.send(other.phone, provider, other.invite)
	hairpin := bytes.Replace(answerA, []byte("c=IN IP4 203.0.113.20"), []byte("c=IN IP4 "+publicAddr), 1)
	hairpin = bytes.Replace(hairpin, []byte("m=audio 6000"), []byte("m=audio "+fmt.Sprint(w.port(netip.MustParseAddrPort("10.0.0.3:20000")))), 1)
	if in := w.send(provider, phoneA, hairpin); !bytes.Contains(in, []byte("c=IN IP4 10.0.0.3")) {
		t.Errorf("direct: arrives as\n%s", in)
	}
	w.configure(func(c *Config) { c.HairpinRouter = true })
	if in := w.send(provider, phoneA, hairpin); !bytes.Contains(in, []byte("c=IN IP4 "+publicAddr)) {
		t.Errorf("router: arrives as\n%s", in)
	}
}

// Another policy may come while messages are handled.
func TestConfigureMeanwhile(t *testing.T) {
	w := newWorld(t, nil)
	var wait sync.WaitGroup
	wait.Go(func() {
		for i := range 200 {
			w.configure(func(c *Config) {
				c.PortLow, c.PortHigh = 7070+uint16(2*i), 7999
				c.Announced = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
				c.MediaAny = i%2 == 0
			})
		}
	})
	for i := range 200 {
		s := sampleCall(i)
		w.send(s.phone, provider, s.invite)
		w.send(provider, s.phone, s.answer)
	}
	wait.Wait()
	if _, n := w.engine.Stats(); n.Calls != 200 || n.Mappings != 400 {
		t.Errorf("%+v", n)
	}
	for _, fault := range auditPorts(w.engine) {
		t.Error(fault)
	}
}
