package daemon

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"

	"sipnatd/internal/proxy"
	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

// standIn gives the proxy the simplest parts with which a phone registers and calls:
// no authentication, no access lists, addresses only of host names.
func (d *Daemon) standIn(p *proxy.Parts) {
	p.Registrar = &memory{
		expires: d.cfg.Proxy.DefaultExpires,
		bound:   make(map[string][]bound), tokens: make(map[string]string), lines: make(map[string]proxy.Contact),
	}
	p.Access, p.Dialplan, p.Locator = everybody{}, asDialled{}, names{}
}

// memory is a location service that forgets with the process.
type memory struct {
	expires time.Duration
	bound   map[string][]bound // by user
	tokens  map[string]string  // by contact
	lines   map[string]proxy.Contact
}

type bound struct {
	proxy.Contact
	until time.Time
}

func (r *memory) Register(m *sipmsg.Message, from transport.Hop) proxy.Answer {
	user := string(m.Bytes(m.To.URI.User))
	var lines []byte
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			if a.Star {
				delete(r.bound, user)
				continue
			}
			expires := int(r.expires / time.Second)
			if m.Expires >= 0 {
				expires = m.Expires
			}
			if v, ok := m.Param(a.Params, "expires"); ok {
				if n, err := strconv.Atoi(string(m.Bytes(v))); err == nil {
					expires = n
				}
			}
			uri := bytes.Clone(m.Bytes(a.URI.All))
			var rest []bound
			for _, b := range r.bound[user] {
				if !bytes.Equal(b.URI, uri) && time.Now().Before(b.until) {
					rest = append(rest, b)
				}
			}
			if expires > 0 {
				rest = append(rest, bound{proxy.Contact{URI: uri, Hop: from, Q: 1000}, time.Now().Add(time.Duration(expires) * time.Second)})
				lines = append(append(append(lines, "Contact: <"...), uri...), ">;expires="...)
				lines = append(strconv.AppendInt(lines, int64(expires), 10), "\r\n"...)
			}
			r.bound[user] = rest
		}
	}
	return proxy.Answer{Status: 200, Headers: lines}
}

func (r *memory) Authenticate(*sipmsg.Message, transport.Hop) proxy.Answer { return proxy.Answer{} }

func (r *memory) Contacts(aor []byte) (list []proxy.Contact, known bool) {
	u := sipmsg.ParseURI(aor)
	all, known := r.bound[string(aor[u.User.Lo:u.User.Hi])]
	for _, b := range all {
		if time.Now().Before(b.until) {
			list = append(list, b.Contact)
		}
	}
	return list, known
}

func (r *memory) Line(uri []byte, phone transport.Hop) (string, bool) {
	token, ok := r.tokens[string(uri)]
	if !ok {
		token = "line" + strconv.Itoa(len(r.tokens)+1)
		r.tokens[string(uri)] = token
	}
	r.lines[token] = proxy.Contact{URI: bytes.Clone(uri), Hop: phone}
	return token, true
}

func (r *memory) Phone(token []byte) (proxy.Contact, bool) {
	c, ok := r.lines[string(token)]
	return c, ok
}

func (r *memory) Registered(_, _ *sipmsg.Message, _ transport.Hop) {}
func (r *memory) Lines([]byte) []proxy.Contact                     { return nil }

type everybody struct{}

func (everybody) SIP(netip.Addr) bool      { return true }
func (everybody) Register(netip.Addr) bool { return true }
func (everybody) Refused(netip.Addr, int)  {}

type asDialled struct{}

func (asDialled) Target(*sipmsg.Message) []byte                            { return nil }
func (asDialled) Default(*sipmsg.Message) []byte                           { return nil }
func (asDialled) Edit(*sipmsg.Message, *sipmsg.Edits, bool)                {}
func (asDialled) Log(*sipmsg.Message, netip.AddrPort, netip.AddrPort, int) {}

type names struct{}

func (names) Locate(s proxy.Server, answer func([]proxy.Target)) ([]proxy.Target, bool) {
	port := uint16(s.Port)
	if port == 0 {
		port = 5060
	}
	kind := transport.UDP
	if s.Transport == "tcp" {
		kind = transport.TCP
	}
	if a, err := netip.ParseAddr(s.Host); err == nil {
		return []proxy.Target{{Kind: kind, Addr: netip.AddrPortFrom(a, port)}}, true
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), lookUpTime)
		defer cancel()
		list, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", s.Host)
		var targets []proxy.Target
		if err == nil {
			for _, a := range list {
				targets = append(targets, proxy.Target{Kind: kind, Addr: netip.AddrPortFrom(a.Unmap(), port)})
			}
		}
		answer(targets)
	}()
	return nil, false
}

func (names) Failed(proxy.Target) {}
