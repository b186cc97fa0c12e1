package locate

import (
	"cmp"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
)

// candidate is an address of a server, with what decides about its place.
type candidate struct {
	proxy.Target
	service  int    // rank of the transport among those that the domain offers
	priority uint16 // RFC 2782
	weight   uint16
	host     string // that has the address
}

// asker answers questions, in their order. known is false if that would take time.
type asker func(q ...question) (answers []records, known bool)

// service is a transport that a domain offers, and the name of its SRV records.
type service struct {
	kind transport.Kind
	name string
}

// candidates goes the way of RFC 3263 sections 4.1 and 4.2 for a server that is given
// by name.
func (l *Locator) candidates(s proxy.Server, ask asker) (list []candidate, known bool) {
	for _, name := range l.resolver.files.names(s.Host) {
		list, known = l.candidatesOf(s, name, ask)
		if !known || len(list) > 0 {
			break
		}
	}
	return list, known
}

func (l *Locator) candidatesOf(s proxy.Server, name string, ask asker) ([]candidate, bool) {
	kind, _ := kindOf(s.Transport)
	plain := candidate{Target: proxy.Target{Kind: kind, Addr: netip.AddrPortFrom(netip.Addr{}, portOf(s.Port))}, host: name}
	if s.Port != 0 || l.resolver.files.lists(name) {
		return addresses([]candidate{plain}, ask)
	}
	services, offered, known := servicesOf(s, name, ask)
	if !known {
		return nil, false
	}
	found, there, known := servers(services, ask)
	if known && !there && offered {
		// What the NAPTR records promise does not exist.
		found, there, known = servers(usual(s, name), ask)
	}
	if !known {
		return nil, false
	}
	if !there {
		found = []candidate{plain}
	}
	return addresses(found, ask)
}

// servicesOf returns the transports that a domain offers, best first: what its NAPTR
// records say, else all of ours. offered tells that it is the former.
func servicesOf(s proxy.Server, name string, ask asker) (list []service, offered, known bool) {
	if s.Transport != "" {
		return usual(s, name), false, true
	}
	answers, known := ask(question{name, typeNAPTR})
	if !known {
		return nil, false, false
	}
	rules := slices.Clone(answers[0].naptr)
	slices.SortStableFunc(rules, func(a, b naptr) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.preference, b.preference))
	})
	for _, r := range rules {
		// Replacements by regular expressions are not for SIP (section 4.1).
		if !strings.EqualFold(r.flags, "s") || r.regexp != "" || !validName(r.replacement) {
			continue
		}
		switch strings.ToUpper(r.service) {
		case "SIP+D2U":
			list = append(list, service{transport.UDP, r.replacement})
		case "SIP+D2T":
			list = append(list, service{transport.TCP, r.replacement})
		}
	}
	if len(list) == 0 {
		return usual(s, name), false, true
	}
	return list[:min(len(list), 8)], true, true
}

// usual returns the SRV names of the transports that we speak, or of the one that a URI
// names.
func usual(s proxy.Server, name string) (list []service) {
	if s.Transport != "tcp" {
		list = append(list, service{transport.UDP, "_sip._udp." + name})
	}
	if s.Transport != "udp" {
		list = append(list, service{transport.TCP, "_sip._tcp." + name})
	}
	return list
}

// servers returns what the SRV records of services name, yet without addresses. there
// is false if there are no such records. A target "." says that the domain has no such
// service (RFC 2782), so that there may be records but no servers.
func servers(services []service, ask asker) (list []candidate, there, known bool) {
	q := make([]question, len(services))
	for i, s := range services {
		q[i] = question{s.name, dnsmessage.TypeSRV}
	}
	answers, known := ask(q...)
	if !known {
		return nil, false, false
	}
	for i, a := range answers {
		for _, r := range a.srv {
			there = true
			if r.port == 0 || !validName(r.target) {
				continue
			}
			list = append(list, candidate{
				Target:  proxy.Target{Kind: services[i].kind, Addr: netip.AddrPortFrom(netip.Addr{}, r.port)},
				service: i, priority: r.priority, weight: r.weight, host: r.target,
			})
		}
	}
	slices.SortStableFunc(list, before)
	return list[:min(len(list), maxTargets)], there, true
}

// addresses gives candidates the addresses of their hosts, one candidate for each.
func addresses(hosts []candidate, ask asker) (list []candidate, known bool) {
	q := make([]question, len(hosts))
	for i, h := range hosts {
		q[i] = question{h.host, dnsmessage.TypeA}
	}
	answers, known := ask(q...)
	if !known {
		return nil, false
	}
	for i, h := range hosts {
		for _, a := range answers[i].a {
			h.Addr = netip.AddrPortFrom(a, h.Addr.Port())
			list = append(list, h)
		}
	}
	return list, true
}

// before orders candidates by what their domain wants to be kept strictly.
func before(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.priority, b.priority))
}

// arrange returns the targets in the order in which they are tried. Within a priority
// chance decides by weight (RFC 2782), but the same way for as long as the process
// lives: whoever is challenged by a server, or registered with it, is to come back to
// it. Servers get their shares from all the firewalls that call them.
//
// Each host draws the time of its first event in a Poisson process with its weight as
// the rate, and the earliest wins: this gives the distribution that drawing without
// replacement has, and a host that comes or goes does not change the order of others.
func (l *Locator) arrange(list []candidate) []proxy.Target {
	if len(list) == 0 {
		return nil
	}
	type place struct {
		host float64
		addr uint64
	}
	var h maphash.Hash
	h.SetSeed(l.seed)
	places := make(map[candidate]place, len(list))
	for _, c := range list {
		h.Reset()
		h.WriteString(c.host)
		h.WriteByte(byte(c.Addr.Port()))
		h.WriteByte(byte(c.Addr.Port() >> 8))
		u := (float64(h.Sum64()>>11) + 1) / (1 << 53) // 0 < u <= 1
		rate := float64(c.weight)
		if c.weight == 0 {
			rate = 1e-3 // "a very small chance" beside others
		}
		b := c.Addr.Addr().As4()
		h.Write(b[:])
		places[c] = place{-math.Log(u) / rate, h.Sum64()}
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		x, y := places[a], places[b]
		return cmp.Or(before(a, b), cmp.Compare(x.host, y.host), cmp.Compare(a.host, b.host), cmp.Compare(x.addr, y.addr))
	})
	targets := make([]proxy.Target, 0, min(len(list), maxTargets))
	for _, c := range list {
		if len(targets) < maxTargets && !slices.Contains(targets, c.Target) {
			targets = append(targets, c.Target)
		}
	}
	return targets
}
