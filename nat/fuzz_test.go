package nat

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sipnatd/sipmsg"
)

// FuzzEngine plays sequences of messages from both sides, and of time, against
// the engine. The input is a program: each byte chooses one thing, an
// exhausted input chooses the first of everything. What must hold is told by
// checkMessage, after each message by audit, and in the end checkEnd.
func FuzzEngine(f *testing.F) {
	for _, seed := range fuzzSeeds(f) {
		f.Add(seed)
	}
	corpus := rawMessages(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 2000 {
			t.Skip("too long")
		}
		newFuzzRun(t, program, corpus).play()
	})
}

// fuzzRun is one program that is played.
type fuzzRun struct {
	t       *testing.T
	program []byte
	corpus  [][]byte
	world   *world
	ledger  *ledger
	public  netip.Addr        // the firewall's
	journal *memory           // nil: there is none
	way     func(*Packet)     // how messages come where they are not forwarded
	asked   []asked           // requests that can be answered
	vias    map[string]string // topmost Vias of requests, by transaction; "" if there were several
	age     int               // grows whenever something may be forgotten
	log     strings.Builder   // what was played, for a failure
}

// asked is a request as its receiver sees it.
type asked struct {
	src, dst string
	message  []byte
	key      string // of the transaction
	via      string // as its sender has written it, see ownVia
	age      int    // of the run
}

// fuzzNetworks are those of a firewall whose public address changes.
type fuzzNetworks struct {
	fakeNetworks
	run *fuzzRun
}

func (n fuzzNetworks) Own(a netip.Addr) bool {
	return a == n.run.public || n.fakeNetworks.Own(a) && a != netip.MustParseAddr(publicAddr)
}

func newFuzzRun(t *testing.T, program []byte, corpus [][]byte) *fuzzRun {
	r := &fuzzRun{
		t: t, program: program, corpus: corpus, public: netip.MustParseAddr(publicAddr),
		vias: make(map[string]string), world: &world{t: t, now: time.Unix(1_700_000_000, 0), random: rand.NewPCG(1, 2)},
	}
	cfg := Config{PortLow: 7070, PortHigh: 7101, RTPTimeout: time.Minute, HoldTimeout: 5 * time.Minute, Networks: fuzzNetworks{run: r}}
	scene := r.choose(16)
	switch scene {
	case 1:
		cfg.HairpinRouter = true
	case 2:
		cfg.MediaAny = true
	case 3:
		cfg.Announced = netip.MustParseAddr("198.51.100.200")
	case 4:
		cfg.Limits = Limits{Bindings: 3, Calls: 2, CallsPerHost: 1, MappingsPerCall: 4, Transactions: 6, PeersPerBinding: 1}
	case 5:
		cfg.MediaHosts = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	}
	r.ledger = newLedger(cfg, func() time.Time { return r.world.now })
	r.start()
	switch scene {
	case 6, 7:
		r.ledger.translated, r.ledger.forwarded = true, scene == 7
	case 8:
		r.adopt("10.0.0.10:4000", "203.0.113.1:7080", true)
		r.adopt("10.0.0.10:4001", "203.0.113.1:7081", true)
		r.adopt("10.0.0.11:5060", "203.0.113.1:7090", false)
	case 9:
		r.way = func(p *Packet) { p.Proxied = true }
	case 10:
		r.way = overConnection
	case 11: // one phone in each way
		r.way = func(p *Packet) {
			if inside := insideOf(p); inside.Addr() == netip.MustParseAddr("10.0.0.11") {
				p.Proxied = true
			} else if inside.Port() != 5060 {
				overConnection(p)
			}
		}
	}
	if scene%2 == 0 {
		r.journal = newMemory()
		r.world.engine.Keep(r.journal)
	}
	return r
}

// start begins with an engine that knows nothing.
func (r *fuzzRun) start() {
	r.world.engine = New(r.ledger.config, r.ledger, func() time.Time { return r.world.now }, r.world.random, slog.New(slog.DiscardHandler))
	r.world.worker = r.world.engine.NewWorker()
}

