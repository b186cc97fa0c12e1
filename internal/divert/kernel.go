package divert

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What the kernel tells about queues and netlink sockets in /proc. The view
// is that of the thread's network namespace.
const (
	queuesPath   = "/proc/thread-self/net/netfilter/nfnetlink_queue"
	netlinksPath = "/proc/thread-self/net/netlink"
)

// KernelStats is what the kernel counts for a queue since it was bound.
type KernelStats struct {
	Waiting      uint64 // packets that have no verdict yet
	QueueDropped uint64 // packets dropped because the queue was full (Config.MaxLen)
	UserDropped  uint64 // packets dropped because the socket was full (Config.ReceiveBuffer)
}

// Dropped returns the number of packets that were lost to overload.
func (k KernelStats) Dropped() uint64 { return k.QueueDropped + k.UserDropped }

// queueRow is a line of nfnetlink_queue.
type queueRow struct {
	num   uint16
	port  uint32 // netlink port of the socket that serves it
	stats KernelStats
}

// parseQueues reads the lines "queue port waiting mode range dropped
// user_dropped sequence 1".
func parseQueues(text []byte) []queueRow {
	var rows []queueRow
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) < 7 {
			continue
		}
		var v [7]uint64
		var err error
		for i := range v {
			if v[i], err = strconv.ParseUint(f[i], 10, 64); err != nil {
				break
			}
		}
		if err != nil || v[0] > 0xffff || v[1] > 0xffffffff {
			continue
		}
		rows = append(rows, queueRow{
			num:  uint16(v[0]),
			port: uint32(v[1]),
			stats: KernelStats{
				Waiting:      v[2],
				QueueDropped: v[5],
				UserDropped:  v[6],
			},
		})
	}
	return rows
}

// kernelCounters reads the counters of queues. The file is opened once, so that
// it stays that of the queues' network namespace, and readable after a change
// of user.
type kernelCounters struct{ file *os.File }

func openKernelCounters() (kernelCounters, error) {
	f, err := os.Open(queuesPath)
	return kernelCounters{f}, err
}

func (k kernelCounters) read() ([]queueRow, error) {
	text, err := io.ReadAll(io.NewSectionReader(k.file, 0, 1<<20))
	return parseQueues(text), err
}

func (k kernelCounters) close() error { return k.file.Close() }

// queueOwner describes who serves a queue in this network namespace; ok is
// false if nobody seems to.
func queueOwner(num uint16) (owner string, ok bool) {
	text, err := os.ReadFile(queuesPath)
	if err != nil {
		return "", false
	}
	for _, row := range parseQueues(text) {
		if row.num == num {
			if name, ok := portOwner(row.port); ok {
				return name, true
			}
			return "another process", true
		}
	}
	return "", false
}

// Served returns the queues that are served in the network namespace of the calling
// thread, each with the number (inode) of the netlink socket that does it, 0 where
// that is not known. Only root may ask.
func Served() (map[uint16]uint64, error) {
	text, err := os.ReadFile(queuesPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // nobody has asked for a queue yet
		return nil, err
	}
	served := make(map[uint16]uint64)
	for _, row := range parseQueues(text) {
		served[row.num], _ = portSocket(row.port)
	}
	return served, nil
}

// portOwner finds the process that holds the netfilter netlink socket with the
// given port.
func portOwner(port uint32) (string, bool) {
	inode, ok := portSocket(port)
	if !ok {
		return "", false
	}
	return socketOwner(fmt.Sprintf("socket:[%d]", inode))
}

// portSocket finds the netfilter netlink socket with the given port.
func portSocket(port uint32) (inode uint64, ok bool) {
	f, err := os.Open(netlinksPath)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		v := strings.Fields(s.Text())
		if len(v) < 10 || v[1] != strconv.Itoa(unix.NETLINK_NETFILTER) || v[2] != strconv.FormatUint(uint64(port), 10) {
			continue
		}
		inode, err := strconv.ParseUint(v[9], 10, 64)
		return inode, err == nil
	}
	return 0, false
}

// socketOwner finds a process that holds the socket with the given link text.
func socketOwner(link string) (string, bool) {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well-formed
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != link {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			return "process " + pid, true
		}
		return fmt.Sprintf("process %s (%s)", pid, bytes.TrimSpace(name)), true
	}
	return "", false
}
