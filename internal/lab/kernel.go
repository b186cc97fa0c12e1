package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Flow is a UDP conntrack of the firewall.
type Flow struct {
	Orig, Reply  Path
	Timeout      int // seconds
	Unreplied    bool
	Assured      bool
	Helper       string
	OrigPackets  int // 0 without nf_conntrack_acct
	ReplyPackets int
	Line         string // as conntrack prints it
}

// Touches reports whether an address is in either direction of the flow.
func (f Flow) Touches(a netip.AddrPort) bool {
	return f.Orig.Src == a || f.Orig.Dst == a || f.Reply.Src == a || f.Reply.Dst == a
}

// Anchor reports whether this is a conntrack that the daemon made, between
// loopback addresses, to hang expectations on.
func (f Flow) Anchor() bool { return f.Orig.Src.Addr().IsLoopback() }

var words = regexp.MustCompile(`([a-z-]+)=(\S*)`)

// Conntracks lists the UDP conntracks of the firewall.
func (l *Lab) Conntracks() []Flow {
	l.T.Helper()
	out := l.FW.Run("conntrack", "-L", "-p", "udp")
	var flows []Flow
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] != "udp" {
			continue
		}
		f := Flow{Line: line, Unreplied: strings.Contains(line, "[UNREPLIED]"), Assured: strings.Contains(line, "[ASSURED]")}
		f.Timeout, _ = strconv.Atoi(fields[2])
		var src, dst []netip.Addr
		var sport, dport []uint16
		var packets []int
		for _, w := range words.FindAllStringSubmatch(line, -1) {
			n, _ := strconv.Atoi(w[2])
			a, _ := netip.ParseAddr(w[2])
			switch w[1] {
			case "src":
				src = append(src, a)
			case "dst":
				dst = append(dst, a)
			case "sport":
				sport = append(sport, uint16(n))
			case "dport":
				dport = append(dport, uint16(n))
			case "packets":
				packets = append(packets, n)
			case "helper":
				f.Helper = w[2]
			}
		}
		if len(src) != 2 || len(dst) != 2 || len(sport) != 2 || len(dport) != 2 {
			continue
		}
		f.Orig = Path{netip.AddrPortFrom(src[0], sport[0]), netip.AddrPortFrom(dst[0], dport[0])}
		f.Reply = Path{netip.AddrPortFrom(src[1], sport[1]), netip.AddrPortFrom(dst[1], dport[1])}
		if len(packets) == 2 {
			f.OrigPackets, f.ReplyPackets = packets[0], packets[1]
		}
		flows = append(flows, f)
	}
	return flows
}

// DeleteConntracks makes the firewall forget the conntracks that pick chooses,
// as time would.
func (l *Lab) DeleteConntracks(pick func(Flow) bool) int {
	l.T.Helper()
	n := 0
	for _, f := range l.Conntracks() {
		if pick(f) {
			l.FW.Run("conntrack", "-D", "-p", "udp",
				"-s", f.Orig.Src.Addr().String(), "-d", f.Orig.Dst.Addr().String(),
				"--sport", fmt.Sprint(f.Orig.Src.Port()), "--dport", fmt.Sprint(f.Orig.Dst.Port()))
			n++
		}
	}
	return n
}

// Expectation is a conntrack expectation of the firewall.
type Expectation struct {
	Src, Dst, Master netip.AddrPort // Src 0.0.0.0:0 is any
	Helper           string
	Timeout          int    // seconds
	Line             string // as conntrack prints it
}

// Expectations lists the expectations of the firewall.
func (l *Lab) Expectations() []Expectation {
	l.T.Helper()
	out := l.FW.Run("conntrack", "-L", "expect")
	var es []Expectation
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if !strings.Contains(line, "master-src=") {
			continue
		}
		e := Expectation{Line: line}
		e.Timeout, _ = strconv.Atoi(strings.Fields(line)[0])
		var addr [6]netip.Addr // src dst mask-src mask-dst master-src master-dst
		var port []uint16
		for _, w := range words.FindAllStringSubmatch(line, -1) {
			i := slices.Index([]string{"src", "dst", "mask-src", "mask-dst", "master-src", "master-dst"}, w[1])
			switch {
			case i >= 0:
				addr[i], _ = netip.ParseAddr(w[2])
			case w[1] == "sport" || w[1] == "dport":
				n, _ := strconv.Atoi(w[2])
				port = append(port, uint16(n))
			case w[1] == "helper":
				e.Helper = w[2]
			}
		}
		if len(port) >= 6 {
			e.Src, e.Dst = netip.AddrPortFrom(addr[0], port[0]), netip.AddrPortFrom(addr[1], port[1])
			e.Master = netip.AddrPortFrom(addr[4], port[4])
		}
		es = append(es, e)
	}
	return es
}

// Element is an element of a set or map of the daemon's table: its key and,
// in a map, its value. Addresses with ports are in one string, "10.0.0.10:4000";
// further parts of a key follow after " . ".
type Element struct {
	Key, Value string
	Timeout    int // seconds, 0 none
	Expires    int // seconds left
}

// Elements lists a set or map of the table `ip sipnatd`; none if it is missing.
func (l *Lab) Elements(name string) []Element {
	l.T.Helper()
	return l.Table()[name]
}