func insideOf(p *Packet) netip.AddrPort {
	if p.Outbound {
		return p.Src
	}
	return p.Dst
}

// overConnection makes a message one of the connection that its endpoints have,
// with a public port of its own.
func overConnection(p *Packet) {
	p.Stream = true
	p.PublicPort = 30000 + p.Src.Port()%97*100 + p.Dst.Port()%97
	if !p.Outbound {
		p.PublicPort = 30000 + p.Dst.Port()%97*100 + p.Src.Port()%97
	}
	p.PublicPort += uint16(p.Src.Addr().As4()[3] ^ p.Dst.Addr().As4()[3])
}

// disconnect ends one of the connections.
func (r *fuzzRun) disconnect() {
	e := r.world.engine
	ports := make([]netip.AddrPort, 0, len(e.connections))
	for public := range e.connections {
		ports = append(ports, public)
	}
	if len(ports) > 0 {
		slices.SortFunc(ports, netip.AddrPort.Compare)
		public := ports[r.choose(len(ports))]
		fmt.Fprintln(&r.log, "end of connection", public)
		e.Disconnected(public)
		r.audit()
	}
}

// adopt begins with a mapping that an earlier daemon has left.
func (r *fuzzRun) adopt(inside, public string, stream bool) {
	c := Change{Inside: netip.MustParseAddrPort(inside), Public: netip.MustParseAddrPort(public), Lease: 10 * time.Minute}
	verbs := []Verb{OpenBinding, AllowPeer}
	if stream {
		verbs = []Verb{OpenStream, AllowSource, OpenGuard}
	}
	for _, c.Verb = range verbs {
		c.Far = netip.AddrPort{}
		if c.Verb == AllowPeer || c.Verb == AllowSource {
			c.Far = netip.MustParseAddrPort("203.0.113.20:0")
		}
		r.ledger.apply(c)
		r.world.engine.Adopt(c)
	}
}

// restart puts another engine in the place of the first one, as after a crash. It
// learns what the kernel has, unless the table has gone meanwhile, and what the journal
// has, unless that is lost.
func (r *fuzzRun) restart(flushed, lost bool) {
	fmt.Fprintln(&r.log, "restart, without table:", flushed, "without journal:", lost)
	old := r.world.engine
	for len(old.connections) > 0 { // they end with the process
		r.disconnect()
	}
	_, before := old.Stats()
	j := r.journal
	if j != nil {
		r.checkJournal()
	}
	if flushed {
		clear(r.ledger.entries)
		clear(r.ledger.inside)
	}
	r.start()
	e := r.world.engine
	for _, c := range r.ledger.changes() {
		e.Adopt(c)
	}
	if j != nil && !lost {
		for _, key := range slices.Sorted(maps.Keys(j.records)) {
			e.Restore(j.records[key], 0)
		}
	}
	did := e.Resume(j != nil && !lost)
	if did.Unreadable > 0 {
		r.fail("records that are not understood: %+v", did)
	}
	if j != nil {
		r.journal = newMemory()
		e.Keep(r.journal)
	}
	if _, now := e.Stats(); j != nil && !lost && !flushed && now != before {
		r.fail("%+v before the restart, %+v after it", before, now)
	}
	if j == nil || lost || flushed {
		r.age++
	}
	r.audit()
}

// checkJournal fails the run unless the journal has what the engine would write now.
func (r *fuzzRun) checkJournal() {
	written := func(m *memory) (all []string) {
		for _, record := range m.records {
			all = append(all, string(record))
		}
		slices.Sort(all)
		return all
	}
	was, now := written(r.journal), newMemory()
	r.world.engine.Keep(now)
	if is := written(now); !slices.Equal(was, is) {
		r.fail("the journal has\n%q\nbut the engine\n%q", was, is)
	}
	r.journal = now
}

