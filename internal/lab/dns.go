package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a name server that knows a few names.
type DNS struct {
	Addr netip.AddrPort

	mu      sync.Mutex
	records map[dnsmessage.Question][]dnsmessage.ResourceBody
	names   map[string]bool // those that exist, and their parents
	asked   []string
}

// typeNAPTR is the one type (RFC 3403) that dnsmessage does not name.
const typeNAPTR dnsmessage.Type = 35

var dnsTypes = map[string]dnsmessage.Type{"A": dnsmessage.TypeA, "SRV": dnsmessage.TypeSRV, "NAPTR": typeNAPTR}

// DNS starts a name server on the host. Records are written as in a zone file,
// without class and time to live:
//
//	foo.bar.org A 203.0.113.1
//	_sip._udp.bar.org SRV 10 50 5060 foo.bar.org
//	bar.org NAPTR 10 50 "s" "SIP+D2U" "" _sip._udp.bar.org
func (h *Host) DNS(records ...string) *DNS {
	h.lab.T.Helper()
	d := &DNS{Addr: h.At(53)}
	d.Set(h.lab.T, records...)
	udp, err := h.ListenUDP(d.Addr)
	if err != nil {
		h.lab.T.Fatalf("%s: name server: %v", h.Name, err)
	}
	h.lab.T.Cleanup(func() { udp.Close() })
	go d.serve(udp)
	return d
}

// UseDNS has the programs that are started on the host from now on ask a name server.
func (h *Host) UseDNS(d *DNS) {
	h.lab.T.Helper()
	h.File("/etc/resolv.conf", fmt.Sprintf("nameserver %v\noptions timeout:1 attempts:2\n", d.Addr.Addr()))
	h.File("/etc/hosts", "127.0.0.1 localhost\n")
}

// Set replaces all records.
func (d *DNS) Set(t TB, records ...string) {
	t.Helper()
	all, names := make(map[dnsmessage.Question][]dnsmessage.ResourceBody), make(map[string]bool)
	for _, r := range records {
		question, body, err := parseRecord(r)
		if err != nil {
			t.Fatalf("DNS record %q: %v", r, err)
		}
		all[question] = append(all[question], body)
		for name := question.Name.String(); name != ""; _, name, _ = strings.Cut(name, ".") {
			names[name] = true
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records, d.names = all, names
}

// Asked are the questions so far, such as "foo.bar.org A".
func (d *DNS) Asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

var errFields = errors.New("wrong number of fields")

func parseRecord(record string) (q dnsmessage.Question, body dnsmessage.ResourceBody, err error) {
	f := strings.Fields(record)
	fields := map[string]int{"A": 3, "SRV": 6, "NAPTR": 8}
	if len(f) < 2 || len(f) != fields[f[1]] {
		return q, nil, errFields
	}
	q = dnsmessage.Question{Type: dnsTypes[f[1]], Class: dnsmessage.ClassINET}
	if q.Name, err = dnsmessage.NewName(strings.ToLower(f[0]) + "."); err != nil {
		return q, nil, err
	}
	var n [3]uint16
	for i := 2; i < min(5, len(f)) && f[1] != "A"; i++ {
		if number, err := strconv.ParseUint(f[i], 10, 16); err == nil {
			n[i-2] = uint16(number)
		}
	}
	switch f[1] {
	case "A":
		a, err := netip.ParseAddr(f[2])
		if err != nil || !a.Is4() {
			return q, nil, fmt.Errorf("%s is no IPv4 address", f[2])
		}
		return q, &dnsmessage.AResource{A: a.As4()}, nil
	case "SRV":
		target, err := dnsmessage.NewName(f[5] + ".")
		return q, &dnsmessage.SRVResource{Priority: n[0], Weight: n[1], Port: n[2], Target: target}, err
	default: // NAPTR: order, preference, flags, services, expression, replacement
		data := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, n[0]), n[1])
		for _, s := range f[4:7] {
			s = strings.Trim(s, `"`)
			data = append(append(data, byte(len(s))), s...)
		}
		for label := range strings.SplitSeq(f[7], ".") {
			data = append(append(data, byte(len(label))), label...)
		}
		return q, &dnsmessage.UnknownResource{Type: typeNAPTR, Data: append(data, 0)}, nil
	}
}

func (d *DNS) serve(c *net.UDPConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if isClosed(err) {
			return
		}
		if err != nil {
			continue
		}
		if answer, err := d.answer(buf[:n]); err == nil {
			c.WriteToUDPAddrPort(answer, from)
		}
	}
}

func (d *DNS) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	asked, err := p.Question()
	if err != nil {
		return nil, err
	}
	key := asked
	if key.Name, err = dnsmessage.NewName(strings.ToLower(asked.Name.String())); err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(key.Name.String(), ".")
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := strings.TrimPrefix(key.Type.String(), "Type")
	for k, t := range dnsTypes {
		if t == key.Type {
			kind = k
		}
	}
	d.asked = append(d.asked, name+" "+kind)
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: head.ID, Response: true, Authoritative: true,
			RecursionDesired: head.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{asked},
	}
	if !d.names[key.Name.String()] {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, body := range d.records[key] {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: asked.Name, Class: asked.Class, TTL: 60}, Body: body,
		})
	}
	return m.Pack()
}
