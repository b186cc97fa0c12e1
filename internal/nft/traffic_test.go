package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/florianl/go-nfqueue/v2"
)

// lease puts changes into the kernel.
func lease(t *testing.T, table *Table, change func(b *Batch)) {
	t.Helper()
	var b Batch
	change(&b)
	must(t, table.Commit(&b))
}

// TestStream: packets to the public endpoint reach the inside one, what it sends
// leaves from the announced port, and a flow keeps its translation without the
// elements.
func TestStream(t *testing.T) {
	for _, first := range []string{"outside", "inside"} {
		t.Run(first+" first", func(t *testing.T) {
			w := newWorld(t)
			table := open(t, w.config())
			a := w.host(w.phone, phone+":4000")
			b := w.host(w.provider, provider+":30000")
			lease(t, table, func(b *Batch) {
				b.MapStream(a.addr, ap(public+":7070"), time.Hour)
				b.AllowSource(far1, a.addr, time.Hour)
			})
			in := func(text string) { t.Helper(); b.send(public+":7070", text); a.receive(provider+":30000", text) }
			out := func(text string) { t.Helper(); a.send(provider+":30000", text); b.receive(public+":7070", text) }
			if first == "outside" {
				in("1")
				out("2")
			} else {
				out("1")
				in("2")
			}
			in("3")

			// Conntrack alone carries on; the guard stays in force.
			lease(t, table, func(b *Batch) {
				b.Unmap(a.addr, ap(public+":7070"), true)
				b.KeepGuard(a.addr, time.Hour)
			})
			out("4")
			in("5")
			lease(t, table, func(b *Batch) { b.RevokeSource(far1, a.addr) })
			b.send(public+":7070", "stopped at once")
			out("6") // and the conntrack is still the same
			lease(t, table, func(b *Batch) { b.AllowSource(far1, a.addr, time.Hour) })
			in("7")
			if n, err := table.GuardDrops(); n != 1 || err != nil {
				t.Errorf("%d guard drops, %v, want 1", n, err)
			}
		})
	}
}

// TestUnmapped: without an element nothing is translated; the firewall's own rules
// apply.
func TestUnmapped(t *testing.T) {
	w := newWorld(t)
	open(t, w.config())
	a := w.host(w.phone, phone+":4000")
	b := w.host(w.provider, provider+":30000")
	b.send(public+":7070", "to the firewall itself")
	a.send(provider+":30000", "masqueraded")
	b.receive(public+":4000", "masqueraded")
	a.silent()
}

// TestGuard: who may send to a stream, from before the answer to after the end.
func TestGuard(t *testing.T) {
	w := newWorld(t)
	table := open(t, w.config())
	a, other := w.host(w.phone, phone+":4000"), w.host(w.phone, phone+":4002")
	b, c := w.host(w.provider, provider+":30000"), w.host(w.provider, stranger+":30000")
	otherPort := w.host(w.provider, provider+":30002")
	lease(t, table, func(b *Batch) {
		b.MapStream(a.addr, ap(public+":7070"), time.Hour)
		b.MapStream(other.addr, ap(public+":7072"), time.Hour)
		b.AllowSource(far1, other.addr, time.Hour)
	})
	// mark sends something that passes, after which all earlier packets have been
	// delivered or dropped.
	mark := func() { t.Helper(); b.send(public+":7072", "mark"); other.receive(provider+":30000", "mark") }

	b.send(public+":7070", "nobody is allowed yet")
	c.send(public+":7070", "nobody is allowed yet")
	mark()
	a.silent()

	lease(t, table, func(b *Batch) { b.OpenSource(a.addr, time.Hour) })
	b.send(public+":7070", "open 1")
	a.receive(provider+":30000", "open 1")
	c.send(public+":7070", "open 2")
	a.receive(stranger+":30000", "open 2")
	a.send(stranger+":30000", "latched") // as a phone with symmetric RTP does
	c.receive(public+":7070", "latched")

	lease(t, table, func(b *Batch) {
		b.CloseSource(a.addr)
		b.AllowSource(far1, a.addr, time.Hour)
	})
	c.send(public+":7070", "stranger after the answer, in a flow that exists")
	c.send(public+":7072", "stranger, to a stream that another host may use")
	b.send(public+":7070", "signalled")
	a.receive(provider+":30000", "signalled")
	otherPort.send(public+":7070", "another port of it")
	a.receive(provider+":30002", "another port of it")
	mark()
	a.silent()
	other.silent()

	if n, err := table.GuardDrops(); n != 4 || err != nil {
		t.Errorf("%d guard drops, %v, want 4", n, err)
	}
	strays, err := table.Strays()
	must(t, err)
	got := make(map[string]uint64)
	for _, s := range strays {
		got[fmt.Sprint(s.Source, " ", s.Inside)] = s.Packets
		if s.Last < 0 || s.Last > 10*time.Second {
			t.Errorf("%v was turned away %v ago", s.Source, s.Last)
		}
	}
	want := map[string]uint64{provider + " " + phone + ":4000": 1, stranger + " " + phone + ":4000": 2, stranger + " " + phone + ":4002": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("strays %v, want %v", got, want)
	}
}