// renumber gives the firewall another address, or its first one again.
func (r *fuzzRun) renumber() {
	old, next := r.public, netip.MustParseAddr("203.0.113.2")
	if old == next {
		next = netip.MustParseAddr(publicAddr)
	}
	fmt.Fprintln(&r.log, "renumber to", next)
	r.public = next
	r.age++
	r.world.engine.Renumber(func(a netip.Addr) (netip.Addr, bool) { return next, a == old })
	for public := range r.ledger.entries {
		if public.Addr() == old {
			r.fail("%v is left in the kernel", public)
		}
	}
	r.audit()
}

// choose takes a number below n from the program.
func (r *fuzzRun) choose(n int) int {
	if len(r.program) == 0 {
		return 0
	}
	v := int(r.program[0])
	r.program = r.program[1:]
	return v % n
}

func pick[T any](r *fuzzRun, of ...T) T { return of[r.choose(len(of))] }

func (r *fuzzRun) play() {
	for len(r.program) > 0 {
		switch r.choose(16) {
		case 0:
			d := pick(r, time.Second, 5*time.Second, 33*time.Second, 65*time.Second, 6*time.Minute, time.Hour)
			fmt.Fprintln(&r.log, "wait", d)
			r.age++
			r.world.wait(d)
			if d > inviteWait+transactionEnd {
				clear(r.vias)
			}
			r.audit()
		case 1:
			for public := range r.ledger.entries {
				r.ledger.packets[public] += 50
			}
		case 3, 4, 5, 6:
			r.answer()
		case 2:
			src, dst := r.endpoints()
			r.send(src, dst, slices.Clone(r.corpus[r.choose(256)%len(r.corpus)]))
		case 14:
			if len(r.world.engine.connections) > 0 {
				r.disconnect()
				break
			}
			r.message()
		case 15:
			r.configure()
		default:
			r.message()
		}
	}
	r.checkEnd()
}

// configure gives the engine another policy, which must end nothing; or another
// process, or another address.
func (r *fuzzRun) configure() {
	c := &r.ledger.config
	what := r.choose(10)
	switch what {
	case 6, 7:
		r.restart(false, what == 7)
		return
	case 8:
		r.restart(true, false)
		return
	case 9:
		if r.ledger.translated || len(r.world.engine.connections) > 0 {
			return // flows and connections stay on the address that they have
		}
		r.renumber()
		return
	}
	fmt.Fprintln(&r.log, "configure")
	r.age++
	switch what {
	case 0:
		c.PortLow, c.PortHigh = 7070, 7101
	case 1:
		c.PortLow, c.PortHigh = 7090, 7121
	case 2:
		c.MediaAny = !c.MediaAny
	case 3:
		c.Announced = pick(r, netip.Addr{}, netip.MustParseAddr("198.51.100.200"), netip.MustParseAddr("198.51.100.201"))
	case 4:
		c.RTPTimeout = pick(r, 10*time.Second, time.Minute, time.Hour)
	case 5:
		c.HairpinRouter = !c.HairpinRouter
	}
	held := len(r.ledger.entries)
	r.world.engine.Configure(*c)
	if len(r.ledger.entries) != held {
		r.fail("another policy has changed how many mappings there are from %d to %d", held, len(r.ledger.entries))
	}
	r.audit()
}

// endpoints chooses where a message comes from and goes to.
func (r *fuzzRun) endpoints() (src, dst string) {
	inside := pick(r, phoneA, "10.0.0.11:5060", "10.0.0.10:6000", "10.0.0.10:4000")
	far := pick(r, provider, "203.0.113.20:5060", "198.51.100.66:5062")
	if r.choose(2) == 0 {
		return inside, far
	}
	return far, inside
}

