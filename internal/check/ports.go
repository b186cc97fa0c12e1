package check

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
)

// socket is a local socket that takes packets or connections from anybody.
type socket struct {
	local netip.AddrPort
	inode uint64
}

// localSockets lists those of udp or tcp. The view is that of the thread's network
// namespace.
func localSockets(protocol string) ([]socket, error) {
	var all []socket
	var errs []error
	for _, name := range []string{protocol, protocol + "6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + name)
		if err != nil && !(name != protocol && errors.Is(err, fs.ErrNotExist)) { // without IPv6
			errs = append(errs, err)
		}
		all = append(all, parseSockets(text, map[string]string{"udp": unconnected, "tcp": listening}[protocol])...)
	}
	return all, errors.Join(errs...)
}

// The states of such sockets: one of UDP has no peer (TCP_CLOSE), one of TCP waits for
// them (TCP_LISTEN).
const (
	unconnected = "07"
	listening   = "0A"
)

// parseSockets reads the lines "sl local_address rem_address st tx:rx tr:when retrnsmt
// uid timeout inode ...", with addresses as words in the host's byte order.
func parseSockets(text []byte, state string) []socket {
	var all []socket
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) < 10 || f[3] != state {
			continue
		}
		address, port, _ := strings.Cut(f[1], ":")
		raw, err := hex.DecodeString(address)
		if err != nil || len(raw)%4 != 0 {
			continue
		}
		for i := 0; i < len(raw); i += 4 {
			binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
		}
		local, ok := netip.AddrFromSlice(raw)
		number, portErr := strconv.ParseUint(port, 16, 16)
		inode, inodeErr := strconv.ParseUint(f[9], 10, 64)
		if !ok || portErr != nil || inodeErr != nil {
			continue
		}
		all = append(all, socket{netip.AddrPortFrom(local.Unmap(), uint16(number)), inode})
	}
	return all
}

var noLocalPort = Finding{ID: LocalPorts, Subject: "ports", Text: "no program has one of SIP or media"}

// localPorts finds programs on this machine that have a public port of SIP or media.
func localPorts(cfg *config.Config, faces []ifaces.Interface, sockets []socket, owners func([]uint64) map[uint64]process) []Finding {
	public := func(a netip.Addr) bool {
		return a.IsUnspecified() || slices.ContainsFunc(of(faces, ifaces.Outside), func(f ifaces.Interface) bool {
			return slices.ContainsFunc(f.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
		})
	}
	media := func(port uint16) bool { return port >= cfg.RTPPortLow && port <= cfg.RTPPortHigh }
	sockets = slices.DeleteFunc(slices.Clone(sockets), func(s socket) bool {
		port := s.local.Port()
		return !public(s.local.Addr()) || !media(port) && !slices.Contains(cfg.SIPPorts, port)
	})
	if len(sockets) == 0 {
		return []Finding{noLocalPort}
	}
	var inodes []uint64
	for _, s := range sockets {
		inodes = append(inodes, s.inode)
	}
	held := owners(inodes)

	// A program with a port of SIP is told by itself, those with ports for media by
	// how many they have.
	var all []Finding
	ports := make(map[process][]uint16)
	var order []process
	for _, s := range sockets {
		who := held[s.inode]
		if who.name == "sipnatd" {
			continue // the proxy mode
		}
		if port := s.local.Port(); media(port) {
			if ports[who] == nil {
				order = append(order, who)
			}
			ports[who] = append(ports[who], port)
		} else if f := (Finding{ID: LocalPorts, Level: Note, Subject: "port " + strconv.Itoa(int(port)),
			Text: fmt.Sprintf("%s speaks SIP here itself (%s): phones are announced with another port", who, s.local)}); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	if all == nil && order == nil {
		all = []Finding{noLocalPort}
	}
	for _, who := range order {
		slices.Sort(ports[who])
		all = append(all, Finding{ID: LocalPorts, Level: Warning, Subject: "ports for media",
			Text:   fmt.Sprintf("%s has %s of the range for media, and gets nothing more there while a call uses it", who, portList(ports[who])),
			Remedy: "rtp_port_low and rtp_port_high elsewhere, or another port for that program"})
	}
	return all
}

// portList names a few ports, and counts the others.
func portList(ports []uint16) string {
	const most = 4
	ports = slices.Compact(ports)
	var names []string
	for _, p := range ports[:min(len(ports), most)] {
		names = append(names, strconv.Itoa(int(p)))
	}
	text := "port " + strings.Join(names, ", ")
	if more := len(ports) - most; more > 0 {
		text += " and " + plural(more, "other")
	}
	return text
}

// ephemeralPorts finds out whether the kernel may give a port for media to a program
// that asks for any.
func ephemeralPorts(cfg *config.Config, values sysctls) []Finding {
	text, err := values("net/ipv4/ip_local_port_range")
	if err != nil {
		return nil
	}
	f := strings.Fields(text)
	if len(f) != 2 {
		return nil
	}
	low, lowErr := strconv.ParseUint(f[0], 10, 16)
	high, highErr := strconv.ParseUint(f[1], 10, 16)
	if lowErr != nil || highErr != nil {
		return nil
	}
	first, last := max(uint16(low), cfg.RTPPortLow), min(uint16(high), cfg.RTPPortHigh)
	const path = "net/ipv4/ip_local_reserved_ports"
	reserved, err := values(path)
	if err != nil || first > last || reserves(reserved, first, last) {
		return []Finding{{ID: EphemeralPort, Subject: "ip_local_port_range", Text: "the kernel gives no port for media to programs that ask for any"}}
	}
	want := fmt.Sprintf("%d-%d", cfg.RTPPortLow, cfg.RTPPortHigh)
	if reserved != "" {
		want = reserved + "," + want
	}
	return []Finding{{ID: EphemeralPort, Level: Note, Subject: "ip_local_port_range",
		Text:   fmt.Sprintf("ports %d to %d for media may be given to programs on the firewall as well (%s-%s)", first, last, f[0], f[1]),
		Remedy: set(path, want)}}
}

// reserves tells whether a list of ports and ranges has all ports from first to last.
func reserves(list string, first, last uint16) bool {
	for port := int(first); port <= int(last); port++ {
		if !slices.ContainsFunc(strings.Split(list, ","), func(part string) bool {
			from, to, span := strings.Cut(part, "-")
			if !span {
				to = from
			}
			low, lowErr := strconv.Atoi(from)
			high, highErr := strconv.Atoi(to)
			return lowErr == nil && highErr == nil && low <= port && port <= high
		}) {
			return false
		}
	}
	return true
}