// TestMediaAny: with media_source = any the guard lets everybody pass.
func TestMediaAny(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.MediaAny = true
	table := open(t, cfg)
	a, c := w.host(w.phone, phone+":4000"), w.host(w.provider, stranger+":5060")
	lease(t, table, func(b *Batch) { b.MapStream(a.addr, ap(public+":7070"), time.Hour) })
	c.send(public+":7070", "not queued either, whatever its port")
	a.receive(stranger+":5060", "not queued either, whatever its port")
}

// queues takes packets from queues until the test ends and lets them pass.
type queues struct {
	mu    sync.Mutex
	taken []queued
	more  chan struct{}
}

type queued struct {
	queue    uint16
	src, dst netip.AddrPort
	text     string
}

func listen(t *testing.T, first, count uint16) *queues {
	t.Helper()
	q := &queues{more: make(chan struct{}, 1<<12)}
	for num := first; num < first+count; num++ {
		nf, err := nfqueue.Open(&nfqueue.Config{NfQueue: num, MaxPacketLen: 0xffff, MaxQueueLen: 1024, Copymode: nfqueue.NfQnlCopyPacket, WriteTimeout: time.Second})
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(func() { cancel(); nf.Close() })
		must(t, nf.RegisterWithErrorFunc(ctx, func(a nfqueue.Attribute) int {
			p := *a.Payload
			ihl := int(p[0]&15) * 4
			q.mu.Lock()
			q.taken = append(q.taken, queued{
				queue: num,
				src:   netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:])), binary.BigEndian.Uint16(p[ihl:])),
				dst:   netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:])), binary.BigEndian.Uint16(p[ihl+2:])),
				text:  string(p[ihl+8:]),
			})
			q.mu.Unlock()
			_ = nf.SetVerdict(*a.PacketID, nfqueue.NfAccept)
			return 0
		}, func(error) int { return 0 }))
	}
	return q
}

// take gives what has been queued so far and forgets it.
func (q *queues) take() []queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.taken
	q.taken = nil
	return all
}

// want wants just these packets to have been queued, as "source > destination: text".
func (q *queues) want(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, p := range q.take() {
		got = append(got, fmt.Sprintf("%v > %v: %s", p.src, p.dst, p.text))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("queued %q, want %q", got, want)
	}
}