// message sends one that is made of parts, and one in sixteen damaged.
func (r *fuzzRun) message() {
	src, dst := r.endpoints()
	m := r.build(src)
	if r.choose(16) == 15 {
		for range 1 + r.choose(4) {
			at := (r.choose(256) + 256*r.choose(8)) % len(m)
			switch r.choose(4) {
			case 0:
				m[at] = byte(r.choose(256))
			case 1:
				m = slices.Delete(m, at, min(at+1+r.choose(20), len(m)))
			case 2:
				n := min(at+1+r.choose(60), len(m))
				m = slices.Insert(m, at, slices.Clone(m[at:n])...)
			case 3:
				m = slices.Insert(m, at, byte(r.choose(256)))
			}
			if len(m) == 0 {
				m = []byte{' '}
			}
		}
	}
	r.send(src, dst, m)
}

// answer sends the answer to one of the latest requests.
func (r *fuzzRun) answer() {
	if len(r.asked) == 0 {
		return
	}
	a := r.asked[len(r.asked)-1-r.choose(min(len(r.asked), 8))]
	var m sipmsg.Message
	if m.Index(a.message) != nil {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d x\r\n", pick(r, 200, 200, 183, 180, 401, 486, 491, 302))
	for _, h := range m.Headers {
		switch h.Kind {
		case sipmsg.HdrVia, sipmsg.HdrFrom, sipmsg.HdrCallID, sipmsg.HdrCSeq:
			b.Write(m.Bytes(h.Line))
		case sipmsg.HdrTo:
			b.Write(bytes.TrimRight(m.Bytes(h.Line), "\r\n"))
			if m.ToTag == (sipmsg.Span{}) {
				b.WriteString(pick(r, ";tag=b", ";tag=a", ";tag=c", ""))
			}
			b.WriteString("\r\n")
		case sipmsg.HdrContact:
			if m.Method == sipmsg.MethodRegister {
				b.Write(m.Bytes(h.Line))
			}
		}
	}
	fmt.Fprintf(&b, "Contact: <sip:x@%s>\r\n", a.dst)
	if r.choose(2) == 0 {
		b.WriteString("Content-Type: application/sdp\r\n\r\n" + r.sdp(a.dst))
	} else {
		b.WriteString("\r\n")
	}
	out := r.send(a.dst, a.src, []byte(b.String()))
	if m.Method != sipmsg.MethodAck { // which nobody answers
		r.checkRestored(a, out)
	}
}

// checkRestored fails the run unless an answer comes back to the sender of the request
// with its own Via, byte for byte. It says nothing
// of a request that the engine may have forgotten, or whose branch was used again.
func (r *fuzzRun) checkRestored(a asked, answer []byte) {
	var m sipmsg.Message
	if a.age != r.age || a.via == "" || r.vias[a.key] != a.via || r.ledger.config.Limits != r.unlimited() || m.Index(answer) != nil {
		return
	}
	if got := ownVia(&m); got != a.via {
		r.fail("the answer comes back with Via %q instead of %q:\n%s", got, a.via, answer)
	}
}

// unlimited are the limits where none is reached.
func (r *fuzzRun) unlimited() Limits {
	return Limits{}.withDefaults(int(r.ledger.config.PortHigh) - int(r.ledger.config.PortLow) + 1)
}

// ownVia is the topmost Via without what servers add to it (RFC 3261 section 18.2.1,
// RFC 3581).
func ownVia(m *sipmsg.Message) string {
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrVia {
			continue
		}
		via, _, _ := strings.Cut(string(m.Bytes(h.Line)), ",")
		kept := slices.DeleteFunc(strings.Split(strings.TrimSpace(via), ";"), func(p string) bool {
			p = strings.ToLower(strings.TrimSpace(p))
			return strings.HasPrefix(p, "received") || strings.HasPrefix(p, "rport")
		})
		return strings.Join(kept, ";")
	}
	return ""
}