// Table is the daemon's table: the elements of each of its sets and maps.
func (l *Lab) Table() map[string][]Element {
	l.T.Helper()
	table := make(map[string][]Element)
	out, err := l.FW.Output("nft", "-j", "list", "table", "ip", "sipnatd")
	if err != nil {
		return table // not there
	}
	var doc struct {
		Nftables []map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		l.T.Fatalf("nft -j: %v", err)
	}
	for _, object := range doc.Nftables {
		for _, kind := range []string{"set", "map"} {
			var set struct {
				Name string
				Elem []any
			}
			if raw, ok := object[kind]; !ok || json.Unmarshal(raw, &set) != nil {
				continue
			}
			table[set.Name] = nil
			for _, e := range set.Elem {
				table[set.Name] = append(table[set.Name], element(e, kind == "map"))
			}
		}
	}
	return table
}

// element reads an element in one of the shapes that nft -j gives it:
// VAL, {"elem": {"val": VAL, "timeout": 1, "expires": 1}}, or with a map
// [KEY, VALUE], where KEY is either of them.
func element(v any, isMap bool) Element {
	if pair, ok := v.([]any); ok && isMap && len(pair) == 2 {
		e := element(pair[0], false)
		e.Value = joined(pair[1])
		return e
	}
	if object, ok := v.(map[string]any); ok {
		if inner, ok := object["elem"].(map[string]any); ok {
			e := Element{Key: joined(inner["val"])}
			timeout, _ := inner["timeout"].(float64)
			expires, _ := inner["expires"].(float64)
			e.Timeout, e.Expires = int(timeout), int(expires)
			return e
		}
	}
	return Element{Key: joined(v)}
}

// joined writes a value, a concatenation of addresses and ports as ip:port.
func joined(v any) string {
	switch v := v.(type) {
	case map[string]any:
		if parts, ok := v["concat"].([]any); ok {
			var b strings.Builder
			for i, p := range parts {
				if _, port := p.(float64); i > 0 && port {
					b.WriteString(":")
				} else if i > 0 {
					b.WriteString(" . ")
				}
				b.WriteString(joined(p))
			}
			return b.String()
		}
		if prefix, ok := v["prefix"].(map[string]any); ok {
			return fmt.Sprintf("%v/%v", prefix["addr"], prefix["len"])
		}
		return fmt.Sprint(v)
	case float64:
		return strconv.Itoa(int(v))
	default:
		return fmt.Sprint(v)
	}
}

// Streams is the kernel's map of public RTP and RTCP endpoints to inside ones.
func (l *Lab) Streams() map[netip.AddrPort]netip.AddrPort { return endpoints(l.Elements("streams")) }

// Bindings is the kernel's map of public signalling endpoints to inside ones.
func (l *Lab) Bindings() map[netip.AddrPort]netip.AddrPort { return endpoints(l.Elements("bindings")) }

func endpoints(elements []Element) map[netip.AddrPort]netip.AddrPort {
	m := make(map[netip.AddrPort]netip.AddrPort)
	for _, e := range elements {
		k, err1 := netip.ParseAddrPort(e.Key)
		v, err2 := netip.ParseAddrPort(e.Value)
		if err1 == nil && err2 == nil {
			m[k] = v
		}
	}
	return m
}

// CloseTime is within which everything of a call must be closed after its BYE.
const CloseTime = 3 * time.Second

// WaitClosed waits until the kernel holds nothing of a call any more: no
// stream, no expectation but those of signalling bindings, no conntrack of
// media. It fails the test after CloseTime.
func (l *Lab) WaitClosed() {
	l.T.Helper()
	if !l.NAT() || l.daemon == nil {
		return
	}
	var open []string
	if !l.Until(Patience(CloseTime), func() bool { open = l.StillOpen(); return len(open) == 0 }) {
		l.T.Errorf("not closed within %v:\n%s", CloseTime, strings.Join(open, "\n"))
	}
}

// StillOpen lists what the kernel holds of calls.
func (l *Lab) StillOpen() []string {
	var open []string
	bindings := l.Bindings()
	signalling := make(map[netip.AddrPort]bool)
	for public, inside := range bindings {
		signalling[public], signalling[inside] = true, true
	}
	for public, inside := range l.Streams() {
		open = append(open, fmt.Sprintf("stream %v : %v", public, inside))
	}
	for _, e := range l.Expectations() {
		if !signalling[e.Dst] {
			open = append(open, "expectation "+e.Line)
		}
	}
	for _, f := range l.Conntracks() {
		sip := f.Anchor()
		for _, a := range []netip.AddrPort{f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Reply.Dst} {
			sip = sip || signalling[a] || a.Port() == 5060 || a.Port() == 53
		}
		if !sip {
			open = append(open, "conntrack "+f.Line)
		}
	}
	return open
}

// Until waits until done is true of the firewall's kernel, looking again
// whenever the kernel reports a change of nftables, conntracks or expectations
// (and a few times a second for what it does not report, as expiry).
func (l *Lab) Until(timeout time.Duration, done func() bool) bool {
	l.T.Helper()
	changes, stop := l.changes()
	defer stop()
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-changes:
		case <-tick.C:
		}
	}
}

// changes tells when the kernel has reported a change; reports that come while
// nobody listens count as one.
func (l *Lab) changes() (<-chan struct{}, func()) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: l.FW.fd})
	if err != nil {
		l.T.Fatalf("netfilter events: %v", err)
	}
	// include/uapi/linux/netfilter/nfnetlink.h, enum nfnetlink_groups
	const conntrackNew, conntrackDestroy, expNew, expDestroy, nftables = 1, 3, 4, 6, 7
	for _, group := range []uint32{conntrackNew, conntrackDestroy, expNew, expDestroy, nftables} {
		conn.JoinGroup(group)
	}
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, err := conn.Receive()
			if isGone(err) {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, func() { conn.Close(); <-done }
}