// TestDivert: SIP is queued with the phone's own address in both directions, by
// port or by endpoint; RTP and everything else is not.
func TestDivert(t *testing.T) {
	w := newWorld(t)
	table := open(t, w.config())
	q := listen(t, 5060, 1)
	sip, odd := w.host(w.phone, phone+":5060"), w.host(w.phone, phone+":6000")
	rtp := w.host(w.phone, phone+":4000")
	b5060, b5099 := w.host(w.provider, provider+":5060"), w.host(w.provider, provider+":5099")

	sip.send(provider+":5060", "by both ports")
	b5060.receive(public+":5060", "by both ports")
	q.want(t, phone+":5060 > "+provider+":5060: by both ports")
	sip.send(provider+":5099", "by source port")
	b5099.receive(public+":5060", "by source port")
	q.want(t, phone+":5060 > "+provider+":5099: by source port")
	odd.send(provider+":5060", "by destination port")
	b5060.receive(public+":6000", "by destination port")
	q.want(t, phone+":6000 > "+provider+":5060: by destination port")
	b5060.send(public+":6000", "reply, by source port")
	odd.receive(provider+":5060", "reply, by source port")
	q.want(t, provider+":5060 > "+phone+":6000: reply, by source port")

	odd.send(provider+":5099", "neither")
	b5099.receive(public+":6000", "neither")
	q.want(t)

	lease(t, table, func(b *Batch) {
		b.MapBinding(odd.addr, ap(public+":6060"), time.Hour)
		b.MapStream(rtp.addr, ap(public+":7070"), time.Hour)
		b.AllowSource(far1, rtp.addr, time.Hour)
	})
	odd.send(provider+":5099", "by endpoint")
	b5099.receive(public+":6000", "by endpoint") // its flow was there before the binding
	q.want(t, phone+":6000 > "+provider+":5099: by endpoint")
	b5099.send(public+":6000", "by endpoint, in")
	odd.receive(provider+":5099", "by endpoint, in")
	q.want(t, provider+":5099 > "+phone+":6000: by endpoint, in")

	rtp.send(provider+":5099", "RTP out")
	b5099.receive(public+":7070", "RTP out")
	b5099.send(public+":7070", "RTP in")
	rtp.receive(provider+":5099", "RTP in")
	b5060.send(public+":7070", "RTP from port 5060")
	rtp.receive(provider+":5060", "RTP from port 5060")
	q.want(t)
}

// TestDivertDirections: what is not between inside and outside is not touched.
func TestDivertDirections(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Inside = []string{"lan0"}
	open(t, cfg) // and nobody listens: what is queued is lost
	nftRun(t, "add rule inet fw forward accept")
	a, b := w.host(w.phone, phone+":5060"), w.host(w.phone2, phone2+":5060")
	c := w.host(w.provider, provider+":5060")
	a.send(phone2+":5060", "inside to elsewhere")
	b.receive(phone+":5060", "inside to elsewhere")
	b.send(phone+":5060", "elsewhere to inside")
	a.receive(phone2+":5060", "elsewhere to inside")
	b.send(provider+":5060", "elsewhere to outside")
	c.receive(public+":5060", "elsewhere to outside")
}

// TestHeldPacket: an element that is added while a packet is held translates that
// very packet.
func TestHeldPacket(t *testing.T) {
	w := newWorld(t)
	table := open(t, w.config())
	a, b := w.host(w.phone, phone+":5060"), w.host(w.provider, provider+":5060")

	nf, err := nfqueue.Open(&nfqueue.Config{NfQueue: 5060, MaxPacketLen: 0xffff, MaxQueueLen: 16, Copymode: nfqueue.NfQnlCopyPacket})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer func() { cancel(); nf.Close() }()
	refused := make(chan error, 1)
	must(t, nf.RegisterWithErrorFunc(ctx, func(p nfqueue.Attribute) int {
		var batch Batch
		batch.MapBinding(a.addr, ap(public+":5066"), time.Hour)
		refused <- table.Commit(&batch)
		_ = nf.SetVerdict(*p.PacketID, nfqueue.NfAccept)
		return 0
	}, func(error) int { return 0 }))

	a.send(provider+":5060", "REGISTER")
	must(t, <-refused)
	b.receive(public+":5066", "REGISTER")
}

// TestBypass: without a daemon SIP passes or not, as configured.
func TestBypass(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	table := open(t, cfg)
	a, b := w.host(w.phone, phone+":5060"), w.host(w.provider, provider+":5060")
	other, otherB := w.host(w.phone, phone+":4000"), w.host(w.provider, provider+":4000")
	a.send(provider+":5060", "lost")
	other.send(provider+":4000", "mark")
	otherB.receive(public+":4000", "mark")
	b.silent()

	cfg.Bypass = true
	must(t, table.Install(cfg))
	idle(t)
	a.send(provider+":5060", "passes")
	b.receive(public+":5060", "passes")
}

