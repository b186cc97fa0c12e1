package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sipnatd/internal/lab"
)

// The pitch of what each phone says, in Hz.
const (
	aliceSays = 440
	bobSays   = 660
)

// demo is the state of the story.
type demo struct {
	*story
	*lab.Lab

	registrar  *lab.Kamailio
	alice, bob *lab.Baresip
	invite     string         // Call-ID of the call
	inside     lab.Media      // alice's audio as she announces it
	public     lab.Media      // as the outside is told
	far        netip.AddrPort // bob's RTP
}

func (d *demo) start() {
	d.chapter("Starting sipnatd in the firewall")
	daemon := d.StartDaemon()
	if daemon == nil {
		d.say("(a firewall that only routes: no daemon)")
		return
	}
	config, err := os.ReadFile(daemon.ConfigFile)
	if err != nil {
		d.Fatalf("%v", err)
	}
	d.say("Its configuration:")
	d.text(string(config))
	d.say("Its log:")
	d.text(daemon.Log())
	d.check(daemon.Running(), "the daemon runs in the foreground and is ready")
}

func (d *demo) register() {
	d.chapter("Both phones register")
	d.registrar = d.Outside[0].Kamailio(lab.KamailioOptions{Auth: true, RecordRoute: true})
	d.alice = d.Phones[0].Baresip(lab.BaresipOptions{User: "alice", Registrar: d.registrar.Addr, Frequency: aliceSays})
	d.bob = d.Outside[1].Baresip(lab.BaresipOptions{User: "bob", Registrar: d.registrar.Addr, Frequency: bobSays, Answer: true})
	seen := d.Wire.WaitSIP(0, lab.Status(200, "REGISTER"))
	contact := lab.HostPortOf(seen.SIP.Get("Contact"))
	d.check(true, "alice (inside) and bob (outside) are registered with Kamailio, with digest authentication")
	if d.NAT() {
		d.check(contact.Addr() == lab.PublicAddr, "the registrar knows alice as %v, a public address", contact)
	}
}

func (d *demo) call() {
	d.chapter("Alice calls bob")
	d.alice.Dial(d.bob.AOR)
	e := d.alice.WaitEvent("CALL_ESTABLISHED")
	d.bob.WaitEvent("CALL_ESTABLISHED")
	d.check(true, "alice says: the call with %s is established", e.PeerURI)
	const enough = 150 // three seconds
	d.say("They talk: alice says %d Hz, bob says %d Hz ...", aliceSays, bobSays)
	d.AudioBothWays(enough)
	d.check(true, "at least %d RTP packets have passed the firewall in each direction", enough)

	inside := d.Inside.WaitSIP(0, lab.Request("INVITE"))
	d.invite = inside.SIP.CallID()
	outside := d.Wire.WaitSIP(0, lab.Request("INVITE"), lab.CallID(d.invite))
	answer := d.Inside.WaitSIP(0, lab.Status(200, "INVITE"), lab.CallID(d.invite))
	d.inside, d.public = inside.SIP.Media()[0], outside.SIP.Media()[0]
	d.far = answer.SIP.Media()[0].RTP
}

// signalling shows messages as they are on both sides.
func (d *demo) signalling() {
	d.chapter("The same messages inside and outside")
	registers := d.Inside.SIP(lab.Request("REGISTER"))
	show := []struct {
		what    string
		filters []lab.Filter
	}{
		{"REGISTER, out", []lab.Filter{lab.Request("REGISTER"), lab.CSeq(registers[len(registers)-1].SIP.CSeq())}},
		{"the registrar's answer, in", []lab.Filter{lab.Status(200, "REGISTER")}},
		{"INVITE, out", []lab.Filter{lab.Request("INVITE"), lab.CallID(d.invite)}},
		{"bob's answer, in", []lab.Filter{lab.Status(200, "INVITE"), lab.CallID(d.invite)}},
	}
	for _, s := range show {
		in, out := d.Inside.SIP(s.filters...), d.Wire.SIP(s.filters...)
		if !d.check(len(in) > 0 && len(out) > 0, "%s: seen on both sides", s.what) {
			continue
		}
		d.sideBySide(
			fmt.Sprintf("INSIDE   %v -> %v", in[0].Src, in[0].Dst), string(in[0].Payload),
			fmt.Sprintf("OUTSIDE  %v -> %v", out[0].Src, out[0].Dst), string(out[0].Payload))
	}
	if !d.NAT() {
		return
	}
	faults := d.WireFaults()
	for _, f := range faults {
		d.check(false, "%s", f)
	}
	if len(faults) == 0 {
		d.check(true, "no private address leaves in any packet, and alice gets her own Via and Contact back")
	}
	d.check(d.public.RTP.Addr() == lab.PublicAddr, "alice's audio at %v is announced as %v", d.inside.RTP, d.public.RTP)
}

