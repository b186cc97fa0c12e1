package sipmsg

import (
	"bytes"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pion/sdp/v3"
)

// The addresses and the port that the edit puts everywhere.
const (
	newIP4  = "203.0.113.77"
	newIP6  = "2001:db8:77::1"
	newPort = 40404
)

// FuzzSDP feeds arbitrary session descriptions. Everything in bounds; an edit
// of all addresses and ports is read back; and pion/sdp is the oracle: what it
// accepts it must accept after the edit, and differ in the meant fields alone.
func FuzzSDP(f *testing.F) {
	seeds(f, func(raw []byte) {
		var m Message
		if m.Index(raw) == nil {
			f.Add(m.Bytes(m.Body))
		}
	})
	for _, s := range sdpSeeds {
		f.Add([]byte(s))
		f.Add([]byte(wire(s)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		checkSDPEdit(t, raw)
		var before sdp.SessionDescription
		if before.Unmarshal(raw) != nil {
			return
		}
		// The same description as pion writes it has fewer ambiguities between
		// two readers.
		canonical, err := before.Marshal()
		if err != nil {
			return
		}
		checkOracle(t, canonical, unambiguous(canonical, canonical))
		checkOracle(t, raw, unambiguous(raw, canonical))
	})
}

// unambiguous reports whether pion reads raw by lines, as we do. It takes a
// lone CR for a line end, and the rest of a line for the next one.
func unambiguous(raw, canonical []byte) bool {
	lines := 0
	for line := range bytes.Lines(raw) {
		line = bytes.TrimRight(line, "\r\n")
		if bytes.IndexByte(line, '\r') >= 0 {
			return false
		}
		if len(line) > 0 {
			lines++
		}
	}
	return lines == bytes.Count(canonical, []byte("\n"))
}

// editSDP replaces every address and every port that is not 0.
func editSDP(s *SDP) ([]byte, error) {
	port := []byte(strconv.Itoa(newPort))
	addr := func(ip6 bool) []byte {
		if ip6 {
			return []byte(newIP6)
		}
		return []byte(newIP4)
	}
	isIP6 := func(a Span) bool {
		ip, ok := ParseAddr(a.of(s.Raw))
		return ok && ip.Is6()
	}
	var e Edits
	e.Reset(s.Raw)
	e.Replace(s.OriginAddr, addr(s.OriginIP6))
	for _, c := range s.Conns {
		e.Replace(c.Addr, addr(c.IP6))
	}
	for _, m := range s.Media {
		if m.PortNum != 0 {
			e.Replace(m.Port, port)
		}
	}
	for _, r := range s.RTCP {
		e.Replace(r.Port, port)
		e.Replace(r.Addr, addr(isIP6(r.Addr)))
	}
	for _, c := range s.Candidates {
		e.Replace(c.Addr, addr(isIP6(c.Addr)))
		e.Replace(c.Port, port)
		e.Replace(c.RAddr, addr(isIP6(c.RAddr)))
		e.Replace(c.RPort, port)
	}
	for _, c := range s.RemoteCandidates {
		e.Replace(c.Addr, addr(isIP6(c.Addr)))
		e.Replace(c.Port, port)
	}
	for _, p := range s.Paths {
		e.Replace(p.HostPort, AppendHostPort(nil, netip.MustParseAddr(newIP4), newPort))
	}
	return e.Splice(nil)
}

// checkSDPEdit indexes raw, edits it and indexes the result.
func checkSDPEdit(t *testing.T, raw []byte) {
	original := bytes.Clone(raw)
	var s SDP
	err := s.Index(raw, Span{0, int32(len(raw))})
	if !bytes.Equal(raw, original) {
		t.Fatal("Index changed the description")
	}
	if err != nil {
		return
	}
	checkSDP(t, &s)
	out, err := editSDP(&s)
	if err != nil {
		t.Fatalf("splice: %v", err)
	}
	var n SDP
	if err := n.Index(out, Span{0, int32(len(out))}); err != nil {
		t.Fatalf("after the edit: %v\n%q\n%q", err, raw, out)
	}
	checkSDP(t, &n)
	if len(s.Conns) != len(n.Conns) || len(s.Media) != len(n.Media) || len(s.RTCP) != len(n.RTCP) ||
		len(s.Candidates) != len(n.Candidates) || len(s.RemoteCandidates) != len(n.RemoteCandidates) ||
		len(s.Paths) != len(n.Paths) || s.Direction != n.Direction || s.Bundle != n.Bundle {
		t.Fatalf("differs after the edit:\n%q\n%q", raw, out)
	}
	same := func(a, b Span) {
		t.Helper()
		if !bytes.Equal(a.of(raw), b.of(out)) {
			t.Fatalf("was %q, is %q", a.of(raw), b.of(out))
		}
	}
	for i, c := range s.Conns {
		same(c.TTL, n.Conns[i].TTL)
		if got := string(n.Conns[i].Addr.of(out)); got != newIP4 && got != newIP6 {
			t.Fatalf("connection address is %q", got)
		}
	}
	for i, m := range s.Media {
		k := n.Media[i]
		same(m.Kind, k.Kind)
		same(m.Count, k.Count)
		same(m.Proto, k.Proto)
		same(m.Fmts, k.Fmts)
		if m.Conn != k.Conn || m.Direction != k.Direction || m.UDP != k.UDP || m.RTP != k.RTP ||
			m.CountNum != k.CountNum || m.RTCPMux != k.RTCPMux || m.BundleOnly != k.BundleOnly {
			t.Fatalf("differs: %+v\n%+v", m, k)
		}
		if m.PortNum != 0 && k.PortNum != newPort {
			t.Fatalf("port is %d", k.PortNum)
		}
	}
	for i, c := range s.Candidates {
		k := n.Candidates[i]
		same(c.Type, k.Type)
		if c.Component != k.Component || c.UDP != k.UDP || k.PortNum != newPort {
			t.Fatalf("differs: %+v\n%+v", c, k)
		}
	}
}

// manyWords is an o= line with more than six words, one of which may be empty.
var manyWords = regexp.MustCompile(`(?m)^o=[^ \r\n]*( +[^ \r\n]+){5} `)

// splitWords is an o= or c= line with a CR in it, which pion takes for a blank in some places
// and for the end in others.
var splitWords = regexp.MustCompile(`(?m)^[oc]=.*\r[^\n]`)

// checkOracle compares what pion reads before and after the edit of raw,
// which it accepts.
func checkOracle(t *testing.T, raw []byte, strict bool) {
	var before, after sdp.SessionDescription
	if before.Unmarshal(raw) != nil {
		return // pion does not always read what it writes
	}
	var s SDP
	switch err := s.Index(raw, Span{0, int32(len(raw))}); err {
	case nil:
	case ErrSDPSize:
		return
	default:
		if !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("v=0")) {
			return // pion accepts nothing at all as SDP
		}
		t.Fatalf("pion accepts it, we do not: %v\n%q", err, raw)
	}
	if splitWords.Match(raw) || manyWords.Match(raw) {
		return // pion takes a seventh word of one letter for nothing, and no longer one
	}
	out, err := editSDP(&s)
	if err != nil {
		t.Fatalf("splice: %v", err)
	}
	if err := after.Unmarshal(out); err != nil {
		t.Fatalf("pion refuses the edit: %v\n%q\n%q", err, raw, out)
	}
	if !strict {
		return
	}
	if len(s.Media) != len(before.MediaDescriptions) {
		t.Fatalf("pion sees %d media, we see %d\n%q", len(before.MediaDescriptions), len(s.Media), raw)
	}
	meant(&before, &s)
	masked(&before)
	masked(&after)
	if !reflect.DeepEqual(&before, &after) {
		a, _ := before.Marshal()
		b, _ := after.Marshal()
		t.Fatalf("more than was meant differs\n%q\n%q\nwant %q\ngot  %q", raw, out, a, b)
	}
}