// idle ends the time in which SIP waits for the next daemon.
func idle(t *testing.T) {
	t.Helper()
	nftRun(t, "flush set ip sipnatd serving")
}

// TestServing: SIP that may bypass the queue does not for as long as a daemon has just
// been serving, in both directions, and however flows are spread.
func TestServing(t *testing.T) {
	for _, queues := range []uint16{1, 3} {
		t.Run(fmt.Sprint(queues, " queues"), func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config()
			cfg.Bypass, cfg.Queues = true, queues
			table := open(t, cfg)
			type pair struct{ phone, far *host }
			var pairs []pair // of as many flows that some go to each queue
			for port := range 8 {
				pairs = append(pairs, pair{w.host(w.phone, fmt.Sprint(phone, ":", 5000+port)), w.host(w.provider, fmt.Sprint(provider, ":", 5000+port))})
			}
			cfg.SIPPorts = nil
			for port := range uint16(8) {
				cfg.SIPPorts = append(cfg.SIPPorts, 5000+port)
			}
			must(t, table.Install(cfg))
			lost := func(text string) {
				for _, p := range pairs {
					p.phone.send(p.far.addr.String(), text)
				}
				mark, far := w.host(w.phone, phone+":4000"), w.host(w.provider, provider+":4000")
				defer mark.conn.Close()
				defer far.conn.Close()
				mark.send(far.addr.String(), "mark")
				far.receive(public+":4000", "mark")
				for _, p := range pairs {
					p.far.silent()
				}
			}
			lost("just installed")
			lease(t, table, func(b *Batch) { b.Serve(time.Second) }) // however long it was
			must(t, await(func() bool { return elementsOf(t, table, setServing) == nil }))
			for _, p := range pairs {
				p.phone.send(p.far.addr.String(), "out")
				p.far.receive(fmt.Sprint(public, ":", p.phone.addr.Port()), "out")
				p.far.send(fmt.Sprint(public, ":", p.phone.addr.Port()), "in")
				p.phone.receive(p.far.addr.String(), "in")
			}
			lease(t, table, func(b *Batch) { b.Serve(time.Minute) })
			lost("again")
			for _, p := range pairs {
				p.far.send(fmt.Sprint(public, ":", p.phone.addr.Port()), "in again")
			}
			other, far := w.host(w.phone, phone+":4001"), w.host(w.provider, provider+":4001")
			other.send(far.addr.String(), "mark")
			far.receive(public+":4001", "mark")
			far.send(public+":4001", "mark")
			other.receive(far.addr.String(), "mark")
			for _, p := range pairs {
				p.phone.silent()
			}
		})
	}
}

// await waits until something is so.
func await(so func() bool) error {
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("it has not come about in 10 s")
		}
	}
	return nil
}

// TestQueues: flows are spread over the queues, and each has one queue for both
// directions.
func TestQueues(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Queues = 4
	open(t, cfg)
	q := listen(t, 5060, 4)
	a := w.host(w.phone, phone+":5060")
	used := make(map[uint16]int)
	for i := range 64 {
		b := w.host(w.provider, fmt.Sprintf("%s:%d", provider, 10000+i))
		a.send(b.addr.String(), "out")
		b.receive(public+":5060", "out")
		b.send(public+":5060", "in")
		a.receive(b.addr.String(), "in")
		p := q.take()
		if len(p) != 2 || p[0].queue != p[1].queue {
			t.Fatalf("flow %d: queued as %v, want one queue for both directions", i, p)
		}
		used[p[0].queue]++
	}
	if len(used) != 4 {
		t.Errorf("64 flows of one address pair used the queues %v, want all of 5060 to 5063", used)
	}
}