// kernel shows what the daemon has put into netfilter for the call.
func (d *demo) kernel() {
	if !d.NAT() {
		return
	}
	d.chapter("What the kernel holds for the call")
	d.say("Map and set elements of the table `ip sipnatd`:")
	table := d.Table()
	var names []string
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, e := range table[name] {
			line := fmt.Sprintf("%-11s %s", name, e.Key)
			if e.Value != "" {
				line += " : " + e.Value
			}
			if e.Timeout > 0 {
				line += fmt.Sprintf("   (expires in %d s)", e.Expires)
			}
			d.text(line)
		}
	}
	streams := d.Streams()
	d.check(streams[d.public.RTP] == d.inside.RTP, "RTP:  %v is translated to %v", d.public.RTP, d.inside.RTP)
	d.check(streams[d.public.RTCP] == d.inside.RTCP, "RTCP: %v is translated to %v", d.public.RTCP, d.inside.RTCP)

	d.say("Expectations:")
	expected := 0
	for _, e := range d.Expectations() {
		d.text(e.Line)
		if e.Dst == d.public.RTP || e.Dst == d.public.RTCP {
			expected++
		}
	}
	d.check(expected >= 2, "RTP and RTCP from outside are expected, so the firewall's \"related\" rule lets them in")

	d.say("Conntracks of the call's media:")
	found := false
	for _, f := range d.Conntracks() {
		if f.Anchor() || !f.Touches(d.public.RTP) && !f.Touches(d.public.RTCP) {
			continue
		}
		d.text(f.Line)
		found = found || f.Touches(d.public.RTP) && f.Touches(d.far) && f.Assured
	}
	d.check(found, "the kernel itself translates the RTP between %v and %v", d.inside.RTP, d.far)
}

// media counts RTP per direction, and what the daemon was given.
func (d *demo) media() {
	d.chapter("RTP, and who handled it")
	d.say("%s\n%s", d.Inside.MediaTable(), d.Wire.MediaTable())
	out, in := lab.Path{Src: d.public.RTP, Dst: d.far}, lab.Path{Src: d.far, Dst: d.inside.RTP}
	sent, received := d.Wire.Media()[out].Packets, d.Inside.Media()[in].Packets
	d.check(sent > 100, "%d RTP packets left for bob, from exactly the announced address %v", sent, d.public.RTP)
	d.check(received > 100, "%d RTP packets came in to alice, through exactly the announced address", received)
	heard := d.Wire.Tone(out)
	d.check(near(heard, aliceSays), "bob hears alice: a tone of %d Hz, she says %d", heard, aliceSays)
	heard = d.Inside.Tone(in)
	d.check(near(heard, bobSays), "alice hears bob: a tone of %d Hz, he says %d", heard, bobSays)
	if !d.NAT() {
		return
	}
	// Every datagram of the signalling path passes the inside interface once.
	signalling, rtp := 0, 0
	for _, p := range d.Inside.Packets() {
		if p.SIP != nil {
			signalling++
		} else if p.IsMedia() {
			rtp++
		}
	}
	queued := 0
	d.say("NFQUEUE, from /proc/net/netfilter/nfnetlink_queue:")
	for _, q := range d.Queues() {
		d.text(fmt.Sprintf("queue %d: %d packets were given to the daemon, %d dropped", q.Number, q.Packets, q.Dropped+q.UserDropped))
		queued += q.Packets
	}
	d.check(queued == signalling,
		"%d SIP messages passed the firewall and the daemon was given %d packets: of the %d RTP and RTCP packets, none",
		signalling, queued, rtp)
}

func near(got, want int) bool { return got > want*95/100 && got < want*105/100 }

func (d *demo) hangUp() {
	d.chapter("Alice hangs up")
	begin := time.Now()
	d.alice.Hangup()
	d.bob.WaitEvent("CALL_CLOSED")
	d.check(true, "bob says: the call is closed")
	if !d.NAT() {
		return
	}
	var open []string
	closed := d.Until(lab.Patience(lab.CloseTime), func() bool { open = d.StillOpen(); return len(open) == 0 })
	for _, s := range open {
		d.text(s)
	}
	d.check(closed, "%d ms later there is no stream, no expectation and no conntrack of the call's media",
		time.Since(begin).Milliseconds())
	probe := d.Outside[1].Socket(0)
	mark := d.Inside.Mark()
	d.CheckSilent(probe, d.public.RTP)
	through := 0
	for _, p := range d.Inside.Since(mark) {
		if p.Src == probe.Addr {
			through++
		}
	}
	d.check(through == 0, "the announced port %v answers nobody any more", d.public.RTP)
	d.CheckDaemon()
}

// leftovers lists namespaces and child processes of this program that still are.
func leftovers() []string {
	var left []string
	self := strconv.Itoa(os.Getpid())
	names, _ := filepath.Glob("/run/netns/sipnatd-lab-" + self + "-*")
	for _, n := range names {
		left = append(left, filepath.Base(n))
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// pid (comm) state ppid
		s := string(b)
		fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		if len(fields) > 1 && fields[1] == self {
			left = append(left, "process "+s[:strings.IndexByte(s, ')')+1])
		}
	}
	return left
}