// build writes a message. Its parts come from small sets, so that dialogs,
// transactions and streams meet each other.
func (r *fuzzRun) build(src string) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	method := pick(r, "INVITE", "ACK", "BYE", "REGISTER", "UPDATE", "PRACK", "CANCEL", "OPTIONS", "NOTIFY", "REFER")
	if r.choose(2) == 0 {
		line("%s %s SIP/2.0", method, pick(r, "sip:bob@example.org", "sip:alice@203.0.113.1:5060", "sip:10.0.0.11", "tel:+4930"))
	} else {
		line("SIP/2.0 %d x", pick(r, 200, 183, 100, 180, 401, 486, 302, 491, 408, 422))
	}
	line("Via: SIP/2.0/UDP %s;branch=z9hG4bK%d%s", pick(r, src, "203.0.113.1:5060", "phone.home", "10.0.0.10"), r.choose(6), pick(r, "", ";rport", ";rport=5060;received=203.0.113.1"))
	if r.choose(8) == 7 {
		line("Via: SIP/2.0/UDP 10.0.0.10;branch=z9hG4bKlow")
	}
	party := func(name string) {
		line("%s: <sip:%s>%s", name, pick(r, "a@example.org", "a@10.0.0.10", "b@203.0.113.1", "b@203.0.113.1:5060", "c@10.0.0.11:5062"), pick(r, "", ";tag=a", ";tag=b", ";tag=c"))
	}
	party("From")
	party("To")
	line("Call-ID: %d", r.choose(3))
	line("CSeq: %d %s", 1+r.choose(3), method)
	switch r.choose(8) {
	case 0, 1, 2:
		line("Contact: <sip:a@%s>%s", src, pick(r, "", ";expires=0", ";expires=60", ";expires=3600"))
	case 3:
		line("Contact: %s", pick(r, "*", "<sip:a@10.0.0.10:6000>", "<sip:a@10.0.0.10:4000>, sip:a@203.0.113.1;expires=90", "<sip:a@10.0.0.10:99>", "<sip:a@10.0.0.99>", "<sip:a@203.0.113.1:7070>"))
	}
	switch r.choose(10) {
	case 9:
		line("Record-Route: <sip:%s;lr>, <sip:10.0.0.10;lr>", src)
	case 8:
		line("Refer-To: <sip:a@10.0.0.10:5060>")
	case 7:
		line("Session-Expires: %d", pick(r, 90, 1800))
	}
	var body string
	switch r.choose(4) {
	case 0, 1:
		body = r.sdp(src)
		line("Content-Type: application/sdp")
	case 2:
		if r.choose(4) == 3 {
			body = "--b\r\nContent-Type: application/sdp\r\n\r\n" + r.sdp(src) + "--b--\r\n"
			line("Content-Type: multipart/mixed;boundary=b")
		}
	}
	if r.choose(4) != 3 {
		line("Content-Length: %d", len(body))
	}
	line("")
	return append([]byte(b.String()), body...)
}

// sdp writes a session description.
func (r *fuzzRun) sdp(src string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	host, _, _ := strings.Cut(src, ":")
	addr := func() string {
		return pick(r, host, host, host, "203.0.113.1", "10.0.0.10", "0.0.0.0", "192.168.1.1", "media.example")
	}
	port := func() int { return pick(r, 4000, 4002, 4004, 5056, 7070, 7072, 0, 500, 5060, 6000, 65535, 65534) }
	line("v=0")
	line("o=- 1 1 IN IP4 %s", addr())
	line("c=IN IP4 %s", addr())
	for range r.choose(4) {
		line("m=%s %d%s %s 8", pick(r, "audio", "video", "image"), port(), pick(r, "", "", "", "/2", "/4"), pick(r, "RTP/AVP", "udptl", "TCP/MSRP"))
		switch r.choose(12) {
		case 5:
			line("c=IN IP4 %s", addr())
		case 6:
			line("a=rtcp:%d", port())
		case 7:
			line("a=rtcp:%d IN IP4 %s", port(), addr())
		case 8:
			line("a=candidate:1 %d UDP 1 %s %d typ %s", 1+r.choose(2), addr(), port(), pick(r, "host", "relay"))
		case 9:
			line("a=candidate:2 1 UDP 1 198.51.100.9 9000 typ srflx raddr %s rport %d", addr(), port())
		case 10:
			line("a=%s", pick(r, "sendonly", "inactive", "recvonly", "bundle-only", "rtcp-mux"))
		case 11:
			line("a=remote-candidates:1 %s %d", addr(), port())
		}
	}
	return b.String()
}