// TestBinding: who reaches a binding.
func TestBinding(t *testing.T) {
	peers, any := Config{}, Config{AcceptAny: true}
	network := Config{SIPPeers: []netip.Prefix{netip.MustParsePrefix("198.51.100.3/32")}}
	for _, test := range []struct {
		name       string
		config     Config
		peer       bool // the provider is made a peer
		known, not bool // whether the provider, and the stranger, get through
	}{
		{"nobody", peers, false, false, false},
		{"a peer", peers, true, true, false},
		{"a network", network, false, false, true},
		{"both", network, true, true, true},
		{"any", any, false, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config()
			cfg.SIPPeers, cfg.AcceptAny, cfg.Bypass = test.config.SIPPeers, test.config.AcceptAny, true
			table := open(t, cfg)
			idle(t)
			a := w.host(w.phone, phone+":5060")
			mark := w.host(w.phone, phone+":4000")
			b, c := w.host(w.provider, provider+":5061"), w.host(w.provider, stranger+":5061")
			lease(t, table, func(b *Batch) {
				b.MapBinding(a.addr, ap(public+":5070"), time.Hour)
				b.MapStream(mark.addr, ap(public+":7070"), time.Hour)
				b.OpenSource(mark.addr, time.Hour)
				b.AllowPeer(far2, ap(public+":5072"), time.Hour) // of another binding
				if test.peer {
					b.AllowPeer(far1, ap(public+":5070"), time.Hour)
				}
			})
			for h, through := range map[*host]bool{b: test.known, c: test.not} {
				h.send(public+":5070", "INVITE")
				h.send(public+":7070", "mark")
				mark.receive(h.addr.String(), "mark")
				if !through {
					a.silent()
					continue
				}
				a.receive(h.addr.String(), "INVITE")
				a.send(h.addr.String(), "180")
				h.receive(public+":5070", "180")
			}
			// Outbound the binding is the same for all.
			d := w.host(w.provider, stranger+":5099")
			a.send(d.addr.String(), "INVITE")
			d.receive(public+":5070", "INVITE")
			d.send(public+":5070", "200")
			a.receive(d.addr.String(), "200")
		})
	}
}

// TestHairpin: hairpin = router translates between two inside hosts, both ways.
func TestHairpin(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.HairpinRouter = true
	table := open(t, cfg)
	a, b := w.host(w.phone, phone+":4000"), w.host(w.phone2, phone2+":4000")
	lease(t, table, func(batch *Batch) {
		batch.MapStream(a.addr, ap(public+":7070"), time.Hour)
		batch.MapStream(b.addr, ap(public+":7072"), time.Hour)
	})
	a.send(public+":7072", "to phone2")
	b.receive(public+":7070", "to phone2")
	b.send(public+":7070", "to phone")
	a.receive(public+":7072", "to phone")

	// What is not translated on its way in is not on its way out.
	nftRun(t, "add rule inet fw forward accept")
	a.send(phone2+":4000", "directly")
	b.receive(phone+":4000", "directly")

	// Without it the router keeps out of it.
	cfg.HairpinRouter = false
	must(t, table.Install(cfg))
	c := w.host(w.phone, phone+":4002")
	c.send(public+":7072", "to the firewall itself")
	c.send(phone2+":4000", "mark")
	b.receive(phone+":4002", "mark")
}

// TestPolicyFirst: in a firewall that knows only "established,related" the DNAT
// alone lets nothing in, and our chain at 290 sees what the policy accepted.
func TestPolicyFirst(t *testing.T) {
	w := newWorld(t)
	table := open(t, w.config())
	q := listen(t, 5060, 1)
	nftRun(t, "flush chain inet fw forward\nadd rule inet fw forward ct state established,related accept\nadd rule inet fw forward iifname lan0 udp dport != 5061 accept")
	a := w.host(w.phone, phone+":5060")
	b, c := w.host(w.provider, provider+":5061"), w.host(w.provider, provider+":5062")
	lease(t, table, func(b *Batch) {
		b.MapBinding(a.addr, ap(public+":5060"), time.Hour)
		b.AllowPeer(far1, ap(public+":5060"), time.Hour)
	})
	b.send(public+":5060", "dropped by the policy, in")
	a.send(b.addr.String(), "dropped by the policy, out")
	a.send(c.addr.String(), "accepted")
	c.receive(public+":5060", "accepted")
	a.silent()
	b.silent()
	q.want(t, phone+":5060 > "+provider+":5062: accepted")
}