// meant applies the edit to what pion has read.
func meant(d *sdp.SessionDescription, s *SDP) {
	addr := func(family string) string {
		if family == "IP6" {
			return newIP6
		}
		return newIP4
	}
	if s.OriginAddr != (Span{}) {
		d.Origin.UnicastAddress = addr(d.Origin.AddressType)
	}
	connection := func(c *sdp.ConnectionInformation) {
		if c == nil || c.Address == nil {
			return
		}
		a, suffix, found := strings.Cut(c.Address.Address, "/")
		if a == "" {
			return
		}
		a = addr(c.AddressType)
		if found {
			a += "/" + suffix
		}
		c.Address.Address = a
	}
	connection(d.ConnectionInformation)
	for i, m := range d.MediaDescriptions {
		connection(m.ConnectionInformation)
		if s.Media[i].PortNum != 0 {
			m.MediaName.Port.Value = newPort
		}
	}
}

// masked blanks the addresses and ports in the attributes that have them.
func masked(d *sdp.SessionDescription) {
	mask := func(list []sdp.Attribute) {
		for i, a := range list {
			key := strings.ToLower(strings.TrimSpace(a.Key))
			f := strings.FieldsFunc(a.Value, func(r rune) bool { return r == ' ' || r == '\t' })
			switch key {
			case "rtcp":
				blank(f, 0)
				if len(f) > 3 && (strings.EqualFold(f[2], "IP4") || strings.EqualFold(f[2], "IP6")) {
					blank(f, 3)
				}
			case "candidate":
				if len(f) < 6 {
					continue
				}
				blank(f, 4, 5)
				for j := 6; j+1 < len(f); j += 2 {
					if strings.EqualFold(f[j], "raddr") || strings.EqualFold(f[j], "rport") {
						blank(f, j+1)
					}
				}
			case "remote-candidates":
				for j := 0; j+2 < len(f); j += 3 {
					blank(f, j+1, j+2)
				}
			case "path":
				for j := range f {
					if scheme, rest, ok := strings.Cut(f[j], "://"); ok {
						if k := strings.IndexAny(rest, "/;"); k >= 0 {
							f[j] = scheme + "://" + rest[k:]
						} else {
							f[j] = scheme
						}
					}
				}
			default:
				continue
			}
			list[i].Value = strings.Join(f, " ")
		}
	}
	mask(d.Attributes)
	for _, m := range d.MediaDescriptions {
		mask(m.Attributes)
	}
}

func blank(f []string, at ...int) {
	for _, i := range at {
		if i < len(f) {
			f[i] = "*"
		}
	}
}