// send has a message pass, and checks what leaves and what was opened for it.
func (r *fuzzRun) send(src, dst string, message []byte) []byte {
	fmt.Fprintf(&r.log, "== %s > %s\n%s\n", src, dst, message)
	before := bytes.Clone(message)
	r.ledger.opened = r.ledger.opened[:0]
	p := packet(src, dst, message)
	p.Public = r.public
	if r.way != nil {
		r.way(p)
	}
	out := r.world.worker.Handle(p)
	if !bytes.Equal(before, message) {
		r.fail("the datagram was changed in place")
	}
	r.checkMessage(p, out)
	r.audit()
	if out == nil {
		out = message
	}
	if m := new(sipmsg.Message); !bytes.HasPrefix(out, []byte("SIP/2.0")) && m.Index(before) == nil {
		a := asked{src: src, dst: dst, message: bytes.Clone(out), via: ownVia(m), age: r.age}
		a.key = fmt.Sprintf("%v %v %q %q %q", insideOf(p).Addr(), p.Outbound, m.Bytes(m.CallID), m.Bytes(m.Via.Branch), m.Bytes(m.MethodName))
		if before, again := r.vias[a.key]; again && before != a.via {
			a.via = "" // no transaction, by what RFC 3261 section 17.1.3 says
		}
		if e := r.world.engine; e.bindings[p.Src] == nil && e.bindings[p.Dst] == nil && !p.Stream {
			a.via = "" // there is no room for a binding, or it would be where there is a stream
		}
		r.vias[a.key] = a.via
		r.asked = append(r.asked, a)
	}
	return out
}

func (r *fuzzRun) fail(format string, args ...any) {
	r.t.Fatalf(format+"\nplayed:\n%s", append(args, r.log.String())...)
}

// audit compares the engine's state with the kernel's.
func (r *fuzzRun) audit() {
	if faults := audit(r.world.engine, r.ledger); len(faults) > 0 {
		r.fail("%s", strings.Join(faults, "\n"))
	}
}

