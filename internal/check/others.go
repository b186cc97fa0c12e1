package check

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sipnatd/internal/config"
	"sipnatd/internal/divert"
)

// process is a process of this machine. The zero value is one that is not known.
type process struct {
	pid  int
	name string
}

func (p process) String() string {
	if p.pid == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d (%s)", p.pid, p.name)
}

// others are the processes that do the same, in the same network namespace.
type others struct {
	daemon  process            // a sipnatd that serves the queues
	more    []process          // other sipnatds
	siproxd []process          // and its predecessor
	queues  map[uint16]process // that serve the queues, if it is not a sipnatd
	err     error              // why it is not known who serves the queues
	free    uint16             // the first of as many queues that nobody serves
}

// findOthers looks for them.
func findOthers(cfg *config.Config) others {
	o := others{queues: make(map[uint16]process)}
	served, err := divert.Served()
	o.err = err
	var inodes []uint64
	queues := max(int(cfg.Queues), 1)
	for n := range queues {
		if inode, ok := served[cfg.QueueNum+uint16(n)]; ok {
			inodes = append(inodes, inode)
		}
	}
	held := owners(inodes)
	for n := range queues {
		number := cfg.QueueNum + uint16(n)
		inode, ok := served[number]
		if !ok {
			continue
		}
		if who := held[inode]; isOurs(who) {
			o.daemon = who
		} else {
			o.queues[number] = who
		}
	}
	for free, run := 0, 0; free <= 0xffff && run < queues; free++ {
		number := uint16(int(cfg.QueueNum)+free) & 0xffff
		if run++; number == 0 {
			run = 1 // they are numbered upwards
		}
		if _, taken := served[number]; taken {
			run = 0
		}
		o.free = number - uint16(queues) + 1
	}
	for _, p := range neighbours() {
		switch {
		case p.name == "siproxd":
			o.siproxd = append(o.siproxd, p)
		case p.name == "sipnatd" && p.pid != o.daemon.pid && isDaemon(p):
			o.more = append(o.more, p)
		}
	}
	return o
}

// isOurs tells whether a process that serves a queue runs this program, under whatever
// name.
func isOurs(p process) bool {
	if p.pid == 0 {
		return false
	}
	if p.name == "sipnatd" {
		return true
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
	own, ownErr := os.Readlink("/proc/self/exe")
	return err == nil && ownErr == nil && theirs == own
}

// isDaemon tells whether a process that runs this program is the daemon: its first
// argument, if there is any, is a flag.
func isDaemon(p process) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	words := strings.Split(string(line), "\x00")
	return err == nil && (len(words) < 2 || words[1] == "" || strings.HasPrefix(words[1], "-"))
}

// neighbours lists the other processes of the network namespace, as far as one may
// know.
func neighbours() []process {
	namespace, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil
	}
	var all []process
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		name, err := os.ReadFile(dir + "/comm")
		if err != nil {
			continue
		}
		theirs, err := os.Readlink(dir + "/ns/net")
		if err == nil && theirs != namespace || err != nil && !errors.Is(err, fs.ErrPermission) {
			continue // elsewhere, or about to end
		}
		all = append(all, process{pid, string(bytes.TrimSpace(name))})
	}
	return all
}

// owners finds the processes that hold sockets, in one pass.
func owners(inodes []uint64) map[uint64]process {
	wanted := make(map[string]uint64)
	for _, inode := range inodes {
		wanted[fmt.Sprintf("socket:[%d]", inode)] = inode
	}
	found := make(map[uint64]process)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if len(found) == len(wanted) {
			break
		}
		fds, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue
		}
		for _, fd := range fds {
			link, err := os.Readlink(dir + "/fd/" + fd.Name())
			inode, ok := wanted[link]
			if err != nil || !ok {
				continue
			}
			pid, _ := strconv.Atoi(filepath.Base(dir))
			name, _ := os.ReadFile(dir + "/comm")
			found[inode] = process{pid, string(bytes.TrimSpace(name))}
		}
	}
	return found
}

// findings judges what is known of them.
func (o others) findings(cfg *config.Config, privileged bool) []Finding {
	var all []Finding
	switch {
	case o.daemon.pid != 0:
		all = append(all, Finding{ID: Daemon, Subject: "sipnatd", Text: fmt.Sprintf("it runs (process %d)", o.daemon.pid)})
	default:
		all = append(all, Finding{ID: Daemon, Subject: "sipnatd", Text: "it does not run"})
	}
	for _, p := range o.more {
		f := Finding{ID: Daemon, Level: Warning, Subject: "sipnatd",
			Text:   fmt.Sprintf("%s has another configuration, with other queues, and no second one can run beside it", p),
			Remedy: fmt.Sprintf("name its configuration with -c, or stop it: kill %d", p.pid)}
		if o.err != nil {
			f.Level, f.Text, f.Remedy = OK, fmt.Sprintf("it runs (process %d)", p.pid), "" // which queues it serves is not known
		}
		all = append(all, f)
	}
	for _, p := range o.siproxd {
		all = append(all, Finding{ID: Siproxd, Level: Warning, Subject: "siproxd",
			Text:   fmt.Sprintf("it runs as well (process %d): it takes ports of SIP and media that are sipnatd's", p.pid),
			Remedy: "systemctl disable --now siproxd"})
	}
	if len(o.siproxd) == 0 {
		all = append(all, Finding{ID: Siproxd, Subject: "siproxd", Text: "it does not run"})
	}
	for n := range max(int(cfg.Queues), 1) {
		number := cfg.QueueNum + uint16(n)
		if who, ok := o.queues[number]; ok {
			all = append(all, Finding{ID: QueueNumber, Level: Fault, Subject: fmt.Sprintf("queue %d", number),
				Text:   "it is served by " + who.String(),
				Remedy: fmt.Sprintf("queue_num = %d", o.free)})
		}
	}
	if o.err != nil && privileged {
		all = append(all, Finding{ID: QueueNumber, Level: Note, Subject: "queue_num", Text: "who serves queues is not known: " + o.err.Error()})
	} else if o.err == nil && len(o.queues) == 0 {
		all = append(all, Finding{ID: QueueNumber, Subject: "queue_num", Text: "no other program has a queue of ours"})
	}
	return all
}

// table says what a table without a daemon is.
func (o others) table(installed bool) []Finding {
	if !installed || o.daemon.pid != 0 || len(o.more) > 0 {
		return nil
	}
	return []Finding{{ID: Daemon, Level: Note, Subject: "table ip sipnatd",
		Text:   "a daemon that has stopped left it for running calls: the next one takes it over",
		Remedy: "sipnatd clear"}}
}
