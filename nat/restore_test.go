package nat

import (
	"bytes"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is a Journal for tests.
type memory struct {
	records map[uint64][]byte
	noted   map[uint64][]byte // since the last Flush, nil: deleted
	puts    int
}

func newMemory() *memory {
	return &memory{records: map[uint64][]byte{}, noted: map[uint64][]byte{}}
}

func (m *memory) Put(key uint64, record []byte) { m.puts++; m.noted[key] = bytes.Clone(record) }
func (m *memory) Delete(key uint64)             { m.noted[key] = nil }

func (m *memory) Flush() error {
	for key, record := range m.noted {
		if record == nil {
			delete(m.records, key)
		} else {
			m.records[key] = record
		}
	}
	clear(m.noted)
	return nil
}

// left is what a kernel has after these changes, as the changes that make it.
func left(applied []Change) (all []Change) {
	for _, c := range applied {
		same := func(verbs ...Verb) func(Change) bool {
			return func(o Change) bool {
				return o.Public == c.Public && slices.Contains(verbs, o.Verb) && (!c.Far.IsValid() || o.Far.Addr() == c.Far.Addr())
			}
		}
		switch c.Verb {
		case RenewBinding, RenewStream:
			if i := slices.IndexFunc(all, same(OpenBinding, OpenForwarded, OpenStream)); i >= 0 {
				all[i].Lease = c.Lease
			}
		case CloseBinding, CloseStream:
			all = slices.DeleteFunc(all, func(o Change) bool { return o.Public == c.Public })
		case RevokePeer:
			all = slices.DeleteFunc(all, same(AllowPeer))
		case RevokeSource:
			all = slices.DeleteFunc(all, same(AllowSource))
		case CloseGuard:
			all = slices.DeleteFunc(all, same(OpenGuard))
		case AllowEgress:
		default:
			c.Far = netip.AddrPortFrom(c.Far.Addr(), 0)
			if !slices.ContainsFunc(all, same(c.Verb)) {
				all = append(all, c)
			}
		}
	}
	return all
}

// restart puts another engine in the place of the world's, as after a crash: it knows
// what is in the kernel, if that has kept it, and the journal.
func (w *world) restart(j *memory, applied []Change) Restored {
	w.engine = New(w.cfg, w.kernel, func() time.Time { return w.now }, w.random, slog.New(slog.NewTextHandler(w.log,
		&slog.HandlerOptions{ReplaceAttr: withoutTime})))
	w.worker = w.engine.NewWorker()
	for _, c := range left(applied) {
		w.engine.Adopt(c)
	}
	for _, record := range j.records {
		w.engine.Restore(record, 0)
	}
	did := w.engine.Resume(true)
	*j = *newMemory()
	w.engine.Keep(j)
	return did
}

// TestGoldenRestarts plays the golden cases with a daemon that crashes before each
// step: what leaves must be the same, byte for byte. So it must be where the kernel's
// table went with the daemon, as by a reload of the firewall meanwhile.
func TestGoldenRestarts(t *testing.T) {
	cases, _ := filepath.Glob("testdata/*/in.sip")
	for _, in := range cases {
		dir := filepath.Dir(in)
		name := filepath.Base(dir)
		if strings.HasPrefix(name, "tcp_") {
			continue // connections end with the process
		}
		t.Run(name, func(t *testing.T) { restartGolden(t, dir, false) })
		t.Run(name+" without table", func(t *testing.T) { restartGolden(t, dir, true) })
	}
}

func restartGolden(t *testing.T, dir string, flushed bool) {
	g, steps := openGolden(t, dir)
	j := newMemory()
	g.engine.Keep(j)
	k := g.world.kernel
	for i, s := range steps {
		if flushed {
			k.before = nil
		}
		if did := g.restart(j, slices.Concat(k.before, k.applied)); did.Unreadable > 0 || did.Orphans > 0 {
			t.Errorf("before step %d: %+v", i, did)
		}
		if s.head[0] == "adopt" {
			return // before the daemon's first start
		}
		g.step(t, s)
	}
	compareGolden(t, filepath.Join(dir, "out.sip"), g.out.String())
}

// play has a call begin: offer and answer.
func (w *world) call() {
	w.send(phoneA, provider, inviteA)
	w.send(provider, phoneA, answerA)
}

// hangUp has the call end, and waits until its transactions are forgotten.
func (w *world) hangUp() {
	w.send(phoneA, provider, byeA)
	w.send(provider, phoneA, byeAnswerA)
	w.wait(time.Minute)
}

// nothingLeft looks for records of an ended call.
func nothingLeft(t *testing.T, j *memory) {
	t.Helper()
	if n := len(j.records); n > 2 { // the engine and its binding
		t.Errorf("%d records are left", n)
	}
}

// TestRestartKeepsGuard: a call that is taken over asks the kernel for what it has,
// and for nothing to be opened or closed.
func TestRestartKeepsGuard(t *testing.T) {
	w := newWorld(t, nil)
	j := newMemory()
	w.engine.Keep(j)
	w.call()
	w.changes()
	did := w.restart(j, w.kernel.before)
	if did.Calls != 1 || did.Bindings != 1 || did.Transactions != 1 || did.Orphans != 0 {
		t.Errorf("taken over: %+v", did)
	}
	for _, c := range w.kernel.applied {
		if c.Verb != RenewStream && c.Verb != RenewBinding && c.Verb != AllowEgress && c.Verb != AllowPeer {
			t.Errorf("after the restart: %v", c)
		}
	}
	w.changes()
	w.hangUp()
	if got := w.changes(); strings.Count(got, "close stream") != 2 {
		t.Errorf("after BYE:\n%s", got)
	}
	nothingLeft(t, j)
}

// TestCallEndsWithoutJournal: between a failed write and the next whole one there is no
// journal, and what ends then had a record.
func TestCallEndsWithoutJournal(t *testing.T) {
	w := newWorld(t, nil)
	j := newMemory()
	w.engine.Keep(j)
	w.call()
	w.engine.Keep(nil)
	w.hangUp()
	*j = *newMemory()
	w.engine.Keep(j)
	nothingLeft(t, j)
}

// TestRestartForgetsInvite: a call whose INVITE is forgotten already leaves nothing in
// the journal when it ends after a restart.
func TestRestartForgetsInvite(t *testing.T) {
	w := newWorld(t, nil)
	j := newMemory()
	w.engine.Keep(j)
	w.call()
	w.wait(transactionEnd + time.Second)
	w.changes()
	if did := w.restart(j, w.kernel.before); did.Calls != 1 || did.Transactions != 0 {
		t.Errorf("taken over: %+v", did)
	}
	w.hangUp()
	nothingLeft(t, j)
}

// TestRestartAmidBye: the process was killed when the end of a dialog was written down,
// and not yet that its re-INVITE has nothing to bring back any more.
func TestRestartAmidBye(t *testing.T) {
	w := newWorld(t, nil)
	j := newMemory()
	w.engine.Keep(j)
	w.call()
	again := strings.NewReplacer("To: <sip:bob@example.org>\r", "To: <sip:bob@example.org>;tag=a6c85cf\r", "nashds8", "again",
		"314159", "314161", "m=audio 4000", "m=audio 4100", "m=audio 6000", "m=audio 6100", "200 OK", "183 Session Progress")
	w.send(phoneA, provider, []byte(again.Replace(string(inviteA))))
	w.send(provider, phoneA, []byte(again.Replace(string(answerA))))
	kept := false
	for _, tr := range w.engine.transactions {
		kept = kept || tr.previous != nil
	}
	if !kept {
		t.Fatal("the re-INVITE has nothing to bring back")
	}
	for _, c := range w.engine.calls {
		c.dialogs = nil
		w.engine.touch(c)
	}
	w.engine.Tick()
	w.changes()
	w.restart(j, w.kernel.before)
	refused := strings.NewReplacer("183 Session Progress", "488 Not Acceptable Here").Replace(again.Replace(string(answerA)))
	w.send(provider, phoneA, []byte(refused))
	w.wait(time.Minute)
	if _, n := w.engine.Stats(); n.Mappings != 0 || n.Calls != 0 {
		t.Errorf("left: %+v", n)
	}
}

// TestRestartAnnounces: the process announces another address than the one before it, as
// where a name has got another one meanwhile. What was announced is understood.
func TestRestartAnnounces(t *testing.T) {
	first := netip.MustParseAddr("198.51.100.200")
	for _, late := range []bool{false, true} { // the name was looked up later on
		w := newWorld(t, func(c *Config) {
			if !late {
				c.Announced = first
			}
		})
		j := newMemory()
		w.engine.Keep(j)
		w.configure(func(c *Config) { c.Announced = first })
		w.call()
		w.changes()
		w.cfg.Announced = netip.MustParseAddr("198.51.100.201")
		w.restart(j, w.kernel.before)
		got := w.send(provider, phoneA, []byte(strings.Replace(string(pingIn), "OPTIONS sip:alice@203.0.113.1:5060", "OPTIONS sip:alice@198.51.100.200:5060", 1)))
		if !bytes.HasPrefix(got, []byte("OPTIONS sip:alice@10.0.0.10:5060 ")) {
			t.Errorf("late %v: arrives as\n%s", late, got)
		}
	}
}

// TestOtherVersion: records of another version may mean anything, and none of them counts.
func TestOtherVersion(t *testing.T) {
	w := newWorld(t, nil)
	j := newMemory()
	w.engine.Keep(j)
	w.call()
	w.changes()
	for _, record := range j.records {
		if record[0] == recordEngine {
			record[1]++
		}
	}
	all := len(j.records)
	if did := w.restart(j, w.kernel.before); did.Unreadable != all || did.Calls+did.Transactions+did.Bindings != 0 {
		t.Errorf("of %d records: %+v", all, did)
	}
}

// TestOrphans: a stream that no call holds ends within seconds, unless it carries
// packets or the journal has holes.
func TestOrphans(t *testing.T) {
	for _, c := range []struct {
		name           string
		whole, flowing bool
		lives          bool
	}{
		{"silent", true, false, false},
		{"with packets", true, true, true},
		{"silent, records missing", false, false, true},
	} {
		w := newWorld(t, nil)
		inside := "10.0.0.10:4000"
		w.engine.Adopt(Change{Verb: OpenStream, Inside: netip.MustParseAddrPort(inside),
			Public: netip.MustParseAddrPort("203.0.113.1:7080"), Lease: 20 * time.Minute})
		w.kernel.packets[netip.MustParseAddrPort("203.0.113.1:7080")] = 1000 // before the restart
		if did := w.engine.Resume(c.whole); did.Orphans != 1 {
			t.Errorf("%s: %+v", c.name, did)
		}
		var flowing []string
		if c.flowing {
			flowing = append(flowing, inside)
		}
		w.wait(2*orphanWait, flowing...)
		if _, n := w.engine.Stats(); (n.Mappings == 1) != c.lives {
			t.Errorf("%s: %d streams are left", c.name, n.Mappings)
		}
	}
}

// TestUnreadable: what is no record is counted, and costs nothing but itself.
func TestUnreadable(t *testing.T) {
	w := newWorld(t, nil)
	j := newMemory()
	w.engine.Keep(j)
	w.call()
	w.changes()
	j.records[1000] = nil
	j.records[1001] = []byte("?")
	j.records[1002] = []byte{recordCall, 1, 2, 3}
	did := w.restart(j, w.kernel.before)
	if did.Unreadable != 3 || did.Calls != 1 {
		t.Errorf("%+v", did)
	}
}

// TestJournalIsSparse: a message that says nothing new is not written down.
func TestJournalIsSparse(t *testing.T) {
	w := newWorld(t, nil)
	j := newMemory()
	w.engine.Keep(j)
	w.call()
	w.send(phoneA, provider, pingOut)
	w.send(provider, phoneA, pingAnswer)
	puts := j.puts
	for range 10 {
		w.now = w.now.Add(time.Second)
		w.engine.Tick()
		w.send(phoneA, provider, inviteA)
		w.send(provider, phoneA, answerA)
		w.send(provider, phoneA, pingAnswer)
		w.send(phoneA, provider, keepAlive)
	}
	if j.puts != puts {
		t.Errorf("%d records were written", j.puts-puts)
	}
}

// nowhere is a Journal that costs nothing.
type nowhere struct{}

func (nowhere) Put(uint64, []byte) {}
func (nowhere) Delete(uint64)      {}
func (nowhere) Flush() error       { return nil }

// TestJournalAllocations: looking whether something is to be written takes no memory.
func TestJournalAllocations(t *testing.T) {
	w := newWorld(t, nil)
	w.engine.Keep(nowhere{})
	w.call()
	for _, r := range repeats {
		p := packet(r.src, r.dst, r.message)
		w.worker.Handle(p)
		if n := testing.AllocsPerRun(100, func() { w.worker.Handle(p) }); n > 0 {
			t.Errorf("%s: %v allocations", r.name, n)
		}
	}
}

// BenchmarkJournal is BenchmarkRepeats' first message with a journal, and without.
func BenchmarkJournal(b *testing.B) {
	for name, j := range map[string]Journal{"with": nowhere{}, "without": nil} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, nil)
			w.engine.Keep(j)
			w.call()
			p := packet(phoneA, provider, inviteA)
			b.ReportAllocs()
			for b.Loop() {
				w.worker.Handle(p)
			}
		})
	}
}