// checkMessage says what must hold for any datagram: what is not SIP opens
// nothing and passes untouched; a message from outside opens nothing; one from
// inside opens something to its sender's host only, and takes no inside address
// along where it says how to reach the sender.
func (r *fuzzRun) checkMessage(p *Packet, out []byte) {
	var in, left sipmsg.Message
	if err := in.Index(p.Payload); err != nil {
		if out != nil || len(r.ledger.opened) > 0 {
			r.fail("not SIP (%v), but changed or opened: %v", err, r.ledger.opened)
		}
		return
	}
	for _, c := range r.ledger.opened {
		if c.Verb == OpenForwarded || c.Verb == OpenBinding && r.ledger.translated {
			continue // of a flow that was there already
		}
		if p.Proxied && c.Verb != OpenStream {
			r.fail("the proxy needs no %v", c)
		}
		own := c.Inside.Addr() == p.Src.Addr() || c.Verb == OpenStream && len(r.ledger.config.MediaHosts) > 0
		if !p.Outbound || !own {
			r.fail("a message from %v: %v", p.Src, c)
		}
	}
	if out == nil {
		out = p.Payload
	}
	if err := left.Index(out); err != nil {
		r.fail("what leaves is no SIP message: %v\n%s", err, out)
	}
	added := 0
	if bytes.Contains(out, requireNoMedia) && !bytes.Contains(p.Payload, requireNoMedia) {
		added = 1
	}
	if len(left.Headers) != len(in.Headers)+added {
		r.fail("%d headers came, %d leave\n%s", len(in.Headers), len(left.Headers), out)
	}
	if p.Proxied {
		for i, h := range in.Headers {
			if got := left.Bytes(left.Headers[i].Line); h.Kind != sipmsg.HdrContentLength && !bytes.Equal(got, in.Bytes(h.Line)) {
				r.fail("a header is the proxy's, and was changed: %s", got)
			}
		}
	}
	if !p.Outbound {
		return
	}
	inside := func(s sipmsg.Span) bool {
		a, ok := sipmsg.ParseAddr(left.Bytes(s))
		return ok && fakeNetworks{}.Inside(a)
	}
	if left.Request && inside(left.Via.Host) && !p.Proxied {
		r.fail("an inside address in Via\n%s", out)
	}
	for _, h := range left.Headers {
		if p.Proxied {
			break
		}
		switch h.Kind {
		case sipmsg.HdrFrom:
			if !left.Request {
				continue // an answer repeats what the far party wrote
			}
			fallthrough
		case sipmsg.HdrContact, sipmsg.HdrRecordRoute, sipmsg.HdrReferTo:
			for it := left.Addresses(h); ; {
				a, ok := it.Next()
				if !ok {
					break
				}
				if inside(a.URI.Host) {
					r.fail("an inside address in %s\n%s", left.Bytes(h.Line), out)
				}
			}
		}
	}
	var s sipmsg.SDP
	for _, body := range left.SDPBodies(nil) {
		if s.Index(out, body) != nil {
			continue
		}
		spans := []sipmsg.Span{s.OriginAddr}
		for _, c := range s.Conns {
			spans = append(spans, c.Addr)
		}
		for _, a := range s.RTCP {
			spans = append(spans, a.Addr)
		}
		for _, c := range s.Candidates {
			spans = append(spans, c.Addr, c.RAddr)
		}
		for _, span := range spans {
			if inside(span) {
				r.fail("an inside address in SDP\n%s", out)
			}
		}
	}
}

// checkEnd lets so much time pass that nothing may be left.
func (r *fuzzRun) checkEnd() {
	r.log.WriteString("end\n")
	r.ledger.exempted = true
	for range 12 {
		r.world.now = r.world.now.Add(100 * 24 * time.Hour)
		r.world.engine.Tick()
		r.audit()
	}
	e := r.world.engine
	for len(e.connections) > 0 {
		r.disconnect()
	}
	if _, n := e.Stats(); n != (Counts{}) || len(e.hosts) > 0 || len(e.connected) > 0 || len(r.ledger.entries) > 0 {
		r.fail("left in the end: %+v, %d hosts, %d mappings in the kernel", n, len(e.hosts), len(r.ledger.entries))
	}
	for _, slot := range e.wheel.slots {
		for _, t := range slot {
			if !t.timer().deadline.IsZero() {
				r.fail("a deadline is left: %v", t.timer().deadline)
			}
		}
	}
}

// rawMessages are the RFCs' test messages and the golden cases'.
func rawMessages(f *testing.F) (messages [][]byte) {
	files, _ := filepath.Glob("../sipmsg/testdata/rfc*/*")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err == nil && len(b) > 0 {
			messages = append(messages, b)
		}
	}
	messages = append(messages, inviteA, answerA, pingOut, pingIn)
	if len(messages) < 50 {
		f.Fatalf("%d messages", len(messages))
	}
	return messages
}

// fuzzSeeds are programs of some length; what they play is chance.
func fuzzSeeds(*testing.F) (seeds [][]byte) {
	state := uint32(1)
	for i := range 100 {
		seed := make([]byte, 60+i*16)
		for k := range seed {
			state = state*1664525 + 1013904223
			seed[k] = byte(state >> 24)
		}
		seeds = append(seeds, seed)
	}
	return seeds
}
