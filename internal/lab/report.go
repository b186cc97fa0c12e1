package lab

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// reportDir makes the directory of a lab's logs: below SIPNATD_LAB_OUT, where
// it stays, or below the temporary directory, where it stays after a failure.
func reportDir(t TB) (string, error) {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("/ ,", r) { // a list in the daemon's configuration has blanks and commas
			return '-'
		}
		return r
	}, t.Name())
	parent := os.Getenv("SIPNATD_LAB_OUT")
	if parent == "" {
		parent = os.TempDir()
	} else if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, "lab-"+name+"-")
	if err == nil {
		// Programs that drop their privileges write here too.
		err = os.Chmod(dir, 0o777)
	}
	return dir, err
}

// report writes, after a failure or when asked for by SIPNATD_LAB_OUT, what
// explains it: a readable trace, captures for Wireshark, the kernel's state.
// The logs of the processes are there already.
func (l *Lab) report() {
	if !l.T.Failed() && os.Getenv("SIPNATD_LAB_OUT") == "" {
		return
	}
	var errs []error
	for _, c := range []*Capture{l.Inside, l.Wire} {
		errs = append(errs, c.WritePcap(filepath.Join(l.Dir, c.Name+".pcap")))
	}
	errs = append(errs,
		os.WriteFile(filepath.Join(l.Dir, "trace.txt"), []byte(l.Trace()), 0o644),
		os.WriteFile(filepath.Join(l.Dir, "kernel.txt"), []byte(l.kernelState()), 0o644))
	for _, err := range errs {
		if err != nil {
			l.T.Logf("report: %v", err)
		}
	}
	if !l.T.Failed() {
		return
	}
	l.T.Logf("report: %s (trace.txt, inside.pcap, outside.pcap, kernel.txt, *.log)", l.Dir)
	l.T.Logf("the ladder:\n%s", l.Ladder())
	if l.daemon != nil {
		l.T.Logf("the daemon's last lines:\n%s", lastLines([]byte(l.daemon.Log()), 25))
	}
}

// sided is a packet with the capture it is from.
type sided struct {
	*Packet
	side string
}

// merged are the packets of both captures in the order of time.
func (l *Lab) merged() []sided {
	var all []sided
	for _, c := range []*Capture{l.Inside, l.Wire} {
		for _, p := range c.Packets() {
			all = append(all, sided{p, c.Name})
		}
	}
	slices.SortStableFunc(all, func(a, b sided) int { return a.Time.Compare(b.Time) })
	return all
}

// Ladder is one line per packet, a run of media being one line.
func (l *Lab) Ladder() string {
	var b strings.Builder
	type run struct {
		side string
		Path
	}
	media := make(map[run]int)
	flush := func() {
		for r, n := range media {
			fmt.Fprintf(&b, "%-7s %26s %v -> %v media, %d packets\n", r.side, "", r.Src, r.Dst, n)
		}
		clear(media)
	}
	for _, p := range l.merged() {
		if p.IsMedia() {
			media[run{p.side, Path{p.Src, p.Dst}}]++
			continue
		}
		flush()
		fmt.Fprintf(&b, "%-7s %s\n", p.side, p.Packet)
	}
	flush()
	return b.String()
}

// Trace is the ladder with every SIP message in full.
func (l *Lab) Trace() string {
	var b strings.Builder
	for _, p := range l.merged() {
		if p.IsMedia() {
			continue
		}
		fmt.Fprintf(&b, "%-7s %s\n", p.side, p.Packet)
		if p.SIP != nil {
			for _, line := range strings.Split(strings.TrimRight(string(p.Payload), "\r\n"), "\n") {
				fmt.Fprintf(&b, "        | %s\n", strings.TrimRight(line, "\r"))
			}
		}
	}
	return b.String() + "\n" + l.Ladder()
}

// kernelState is the firewall's rules, conntracks and so on as its tools print
// them.
func (l *Lab) kernelState() string {
	var b strings.Builder
	for _, argv := range [][]string{
		{"nft", "list", "ruleset"},
		{"conntrack", "-L"},
		{"conntrack", "-L", "expect"},
		{"conntrack", "-S"},
		{"ip", "-s", "address"},
		{"ip", "route"},
	} {
		out, err := l.FW.Output(argv...)
		fmt.Fprintf(&b, "# %s\n%s", strings.Join(argv, " "), out)
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
		}
		b.WriteByte('\n')
	}
	queues, _ := l.FW.ReadProc("netfilter/nfnetlink_queue")
	fmt.Fprintf(&b, "# /proc/net/netfilter/nfnetlink_queue\n%s", queues)
	return b.String()
}

// WritePcap writes the capture as a pcap file of Ethernet frames.
func (c *Capture) WritePcap(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	c.mu.Lock()
	c.drain()
	frames := c.frames[:len(c.frames):len(c.frames)]
	c.mu.Unlock()
	w := bufio.NewWriter(f)
	// The header of a pcap file with times in nanoseconds, version 2.4,
	// whole packets, link type Ethernet.
	binary.Write(w, binary.LittleEndian, []uint32{0xa1b23c4d, 4<<16 | 2, 0, 0, 65600, 1})
	for _, fr := range frames {
		n := uint32(len(fr.data))
		binary.Write(w, binary.LittleEndian, []uint32{uint32(fr.at.Unix()), uint32(fr.at.Nanosecond()), n, n})
		w.Write(fr.data)
	}
	return w.Flush()
}
