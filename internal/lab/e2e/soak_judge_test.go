package e2e

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"sipnatd/internal/lab"
)

// soakFigures are what is looked at: by name, a number.
type soakFigures map[string]int

// A soakColumn is a figure, and what it may become.
type soakColumn struct {
	name string

	// growth is by how much the median of the last third of the samples may exceed that
	// of the first one beyond a tenth; -1 if it says nothing.
	growth int

	// rest is by how much it may exceed, after the last call, what it was before the
	// first one; -1 if it says nothing.
	rest int
}

var soakColumns = []soakColumn{
	{"seconds", -1, -1},
	{"VmRSS kB", 2048, -1},
	{"VmHWM kB", -1, -1},
	{"heap kB", 2048, -1},
	{"goroutines", 5, 2},
	{"files", 5, 2},
	{"CPU ms", -1, -1},       // since the last sample
	{"journal kB", 1024, -1}, // of two files, one of which is emptied now and then
	{"bindings", 5, 0},
	{"calls", 30, 0},
	{"mappings", 60, 0},
	{"transactions", 100, 0},
	{"elements", 200, 0},
	{"streams", 60, 0},
	{"guarded", 200, -1}, // for some time after their stream
	{"expectations", 60, 0},
	{"anchors", 30, 0},
	{"conntracks", 60, 10}, // those of SIP come and go with their time-outs
}

// look takes all figures.
func (s *soak) look() soakFigures {
	s.T.Helper()
	f := soakFigures{"seconds": int(time.Since(s.start).Seconds())}
	s.daemon.Mark()
	s.daemon.Signal(syscall.SIGUSR1)
	for _, line := range []struct{ pattern, names string }{
		{`msg=holds bindings=(\d+) calls=(\d+) mappings=(\d+) transactions=(\d+)`, "bindings calls mappings transactions"},
		{`msg=process goroutines=(\d+) heap=(\d+)`, "goroutines heap"},
	} {
		groups := s.daemon.WaitLine(line.pattern, lab.Moment())
		for i, name := range strings.Fields(line.names) {
			f[name], _ = strconv.Atoi(groups[i+1])
		}
	}
	f["heap kB"] = f["heap"] >> 10
	memory, peak := s.daemon.Memory()
	f["VmRSS kB"], f["VmHWM kB"] = memory>>10, peak>>10
	f["files"] = s.daemon.OpenFiles()
	journals, _ := os.ReadDir(filepath.Join(s.Dir, "state"))
	for _, j := range journals {
		if info, err := j.Info(); err == nil {
			f["journal kB"] += int(info.Size() >> 10)
		}
	}
	table := s.Table()
	for name, elements := range table {
		if name != "guarded" {
			f["elements"] += len(elements)
		}
	}
	f["guarded"] = len(table["guarded"])
	f["streams"] = len(table["streams"])
	f["expectations"] = len(s.Expectations())
	for _, flow := range s.Conntracks() {
		if flow.Anchor() {
			f["anchors"]++
		} else {
			f["conntracks"]++
		}
	}
	return f
}

// sample adds a line to the table, and judges what has passed since the last one.
func (s *soak) sample() {
	s.T.Helper()
	f, cpu := s.look(), s.cpuTime()
	f["CPU ms"], s.cpuBefore = int((cpu - s.cpuBefore).Milliseconds()), cpu
	s.samples = append(s.samples, f)
	s.judgeWire(false)
}

// judgeRest waits until what the calls have taken is given back.
func (s *soak) judgeRest(before soakFigures) {
	s.T.Helper()
	patience := lab.CloseTime
	if len(s.samples) > 0 {
		patience = 45 * time.Second // a transaction lasts for 64 times T1 (RFC 3261 section 17)
	}
	var more []string
	given := s.Until(lab.Patience(patience), func() bool {
		now := s.look()
		more = nil
		for _, c := range soakColumns {
			transient := c.name == "calls" || c.name == "transactions"
			if c.rest < 0 || transient && len(s.samples) == 0 {
				continue
			}
			if now[c.name] > before[c.name]+c.rest {
				more = append(more, fmt.Sprintf("%s: %d, were %d before the first call", c.name, now[c.name], before[c.name]))
			}
		}
		return len(more) == 0
	})
	if !given {
		s.T.Errorf("not given back within %v:\n%s", patience, strings.Join(more, "\n"))
	}
	s.WaitClosed()
}

// settled are the samples from which growth is told: the load has been the same for
// a while.
func (s *soak) settled() []soakFigures {
	warm := max(s.duration/3, soakWarmUp)
	return slices.DeleteFunc(slices.Clone(s.samples), func(f soakFigures) bool { return f["seconds"] < int(warm.Seconds()) })
}

func median(samples []soakFigures, name string) int {
	var values []int
	for _, f := range samples {
		values = append(values, f[name])
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// judgeGrowth compares the last third of the time with the first one.
func (s *soak) judgeGrowth() {
	s.T.Helper()
	settled := s.settled()
	third := len(settled) / 3
	if third < 3 {
		return
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tfirst third\tlast third\tmost\t")
	for _, c := range soakColumns[1:] {
		first, last := median(settled[:third], c.name), median(settled[len(settled)-third:], c.name)
		most := slices.MaxFunc(s.samples, func(a, b soakFigures) int { return a[c.name] - b[c.name] })[c.name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t\n", c.name, first, last, most)
		if strings.HasSuffix(c.name, " kB") && s.duration < soakMemory {
			continue
		}
		if c.growth >= 0 && last > first+first/10+c.growth {
			s.T.Errorf("%s: grown from %d to %d", c.name, first, last)
		}
	}
	w.Flush()
	s.T.Logf("medians of the samples after the warm-up:\n%s", &b)
}

// write puts the samples into the report.
func (s *soak) write() {
	s.T.Helper()
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	for i := range len(s.samples) + 1 {
		var line []string
		for _, c := range soakColumns {
			if i == 0 {
				line = append(line, c.name)
			} else {
				line = append(line, strconv.Itoa(s.samples[i-1][c.name]))
			}
		}
		w.Write(line)
	}
	w.Flush()
	if err := os.WriteFile(filepath.Join(s.Dir, "soak.csv"), b.Bytes(), 0o644); err != nil {
		s.T.Errorf("%v", err)
	}
}