// FuzzRestore gives the engine records that nobody has written.
func FuzzRestore(f *testing.F) {
	w := newWorld(f, nil)
	j := newMemory()
	w.engine.Keep(j)
	w.call()
	w.send(phoneA, provider, pingOut)
	for _, record := range j.records {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		w, l := newLedgerWorld(t, Config{})
		w.engine.Restore(record, time.Hour)
		w.engine.Resume(true)
		w.call()
		w.wait(time.Minute)
		if faults := audit(w.engine, l); len(faults) > 0 {
			t.Fatal(strings.Join(faults, "\n"))
		}
		w.wait(10 * time.Minute)
	})
}

// TestRestartWithHoles plays the golden cases with a daemon that crashes now and then, and
// a journal of which records are lost, or older ones have come back: nothing in that may
// cost more than what is lost, and nothing is left in the end.
func TestRestartWithHoles(t *testing.T) {
	cases, _ := filepath.Glob("testdata/*/in.sip")
	for _, in := range cases {
		dir := filepath.Dir(in)
		if strings.HasPrefix(filepath.Base(dir), "tcp_") {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			for seed := range uint64(3) {
				restartWithHoles(t, dir, rand.New(rand.NewPCG(seed, 1)))
			}
		})
	}
}

func restartWithHoles(t *testing.T, dir string, random *rand.Rand) {
	g, steps := openGolden(t, dir)
	j, k := newMemory(), g.world.kernel
	g.engine.Keep(j)
	older := make(map[uint64][]byte)
	for _, s := range steps {
		if s.head[0] == "adopt" {
			return
		}
		g.play(t, s.head, s.text)
		if random.IntN(3) > 0 {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(older)) {
			if random.IntN(4) == 0 {
				j.records[key] = older[key]
			}
		}
		older = maps.Clone(j.records)
		for _, key := range slices.Sorted(maps.Keys(j.records)) {
			if random.IntN(4) == 0 {
				delete(j.records, key)
			}
		}
		g.restart(j, slices.Concat(k.before, k.applied))
	}
	g.wait(24 * time.Hour)
	if _, n := g.engine.Stats(); n.Calls+n.Mappings+n.Transactions+n.Bindings > 0 || len(g.engine.hosts) > 0 || len(j.records) > 1 {
		t.Errorf("left: %+v, of %d hosts, %d records", n, len(g.engine.hosts), len(j.records))
	}
}

// TestJournalIsUpToDate plays the golden cases and looks after each step whether the
// journal knows everything as it is, and nothing else.
func TestJournalIsUpToDate(t *testing.T) {
	cases, _ := filepath.Glob("testdata/*/in.sip")
	for _, in := range cases {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			g, steps := openGolden(t, dir)
			j := newMemory()
			g.engine.Keep(j)
			for i, s := range steps {
				g.play(t, s.head, s.text)
				if s.head[0] == "adopt" {
					g.engine.Tick()
				}
				e := g.engine
				all := []kept{e}
				for _, b := range e.bindings {
					all = append(all, b)
				}
				for _, c := range e.calls {
					all = append(all, c)
				}
				for _, tr := range e.transactions {
					all = append(all, tr)
				}
				for _, o := range all {
					if want := o.appendRecord(nil); !bytes.Equal(j.records[o.place().key], want) {
						t.Errorf("step %d, %s: the journal has\n%q, not\n%q", i, strings.Join(s.head, " "), j.records[o.place().key], want)
					}
				}
				if len(j.records) != len(all) {
					t.Errorf("step %d: %d records of %d objects", i, len(j.records), len(all))
				}
			}
		})
	}
}
